"""The soak: step by step from a seed, several tables at once, and after each step all has to be as it should."""

import asyncio
import random
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from benchmarks.soak import people, troubles
from benchmarks.soak.company import Company, Violation
from benchmarks.soak.process import BotProcess, Census
from benchmarks.soak.scene import Scene
from bot.fake import FakeGenerator
from bot.store import Store
from bot.voice import CONNECT_SECONDS
from generator.moods import MOODS
from generator.protocol import Controls
from tests.discord_server import DiscordServer

VOLUME: Final = 50
PAUSE_AFTER: Final = 4  #: seconds, which stand for minutes
LEAVE_AFTER: Final = 20
INTERLUDE: Final = 40  #: steps until all tables end, and what the bot holds is counted
LEAK_SECONDS: Final = 45.0  #: until what is let go is gone: connections that wait for work, closing handshakes
GATEWAY_REQUESTS: Final = 120  #: that Discord takes in a minute of one session
GROWTH_MIB: Final = 25  #: of memory that is held, from a process's first interlude on; 5 were seen
HEARTBEAT_MS: Final = 1_000
_TRAIL: Final = 80


@dataclass
class Soak:
    """What happened.

    Attributes:
        acts, faults: how often each was done.
        calm, troubled: seconds until all tables were as they should be, after steps without and with faults.
        rss: MiB, of each life of the process, at its interludes.
        trail: the last things that were done.
        violation: what was not as it should be, if anything.
    """

    steps: int = 0
    seconds: float = 0.0
    acts: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    calm: list[float] = field(default_factory=list)
    troubled: list[float] = field(default_factory=list)
    rss: list[list[float]] = field(default_factory=list)
    slowest_answer: float = 0.0
    reconnects: int = 0
    gateway_requests: int = 0
    trail: list[str] = field(default_factory=list)
    violation: str | None = None
    log: str = ""


