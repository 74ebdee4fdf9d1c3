"""The Discord client: what is asked and what happens, on its way to the guild that it concerns."""

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any

import discord
from discord import app_commands

from bot.attendance import Patience
from bot.client import Endpoint, Wish
from bot.engagement import Change, Engagement
from bot.errors import VoiceError
from bot.localisation import Sentence, language_of
from bot.permissions import require_gm
from bot.settings import Settings
from bot.store import GuildSettings, PanelPlace, Playing, Store
from bot.table import Table
from bot.translator import CatalogTranslator
from bot.unreachable import UNREACHABLE
from bot.voice import Channel, be_absent
from generator.protocol import MAX_SEED, Transition

log = logging.getLogger(__name__)

Listener = Callable[[discord.Guild], Coroutine[Any, Any, None]]


class Bard(discord.Client):
    """Engagements by guild. Commands are put on :attr:`tree` by ``bot.commands``.

    Every method may be called at any time and by any number at once: one guild's are done in order; the newest wins.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        settings: Settings,
        store: Store,
        rng: random.Random | None = None,
        **options: Any,
    ) -> None:
        """A client that is not logged in yet.

        Args:
            endpoint: where the generator is.
            settings: the admin's, which hold where a guild has decided nothing.
            store: what is remembered of the guilds; it is open for longer than this client.
            rng: draws the music's seeds, and the jitter of back-offs.
            options: discord.py's.
        """
        # These two suffice; neither is privileged, so an invite needs no extra switch in the portal.
        super().__init__(intents=discord.Intents(guilds=True, voice_states=True), **options)
        self.tree = app_commands.CommandTree(self)
        self._endpoint = endpoint
        self._defaults = settings
        self._store = store
        self._rng = rng or random.Random()  # noqa: S311 - music, not a secret
        self._engagements: dict[int, Engagement] = {}
        self._asked: dict[int, discord.Interaction[Any]] = {}
        self._change_listeners: list[Listener] = []
        self._errands: set[asyncio.Task[None]] = set()
        self._leaving = False

    # What happens at Discord

    async def setup_hook(self) -> None:
        """Tells Discord the commands, in every language."""
        await self.tree.set_translator(CatalogTranslator())
        await self.tree.sync()

    async def on_ready(self) -> None:
        """Logs in whose name the bot is there."""
        log.info("ready as %s in %d guilds", self.user, len(self.guilds))

    async def on_guild_available(self, guild: discord.Guild) -> None:
        """A guild is there: after the start, and after a session that could not be resumed. Back to its table."""
        if self._store[guild.id].playing is not None:
            self._engagement(guild.id).come_back()
        self._tell_listeners(guild.id)  # who ended it may have had no time to
        self._mind_presence(guild)

    async def on_resumed(self) -> None:
        """The gateway is back: what it could not be told meanwhile is told now."""
        for guild in self.guilds:
            self._mind_presence(guild)

    async def on_guild_remove(self, guild: discord.Guild) -> None:
        """The bot was removed from a guild: what it decided ends with that."""
        await self._engagement(guild.id).end()
        del self._store[guild.id]
        self._engagements.pop(guild.id, None)

    async def on_voice_state_update(
        self, member: discord.Member, before: discord.VoiceState, after: discord.VoiceState
    ) -> None:
        """Somebody came, went, was deafened, or the bot was dragged elsewhere."""
        engagement = self._engagements.get(member.guild.id)
        if engagement is None:
            return
        if member.id == member.guild.me.id and isinstance(after.channel, Channel):
            engagement.dragged(after.channel)
        else:
            engagement.count()

    # What commands and panel ask

    def table(self, guild: discord.Guild) -> Table | None:
        """The guild's table, if the bot is at one; after a restart there may be none yet though something plays."""
        return self._engagement(guild.id).table

    def tables(self) -> dict[int, Table]:
        """All at which the bot is, by the id of their guild."""
        return {guild: found.table for guild, found in self._engagements.items() if found.table is not None}

    def playing(self, guild: discord.Guild) -> Playing | None:
        """What the guild should hear, since when, and whether the GM paused it."""
        return self._engagement(guild.id).playing

    def deserted(self, guild: discord.Guild) -> bool:
        """Whether the music is paused because nobody listens; it goes on when somebody does."""
        return self._engagement(guild.id).deserted

    async def play(
        self, member: discord.Member, change: Change, transition: Transition = "sudden"
    ) -> tuple[Sentence, ...]:
        """Plays for ``member``, in the channel where they are; what was done.

        What was paused goes on. The same music again changes nothing. Somebody who is in no channel turns the music
        where it plays.

        Raises:
            VoiceError: they are nowhere, or the bot can't get there; all stays as it was.
        """
        if member.voice is None or member.voice.channel is None:
            if self.playing(member.guild) is not None:
                return await self.turn(member.guild, change, transition)
            raise VoiceError("You are in no voice channel. Join one, then ask me again.")
        return await self._engagement(member.guild.id).play(member.voice.channel, change, transition)

    async def turn(
        self, guild: discord.Guild, change: Change, transition: Transition = "sudden"
    ) -> tuple[Sentence, ...]:
        """Turns to other music where it plays; what is paused stays paused. What was done.

        Raises:
            NothingPlays: there is nothing to turn.
        """
        return await self._engagement(guild.id).turn(change, transition)

    async def pause(self, guild: discord.Guild) -> bool:
        """Pauses until :meth:`resume` or :meth:`play`; False when nothing plays."""
        return await self._engagement(guild.id).pause(True)

    async def resume(self, guild: discord.Guild) -> bool:
        """Goes on after :meth:`pause`; False when nothing plays. Music that was not paused just goes on."""
        return await self._engagement(guild.id).pause(False)

    async def silence(self, guild: discord.Guild) -> bool:
        """Stops, leaves the channel and forgets what played; False when nothing played."""
        return await self._engagement(guild.id).end()

    def volume(self, guild: discord.Guild) -> int:
        """The guild's volume in percent."""
        return self._volume(guild.id)

    def set_volume(self, guild: discord.Guild, percent: int) -> tuple[Sentence, ...]:
        """Sets the guild's volume, 0 to 100, for the present table and those to come; why it is not heard yet."""
        self._change_settings(guild.id, replace(self.guild_settings(guild), volume=percent))
        return self._engagement(guild.id).patience_asked()

    def patience(self, guild: discord.Guild) -> Patience:
        """How long the guild keeps an empty table: its own settings, else the admin's."""
        return self._patience(guild.id)

    def guild_settings(self, guild: discord.Guild) -> GuildSettings:
        """What was decided in the guild; ``None`` in a field: nothing, so the admin's settings hold."""
        return self._store[guild.id].settings

    async def change_settings(self, guild: discord.Guild, settings: GuildSettings) -> None:
        """Decides for the guild, e.g. ``replace(bard.guild_settings(guild), gm_role=role.id)``; it holds at once.

        Raises:
            StoreError: it holds, but is forgotten when the bot restarts; the message says why.
        """
        self._change_settings(guild.id, settings)
        await self._store.flush()

    def panel(self, guild: discord.Guild) -> PanelPlace | None:
        """Where the guild's panel is."""
        return self._store[guild.id].panel

    async def set_panel(self, guild: discord.Guild, place: PanelPlace | None) -> None:
        """Remembers where the guild's panel is.

        Raises:
            StoreError: as for :meth:`change_settings`.
        """
        self._store[guild.id] = replace(self._store[guild.id], panel=place)
        self._tell_listeners(guild.id)
        await self._store.flush()

    def require_gm(self, interaction: discord.Interaction[Any]) -> discord.Member:
        """The member who asks, if they may change what the table hears. Ask this first, for every button too.

        What is to be told to the GM alone is told through this interaction from now on.

        Only somebody who manages the server may choose the GM role: ``bot.permissions.require_manager``.

        Raises:
            NotAllowedError: they may not; the message says who may.
        """
        guild = interaction.guild
        member = require_gm(interaction, self.guild_settings(guild).gm_role if guild is not None else None)
        if interaction.response.is_done():  # else it has come too late to be of use
            self._asked[member.guild.id] = interaction
        return member

    def add_listener(self, listener: Listener) -> None:
        """Calls ``listener(guild)``, in the background, whenever what the guild's panel shows may be another.

        That is: mood, pause, volume, channel, start and end. Several changes at once may be told one by one.
        """
        self._change_listeners.append(listener)

    # How all of it ends

    async def close(self) -> None:
        """Leaves every channel as one should, then Discord; the tables are remembered."""
        self._leaving = True
        for errand in self._errands:
            errand.cancel()
        await asyncio.gather(*self._errands, return_exceptions=True)
        leaving = (engagement.close() for engagement in self._engagements.values())
        for result in await asyncio.gather(*leaving, return_exceptions=True):
            if isinstance(result, BaseException):
                log.error("a table did not end well", exc_info=result)
        await super().close()

    # How

    def _engagement(self, guild: int) -> Engagement:
        if guild not in self._engagements:
            self._engagements[guild] = Engagement(
                guild,
                self._store,
                hire=lambda wish: self._hire(guild, wish),
                find=lambda channel: self._find(guild, channel),
                vanish=lambda: self._vanish(guild),
                gain=lambda: self._gain(guild),
                patience=lambda: self._patience(guild),
                changed=lambda: self._tell_listeners(guild),
                settle=lambda: self._errand(self._engagement(guild).settle()),
                clock=asyncio.get_running_loop(),
            )
        return self._engagements[guild]

    def _hire(self, guild: int, wish: Wish) -> Table:
        return Table(
            self._endpoint,
            wish,
            seed=self._rng.randint(0, MAX_SEED),
            notice=lambda sentence: self._errand(self._whisper(guild, sentence)),
            ended=lambda table, reason: self._errand(self._lost(guild, table, reason)),
        )

    async def _lost(self, guild: int, table: Table, reason: Sentence) -> None:
        if await self._engagement(guild).lost(table):
            await self._whisper(guild, reason)

    def _find(self, guild: int, channel: int) -> Channel | None:
        home = self.get_guild(guild)
        found = home.get_channel(channel) if home is not None else None
        return found if isinstance(found, Channel) else None

    def _mind_presence(self, guild: discord.Guild) -> None:
        if not guild.unavailable and guild.me.voice is not None:
            self._errand(self._engagement(guild.id).settle())

    async def _vanish(self, guild: int) -> None:
        home = self.get_guild(guild)
        if home is not None and not home.unavailable:
            with contextlib.suppress(*UNREACHABLE):  # then when the gateway is back
                await be_absent(home)

    def _volume(self, guild: int) -> int:
        volume = self._store[guild].settings.volume
        return self._defaults.volume if volume is None else volume

    def _gain(self, guild: int) -> float:
        """Loudness is heard by the logarithm: by the square, 50 % is 12 dB down, which sounds like half."""
        return (self._volume(guild) / 100) ** 2

    def _patience(self, guild: int) -> Patience:
        own, default = self._store[guild].settings, self._defaults
        return Patience(
            default.pause_after if own.pause_after is None else own.pause_after,
            default.leave_after if own.leave_after is None else own.leave_after,
        )

    def _change_settings(self, guild: int, settings: GuildSettings) -> None:
        self._store[guild] = replace(self._store[guild], settings=settings)
        engagement = self._engagement(guild)
        engagement.patience_changed()
        if engagement.table is not None:
            engagement.table.set_volume(self._gain(guild))
        self._tell_listeners(guild)

    def _tell_listeners(self, guild: int) -> None:
        home = self.get_guild(guild)
        if home is not None:
            for listener in self._change_listeners:
                self._errand(listener(home))

    async def _whisper(self, guild: int, sentence: Sentence) -> None:
        """Tells the GM alone, as long as Discord lets an interaction be answered; else the log."""
        asked = self._asked.get(guild)
        if asked is not None and not asked.is_expired():
            try:
                await asked.followup.send(sentence.to(language_of(asked.locale.value)), ephemeral=True)
                return
            except UNREACHABLE as error:
                log.warning("the GM could not be told: %s", error)
        log.warning("nobody could be told: %s", sentence)

    def _errand(self, work: Coroutine[Any, Any, None]) -> None:
        async def run() -> None:
            try:
                await work
            except Exception:
                log.exception("an errand failed")

        if self._leaving:  # what is begun now would outlive the client
            work.close()
            return
        task = asyncio.get_running_loop().create_task(run())
        self._errands.add(task)
        task.add_done_callback(self._errands.discard)


class ShardedBard(Bard, discord.AutoShardedClient):
    """A bard over several gateway sessions, as Discord demands of a bot in more than 2,500 guilds.

    With one session it would do too, but after an outage discord.py's sharded client begins a new one where the plain
    client resumes; and a new session costs the voice connections.
    """
