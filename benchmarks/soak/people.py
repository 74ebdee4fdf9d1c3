"""What people do: every command and button, by those who may and those who may not, and comings and goings."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any, Final

from benchmarks.soak.company import Company
from benchmarks.soak.scene import Scene
from generator.moods import MOODS, Mood
from generator.protocol import TRANSITIONS, Controls
from tests.discord_server import Member
from tests.discord_server.world import Channel

NOTHING: Final = "Nothing plays here"
NOT_ALLOWED: Final = "in the hands of"
NO_MANAGER: Final = "Only somebody with the permission Manage Server"
NO_SERVER: Final = "voice channels of servers"
NOWHERE: Final = "You are in no voice channel"
PLAYING: Final = ("Playing", "Turning to", "Still", "The music goes on", "That plays already")
LANGUAGES: Final = ("en", "de", "fr")

Act = Callable[[Company, random.Random], Awaitable[None]]


def guarded(company: Company, who: Member, change: Callable[[Scene], Scene | str]) -> Callable[[Scene], Scene | str]:
    """What follows if they may, and if there is music to change."""

    def after(scene: Scene) -> Scene | str:
        if not company.may(who, scene):
            return NOT_ALLOWED
        return NOTHING if scene.music is None else change(scene)

    return after


def channel_of(who: Member) -> Channel | None:
    """Where they are."""
    return who.voice.channel if who.voice is not None else None


# Commands


async def mood(company: Company, rng: random.Random) -> None:
    """/mood."""
    who = some_gm(company, rng)
    options: dict[str, Any] = {"mood": str(rng.choice(MOODS))}
    if rng.random() < 0.4:
        options["intensity"] = rng.randint(1, 5)
    if rng.random() < 0.3:
        options["blend"] = str(rng.choice([mood for mood in MOODS if mood != options["mood"]]))
    if rng.random() < 0.5:
        options["transition"] = str(rng.choice(TRANSITIONS))
    second = Mood(options["blend"]) if "blend" in options else None
    controls = Controls(Mood(options["mood"]), options.get("intensity", 3), second)
    await company.slash(who, "mood", PLAYING, asked_by(company, who, controls), **options)
    company.count()


def asked_by(company: Company, who: Member, controls: Controls) -> Callable[[Scene], Scene | str]:
    """What follows when they ask for this music."""
    channel = channel_of(who)

    def after(scene: Scene) -> Scene | str:
        if not company.may(who, scene):
            return NOT_ALLOWED
        if channel is None:
            return scene.turned(controls) if scene.music is not None else NOWHERE
        refused = company.refusal(who, channel)
        return refused if refused is not None else scene.played(channel.id, controls)

    return after


async def stop(company: Company, rng: random.Random) -> None:
    """/stop."""
    who = some_gm(company, rng)
    await company.slash(who, "stop", "The music has stopped", guarded(company, who, Scene.ended))


async def pause(company: Company, rng: random.Random) -> None:
    """/pause."""
    who = some_gm(company, rng)
    await company.slash(who, "pause", "Paused.", guarded(company, who, Scene.paused))


async def resume(company: Company, rng: random.Random) -> None:
    """/resume."""
    who = some_gm(company, rng)
    await company.slash(who, "resume", "The music goes on.", guarded(company, who, Scene.resumed))
    company.count()


async def volume(company: Company, rng: random.Random) -> None:
    """/volume."""
    who, percent = some_gm(company, rng), rng.choice([0, 20, 30, 50, 70, 100])

    def after(scene: Scene) -> Scene | str:
        return replace(scene, volume=percent) if company.may(who, scene) else NOT_ALLOWED

    await company.slash(who, "volume", "Volume", after, percent=percent)


async def now(company: Company, rng: random.Random) -> None:
    """/now, which anybody may ask."""
    who = rng.choice(company.people)
    await company.slash(who, "now", ("Volume", "%"), lambda scene: NOTHING if scene.music is None else scene)


async def keep(company: Company, rng: random.Random) -> None:
    """/keep."""
    who = some_gm(company, rng)

    def after(scene: Scene) -> Scene | str:
        if not company.may(who, scene):
            return NOT_ALLOWED
        return "There is nothing to keep" if scene.place is None else scene

    # A table that was opened for nobody, or while the generator was away, has been heard by nobody.
    await company.slash(who, "keep", ("Here it is", "There is nothing to keep"), after)


async def panel(company: Company, rng: random.Random) -> None:
    """/panel; the one before goes."""
    who, posts = some_gm(company, rng), company.server.rest.posts
    await company.slash(who, "panel", "The panel is here", lambda s: s if company.may(who, s) else NOT_ALLOWED)
    mine = [m for m in posts.messages.values() if m.channel_id == company.guild.general.id]
    if mine:
        company.panel = mine[-1]


async def settings(company: Company, rng: random.Random) -> None:
    """/settings: by the manager, or by somebody who may not."""
    who = company.gm if rng.random() < 0.8 else company.second
    options: dict[str, Any] = {}
    if rng.random() < 0.5:
        options["gm_role"] = rng.choice([company.role, company.role, company.guild.everyone])
    if rng.random() < 0.4:
        options["pause_after"] = rng.choice([2, 4, 8])
    if rng.random() < 0.4:
        options["leave_after"] = rng.choice([12, 20, 40])
    if rng.random() < 0.3:
        options["language"] = rng.choice(LANGUAGES)

    def after(scene: Scene) -> Scene | str:
        if who is not company.gm:
            return NO_MANAGER
        if "gm_role" in options:
            scene = replace(scene, gm_only=options["gm_role"] is company.role)
        wanted = options.get("pause_after", scene.pause_after), options.get("leave_after", scene.leave_after)
        if wanted != (scene.pause_after, scene.leave_after):
            scene = scene.patient(*wanted)
        return replace(scene, language=options.get("language", scene.language))

    await company.slash(who, "settings", "Settings", after, **options)


async def direct_message(company: Company, rng: random.Random) -> None:
    """A command where there is no server."""
    commands: list[tuple[str, dict[str, Any]]] = [("mood", {"mood": "fight"}), ("stop", {}), ("now", {})]
    name, options = rng.choice(commands)
    await company.slash(rng.choice(company.people), name, "", lambda _: NO_SERVER, guild=False, **options)


# Buttons


async def button(company: Company, rng: random.Random) -> None:
    """Any button, on a panel that stands or on one that was deleted."""
    who = some_gm(company, rng)
    names = [*MOODS, *MOODS, "softer", "stronger", "quieter", "louder", "pause", "resume", "stop", "keep"]
    name = str(rng.choice(names))
    if company.lossy or (company.troubled and not all(scene.place for scene in company.scenes)):
        return await now(company, rng)  # nobody is told what became of a press
    if name in MOODS:
        await company.press(who, name, lambda s: asked_by(company, who, _button_controls(s, Mood(name)))(s))
    elif name in ("quieter", "louder"):
        step = 10 if name == "louder" else -10

        def after(scene: Scene) -> Scene | str:
            louder = replace(scene, volume=max(0, min(100, scene.volume + step)))
            return louder if company.may(who, scene) else NOT_ALLOWED

        await company.press(who, name, after)
    elif name == "keep":
        await company.press(who, name, lambda s: s if company.may(who, s) else NOT_ALLOWED)
    else:
        change = {
            "softer": lambda scene: scene.stepped(-1),
            "stronger": lambda scene: scene.stepped(1),
            "pause": Scene.paused,
            "resume": Scene.resumed,
            "stop": Scene.ended,
        }[name]
        await company.press(who, name, guarded(company, who, change))
    company.count()
    return None


def _button_controls(scene: Scene, wanted: Mood) -> Controls:
    return Controls(wanted, scene.music.controls.intensity if scene.music is not None else 3)


async def forged(company: Company, rng: random.Random) -> None:
    """A button's name that no panel has."""
    if company.lossy:
        return
    who = rng.choice(company.people)
    name = rng.choice(["bardcast:", "bardcast:explode", "stop", "bardcast:STOP", "x" * 100, "bardcast:stop "])

    def after(scene: Scene) -> Scene | str:
        return "I know no such button" if company.may(who, scene) else NOT_ALLOWED

    await company.press(who, "", after, name=name)


