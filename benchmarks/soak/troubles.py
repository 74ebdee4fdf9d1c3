"""What goes wrong, for how long, and what may be lost meanwhile. The tables' scenes stay as they are."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from bot.fake import FakeGenerator
from tests.discord_server import DiscordServer, Guild
from tests.discord_server.rest import Failure


@dataclass(frozen=True, slots=True)
class World:
    """What can go wrong: Discord and the generator."""

    server: DiscordServer
    fake: FakeGenerator


_RECONNECT_SECONDS: Final = 1.5  #: until the bot has let go of a socket that still stands

Happen = Callable[[World, Guild, random.Random], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Trouble:
    """One fault.

    Attributes:
        happen: lets it happen; returns when it is over.
        weight: how often, against the others.
        lossy: whether interactions may be lost.
    """

    name: str
    happen: Happen
    weight: int = 2
    lossy: bool = False


def voice_closes(code: int) -> Happen:
    """The voice server closes the socket."""

    async def happen(world: World, guild: Guild, _: random.Random) -> None:
        if guild.bot.voice is not None:
            await world.server.faults.close_voice(code, guild)

    return happen


async def voice_aborts(world: World, guild: Guild, _: random.Random) -> None:
    """The voice socket breaks."""
    await world.server.faults.abort_voice(guild)


async def region(world: World, guild: Guild, _: random.Random) -> None:
    """Another voice server."""
    if guild.bot.voice is not None:
        await world.server.faults.change_region(guild)


async def black_hole(world: World, _: Guild, rng: random.Random) -> None:
    """No datagram arrives."""
    with world.server.faults.black_hole():
        await asyncio.sleep(rng.uniform(0.2, 4.0))


async def voice_away(world: World, guild: Guild, rng: random.Random) -> None:
    """No voice server answers, and the present one breaks."""
    with world.server.faults.voice_away():
        await world.server.faults.abort_voice(guild)
        await asyncio.sleep(rng.uniform(0.2, 6.0))


async def voice_refuses(world: World, guild: Guild, rng: random.Random) -> None:
    """Each handshake is refused."""
    with world.server.faults.voice_away(refuse=4006):
        if guild.bot.voice is not None:
            await world.server.faults.close_voice(4006, guild)
        await asyncio.sleep(rng.uniform(0.2, 4.0))


async def gateway_drops(world: World, _: Guild, __: random.Random) -> None:
    """The gateway closes its sockets."""
    await world.server.faults.drop_gateway()


async def gateway_asks(world: World, _: Guild, __: random.Random) -> None:
    """Op 7."""
    await world.server.faults.ask_reconnect()
    await asyncio.sleep(_RECONNECT_SECONDS)


async def gateway_doubts(world: World, _: Guild, __: random.Random) -> None:
    """Op 9, resumable."""
    await world.server.faults.invalidate_session(resumable=True)
    await asyncio.sleep(_RECONNECT_SECONDS)


async def gateway_forgets(world: World, _: Guild, rng: random.Random) -> None:
    """Op 9, not resumable."""
    await world.server.faults.invalidate_session(resumable=False)


async def gateway_silent(world: World, _: Guild, __: random.Random) -> None:
    """The gateway's sockets stay open, and nothing comes of them."""
    world.server.gateway.silence()


async def network(world: World, _: Guild, rng: random.Random) -> None:
    """There is no Discord at all."""
    with world.server.faults.network_gone():
        await asyncio.sleep(rng.uniform(0.2, 6.0))


async def rest_fails(world: World, _: Guild, rng: random.Random) -> None:
    """A request or two are refused."""
    status = rng.choice([429, 500, 502])
    part = rng.choice(["/callback", "/webhooks/", "/messages"])
    failure = Failure(part, status, 1, retry_after=rng.uniform(0.2, 1.0))
    world.server.rest.failures.append(failure)
    await asyncio.sleep(1.0)
    world.server.rest.failures.remove(failure)


async def lines_break(world: World, _: Guild, __: random.Random) -> None:
    """All lines to the generator."""
    world.fake.break_lines()


async def generator_dies(world: World, _: Guild, rng: random.Random) -> None:
    """The generator is killed, and begun again."""
    await world.fake.leave()
    await asyncio.sleep(rng.uniform(0.2, 5.0))
    await world.fake.come()


async def generator_stalls(world: World, _: Guild, rng: random.Random) -> None:
    """Its lines stand, and nothing comes."""
    world.fake.stalled = True
    await asyncio.sleep(rng.uniform(0.2, 4.0))
    world.fake.stalled = False


async def generator_slow(world: World, _: Guild, rng: random.Random) -> None:
    """It makes less than is played."""
    world.fake.speed = rng.uniform(0.3, 0.9)
    await asyncio.sleep(rng.uniform(1.0, 5.0))
    world.fake.speed = FAST


FAST: Final = 8.0  #: frames made per frame's time; an endless speed would leave this process no time for Discord

TROUBLES: Final = (
    *(Trouble(f"voice closes {code}", voice_closes(code)) for code in (4000, 4006, 4009, 4011, 4014, 4015)),
    Trouble("voice aborts", voice_aborts),
    Trouble("region", region),
    Trouble("black hole", black_hole),
    Trouble("voice away", voice_away),
    Trouble("voice refuses", voice_refuses),
    Trouble("gateway drops", gateway_drops, lossy=True),
    Trouble("op 7", gateway_asks, lossy=True),
    Trouble("op 9 resumable", gateway_doubts, lossy=True),
    Trouble("op 9", gateway_forgets, 1, lossy=True),
    Trouble("gateway silent", gateway_silent, 1, lossy=True),
    Trouble("network gone", network, lossy=True),
    Trouble("REST fails", rest_fails, 4, lossy=True),
    Trouble("lines break", lines_break),
    Trouble("generator dies", generator_dies, 4),
    Trouble("generator stalls", generator_stalls),
    Trouble("generator slow", generator_slow),
)


def draw(rng: random.Random) -> Trouble:
    """Any of them, by its weight."""
    return rng.choices(TROUBLES, [trouble.weight for trouble in TROUBLES])[0]
