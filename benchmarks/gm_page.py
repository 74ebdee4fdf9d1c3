"""The pictures of docs/gm.md: what the bot sends to a loopback Discord in a short game, drawn as it is shown there."""

import argparse
import asyncio
import sys
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.discord_look import ENGLISH, GERMAN, Sheet, Spoken, Words
from benchmarks.report import note
from bot.bard import Bard
from bot.client import Endpoint
from bot.commands import add_commands
from bot.localisation import load
from bot.run import generator
from bot.settings import Settings
from bot.store import Store
from tests.discord_server import DiscordServer, Member, Role
from tests.discord_server.world import MANAGE_GUILD

_PICTURES = Path(__file__).resolve().parents[1] / "docs" / "gm"
_SOUND_SECONDS = 180.0  #: a cold start of the generator, and its first window
_BEHIND = "⏳"  #: how the panel marks music that is late; a machine that is busy with other things makes it so
_FULL_SECONDS = 14.0  #: until the panel's picture is full, and drawn


@dataclass(frozen=True, slots=True)
class Scene:
    """What is on one picture.

    Attributes:
        name: of the picture.
        spoken: as it stood then.
        moment: when.
        words: those of the reader's Discord.
    """

    name: str
    spoken: Sequence[Spoken]
    moment: datetime
    words: Words = ENGLISH


class Game:
    """One GM and one player at a table, and what they see."""

    def __init__(self, discord: DiscordServer) -> None:
        """Nobody has said anything yet."""
        self.discord = discord
        self.keepers = discord.guild.add_role("Game Master")
        self.gm = discord.add_member("Mira", roles=[self.keepers, discord.guild.add_role("Admin", MANAGE_GUILD)])
        self.player = discord.add_member("Tom")
        self.scenes: list[Scene] = []

    async def ask(self, member: Member, name: str, count: int = 1, **options: Any) -> list[Spoken]:
        """A command, typed, and the ``count`` messages that answer it."""
        reply = await self.discord.slash(member, name, **options)
        changes = self.discord.changes
        await changes.until(lambda: len(reply.messages) == count, timeout=60, what=f"the answer to /{name}")
        shown = {key: f"@{value.name}" if isinstance(value, Role) else value for key, value in options.items()}
        typed = " ".join([f"/{name}", *(f"{key}:{value}" for key, value in shown.items())])
        first, *others = reply.messages
        return [Spoken(first, member.user.name, typed), *(Spoken(other, member.user.name) for other in others)]

    async def now(self) -> list[Spoken]:
        """What plays, at a moment at which the music is made in time."""
        async with asyncio.timeout(_SOUND_SECONDS):
            while True:
                answer = await self.ask(self.gm, "now")
                if _BEHIND not in answer[0].message.text:
                    return answer
                await asyncio.sleep(1.0)

    def remember(self, name: str, spoken: Sequence[Spoken], words: Words = ENGLISH) -> None:
        """One picture, to be drawn after the game: drawing would hold up the bot, which shares this process."""
        self.scenes.append(Scene(name, deepcopy(spoken), datetime.now(UTC), words))


async def play(endpoint: Endpoint, discord: DiscordServer) -> list[Scene]:
    """The game."""
    game = Game(discord)
    gm = game.gm
    discord.guild.voice.name = "Dragon's Rest"
    await discord.join_voice(gm, discord.guild.voice)
    await discord.join_voice(game.player, discord.guild.voice)
    async with Store() as store:
        bard = Bard(endpoint, Settings(), store)
        add_commands(bard)
        async with discord.connect(bard):
            game.remember("settings", await game.ask(gm, "settings", gm_role=game.keepers))
            await game.ask(gm, "mood", mood="tavern")
            await discord.wait_voice(packets=100, timeout=_SOUND_SECONDS)
            fight = await game.ask(gm, "mood", mood="fight", intensity=4, blend="epic", transition="slow")
            game.remember("mood", fight)
            game.remember("refused", await game.ask(game.player, "mood", mood="festival"))
            posted = await game.ask(gm, "panel")
            (panel,) = discord.rest.posts.messages.values()
            await asyncio.sleep(_FULL_SECONDS)
            await discord.changes.until(lambda: _BEHIND not in panel.text, timeout=_SOUND_SECONDS, what="music in time")
            game.remember("panel", [*posted, Spoken(panel, gm.user.name)])
            game.remember("now", await game.now())
            game.remember("volume", await game.ask(gm, "volume", percent=45))
            game.remember("pause", [*await game.ask(gm, "pause"), *await game.ask(gm, "resume")])
            game.remember("keep", await game.ask(gm, "keep", count=2))
            gm.user.locale = "de"
            (german,) = await game.now()
            jetzt = "/" + load("de").names["now"]
            game.remember("german", [Spoken(german.message, german.asker, jetzt)], GERMAN)
            gm.user.locale = "en-US"
            game.remember("stop", await game.ask(gm, "stop"))
    return game.scenes


async def _main(options: argparse.Namespace) -> None:
    settings = Settings(generator_urls=(options.generator,) if options.generator else (), model=options.model)
    async with generator(settings) as endpoint, DiscordServer() as discord:
        scenes = await play(endpoint, discord)
    options.out.mkdir(parents=True, exist_ok=True)
    for scene in scenes:
        sheet = Sheet(discord.guild, scene.moment, options.emoji, scene.words)
        for spoken in scene.spoken:
            sheet.speak(spoken)
        path = options.out / f"{scene.name}.png"
        sheet.save(path)
        note(f"{path}: {path.stat().st_size / 1000:.0f} kB")


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=_PICTURES, metavar="FOLDER", help="where to (default: docs/gm)")
    parser.add_argument("--model", metavar="NAME|PATH", help="checkpoint (default: the one that ships)")
    parser.add_argument("--generator", metavar="URL", help="a generator elsewhere (default: one is started)")
    parser.add_argument(
        "--emoji", type=Path, metavar="FILE", help="NotoColorEmoji.ttf; without it pictures are drawn without emoji"
    )
    asyncio.run(_main(parser.parse_args(arguments)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