async def storm(company: Company, rng: random.Random) -> None:
    """Thirty wishes in a third of a second, by two GMs. Any may be the last: the way through Discord is not even."""
    if company.troubled or not all(company.may(company.second, scene) for scene in company.scenes):
        return
    company.note(f"{company.guild.name}: a storm")
    gms = [who for who in (company.gm, company.second) if channel_of(who) is company.guild.voice]
    if not gms:
        return
    wishes = [(rng.choice(gms), Controls(rng.choice(MOODS), rng.randint(1, 5))) for _ in range(30)]
    asked = []
    for who, wish in wishes:
        asked.append(
            asyncio.create_task(company.text_of(who, "mood", PLAYING, mood=str(wish.mood), intensity=wish.intensity))
        )
        await asyncio.sleep(0.01)
    await asyncio.gather(*asked)
    before, company.scenes = company.scenes, set()
    for who, wish in wishes:
        outcomes = map(asked_by(company, who, wish), before)
        company.scenes |= {then for then in outcomes if isinstance(then, Scene)}
    company.count()


# Comings and goings


async def walk(company: Company, rng: random.Random) -> None:
    """Somebody enters, changes the channel, is deafened, or leaves."""
    who = rng.choice(company.people)
    home = company.guild
    where = rng.choice([home.voice] * 3 + [home.other_voice] * 2 + [company.vault, company.cupboard] + [None] * 2)
    if where is company.cupboard:
        where = None if rng.random() < 0.5 else home.voice
    deaf = where is not None and rng.random() < 0.2
    company.note(f"{home.name}: {who.user.name} goes to {where.name if where else 'bed'}{' deaf' if deaf else ''}")
    if where is None:
        await company.server.leave_voice(who)
    else:
        await company.server.join_voice(who, where, self_deaf=deaf)
    company.count()


