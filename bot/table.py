"""One voice channel's session: what it hears, and that it goes on hearing it."""

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Final

import discord

from bot import voice as discord_voice
from bot.client import Away, Backoff, ClientEvent, Connected, Endpoint, GeneratorClient, Wish
from bot.errors import VoiceError
from bot.jitter_buffer import JitterBuffer
from bot.opus import OpusEncoder
from bot.playout import Playout
from generator.protocol import FRAME_SECONDS, Controls

log = logging.getLogger(__name__)

NOTICE_SECONDS: Final = 3.0  #: an outage shorter than this is nobody's business


@dataclass(frozen=True, slots=True)
class Status:
    """How a table fares.

    Attributes:
        since: when the present mood was asked for.
        buffered: seconds of music that lie ready.
        held: seconds so far that had to be extended from what was heard.
        late: frames so far that came too late.
        underruns: packets of silence so far that the player thread had to be given.
        realtime_factor: how much faster than needed the last window was made; None before the first.
    """

    channel: str
    wish: Wish
    since: datetime
    connected: bool
    holding: bool
    model: str | None
    buffered: float
    held: float
    late: int
    underruns: int
    realtime_factor: float | None


class Table:
    """Plays in one channel until :meth:`stop`, through faults of the generator's and of Discord's."""

    def __init__(
        self,
        endpoint: Endpoint,
        wish: Wish,
        *,
        seed: int,
        notice: Callable[[str], None],
        ended: Callable[["Table"], None],
    ) -> None:
        """A table that plays nowhere yet.

        Args:
            endpoint: where the generator is.
            wish: what to play.
            seed: of the music.
            notice: told, once an outage, a sentence for the GM.
            ended: told when the table ends without having been asked to: the bot was shown out.
        """
        self._buffer = JitterBuffer()
        self._client = GeneratorClient(endpoint, self, wish, seed=seed)
        self._since = datetime.now(UTC)
        self._notice = notice
        self._ended = ended
        self._channel: discord.VoiceChannel | None = None
        self._voice: discord_voice.TableVoice | None = None
        self._playout: Playout | None = None
        self._pump: asyncio.Task[None] | None = None
        self._supervisor: asyncio.Task[None] | None = None
        self._outage: asyncio.TimerHandle | None = None
        self._stopping = False

    # What the GM asks

    async def join(self, channel: discord.VoiceChannel) -> None:
        """Joins and plays. The generator is asked at once, so that it works while Discord shakes hands.

        Raises:
            VoiceError: the channel can't be joined; the table is over then.
        """
        self._channel = channel
        self._playout = Playout(self._buffer, OpusEncoder(channel.bitrate), self._client.advance)
        self._client.start()
        try:
            self._voice = await discord_voice.connect(channel)
        except BaseException:
            await self._client.close()
            raise
        self._pump = asyncio.create_task(self._playout.pump(), name="pump")
        self._supervisor = asyncio.create_task(self._supervise(self._playout), name="supervisor")

    async def move(self, channel: discord.VoiceChannel) -> None:
        """Goes on in another channel of the same guild: leaves this one, and the supervisor joins that."""
        self._channel = channel
        if self._playout is not None:
            self._playout.encoder = OpusEncoder(channel.bitrate)
        voice, self._voice = self._voice, None
        if voice is not None:
            await discord_voice.leave(voice)

    def set_mood(self, controls: Controls) -> bool:
        """Turns to another mood or intensity; False when that plays, or was asked for, already."""
        if controls == self._client.wish.controls:
            return False
        self._client.set_mood(controls)
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
        # The supervisor goes first, lest it take the end for a fault; the pump goes last, since it feeds the thread.
        await _cancel(self._supervisor)
        voice, self._voice = self._voice, None
        if voice is not None:
            await discord_voice.leave(voice)
        await _cancel(self._pump)
        await self._client.close()

    @property
    def channel(self) -> discord.VoiceChannel | None:
        """Where it plays; the voice client knows best, since people drag bots about."""
        if self._voice is not None and isinstance(self._voice.channel, discord.VoiceChannel):
            return self._voice.channel
        return self._channel

    @property
    def wish(self) -> Wish:
        """What was asked for last."""
        return self._client.wish

    @property
    def connected(self) -> bool:
        """Whether the generator answers."""
        return self._client.connected

    def status(self) -> Status:
        """How the table fares now."""
        counts, pace = self._buffer.counts, self._client.pace
        return Status(
            channel=self.channel.name if self.channel is not None else "no channel",
            wish=self._client.wish,
            since=self._since,
            connected=self._client.connected,
            holding=self._buffer.holding,
            model=self._client.model,
            buffered=self._buffer.ready * FRAME_SECONDS,
            held=counts.held * FRAME_SECONDS,
            late=counts.late,
            underruns=self._playout.underruns if self._playout is not None else 0,
            realtime_factor=pace.audio_seconds / pace.compute_seconds if pace and pace.compute_seconds else None,
        )

    # What the generator sends (bot.client.Listener)

    def stream_begins(self, *, changed: bool) -> int:
        """Where the stream should begin."""
        self._buffer.begin_stream()
        return self._buffer.resume_at(changed=changed)

    def frame(self, index: int, pcm: bytes) -> None:
        """A frame came."""
        self._buffer.put(index, pcm)

    def event(self, event: ClientEvent) -> None:
        """Something happened on the line."""
        if isinstance(event, Away):
            log.warning("the table in %s holds: %s", self._channel, event.reason)
            if self._outage is None and not self._stopping:
                loop = asyncio.get_running_loop()
                self._outage = loop.call_later(NOTICE_SECONDS, self._tell_outage, event.reason)
        elif isinstance(event, Connected) and self._outage is not None:
            self._outage.cancel()
            self._outage = None

    def _tell_outage(self, reason: str) -> None:
        wish = self._client.wish.controls
        held = "what was heard last goes on meanwhile" if self._buffer.started else "there is no music until then"
        self._notice(f"The music generator is away; {held}, and {wish.mood} plays as soon as it is back. ({reason})")

    # Discord's faults

    async def _supervise(self, playout: Playout) -> None:
        """Keeps the player thread playing. It ends for many reasons, and reports none of them."""
        loop = asyncio.get_running_loop()
        backoff = Backoff(random.Random(), first=0.5)  # noqa: S311 - jitter
        await playout.music.wait()
        while not (self._voice is not None and self._voice.dismissed):
            over = asyncio.Event()
            try:
                voice = await self._sound_voice()
                voice.play(playout, after=partial(_set, loop, over))
            except (VoiceError, discord.ClientException) as error:
                log.warning("no voice connection: %s", error)
                await asyncio.sleep(backoff.next())
                continue
            backoff.reset()
            await over.wait()
            log.warning("playback in %s ended by itself", self._channel)
            # is_playing() stays true for ever after such an end, and play() would refuse.
            voice.stop()
        log.info("shown out of %s: the table ends", self._channel)
        self._ended(self)

    async def _sound_voice(self) -> discord_voice.TableVoice:
        """A connected voice client: the one at hand if it recovers, else another."""
        if self._voice is not None:
            if await discord_voice.wait_connected(self._voice):
                await discord_voice.wait_encrypted(self._voice)
                return self._voice
            voice, self._voice = self._voice, None
            await discord_voice.leave(voice)
        if self._channel is None:
            raise VoiceError("the table has no channel")
        self._voice = await discord_voice.connect(discord_voice.check(self._channel))
        return self._voice


async def _cancel(task: asyncio.Task[None] | None) -> None:
    if task is not None:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def _set(loop: asyncio.AbstractEventLoop, event: asyncio.Event, _: Exception | None) -> None:
    """Sets the event from the player thread, which may outlive the loop."""
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(event.set)