class Stage:
    """Discord, the generator, the bot, and the companies."""

    def __init__(self, server: DiscordServer, fake: FakeGenerator, folder: Path, seed: int, say: Callable[[str], None]):
        self.soak = Soak()
        self._seed = seed
        self._say = say
        self._begun = time.monotonic()
        self._world = troubles.World(server, fake)
        self._folder = folder
        scene = Scene(VOLUME, PAUSE_AFTER, LEAVE_AFTER)
        self.companies = [Company(server, guild, scene, self._note) for guild in server.guilds]
        env = {
            "BARDCAST_GENERATOR_URL": fake.url,
            "BARDCAST_VOLUME": str(VOLUME),
            "BARDCAST_PAUSE_AFTER": str(PAUSE_AFTER),
            "BARDCAST_LEAVE_AFTER": str(LEAVE_AFTER),
        }
        self.bot = BotProcess(server, folder, env)
        self._before: Census

    async def begin(self) -> None:
        """The bot is there, and idle."""
        for company in self.companies:
            await company.arrive()
        await self.bot.start()
        await self.settle([])
        self._before = await self.bot.census()
        self.soak.rss.append([])

    async def step(self, number: int) -> None:
        """One step; which one depends on its number and the seed alone."""
        rng = self._dice(number)
        self.soak.steps += 1
        kind = rng.random()
        if number % INTERLUDE == INTERLUDE - 1:
            await self.interlude()
        elif kind < 0.012:
            await self._restart(kill=False)
        elif kind < 0.02:
            await self._restart(kill=True)
        else:
            count = rng.choices([0, 1, 2], [60, 30, 10])[0]
            faults = list({fault.name: fault for fault in (troubles.draw(rng) for _ in range(count))}.values())
            await self._bustle(number, faults)

    async def _bustle(self, number: int, faults: list[troubles.Trouble]) -> None:
        """Somebody does something at each table, while things go wrong."""
        for company in self.companies:
            company.troubled, company.lossy = bool(faults), any(fault.lossy for fault in faults)
            company.calm.clear()
        going_wrong = asyncio.gather(*(self._go_wrong(fault, self._dice(number, fault.name)) for fault in faults))
        acting = [self._act(company, self._dice(number, company.guild.name)) for company in self.companies]
        await together([self._calm_down(going_wrong), *acting])
        await self.settle(faults)

    async def _go_wrong(self, fault: troubles.Trouble, rng: random.Random) -> None:
        await asyncio.sleep(rng.uniform(0.0, 0.8))
        guild = rng.choice(self.companies).guild
        self._note(f"FAULT {fault.name} ({guild.name})")
        self.soak.faults[fault.name] += 1
        try:
            await fault.happen(self._world, guild, rng)
        except LookupError as error:  # there is no connection that it could happen to
            self._note(f"FAULT {fault.name} does not apply: {error}")
        self._note(f"FAULT {fault.name} is over")

    async def _calm_down(self, going_wrong: "asyncio.Future[list[None]]") -> None:
        await going_wrong
        for company in self.companies:
            company.calm.set()

    async def _act(self, company: Company, rng: random.Random) -> None:
        act = people.draw(rng)
        await asyncio.sleep(rng.uniform(0.0, 0.8))
        self.soak.acts[getattr(act, "__name__", "?")] += 1
        await act(company, rng)

    async def settle(self, faults: list[troubles.Trouble]) -> None:
        """Returns when all is as it should be."""
        if not self.bot.alive:
            raise Violation("the bot has ended by itself")
        taken = await together([company.settle() for company in self.companies])
        (self.soak.troubled if faults else self.soak.calm).append(max(taken))
        self.soak.slowest_answer = max(company.slowest for company in self.companies)
        await self._check_lines()
        await self._tidy()
        recent = [moment for moment, _ in self._world.server.gateway.voice_requests if moment > time.monotonic() - 60]
        self.soak.gateway_requests = max(self.soak.gateway_requests, len(recent))
        if len(recent) > GATEWAY_REQUESTS:
            raise Violation(f"{len(recent)} requests to the gateway in a minute")
        if self._world.server.rest.unknown:
            raise Violation(f"requests that Discord does not know: {self._world.server.rest.unknown}")

    async def _check_lines(self) -> None:
        """The generator plays for each table what that wants, and for nobody else."""
        until = time.monotonic() + CONNECT_SECONDS
        while True:
            due = [
                (scene.music.controls, scene.gain)
                for scene in (company.scene for company in self.companies)
                if scene.music is not None and scene.place is not None
            ]
            asked = list(self._world.fake.wishes)
            if Counter(due) == Counter(asked) or any(len(company.scenes) > 1 for company in self.companies):
                return
            if time.monotonic() > until:
                raise Violation(f"the generator plays {asked}; due: {due}")
            await together([company.settle() for company in self.companies])  # a table may have ended meanwhile

    async def interlude(self) -> None:
        """All tables end; then nothing is left of them."""
        self._note("INTERLUDE")
        for company in self.companies:
            company.troubled = company.lossy = False
            if any(scene.music is not None for scene in company.scenes):
                after = people.guarded(company, company.gm, Scene.ended)
                await company.slash(company.gm, "stop", ("The music has stopped", people.NOTHING), after)
        await self.settle([])
        until = time.monotonic() + LEAK_SECONDS
        while True:
            census = await self.bot.census()
            leaks = census.leaks(self._before)
            if not leaks:
                break
            if time.monotonic() > until:
                raise Violation(f"left behind: {leaks}")
            await asyncio.sleep(0.5)
        life = self.soak.rss[-1]
        life.append(round(census.rss, 1))
        if life[-1] - life[0] > GROWTH_MIB:
            raise Violation(f"memory grows: {life} MiB")
        self._note(f"held: {census.rss:.0f} MiB, {census.held['file descriptor']} file descriptors")
        for place, company in enumerate(self.companies):
            await people.come_home(company, random.Random(place))  # noqa: S311
            controls = Controls(MOODS[place % len(MOODS)])
            after = people.asked_by(company, company.gm, controls)
            await company.slash(company.gm, "mood", people.PLAYING, after, mood=str(controls.mood))
            company.count()
        await self.settle([])

    async def _restart(self, *, kill: bool) -> None:
        self._note("KILL" if kill else "RESTART")
        self.soak.acts["kill" if kill else "restart"] += 1
        if kill:
            await self.bot.kill()
        else:
            await self.end()
        await self._check_store()
        self.soak.rss.append([])
        for company in self.companies:
            company.happens(Scene.restarted)
            company.count()
        await self.bot.start()
        await self._sweep()
        await self.settle([])

    async def end(self) -> None:
        """The bot ends as it should."""
        status = await self.bot.stop()
        if status != 0:
            raise Violation(f"the bot ended with exit status {status}")

    async def _check_store(self) -> None:
        """What is remembered is what is so."""
        async with Store(self._folder / "bardcast.sqlite3") as store:
            for company in self.companies:
                memory = store[company.guild.id]
                if not any(agrees(scene, memory.playing) for scene in company.scenes):
                    raise Violation(f"{company.guild.name}: remembered: {memory.playing}; due: {company.scenes}")
                if memory.settings.volume not in (None, *(scene.volume for scene in company.scenes)):
                    raise Violation(f"{company.guild.name}: remembered: {memory.settings}")

    async def _sweep(self) -> None:
        """Discord notices that a process is dead, and its session's voice states end."""
        server = self._world.server
        for guild in server.guilds:
            state = guild.bot.voice
            if state is not None and state.session_id not in server.gateway.sessions:
                await server.set_voice(replace(state, channel=None))

    async def _tidy(self) -> None:
        """The loopback Discord is to hold no more after an hour than after a minute."""
        server, now = self._world.server, time.monotonic()
        newest = {connection.grant.guild.id: connection for connection in server.voice.connections}
        for connection in list(server.voice.connections):
            over = not connection.open and connection.listener.ended is not None
            if over and connection is not newest[connection.grant.guild.id] and now - connection.listener.started > 20:
                server.voice.connections.remove(connection)
                await connection.close()
        for token in list(server.rest.replies)[:-200]:
            del server.rest.replies[token]

    def _dice(self, *place: object) -> random.Random:
        return random.Random("/".join(map(str, (self._seed, *place))))  # noqa: S311 - a soak, not a secret

    def _note(self, line: str) -> None:
        stamped = f"{time.monotonic() - self._begun:7.1f} s  #{self.soak.steps}  {line}"
        self.soak.trail = [*self.soak.trail[-_TRAIL:], stamped]
        self._say(stamped)