async def desert(company: Company, rng: random.Random) -> None:
    """All leave, and after a while one returns, or nobody."""
    company.note(f"{company.guild.name}: all leave")
    for who in company.people:
        if who.voice is not None:
            await company.server.leave_voice(who)
    company.count()
    await asyncio.sleep(rng.choice([0.5, 3.0, 9.0, 16.0]))
    if rng.random() < 0.8:
        who = rng.choice([company.gm, company.players[0]])
        company.note(f"{company.guild.name}: {who.user.name} returns")
        company.happens(lambda scene: scene)
        await company.server.join_voice(who, company.guild.voice)
        company.count()


async def come_home(company: Company, _: random.Random) -> None:
    """GM and players gather, as people who want to play do."""
    for who in company.people[:3]:
        if channel_of(who) is not company.guild.voice or (who.voice and who.voice.self_deaf):
            await company.server.join_voice(who, company.guild.voice)
    company.count()


async def drag(company: Company, rng: random.Random) -> None:
    """Somebody drags the bot elsewhere."""
    home = company.guild
    if home.bot.voice is None or company.troubled:
        return
    goal = rng.choice([c for c in (home.voice, home.other_voice) if c is not home.bot.voice.channel])
    company.note(f"{home.name}: the bot is dragged to {goal.name}")
    await company.server.faults.move_bot(goal)
    company.happens(lambda scene: scene.dragged(goal.id) if scene.place is not None else scene)
    company.count()


async def kick(company: Company, _: random.Random) -> None:
    """Somebody shows the bot out."""
    home = company.guild
    if home.bot.voice is None or company.troubled:
        return
    company.note(f"{home.name}: the bot is kicked")
    await company.server.faults.kick_bot(home)
    company.happens(lambda scene: scene.ended() if scene.place is not None else scene)


async def delete_panel(company: Company, rng: random.Random) -> None:
    """Somebody deletes the panel; its buttons can still be pressed where it is shown."""
    if company.panel is not None:
        company.note(f"{company.guild.name}: the panel is deleted")
        company.forget(company.panel)


async def edit_channel(company: Company, rng: random.Random) -> None:
    """Somebody changes the channel's bitrate."""
    if company.lossy:
        return
    bitrate = rng.choice([32_000, 64_000, 96_000, 256_000])
    company.note(f"{company.guild.name}: bitrate {bitrate}")
    await company.server.update_channel(company.guild.voice, bitrate=bitrate)


def some_gm(company: Company, rng: random.Random) -> Member:
    """Mostly one who may."""
    return rng.choice([company.gm] * 5 + [company.second] * 2 + company.players)


ACTS: Final[dict[Act, int]] = {
    mood: 24, stop: 4, pause: 5, resume: 6, volume: 8, now: 3, keep: 2, panel: 3, settings: 6, direct_message: 2,
    button: 18, forged: 2, storm: 1, walk: 12, desert: 2, come_home: 8, drag: 3, kick: 2, delete_panel: 1,
    edit_channel: 2,
}  # fmt: skip


def draw(rng: random.Random) -> Act:
    """Any of it, by its weight."""
    return rng.choices(list(ACTS), list(ACTS.values()))[0]
