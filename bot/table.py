"""One voice channel's session: what it hears, and that it goes on hearing it."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from bot.client import Away, ClientEvent, Connected, Endpoint, GeneratorClient, Wish
from bot.heard import Heard
from bot.jitter_buffer import JitterBuffer
from bot.latency import Latency, LatencyMeter
from bot.localisation import Sentence
from bot.logs import about
from bot.playout import AHEAD_PACKETS, Playout
from bot.supervisor import Supervisor
from bot.voice import Channel
from generator.protocol import FRAME_SECONDS, Controls, MoodLands, Opened, Transition

log = logging.getLogger(__name__)

SLOW: Final = timedelta(seconds=15)  #: then a slow turn has come to its end
NOTICE_SECONDS: Final = 3.0  #: an outage of the generator's shorter than this is nobody's business
REASON_LETTERS: Final = 300  #: of what the generator says of itself, in a message that Discord limits


@dataclass(frozen=True, slots=True)
class FrameCounts:
    """What became of the frames of 20 ms so far.

    Attributes:
        expected: were due since the first music came, pauses excepted.
        sent: carried sound, and went out so that listeners can hear them.
        held: had to be extended from what was heard, since the generator's had not come.
        silent: were silence, for want of a packet in time.
        late: came from the generator when their place had been played.
    """

    expected: int
    sent: int
    held: int
    silent: int
    late: int


@dataclass(frozen=True, slots=True)
class Status:
    """How a table fares.

    Attributes:
        since: when the present mood was asked for.
        connected: whether the generator answers.
        audible: whether the people in the channel hear it, as far as Discord is concerned.
        buffered: seconds of music that lie ready.
        reconnects: how often a lost voice connection was replaced by another.
        latency: how long changes took, from the wish to the ear.
        window_seconds: how long the generator took over the last window; None before the first.
        realtime_factor: how much faster than needed that was.
    """

    channel: str
    wish: Wish
    since: datetime
    paused: bool
    connected: bool
    audible: bool
    holding: bool
    model: str | None
    buffered: float
    frames: FrameCounts
    reconnects: int
    latency: Latency
    window_seconds: float | None
    realtime_factor: float | None


class Table:
    """Plays in one channel until :meth:`stop`, through faults of the generator's and of Discord's."""

    def __init__(
        self,
        endpoint: Endpoint,
        wish: Wish,
        *,
        seed: int,
        notice: Callable[[Sentence], None],
        ended: Callable[["Table", Sentence], None],
    ) -> None:
        """A table that plays nowhere yet.

        Args:
            endpoint: where the generator is.
            wish: what to play.
            seed: of the music.
            notice: told, once a trouble, a sentence for the GM.
            ended: told when the table ends without having been asked to, and why: the bot was shown out. What is left
                to do is :meth:`stop`.
        """
        self.id = seed  #: tells tables apart in the log
        self._buffer = JitterBuffer()
        self._client = GeneratorClient(endpoint, self, wish, seed=seed)
        self.heard = Heard()  #: the packets of the last two minutes
        self._latency = LatencyMeter(AHEAD_PACKETS)
        self._playout = Playout(self._buffer, self._advanced, self.heard.add)
        self._supervisor = Supervisor(self._playout, tell=notice, ended=lambda reason: ended(self, reason))
        self._since = datetime.now(UTC)
        self._notice = notice
        self._pump: asyncio.Task[None] | None = None
        self._outage: asyncio.TimerHandle | None = None
        self._stopping = False

    # What the GM asks

    async def join(self, channel: Channel) -> None:
        """Joins and plays. The generator is asked at once, so that it works while Discord shakes hands.

        Raises:
            VoiceError: the channel can't be joined; the table is over then.
        """
        with about(guild=channel.guild.id, table=self.id):
            self._client.start()
            self._latency.ask()
            try:
                await self._supervisor.join(channel)
            except BaseException:
                await self._client.close()
                if self._outage is not None:
                    self._outage.cancel()
                raise
            self._pump = asyncio.create_task(self._playout.pump(), name="pump")

    async def move(self, channel: Channel) -> None:
        """Goes on in another channel of the same guild."""
        self._supervisor.move(channel)

    def dragged(self, channel: Channel) -> None:
        """The bot is in this channel now."""
        self._supervisor.dragged(channel)

    async def pause(self) -> None:
        """Fades out and stays in the channel; the music waits where it is."""
        self._latency.forget()
        await self._supervisor.pause()

    async def resume(self) -> None:
        """Fades in where the music waits."""
        self._supervisor.resume()

    @property
    def paused(self) -> bool:
        """Whether it is silent by wish."""
        return self._supervisor.paused

    def set_mood(self, controls: Controls, transition: Transition = "sudden") -> bool:
        """Turns to other music; False when that plays, or was asked for, already. A slow turn may be cut short."""
        wish, age = self._client.wish, datetime.now(UTC) - self._since
        under_way = wish.transition == "slow" and age < SLOW and not self.paused
        if controls == wish.controls and not (under_way and transition == "sudden"):
            return False
        self._client.set_mood(controls, transition)
        if not self.paused:
            self._latency.ask()
        self._since = datetime.now(UTC)
        return True

    def set_volume(self, gain: float) -> None:
        """Ramps to a gain of 0 to 1."""
        self._client.set_volume(gain)

    async def stop(self) -> None:
        """Falls silent and leaves."""
        self._stopping = True
        if self._outage is not None:
            self._outage.cancel()
        # The pump goes last, since it feeds the thread.
        with about(guild=self.channel.guild.id if self.channel is not None else None, table=self.id):
            await self._supervisor.stop()
        if self._pump is not None:
            self._pump.cancel()
            await asyncio.gather(self._pump, return_exceptions=True)
        await self._client.close()

    @property
    def channel(self) -> Channel | None:
        """Where it plays: people drag bots about."""
        return self._supervisor.channel

    @property
    def over(self) -> bool:
        """Whether it is about to end by itself: the bot was shown out."""
        return self._supervisor.over

    @property
    def wish(self) -> Wish:
        """What was asked for last."""
        return self._client.wish

    @property
    def connected(self) -> bool:
        """Whether the generator answers, and in time."""
        return self._client.connected and not self._buffer.holding

    def status(self) -> Status:
        """How the table fares now."""
        pace = self._client.pace
        with self._playout.lock:
            buffered = self._buffer.ready * FRAME_SECONDS
        return Status(
            channel=self.channel.name if self.channel is not None else "no channel",
            wish=self._client.wish,
            since=self._since,
            paused=self.paused,
            connected=self._client.connected,
            audible=self._supervisor.audible,
            holding=self._buffer.holding,
            model=self._client.model,
            buffered=buffered,
            frames=FrameCounts(
                expected=self._supervisor.expected,
                sent=self._supervisor.sent,
                held=self._buffer.counts.held,
                silent=self._playout.underruns,
                late=self._buffer.counts.late,
            ),
            reconnects=self._supervisor.reconnects,
            latency=self._latency.latency,
            window_seconds=pace.compute_seconds if pace else None,
            realtime_factor=pace.audio_seconds / pace.compute_seconds if pace and pace.compute_seconds else None,
        )

    # What the generator sends (bot.client.Listener)

    def stream_begins(self, *, changed: bool, resumable: int | None) -> int:
        """Where the stream should begin."""
        with self._playout.lock:
            self._buffer.begin_stream()
            return self._buffer.resume_at(changed=changed, resumable=resumable)

    def frame(self, index: int, pcm: bytes) -> None:
        """A frame came."""
        with self._playout.lock:
            self._buffer.put(index, pcm)

    def event(self, event: ClientEvent) -> None:
        """Something happened on the line."""
        if isinstance(event, Away):
            log.warning("the table in %s holds: %s", self.channel, event.reason)
            self._begin_outage(event.reason)
        elif isinstance(event, Opened) and event.continues:
            with self._playout.lock:
                self._buffer.continue_stream()
        elif isinstance(event, Connected):
            self._end_outage()
        elif isinstance(event, MoodLands) and event.controls == self._client.wish.controls:
            self._latency.lands(event)

    def _advanced(self, playhead: int) -> None:
        self._client.advance(playhead)
        self._latency.advance(playhead)
        if self._buffer.holding:  # a line that stands says nothing of who sits at its other end
            self._begin_outage("the music generator sends nothing")
        elif self._client.connected:
            self._end_outage()

    def _begin_outage(self, reason: str) -> None:
        if self._outage is None and not self._stopping:
            self._outage = asyncio.get_running_loop().call_later(NOTICE_SECONDS, self._tell_outage, reason)

    def _end_outage(self) -> None:
        if self._outage is not None:
            self._outage.cancel()
            self._outage = None

    def _tell_outage(self, reason: str) -> None:
        mood = self._client.wish.controls.mood
        held = (
            "The music generator is away; what was heard last goes on meanwhile, and {mood} plays as soon as it is "
            "back. ({reason})"
            if self._buffer.started
            else "The music generator is away; there is no music until it is back, and then {mood} plays. ({reason})"
        )
        self._notice(Sentence(held, mood=Sentence(mood), reason=reason[:REASON_LETTERS]))
