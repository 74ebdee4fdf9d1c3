"""Discord's end-to-end encryption, for real: people with sessions of their own hear what they can decrypt."""

import asyncio
import time
from collections.abc import Callable
from functools import partial
from typing import Final

import pytest

from bot.fake import FakeGenerator
from tests.bot.seat import seated
from tests.discord_server import DiscordServer, Member
from tests.discord_server.dave import Call, Dave, Op, Payload, Person

HARDLY: Final = 0.6  #: seconds of silence; what this machine may stumble for


@pytest.fixture
async def dave(discord_server: DiscordServer) -> Dave:
    return discord_server.encrypt()


@pytest.fixture
async def alice(discord_server: DiscordServer, dave: Dave) -> Person:
    """Somebody who was there before the bot."""
    return await enter(discord_server, dave, discord_server.add_member("alice"))


async def enter(server: DiscordServer, dave: Dave, member: Member) -> Person:
    await server.join_voice(member, server.guild.voice)
    return dave.people[member.user.id]


def member(server: DiscordServer, person: Person) -> Member:
    return next(member for member in server.guild.members if member.user.id == person.user)


def hears(person: Person, already: int = 0) -> bool:
    return person.heard > already


def call(server: DiscordServer) -> Call:
    assert server.voice.dave is not None
    return server.voice.dave.call(server.guild.voice.id)


@pytest.mark.parametrize("by_the_bot", [False, pytest.param(True, marks=pytest.mark.slow)])
async def test_all_is_encrypted_from_the_first_frame(
    discord_server: DiscordServer, dave: Dave, fake: FakeGenerator, alice: Person, by_the_bot: bool
) -> None:
    """Whoever makes the group: nothing goes out while the handshake lasts, and nothing in plain after it."""
    call(discord_server).first = discord_server.bot.id if by_the_bot else None
    dave.held = True
    async with seated(discord_server, fake, begin=False) as seat:
        await seat.table.join(seat.channel(discord_server.guild.voice))
        await seat.until(lambda: seat.table.status().buffered > 1, "music to be ready")
        await asyncio.sleep(0.4)  # 20 frames, were there no gate
        assert not dave.frames
        assert not discord_server.listener.packets
        assert not seat.table.status().audible
        dave.held = False
        await dave.deliver()
        await seat.steady()
        seat.check()
        assert dave.plain == alice.missed == discord_server.listener.unheard == 0
        assert alice.heard == len(dave.frames) > 0
        assert call(discord_server).leaves[0] == (discord_server.bot.id if by_the_bot else alice.user)
        assert seat.told == []


async def test_who_comes_hears_it_and_who_goes_does_not(
    discord_server: DiscordServer, dave: Dave, fake: FakeGenerator, alice: Person
) -> None:
    """Each coming and going changes the keys, and nobody who stays misses a frame."""
    group = call(discord_server)
    async with seated(discord_server, fake) as seat:
        bob = discord_server.add_member("bob")
        epoch = group.epoch
        come = partial(discord_server.join_voice, bob, discord_server.guild.voice)
        assert await seat.silence_of(come, lambda: len(group.members) == 3) < HARDLY
        assert group.epoch == epoch + 1
        await seat.until(lambda: dave.people[bob.user.id].heard > 10, "the second to hear it")
        assert alice.missed == 0
        leave = partial(discord_server.leave_voice, member(discord_server, alice))
        assert await seat.silence_of(leave, lambda: len(group.members) == 2) < HARDLY
        assert group.epoch == epoch + 2
        assert alice.hear(discord_server.bot.id, dave.frames[-1]) is None
        assert discord_server.listener.unheard == dave.plain == 0


async def test_an_emptied_and_refilled_channel_is_not_mute(
    discord_server: DiscordServer, dave: Dave, fake: FakeGenerator, alice: Person
) -> None:
    async with seated(discord_server, fake) as seat:
        await discord_server.leave_voice(member(discord_server, alice))
        await seat.until(lambda: not seat.table.status().audible, "the keys to be gone")
        sent = len(dave.frames)
        await asyncio.sleep(0.4)
        assert len(dave.frames) == sent  # there is nobody who could hear it, and no key
        begun = time.monotonic()
        bob = await enter(discord_server, dave, discord_server.add_member("bob"))
        await seat.until(partial(hears, bob), "the first to return to hear it")
        assert time.monotonic() - begun < 5
        await seat.steady()
        seat.check()
        assert bob.missed == dave.plain == 0
        assert seat.table.status().reconnects == 0
        assert seat.told == []


def spoil(once: Op) -> tuple[list[Op], Callable[[Op, Payload], Payload]]:
    """Breaks the first message of that kind; the list tells when it was met."""
    met: list[Op] = []

    def tamper(op: Op, payload: Payload) -> Payload:
        if op is once and not met:
            met.append(op)
            assert isinstance(payload, bytes)
            return payload[:-9] + bytes(9)
        return payload

    return met, tamper


@pytest.mark.slow
@pytest.mark.parametrize("kind", [Op.ANNOUNCE_COMMIT, Op.PROPOSALS], ids=lambda op: op.name.lower())
async def test_a_broken_change_of_keys_is_got_over(
    discord_server: DiscordServer, dave: Dave, fake: FakeGenerator, alice: Person, kind: Op
) -> None:
    """Of the commit the bot says itself that it can't be used, and is let in anew; else it connects anew."""
    async with seated(discord_server, fake) as seat:
        met, dave.tamper = spoil(kind)
        bob = discord_server.add_member("bob")
        come = partial(discord_server.join_voice, bob, discord_server.guild.voice)
        assert await seat.silence_of(come, lambda: len(call(discord_server).members) == 3) < 4
        assert met
        for person in (alice, dave.people[bob.user.id]):
            await seat.until(partial(hears, person, person.heard), "each to hear it")
        assert dave.plain == 0


@pytest.mark.slow
async def test_a_broken_welcome_is_got_over(
    discord_server: DiscordServer, dave: Dave, fake: FakeGenerator, alice: Person
) -> None:
    met, dave.tamper = spoil(Op.WELCOME)
    async with seated(discord_server, fake) as seat:
        seat.check()
        assert met
        assert dave.plain == alice.missed == 0


@pytest.mark.slow
async def test_keys_are_agreed_on_anew_with_another_server_and_changed_during_a_resume(
    discord_server: DiscordServer, dave: Dave, fake: FakeGenerator, alice: Person
) -> None:
    async with seated(discord_server, fake) as seat:
        voice = discord_server.voice
        moved = await seat.silence_of(discord_server.faults.change_region, lambda: len(voice.connections) == 2)
        assert moved < 2
        bob = discord_server.add_member("bob")

        async def torn() -> None:
            await discord_server.faults.abort_voice()
            await discord_server.join_voice(bob, discord_server.guild.voice)

        assert await seat.silence_of(torn, lambda: voice.connections[-1].resumes == 1) < 2
        await seat.until(lambda: dave.people[bob.user.id].heard > 0, "the second to hear it")
        assert seat.table.status().reconnects == 0
        assert dave.plain == 0
