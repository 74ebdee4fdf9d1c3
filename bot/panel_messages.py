"""The guilds' panels as messages: posted, kept up to date, and forgotten when somebody deletes them."""

import asyncio
import io
import logging
from collections import defaultdict
from typing import Any, Final

import discord

from bot import panel
from bot.answers import Interaction
from bot.bard import Bard
from bot.errors import BotError
from bot.localisation import Sentence
from bot.logs import about
from bot.permissions import require_member
from bot.store import PanelPlace
from bot.thumbnail import SECONDS, thumbnail
from bot.unreachable import UNREACHABLE
from generator.moods import COLOURS

log = logging.getLogger(__name__)

EVERY_SECONDS: Final = 3.0  #: at most one edit in so long; Discord allows five in five seconds in one channel
SETTLED_SECONDS: Final = SECONDS  #: after a change the picture shows the new mood and nothing else
IDLE_SECONDS: Final = 60.0  #: how old a picture may become while nothing changes
EDIT_SECONDS: Final = 5.0  #: that an edit may take
REFUSED_SECONDS: Final = 4.0  #: after an edit that Discord did not take, and twice as long after each further one


class PanelMessages:
    """Each guild's panel. While there is music a task keeps it up to date; any number of changes share one edit."""

    def __init__(self, bard: Bard) -> None:
        """Keeps the panels of a bard up to date from now on."""
        self._bard = bard
        self._news: dict[int, asyncio.Event] = {}
        self._opening: defaultdict[int, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._drawing = asyncio.Lock()
        bard.add_listener(self.refresh)

    async def open(self, interaction: Interaction) -> None:
        """Posts the guild's panel where the interaction is; the one before it goes.

        Raises:
            BotError: the bot may not post there, or Discord does not take it.
            StoreError: it is there, but is forgotten when the bot restarts.
        """
        guild, channel = require_member(interaction).guild, interaction.channel
        if not isinstance(channel, discord.abc.Messageable) or interaction.channel_id is None:
            raise BotError("A panel can't be posted here. Please ask me in a text channel.")
        _check(interaction, f"<#{interaction.channel_id}>")
        async with self._opening[guild.id]:
            before = self._bard.panel(guild)
            try:
                message = await channel.send(**await self._content(guild, new=True))
            except discord.Forbidden:
                raise BotError(
                    "Discord does not let me post in {channel}. Please check my permissions there.",
                    channel=f"<#{interaction.channel_id}>",
                ) from None
            except UNREACHABLE as error:
                log.warning("the panel could not be posted: %s", error)
                raise BotError("Discord can't be reached at the moment. Please try again soon.") from None
            try:
                await self._bard.set_panel(guild, PanelPlace(channel.id, message.id))
            finally:
                if before is not None:
                    await self._delete(before)

    async def refresh(self, guild: discord.Guild) -> None:
        """Shows what is so now, soon; returns when nothing more is to be expected."""
        if guild.id in self._news:
            self._news[guild.id].set()
            return
        with about(guild=guild.id):
            await self._follow(guild)

    async def _follow(self, guild: discord.Guild) -> None:
        news = self._news[guild.id] = asyncio.Event()
        news.set()
        refused = 0
        try:
            while (place := self._bard.panel(guild)) is not None:
                changed = news.is_set()
                news.clear()
                shown = await self._edit(guild, place)
                refused = 0 if shown else refused + 1
                await asyncio.sleep(EVERY_SECONDS)
                if not news.is_set():
                    music = panel.music(self._bard, guild)
                    if music is None and shown:
                        break
                    unsettled = music is not None and (changed or music.trouble is not None)
                    pause = SETTLED_SECONDS if unsettled else IDLE_SECONDS
                    if refused:
                        pause = min(IDLE_SECONDS, REFUSED_SECONDS * 2.0 ** min(refused - 1, 8))
                    await _wait(news, pause)
        finally:
            del self._news[guild.id]

    async def _edit(self, guild: discord.Guild, place: PanelPlace) -> bool:
        """Whether there is nothing to try again."""
        try:
            content = await self._content(guild, new=False)
            async with asyncio.timeout(EDIT_SECONDS):  # else one that is put off would hold up a new panel's
                await self._message(place).edit(**content)
        except discord.NotFound:
            log.info("the panel was deleted")
            if self._bard.panel(guild) == place:
                await self._bard.set_panel(guild, None)
        except UNREACHABLE as error:
            log.warning("the panel could not be brought up to date: %s", error)
            return False
        return True

    async def _delete(self, place: PanelPlace) -> None:
        try:
            await self._message(place).delete()
        except UNREACHABLE as error:
            log.info("an earlier panel could not be deleted: %s", error)

    def _message(self, place: PanelPlace) -> discord.PartialMessage:
        return self._bard.get_partial_messageable(place.channel).get_partial_message(place.message)

    async def _content(self, guild: discord.Guild, *, new: bool) -> dict[str, Any]:
        picture = await self._picture(guild)
        # After the picture, which takes a while: what the panel says is to be the newest.
        music, volume, language = (
            panel.music(self._bard, guild),
            self._bard.volume(guild),
            panel.language(self._bard, guild),
        )
        files = [discord.File(io.BytesIO(picture), panel.PICTURE)] if picture is not None and music is not None else []
        return {
            "embed": panel.embed(music, volume, language, picture=bool(files)),
            "view": panel.buttons(music, volume, language),
            "files" if new else "attachments": files,
        }

    async def _picture(self, guild: discord.Guild) -> bytes | None:
        """What was just heard, as a PNG; one is drawn at a time, so that fifty panels need no more memory than one."""
        playing, table = self._bard.playing(guild), self._bard.table(guild)
        packets = table.heard.last(SECONDS) if table is not None else []
        if playing is None or not packets:
            return None
        async with self._drawing:
            return await asyncio.to_thread(thumbnail, packets, COLOURS[playing.controls.mood])


def _check(interaction: Interaction, channel: str) -> None:
    """Raises BotError, with the names of what is missing, if a panel can't be posted and edited there."""
    allowed = interaction.app_permissions
    in_thread = isinstance(interaction.channel, discord.Thread)
    needed = {
        Sentence("View Channel"): allowed.view_channel,
        Sentence("Send Messages"): allowed.send_messages_in_threads if in_thread else allowed.send_messages,
        Sentence("Embed Links"): allowed.embed_links,
        Sentence("Attach Files"): allowed.attach_files,
    }
    if missing := tuple(name for name, granted in needed.items() if not granted):
        raise BotError(
            "I may not post a panel in {channel}: give my role the permission {permissions} there, then try again.",
            channel=channel,
            permissions=missing,
        )


async def _wait(event: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        pass