def agrees(scene: Scene, playing: Any) -> bool:
    """Whether this is what was remembered of it."""
    if scene.music is None or playing is None:
        return scene.music is playing
    music = scene.music
    return (music.channel, music.controls, music.paused) == (playing.channel, playing.controls, playing.paused)


async def together(work: Iterable[Coroutine[Any, Any, Any]]) -> list[Any]:
    """All of it to its end; then the first error."""
    results = await asyncio.gather(*work, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return results


async def play(
    seed: int,
    tables: int,
    steps: Iterable[int],
    minutes: float,
    say: Callable[[str], None] = lambda _: None,
    keep: Path | None = None,
) -> Soak:
    """One soak, until the steps or the minutes are over, or something is not as it should be.

    Args:
        seed: of all that is drawn.
        tables: how many.
        steps: their numbers.
        minutes: after which no step is begun.
        say: told what is done.
        keep: where the bot's log goes in the end.
    """
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        async with DiscordServer(guilds=tables) as server, FakeGenerator(speed=troubles.FAST) as fake:
            server.gateway.heartbeat_ms = HEARTBEAT_MS
            stage = Stage(server, fake, Path(folder), seed, say)
            soak = stage.soak
            try:
                await stage.begin()
                for number in steps:
                    if time.monotonic() - begun > 60 * minutes:
                        break
                    await stage.step(number)
                await stage.interlude()
                await stage.end()
            except (Violation, TimeoutError, RuntimeError) as error:
                soak.violation = f"{type(error).__name__}: {error}"
            finally:
                soak.seconds = time.monotonic() - begun
                if stage.bot.alive:
                    await stage.bot.kill()
                soak.log = stage.bot.tail()
                if keep is not None:
                    shutil.copy(stage.bot.log, keep)
    return soak
