"""One guild's engagement of the bard: what is to be heard there, and the table that lets it be heard.

Whatever happens, first what should be so is changed (:attr:`Engagement.playing`, the attendance), and then
:meth:`Engagement._settle` brings about what should be so. So nothing depends on the order in which things happen.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

from bot.attendance import Attendance, Clock, Patience, Presence, Timer, listeners
from bot.client import Wish
from bot.errors import NothingPlays, VoiceError
from bot.localisation import Sentence
from bot.logs import about
from bot.store import Playing, Store
from bot.table import Table
from bot.voice import Channel, check
from generator.protocol import Controls, Transition

log = logging.getLogger(__name__)

Change = Callable[[Controls | None], Controls]  #: what is to be heard, given what is

#: Seconds between attempts to get back to a table after a restart: two minutes. Then it is forgotten.
RETURN_PAUSES: Final = (5.0, 10.0, 20.0, 35.0, 50.0)


class Engagement:
    """At most one table, and what is remembered of it. All that changes it goes one after the other."""

    def __init__(
        self,
        guild: int,
        store: Store,
        *,
        hire: Callable[[Wish], Table],
        find: Callable[[int], Channel | None],
        vanish: Callable[[], Awaitable[None]],
        gain: Callable[[], float],
        patience: Callable[[], Patience],
        changed: Callable[[], None],
        settle: Callable[[], None],
        clock: Clock,
    ) -> None:
        """An engagement without a table.

        Args:
            guild: its id.
            store: where what plays is remembered.
            hire: makes a table that plays nowhere yet.
            find: a voice channel by its id, as discord.py knows it now.
            vanish: has Discord see the bot in no voice channel.
            gain: the guild's volume, 0 to 1.
            patience: how long the guild keeps an empty table.
            changed: called when what plays, or whether it does, is another.
            settle: called when :meth:`settle` should be, soon.
            clock: the time.
        """
        self.table: Table | None = None
        self._guild = guild
        self._store = store
        self._hire = hire
        self._find = find
        self._vanish = vanish
        self._gain = gain
        self._patience = patience
        self._changed = changed
        self._request_settle = settle
        self._clock = clock
        self._retries = 0
        self._retry: Timer | None = None
        self._attendance: Attendance | None = None
        self._closed = False
        self._joining: asyncio.Future[None] | None = None
        self._lock = asyncio.Lock()

    @property
    def playing(self) -> Playing | None:
        """What should be heard."""
        return self._store[self._guild].playing

    @property
    def deserted(self) -> bool:
        """Whether the music waits for somebody to listen."""
        return self._attendance is not None and self._attendance.presence is not Presence.HERE

    # What the GM asks

    async def play(self, channel: Channel, change: Change, transition: Transition) -> tuple[Sentence, ...]:
        """Plays there, or turns to other music; what was done.

        Raises:
            VoiceError: the bot can't get there; all stays as it was.
        """
        async with self._lock:
            goal = check(channel)
            if self.table is not None and self.table.over:  # shown out; but who asks now wants it back
                await self._leave()
            before, table = self.playing, self.table
            controls = change(before.controls if before is not None else None)
            wanted = _asked(before, goal.id, controls)
            music = title(controls)
            if table is None:
                table = await self._open(goal, wanted)
                goal = table.channel or goal
                await self._settle()
                done = Sentence("Playing {music} in {channel}.", music=music, channel=goal.name)
                return done, *self.patience_asked()
            moved = table.channel is None or table.channel.id != goal.id
            if moved:
                await table.move(goal)
            paused, turned = table.paused, table.set_mood(controls, transition)
            self._want(wanted)
            self._attend(Presence.HERE)  # who asks for music is not to find it asleep
            await self._settle()
            if moved and turned:
                done = Sentence("Turning to {music}, now in {channel}.", music=music, channel=goal.name)
            elif moved:
                done = Sentence("Still {music}, now in {channel}.", music=music, channel=goal.name)
            elif turned:
                done = Sentence("Turning to {music}.", music=music)
            elif paused:
                done = Sentence("The music goes on: {music}.", music=music)
            else:
                done = Sentence("That plays already: {music}.", music=music)
            return done, *self.patience_asked()

    async def turn(self, change: Change, transition: Transition) -> tuple[Sentence, ...]:
        """Turns to other music where it plays; what was done.

        Raises:
            NothingPlays: there is nothing to turn.
        """
        async with self._lock:
            before = self.playing
            if before is None:
                raise NothingPlays
            controls = change(before.controls)
            wanted = replace(_asked(before, before.channel, controls), paused=before.paused)
            self._want(wanted)
            turned = wanted != before
            if self.table is not None:
                turned = self.table.set_mood(controls, transition) or turned
            await self._settle()
            if self.playing is None:  # that was the last attempt to return to it
                raise NothingPlays
            music = title(controls)
            done = Sentence("Turning to {music}.", music=music)
            if not turned:
                done = Sentence("That plays already: {music}.", music=music)
            return done, *self.patience_asked()

    async def pause(self, paused: bool) -> bool:
        """Pauses, or goes on; False when there is nothing to pause."""
        async with self._lock:
            if self.playing is None:
                return False
            self._want(replace(self.playing, paused=paused))
            if not paused:
                self._attend(Presence.HERE)
            await self._settle()
        return True

    async def end(self) -> bool:
        """Stops, leaves and forgets; whether there was something."""
        async with self._lock:
            there_was = self.playing is not None
            self._want(None)
            await self._settle()
        return there_was

    # What happens

    async def lost(self, table: Table) -> bool:
        """This table has ended by itself; False if nobody misses it."""
        async with self._lock:
            if table is not self.table:
                return False
            self._want(None)
            await self._settle()
            return True

    def count(self) -> None:
        """Somebody came, went, or was deafened."""
        if self._attendance is not None:
            self._attendance.count(self._listeners())

    def dragged(self, channel: Channel) -> None:
        """The bot is in this channel now."""
        if self.table is not None and self.playing is not None:
            self.table.dragged(channel)
            self._want(replace(self.playing, channel=(self.table.channel or channel).id))
            self.count()
            self._changed()

    def patience_changed(self) -> None:
        """The guild keeps empty tables for another time now."""
        if self._attendance is not None:
            self._attendance.set_patience(self._patience())

    def come_back(self) -> None:
        """The bot is (again) in the guild: to the table of before the restart, as soon as somebody listens there."""
        playing = self.playing
        if playing is None:
            return
        if self._find(playing.channel) is None:
            with about(guild=self._guild):
                log.info("the channel that had music is gone: it is forgotten")
            self._want(None)
            self._request_settle()
        elif self._attendance is None:
            self._attend(Presence.AWAY)
        else:
            self.count()

    async def settle(self) -> None:
        """Brings about what should be so."""
        with about(guild=self._guild):
            async with self._lock:
                await self._settle()

    async def close(self) -> None:
        """Leaves the channel for good, a join under way included; what played is remembered."""
        self._closed = True
        if self._joining is not None:
            self._joining.cancel()
        async with self._lock:
            if self._retry is not None:
                self._retry.cancel()
            await self._leave()

    # How

    async def _settle(self) -> None:
        if self._closed:
            return
        if self._attendance is not None and self._attendance.presence is Presence.GONE:
            log.info("nobody has listened for long: leaving")
            self._want(None)
        playing = self.playing
        if playing is None:
            await self._leave()
        elif self.table is None and not self.deserted:
            await self._return(playing)
        if self.table is not None and playing is not None:
            await (self.table.pause() if playing.paused or self.deserted else self.table.resume())
        if self.table is None:  # nor may people see it there: a leave gets lost when the gateway is away
            await self._vanish()
        self._changed()

    async def _return(self, playing: Playing) -> None:
        channel = self._find(playing.channel)
        try:
            if channel is None:
                raise VoiceError("The channel is gone.")
            await self._open(check(channel), playing)
        except Exception as error:  # whatever it is, nobody is there to try again
            log.warning("no way back to the table: %s", error, exc_info=not isinstance(error, VoiceError))
            if self._retry is not None:
                return  # somebody has asked in between
            if self._retries == len(RETURN_PAUSES):
                log.warning("the table is forgotten")
                self._want(None)
            else:
                self._retry = self._clock.call_at(self._clock.time() + RETURN_PAUSES[self._retries], self._try_again)
                self._retries += 1
        else:
            log.info("back in %s, which plays %s", channel, playing.controls.mood)

    def _try_again(self) -> None:
        self._retry = None
        self._request_settle()

    async def _open(self, channel: Channel, playing: Playing) -> Table:
        if self._closed:
            raise _restarting()
        table = self._hire(Wish(playing.controls, self._gain()))
        self._joining = asyncio.ensure_future(table.join(channel))
        try:
            await self._joining
        except asyncio.CancelledError:
            if self._closed:
                raise _restarting() from None
            raise
        finally:
            self._joining = None
        table.set_volume(self._gain())  # it may have been changed meanwhile
        self.table = table
        self._retries = 0
        self._want(replace(playing, channel=(table.channel or channel).id))  # it may have been dragged on its way
        self._attend(Presence.HERE)
        return table

    async def _leave(self) -> None:
        table, self.table = self.table, None
        if self._attendance is not None:
            self._attendance.close()
            self._attendance = None
        if table is not None:
            await table.stop()

    def _want(self, playing: Playing | None) -> None:
        self._store[self._guild] = replace(self._store[self._guild], playing=playing)

    def _attend(self, presence: Presence) -> None:
        """Counts anew, from now on."""
        if self._attendance is not None:
            self._attendance.close()
        self._attendance = Attendance(self._patience(), self._request_settle, self._clock, presence)
        self._attendance.count(self._listeners())

    def _listeners(self) -> int:
        channel = self._find(self.playing.channel) if self.playing is not None else None
        return listeners(channel) if channel is not None else 0

    def patience_asked(self) -> tuple[Sentence, ...]:
        """What is to be added to an answer while it can't be heard yet."""
        if self.table is None or self.table.connected:
            return ()
        return (Sentence("The music generator does not answer yet; the music follows as soon as it does."),)


def _restarting() -> VoiceError:
    return VoiceError("I am being restarted. Please ask me again in a minute.")


def _asked(before: Playing | None, channel: int, controls: Controls) -> Playing:
    """As asked now; a mood that goes on, more or less intense, plays since it began."""
    goes_on = before is not None and before.controls.moods == controls.moods
    return Playing(channel, controls, before.since if before is not None and goes_on else datetime.now(UTC))


def title(controls: Controls) -> Sentence:
    """What plays, in a word or a few."""
    mood = Sentence(controls.mood)
    if controls.blend is not None:
        mood = Sentence("{mood} with {blend}", mood=mood, blend=Sentence(controls.blend))
    if controls.intensity != 3:
        return Sentence("{mood} at intensity {intensity}", mood=mood, intensity=controls.intensity)
    return mood
