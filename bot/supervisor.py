"""Keeps a table's sound playing in its channel, whatever happens to the connection.

What should be so is known at any time: connected to that channel, allowed to speak, playing or paused. Whenever
something has happened, and a few times a second in any case, it is compared with what is so, and one step is taken
towards it. So no fault needs to be foreseen, and none leaves a state behind that nobody expects.
"""

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Callable
from functools import partial
from typing import Final

import discord

from bot.backoff import Stairs
from bot.due import Due
from bot.errors import VoiceError
from bot.floor import Floor, Place, place
from bot.handshake import Handshake
from bot.localisation import Sentence
from bot.notices import Notices
from bot.playout import Playout
from bot.unreachable import UNREACHABLE
from bot.voice import Channel, HopelessVoiceError, MovedError, check, connect, deleted, dismissal, leave, refusal
from bot.voice_connection import TableVoice, gateway_open

log = logging.getLogger(__name__)

JOIN_ATTEMPTS: Final = 3  #: while a person waits for the answer
#: Seconds before each attempt to join again; the last one repeats. Few enough for Discord, and never a loop of joins.
REJOIN_PAUSES: Final = (0.0, 1.0, 5.0, 15.0, 25.0)
STEADY_SECONDS: Final = 60.0  #: a connection that lived so long was no failed attempt
NOTICE_SECONDS: Final = 5.0  #: an outage shorter than this is nobody's business
_MOVE_SECONDS: Final = 3.0
_FINISH_SECONDS: Final = 1.0
_TICK_SECONDS: Final = 0.2
_HASTE_SECONDS: Final = 0.05  #: while there is silence, and what ends it rings no bell
_GRACE_SECONDS: Final = 0.3  #: the news that a channel was deleted comes in two parts


