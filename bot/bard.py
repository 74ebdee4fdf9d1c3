"""The Discord client: which guild has a table, and how all of them end."""

import asyncio
import logging
import random
from collections import defaultdict
from collections.abc import Coroutine

import discord
from discord import app_commands

from bot.client import Endpoint, Wish
from bot.errors import BotError, VoiceError
from bot.table import Table
from bot.voice import check
from generator.protocol import MAX_SEED, Controls

log = logging.getLogger(__name__)


class Bard(discord.Client):
    """Tables by guild. Commands are put on :attr:`tree` by ``bot.commands``."""

    def __init__(self, endpoint: Endpoint, volume: int, rng: random.Random | None = None) -> None:
        """A client that is not logged in yet.

        Args:
            endpoint: where the generator is.
            volume: percent at which a table begins.
            rng: draws the music's seeds.
        """
        # These two suffice; neither is privileged, so an invite needs no extra switch in the portal.
        super().__init__(intents=discord.Intents(guilds=True, voice_states=True))
        self.tree = app_commands.CommandTree(self)
        self._endpoint = endpoint
        self._rng = rng or random.Random()  # noqa: S311 - music, not a secret
        self._tables: dict[int, Table] = {}
        self._volumes: defaultdict[int, int] = defaultdict(lambda: volume)
        self._locks: defaultdict[int, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._asked: dict[int, discord.Interaction] = {}
        self._errands: set[asyncio.Task[None]] = set()

    async def setup_hook(self) -> None:
        """Tells Discord the commands."""
        await self.tree.sync()

    async def on_ready(self) -> None:
        """Logs in whose name the bot is there."""
        log.info("ready as %s in %d guilds", self.user, len(self.guilds))

    def table(self, guild: discord.Guild) -> Table | None:
        """The guild's table, if it has one."""
        return self._tables.get(guild.id)

    def asked_by(self, interaction: discord.Interaction) -> None:
        """Remembers through which interaction the guild's GM can be told something in private."""
        if interaction.guild_id is not None:
            self._asked[interaction.guild_id] = interaction

    def volume(self, guild: discord.Guild) -> int:
        """The guild's volume in percent."""
        return self._volumes[guild.id]

    async def play(self, member: discord.Member, controls: Controls) -> str:
        """Plays for ``member``, in the channel where they are; what was done, as a sentence.

        Raises:
            VoiceError: they are nowhere, or the bot can't get there.
        """
        if member.voice is None or member.voice.channel is None:
            raise VoiceError("You are in no voice channel. Join one, then ask me again.")
        guild = member.guild
        async with self._locks[guild.id]:
            channel = check(member.voice.channel)
            table = self._tables.get(guild.id)
            if table is None:
                table = await self._open(channel, controls)
                return f"Playing {_title(controls)} in {channel.name}.{_patience(table)}"
            moved = table.channel is None or table.channel.id != channel.id
            if moved:
                await table.move(channel)
            changed = table.set_mood(controls)
            if changed:
                where = f", now in {channel.name}" if moved else ""
                return f"Turning to {_title(controls)}{where}.{_patience(table)}"
            if moved:
                return f"Still {_title(controls)}, now in {channel.name}.{_patience(table)}"
            return f"{_title(controls).capitalize()} plays already.{_patience(table)}"

    async def set_volume(self, guild: discord.Guild, percent: int) -> str:
        """Sets the guild's volume, for the present table and the next; what was done, as a sentence."""
        self._volumes[guild.id] = percent
        table = self._tables.get(guild.id)
        if table is None:
            return f"Volume {percent} %, from the next mood on: nothing plays now."
        table.set_volume(_gain(percent))
        return f"Volume {percent} %.{_patience(table)}"

    async def silence(self, guild: discord.Guild) -> bool:
        """Ends the guild's table; whether there was one."""
        async with self._locks[guild.id]:
            table = self._tables.pop(guild.id, None)
            if table is not None:
                await table.stop()
        return table is not None

    async def close(self) -> None:
        """Leaves every channel as one should, then Discord."""
        tables, self._tables = list(self._tables.values()), {}
        results = await asyncio.gather(*(table.stop() for table in tables), return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException):
                log.error("a table did not end well", exc_info=result)
        for errand in self._errands:
            errand.cancel()
        await asyncio.gather(*self._errands, return_exceptions=True)
        await super().close()

    async def _open(self, channel: discord.VoiceChannel, controls: Controls) -> Table:
        guild = channel.guild
        table = Table(
            self._endpoint,
            Wish(controls, _gain(self._volumes[guild.id])),
            seed=self._rng.randint(0, MAX_SEED),
            notice=lambda sentence: self._errand(self._whisper(guild, sentence)),
            ended=lambda _: self._errand(self._forget(guild)),
        )
        await table.join(channel)
        self._tables[guild.id] = table
        return table

    async def _forget(self, guild: discord.Guild) -> None:
        await self.silence(guild)

    async def _whisper(self, guild: discord.Guild, sentence: str) -> None:
        """Tells the GM alone, as long as Discord lets an interaction be answered; else the log."""
        asked = self._asked.get(guild.id)
        if asked is not None and not asked.is_expired():
            try:
                await asked.followup.send(sentence, ephemeral=True)
                return
            except discord.DiscordException as error:
                log.warning("the GM could not be told: %s", error)
        log.warning("guild %d: %s", guild.id, sentence)

    def _errand(self, work: Coroutine[object, object, None]) -> None:
        task = asyncio.get_running_loop().create_task(_finish(work))
        self._errands.add(task)
        task.add_done_callback(self._errands.discard)


async def _finish(work: Coroutine[object, object, None]) -> None:
    try:
        await work
    except (BotError, discord.DiscordException):
        log.exception("an errand failed")


def _title(controls: Controls) -> str:
    return controls.mood if controls.intensity == 3 else f"{controls.mood} at intensity {controls.intensity}"


def _patience(table: Table) -> str:
    return "" if table.connected else " The music generator does not answer yet; it follows as soon as it does."


def _gain(percent: int) -> float:
    """Loudness is heard by the logarithm: by the square, 50 % is 12 dB down, which sounds like half."""
    return (percent / 100) ** 2