class Supervisor:
    """One table's place in Discord.

    Attributes:
        channel: where it plays or tries to.
        paused: whether it is silent by wish.
        reconnects: how often a lost connection was replaced.
    """

    def __init__(
        self,
        playout: Playout,
        *,
        tell: Callable[[Sentence], None],
        ended: Callable[[Sentence], None],
        rng: random.Random | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """A supervisor that is nowhere yet.

        Args:
            playout: what is to be heard.
            tell: told a sentence for the GM, once a trouble.
            ended: told, as a sentence, why there is nothing more to be done: the bot was shown out.
            rng: for the jitter between attempts.
            clock: seconds, of which only differences mean something.
        """
        self.channel: Channel | None = None
        self.paused = False
        self.reconnects = 0
        self._playout = playout
        self._notices = Notices(tell)
        self._ended = ended
        self._rng = rng or random.Random()  # noqa: S311 - jitter
        self._clock = clock
        self._news = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._voice: TableVoice | None = None
        self._client: discord.Client | None = None
        self._guild_id = 0
        self._here = 0  # id of the channel where the bot was seen last
        self._move_asked: float | None = None
        self._floor = Floor()
        self._handshake = Handshake(clock)
        self._silent = asyncio.Event()  # the player thread has ended; new for each
        self._silent.set()
        self._rejoins = Stairs(REJOIN_PAUSES, self._rng, clock)
        self._connected_at = 0.0
        self._lost_at: float | None = None
        self._sent = 0  # by connections that are over
        self._due = Due(clock)
        self._ending = False

    # What the table asks

    async def join(self, channel: Channel) -> None:
        """Joins; the sound follows.

        Raises:
            VoiceError: the channel can't be joined.
        """
        self.channel, self._guild_id = channel, channel.guild.id
        for attempt in range(1, JOIN_ATTEMPTS + 1):
            try:
                await self._connect(channel)
                break
            except VoiceError as error:
                if attempt == JOIN_ATTEMPTS or isinstance(error, HopelessVoiceError):
                    raise
                if isinstance(error, MovedError):
                    self.channel = channel = error.channel
                log.warning("joining %s, attempt %d: %s", channel, attempt, error)
            await asyncio.sleep(attempt * self._rng.uniform(0.8, 1.2))
        self._task = asyncio.create_task(self._run(), name="supervisor")

    def move(self, channel: Channel) -> None:
        """Goes on in another channel of the same guild."""
        self.channel = channel
        self._move_asked = None
        self._news.set()

    def dragged(self, channel: Channel) -> None:
        """The bot is in this channel, which is right, but for a wish that Discord has not heard of yet."""
        if channel.id == self._here:
            return
        unasked = self.channel is not None and self.channel.id != self._here and self._move_asked is None
        self._here, self._move_asked = channel.id, None
        if not unasked:
            self.channel = channel
        self._floor = Floor()
        self._news.set()

    async def pause(self) -> None:
        """Falls silent within 0.3 s, and stays in the channel."""
        self.paused = True
        await self._fall_silent()
        self._due.follow(False)

    def resume(self) -> None:
        """Is heard again."""
        self.paused = False
        self._news.set()

    async def stop(self) -> None:
        """Falls silent and leaves."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self._fall_silent()
        self._due.follow(False)
        await self._drop()

    @property
    def over(self) -> bool:
        """Whether the bot was shown out, or there is no way back in; :attr:`_ended` is told in a moment."""
        return self._ending or (self._voice is not None and self._voice.dismissed)

    @property
    def sent(self) -> int:
        """Packets of sound so far that went out to be heard."""
        return self._sent + (self._voice.sent if self._voice is not None else 0)

    @property
    def expected(self) -> int:
        """Packets so far that were due: one every 20 ms from the first music on, pauses excepted."""
        return self._due.packets

    @property
    def audible(self) -> bool:
        """Whether people in the channel hear what is sent."""
        voice = self._voice
        return (
            voice is not None
            and not voice.over
            and voice.is_connected()
            and voice.encrypted
            and self.channel is not None
            and place(self.channel) is Place.SPEAKER
        )

    # What should be so, step by step

    async def _run(self) -> None:
        while True:
            calm = self.paused or not self._silent.is_set()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_TICK_SECONDS if calm else _HASTE_SECONDS):
                    await self._news.wait()
            self._news.clear()
            self._due.follow(self._playout.music.is_set() and not self.paused)
            try:
                reason = await self._step()
            except Exception:  # it must go on, so what nobody foresaw is a lost connection
                log.exception("a table's supervisor stumbled")
                reason = None
                self._rejoins.attempts += 1
                self._rejoins.wait()
                await self._drop()
            if reason is not None:
                self._ending = True
                await self._drop()
                self._ended(reason)
                return

    async def _step(self) -> Sentence | None:
        """One step towards what should be so; a sentence if there is no way on."""
        voice = self._voice
        if voice is not None and voice.dismissed:
            return await self._dismissal()
        if voice is None or voice.over:
            return await self._rejoin()
        if not voice.is_connected():
            return None  # on the way to another server
        channel = await self._present_channel()
        if channel is None:
            return None
        self._playout.set_bitrate(channel.bitrate)
        self._notices.once(await self._floor.follow(channel))
        self._notices.once(self._handshake.follow(voice))
        if self._handshake.stuck:
            voice.end()
        if place(channel) is not Place.SPEAKER:
            self._playout.finish()
        elif self.audible and not self.paused and self._playout.music.is_set() and self._silent.is_set():
            self._play(voice)
        return None

    async def _present_channel(self) -> Channel | None:
        """The channel in which the bot is, if it is where it should be."""
        guild = self._guild
        state = guild.me.voice if guild is not None else None
        if state is not None and isinstance(state.channel, Channel):
            self.dragged(state.channel)
        if self.channel is None or self.channel.id == self._here:
            return self.channel
        if self._move_asked is None:
            self._move_asked = self._clock()
            # As if dragged there by a person: the connection follows, and nobody sees the bot leave.
            with contextlib.suppress(*UNREACHABLE):  # the gateway is away
                await self.channel.guild.change_voice_state(channel=self.channel, self_deaf=True)
        elif self._clock() - self._move_asked > _MOVE_SECONDS:
            log.warning("no way to %s: leaving, to join there", self.channel)
            await self._drop()
        return None

    def _play(self, voice: TableVoice) -> None:
        """Starts a player thread. It ends for many reasons, and reports none of them."""
        if voice.is_playing():  # for ever, after a connection was lost
            voice.stop()
        self._playout.begin()
        silent = asyncio.Event()
        try:
            voice.play(self._playout, after=partial(_ring, asyncio.get_running_loop(), silent, self._news))
        except discord.ClientException as error:
            log.warning("not playing in %s: %s", voice.channel, error)
            return
        self._silent = silent
        self._lost_at = None
        self._notices.forget()

    async def _fall_silent(self) -> None:
        """Returns when the last of the sound and its five frames of silence are sent, if they can be."""
        self._playout.finish()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_FINISH_SECONDS):
                await self._silent.wait()

    # Out, and in again

    async def _connect(self, channel: Channel) -> None:
        voice = self._voice = await connect(channel, self._news.set)
        self._client = voice.client
        self._connected_at = self._clock()
        self._here, self._move_asked = channel.id, None
        self._floor, self._handshake = Floor(), Handshake(self._clock)

    async def _drop(self) -> None:
        """Leaves."""
        voice, self._voice = self._voice, None
        if voice is not None:
            self._lost_at = self._clock() if self._lost_at is None else self._lost_at
            await leave(voice)
            self._sent += voice.sent

    async def _rejoin(self) -> Sentence | None:
        """Another connection in the place of a lost one, when it is time; a sentence if there is no way to one."""
        voice = self._voice
        assert self.channel is not None  # noqa: S101 - it was joined
        if voice is not None:
            if self._clock() - self._connected_at >= STEADY_SECONDS:
                self._rejoins.attempts = 0
            self._rejoins.wait()
            await self._drop()
            reason = refusal(self.channel.name, voice.close_code)
            if isinstance(reason, HopelessVoiceError):
                return reason.sentence
        if not self._rejoins.due:
            return None
        guild = self._guild
        if guild is None or guild.unavailable or not gateway_open(guild):
            return None  # the gateway is away; and when its session was lost, the guilds come back one by one
        channel = guild.get_channel(self.channel.id)
        if not isinstance(channel, Channel):
            return deleted(self.channel)
        self.channel = channel
        self._rejoins.attempts += 1
        try:
            await self._connect(check(channel))
        except HopelessVoiceError as error:
            return error.sentence
        except VoiceError as error:
            if isinstance(error, MovedError):
                self.channel = error.channel
            self._rejoins.wait()
            log.warning("no way back into %s, attempt %d: %s", channel, self._rejoins.attempts, error)
            if self._lost_at is not None and self._clock() - self._lost_at > NOTICE_SECONDS:
                self._notices.once(
                    Sentence(
                        "I lost the voice connection to {channel} and keep trying to get it back. {reason}",
                        channel=channel.name,
                        reason=error.sentence,
                    )
                )
        else:
            self.reconnects += 1
        return None

    @property
    def _guild(self) -> discord.Guild | None:
        """The guild as Discord's present session knows it; ``channel`` may be of one before."""
        return self._client.get_guild(self._guild_id) if self._client is not None else None

    async def _dismissal(self) -> Sentence:
        await asyncio.sleep(_GRACE_SECONDS)
        assert self.channel is not None  # noqa: S101 - it was joined
        guild = self._guild
        if guild is not None and guild.get_channel(self.channel.id) is None:
            return deleted(self.channel)
        return dismissal(self.channel)


def _ring(loop: asyncio.AbstractEventLoop, silent: asyncio.Event, news: asyncio.Event, _: Exception | None) -> None:
    """Told by the player thread, which may outlive the loop, that it has ended."""
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(silent.set)
        loop.call_soon_threadsafe(news.set)
