"""What the players hear when Discord fails: a table in the loopback Discord, fault by fault.

``silence_of`` asserts, after each fault, the mood and the volume that are decoded from what was sent.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial

import discord
import numpy as np
import pytest

from bot.errors import VoiceError
from bot.fake import AMPLITUDE, FakeGenerator
from bot.supervisor import REJOIN_PAUSES
from bot.voice import HopelessVoiceError, check
from generator.protocol import Problem
from tests.bot.party import party, until
from tests.bot.seat import INTENTS, VOLUME, Seat, levels, longest_silence, seated
from tests.discord_server import SILENCE, DiscordServer, InteractionFailed
from tests.discord_server.rest import Failure
from tests.discord_server.world import MUTE_MEMBERS, REQUEST_TO_SPEAK, SPEAK, STAGE

slow = pytest.mark.slow


@pytest.fixture(autouse=True)
def no_time_to_lose(monkeypatch: pytest.MonkeyPatch) -> None:
    # The loopback Discord answers at once; seconds are for the real one.
    monkeypatch.setattr("bot.supervisor.STEADY_SECONDS", 1.0)


def joins(server: DiscordServer, since: float) -> int:
    """How often the bot has asked Discord for a change of channel."""
    return sum(moment >= since for moment, _ in server.gateway.voice_requests)


async def test_an_evening_of_faults(discord_server: DiscordServer, fake: FakeGenerator) -> None:
    """One after the other, at one table. Nobody touches it, and the music is the same after each."""
    faults, voice, home = discord_server.faults, discord_server.voice, discord_server.guild
    voice.weather.quiet = True  # without inbound UDP a reconnect of discord.py's own takes half a minute
    happenings: list[tuple[str, Callable[[], Awaitable[None]], Callable[[], bool], float]] = [
        ("TCP abort", faults.abort_voice, lambda: voice.connections[0].resumes == 1, 2.0),
        ("region", faults.change_region, lambda: len(voice.connections) == 2, 2.0),
        ("dragged", partial(faults.move_bot, home.other_voice), lambda: len(voice.connections) == 3, 2.0),
        ("4006", partial(faults.close_voice, 4006), lambda: len(voice.connections) == 4, 4.0),
    ]
    async with seated(discord_server, fake) as seat:
        for name, fault, done, most in happenings:
            assert await seat.silence_of(fault, done) <= most, name
        status = seat.table.status()
        assert status.channel == home.other_voice.name
        assert status.reconnects == 1
        assert seat.told == seat.ended == []


@slow
async def test_a_generator_that_hangs_while_its_line_stands_is_told_of(
    discord_server: DiscordServer, fake: FakeGenerator
) -> None:
    async with seated(discord_server, fake) as seat:
        await seat.steady()
        fake.stalled = True
        async with asyncio.timeout(20):  # 8 s lie ready
            while not seat.told:  # noqa: ASYNC110 - it rings no bell
                await asyncio.sleep(0.05)
        assert "(the music generator sends nothing)" in seat.told[0]
        assert seat.table.status().holding
        fake.stalled = False
        await seat.steady()
        async with asyncio.timeout(20):
            while seat.table.status().holding:  # noqa: ASYNC110 - likewise
                await asyncio.sleep(0.05)
        assert len(seat.told) == 1


async def lonely_4014(seat: Seat) -> None:
    await seat.server.faults.close_voice(4014)


async def hole(seat: Seat, seconds: float) -> None:
    with seat.server.faults.black_hole():
        await asyncio.sleep(seconds)


async def hole_and_4006(seat: Seat) -> None:
    with seat.server.faults.black_hole():
        await seat.server.faults.close_voice(4006)
        await asyncio.sleep(15.0)


def reconnected(seat: Seat, count: int) -> bool:
    return seat.table.status().reconnects == count


async def thrice_4006(seat: Seat) -> None:
    for count in (1, 2, 3):
        await seat.server.faults.close_voice(4006)
        await seat.until(partial(reconnected, seat, count), "another connection")


async def silent_gateway(seat: Seat) -> None:
    seat.server.gateway.silence()


async def minute_without_voice_servers(seat: Seat) -> None:
    with seat.server.faults.voice_away():
        await seat.server.faults.abort_voice()
        await asyncio.sleep(60.0)


async def minute_of_refusals(seat: Seat) -> None:
    begun = time.monotonic()
    with seat.server.faults.voice_away(refuse=4006):
        await seat.server.faults.close_voice(4006)
        await asyncio.sleep(60.0)
    # A join, and a leave that undoes it, for each attempt; the jitter may let one more into the minute.
    assert joins(seat.server, begun) <= 2 * (len(REJOIN_PAUSES) + 1) + 1
    assert len(seat.told) == 1


async def minute_without_network(seat: Seat) -> None:
    with seat.server.faults.network_gone():
        await asyncio.sleep(60.0)


def resumed(seat: Seat) -> bool:
    return seat.server.gateway.session_of(seat.server.guild.id).resumes > 0


def resumed_voice(seat: Seat) -> bool:
    return seat.server.voice.connections[-1].resumes > 0


def replaced(seat: Seat) -> bool:
    return seat.table.status().reconnects > 0


def back(seat: Seat) -> bool:
    return seat.table.status().audible


FAULTS: dict[str, tuple[Callable[[Seat], Awaitable[None]], Callable[[Seat], bool], float]] = {
    "4015": (lambda seat: seat.server.faults.close_voice(4015), resumed_voice, 1.0),
    "4009": (lambda seat: seat.server.faults.close_voice(4009), replaced, 3.0),
    "4011": (lambda seat: seat.server.faults.close_voice(4011), replaced, 3.0),
    "4014 without a word from the gateway": (lonely_4014, replaced, 6.0),
    "4006 three times running": (thrice_4006, back, 7.0),
    "UDP black hole, 30 s": (lambda seat: hole(seat, 30.0), back, 32.0),
    "UDP black hole, 15 s, and 4006 in it": (hole_and_4006, replaced, 40.0),
    "op 7": (lambda seat: seat.server.faults.ask_reconnect(), resumed, 1.0),
    "op 9, resumable": (lambda seat: seat.server.faults.invalidate_session(resumable=True), resumed, 1.0),
    "op 9, voice goes on": (lambda seat: seat.server.faults.invalidate_session(resumable=False), replaced, 8.0),
    "op 9, voice ends": (
        lambda seat: seat.server.faults.invalidate_session(resumable=False, voice_ends=True), replaced, 8.0,
    ),
    "gateway silent": (silent_gateway, resumed, 1.0),
    "gateway dropped": (lambda seat: seat.server.faults.drop_gateway(), resumed, 1.0),
    "no voice server for a minute": (minute_without_voice_servers, back, 90.0),
    "every handshake refused for a minute": (minute_of_refusals, replaced, 90.0),
    "no network for a minute": (minute_without_network, back, 90.0),
}  # fmt: skip


@slow
@pytest.mark.timeout(240)
@pytest.mark.parametrize("sharded", [False, True], ids=["quiet", "inbound, sharded"])
@pytest.mark.parametrize("name", FAULTS)
async def test_back_by_itself(
    discord_server: DiscordServer,
    fake: FakeGenerator,
    name: str,
    sharded: bool,
    record_property: Callable[[str, object], None],
) -> None:
    fault, done, most = FAULTS[name]
    discord_server.voice.weather.quiet = not sharded
    discord_server.gateway.heartbeat_ms = 1_000
    # Not less: discord.py lets five seconds pass before it identifies anew, and answers nothing meanwhile.
    client = (discord.AutoShardedClient if sharded else discord.Client)(
        intents=INTENTS, guild_ready_timeout=0.1, heartbeat_timeout=8.0
    )
    async with seated(discord_server, fake, client=client) as seat:
        await asyncio.sleep(1.5)  # until the connection counts as steady
        silence = await seat.silence_of(lambda: fault(seat), lambda: done(seat), 150.0)
        record_property("silence", silence)
        assert silence <= most
        assert seat.ended == []


@pytest.mark.parametrize("event", ["dragged", "region", "shown out"])
async def test_what_happens_while_it_joins_again(
    discord_server: DiscordServer, fake: FakeGenerator, event: str
) -> None:
    """discord.py puts the handshake down as if somebody had cancelled it."""
    faults, home, voice = discord_server.faults, discord_server.guild, discord_server.voice
    async with seated(discord_server, fake) as seat:
        voice.weather.slow = 1.0
        await faults.close_voice(4006)
        await seat.until(lambda: discord_server.voice_state_of_bot() is None, "it to leave")
        await seat.until(discord_server.voice_state_of_bot, "it to join")
        await asyncio.sleep(0.3)
        state = home.bot.voice
        assert state is not None
        voice.weather.slow = 0.0
        if event == "shown out":
            await discord_server.set_voice(replace(state, channel=None))
            voice.revoke(home)
            await seat.until(lambda: seat.ended, "a word")
            assert "disconnected me from table" in seat.ended[0]
            assert discord_server.voice_state_of_bot() is None
            return
        if event == "dragged":
            await discord_server.set_voice(replace(state, channel=home.other_voice))
        else:
            await voice.change_region()
        await discord_server.send_voice_server(home, state.session_id)
        await seat.until(lambda: seat.table.status().reconnects == 1, "another connection", 30.0)
        await seat.steady()
        seat.check()
        assert seat.table.status().channel == (home.other_voice if event == "dragged" else home.voice).name
        assert seat.told == seat.ended == []


async def test_dragged_while_it_joins_it_plays_there(discord_server: DiscordServer, fake: FakeGenerator) -> None:
    gm, home = discord_server.add_member("gm"), discord_server.guild
    await discord_server.join_voice(gm, home.voice)
    async with party(discord_server, fake, commands=True) as guests:
        discord_server.voice.weather.slow = 1.0
        asked = asyncio.create_task(guests.ask(gm, "sad"))
        await until(discord_server.voice_state_of_bot, "it to join")
        await asyncio.sleep(0.3)
        state = home.bot.voice
        assert state is not None
        discord_server.voice.weather.slow = 0.0
        await discord_server.set_voice(replace(state, channel=home.other_voice))
        await discord_server.send_voice_server(home, state.session_id)
        assert await asked == f"Playing sad in {home.other_voice.name}."
        await guests.hears("sad")
        playing = guests.bard.playing(guests.guild)
        assert playing is not None
        assert playing.channel == home.other_voice.id


async def test_a_voice_server_in_trouble_is_a_sentence(
    discord_server: DiscordServer, fake: FakeGenerator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bot.supervisor.JOIN_ATTEMPTS", 1)
    discord_server.voice.weather.unavailable = True
    async with seated(discord_server, fake, begin=False) as seat:
        with pytest.raises(VoiceError, match="can't be reached at the moment"):
            await seat.table.join(seat.channel(discord_server.guild.voice))


async def test_a_table_that_could_not_join_says_nothing_later(
    discord_server: DiscordServer, fake: FakeGenerator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bot.supervisor.JOIN_ATTEMPTS", 1)
    monkeypatch.setattr("bot.table.NOTICE_SECONDS", 1.0)
    discord_server.voice.weather.unavailable = True
    await fake.leave()  # and the generator is away as well
    async with seated(discord_server, fake, begin=False) as seat:
        with pytest.raises(VoiceError):
            await seat.table.join(seat.channel(discord_server.guild.voice))
        await asyncio.sleep(1.5)
        assert seat.told == []


async def test_a_generator_that_says_a_lot_is_cut_short(
    discord_server: DiscordServer, fake: FakeGenerator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Discord takes messages of 2,000 letters."""
    monkeypatch.setattr("bot.table.NOTICE_SECONDS", 0.1)
    fake.problem = Problem("engine", "x" * 5_000, fatal=True)
    async with seated(discord_server, fake, begin=False) as seat:
        await seat.table.join(seat.channel(discord_server.guild.voice))
        await seat.until(lambda: seat.told, "a word")
        assert "xxx" in seat.told[0]
        assert len(seat.told[0]) < 1_000


async def test_a_move_that_fails_is_told(
    discord_server: DiscordServer, fake: FakeGenerator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other channel is full, and the bot has not heard of it."""
    for name in ("supervisor.NOTICE_SECONDS", "supervisor._MOVE_SECONDS", "voice.CONNECT_SECONDS"):
        monkeypatch.setattr(f"bot.{name}", 0.5)
    other = discord_server.guild.other_voice
    await discord_server.join_voice(discord_server.add_member("player"), other)
    async with seated(discord_server, fake) as seat:
        other.user_limit = 1
        await seat.table.move(seat.channel(other))
        await seat.until(lambda: seat.told, "a word", 30.0)
        assert f"I lost the voice connection to {other.name}" in seat.told[0]


async def test_a_right_that_is_taken_is_told_once(discord_server: DiscordServer, fake: FakeGenerator) -> None:
    home = discord_server.guild
    gateway = discord_server.gateway.session_of
    async with seated(discord_server, fake) as seat:

        def hears_it(audible: bool) -> bool:
            return seat.table.status().audible is audible

        for rights in (home.everyone.permissions & ~SPEAK, home.everyone.permissions):
            home.everyone.permissions = rights
            told = {"guild_id": str(home.id), "role": home.everyone.payload()}
            await gateway(home.id).dispatch("GUILD_ROLE_UPDATE", told)
            await seat.until(partial(hears_it, bool(rights & SPEAK)), "the news")
            await seat.until(lambda: seat.told, "a word")
        await seat.steady()
        assert seat.told == ["I may not play in table: give my role the permission Speak there, then try again."]


async def test_paused_it_is_silent_and_stays(discord_server: DiscordServer, fake: FakeGenerator) -> None:
    """Five frames of silence, the speaking flag, and where the music was it goes on; a fault meanwhile is unheard."""
    async with seated(discord_server, fake) as seat:
        listener = discord_server.listener
        asked = time.monotonic()
        await seat.table.pause()
        assert time.monotonic() - asked < 3.0
        assert seat.table.paused
        await seat.until(lambda: listener.speaking[-1].flags == 0, "the speaking flag")
        count, generated = len(listener.packets), len(fake.opens)
        assert [packet.payload for packet in listener.packets[-5:]] == [SILENCE] * 5
        assert listener.packets[-6].payload != SILENCE
        assert levels(listener.audio()[-960 * 6 :])[0] < 0.2 * VOLUME * AMPLITUDE / 32_768  # it was no cut
        before = seat.table.status()
        await discord_server.faults.close_voice(4006)
        await seat.until(lambda: seat.table.status().reconnects == 1, "another connection")
        await asyncio.sleep(0.3)
        assert len(listener.packets) == count
        assert discord_server.listener.packets == []
        after = seat.table.status()
        assert (after.frames.expected, after.frames.sent) == (before.frames.expected, before.frames.sent)
        assert after.buffered >= before.buffered
        assert len(fake.opens) == generated
        asked = time.monotonic()
        await seat.table.resume()
        assert await seat.steady() - asked < 3.0
        seat.check()
        assert discord_server.listener.speaking[-1].flags == 1


@pytest.mark.parametrize("deleted", [False, True], ids=["disconnected", "channel deleted"])
@slow
async def test_shown_out_it_stays_away_and_says_so(
    discord_server: DiscordServer, fake: FakeGenerator, deleted: bool
) -> None:
    faults, home = discord_server.faults, discord_server.guild
    async with seated(discord_server, fake) as seat:
        begun = time.monotonic()
        await (faults.delete_channel(home.voice) if deleted else faults.kick_bot())
        await seat.until(lambda: seat.ended, "a word")
        assert ("was deleted" if deleted else "disconnected me from table") in seat.ended[0]
        await asyncio.sleep(0.5)
        assert discord_server.voice_state_of_bot() is None
        assert joins(discord_server, begun) == 0


@slow
async def test_the_channel_is_edited(discord_server: DiscordServer, fake: FakeGenerator) -> None:
    async with seated(discord_server, fake) as seat:
        listener = discord_server.listener

        def bits() -> float:
            return float(np.mean([len(packet.payload) for packet in listener.packets[-20:]])) * 8 * 50

        before = bits()
        await discord_server.update_channel(discord_server.guild.voice, bitrate=256_000)
        await seat.until(lambda: bits() > 1.5 * before, "another bitrate")
        await seat.steady()
        seat.check()
        assert listener.gaps() == []


@pytest.mark.parametrize("code", [pytest.param(4006, marks=slow), 4017])
async def test_a_refused_handshake_is_a_sentence(
    discord_server: DiscordServer, fake: FakeGenerator, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    monkeypatch.setattr("bot.supervisor.JOIN_ATTEMPTS", 2)
    async with seated(discord_server, fake, begin=False) as seat:
        with discord_server.faults.voice_away(refuse=code), pytest.raises(VoiceError) as caught:
            await seat.table.join(seat.channel(discord_server.guild.voice))
        hopeless = isinstance(caught.value, HopelessVoiceError)
        assert hopeless == (code == 4017)
        assert ("davey" in str(caught.value)) == hopeless
        assert discord_server.voice.attempts == (1 if hopeless else 2)
        await discord_server.wait_gone()
        # A leave and a join for each attempt, and not one more.
        assert joins(discord_server, 0.0) == 2 * discord_server.voice.attempts


@slow
async def test_4017_later_on_is_a_sentence_too(discord_server: DiscordServer, fake: FakeGenerator) -> None:
    async with seated(discord_server, fake) as seat:
        await discord_server.faults.close_voice(4017)
        await seat.until(lambda: seat.ended, "a word")
        assert "pip install --upgrade davey" in seat.ended[0]
        await discord_server.wait_gone()


async def test_without_encryption_nothing_is_sent_and_the_gm_hears_why(
    discord_server: DiscordServer, fake: FakeGenerator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server announces DAVE and never completes its handshake."""
    monkeypatch.setattr("bot.handshake.WORTH_A_WORD_SECONDS", 0.2)
    discord_server.voice.dave_version = 1
    home = discord_server.guild
    async with seated(discord_server, fake, begin=False) as seat:
        await seat.table.join(seat.channel(home.voice))
        await asyncio.sleep(0.4)
        assert seat.told == []  # alone in a channel there is nobody to agree on keys with
        await discord_server.join_voice(discord_server.add_member("player"), home.voice)
        await seat.until(lambda: seat.told, "a word")
        assert "encryption for table is not ready" in seat.told[0]
        await asyncio.sleep(0.4)
        assert len(seat.told) == 1
        assert discord_server.listener.packets == []
        assert not any(speaking.flags for speaking in discord_server.listener.speaking)  # and the music waits
        assert not seat.table.status().audible
        monkeypatch.setattr("bot.voice_connection.TableVoice.encrypted", True)
        await seat.steady()
        seat.check()


@slow
async def test_a_rekey_does_not_mute_it(
    discord_server: DiscordServer, fake: FakeGenerator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While keys are agreed on nothing goes out in plain; then the same connection goes on."""
    async with seated(discord_server, fake) as seat:
        listener = discord_server.listener
        with monkeypatch.context() as patch:
            patch.setattr("bot.voice_connection.TableVoice.encrypted", False)
            await asyncio.sleep(0.1)
            count = len(listener.packets)
            await asyncio.sleep(0.5)
            assert len(listener.packets) == count
        begun = time.monotonic()
        assert await seat.steady() - begun < 3.0
        seat.check()
        assert len(discord_server.listeners) == 1


class TestStage:
    """A stage lets nobody be heard who was not given the floor."""

    @pytest.mark.parametrize(
        "right",
        [pytest.param(MUTE_MEMBERS, id="moderator", marks=slow), pytest.param(REQUEST_TO_SPEAK, id="by request")],
    )
    async def test_it_asks_and_plays_once_it_may(
        self, discord_server: DiscordServer, fake: FakeGenerator, right: int
    ) -> None:
        stage = discord_server.guild.add_channel("arena", type=STAGE)
        discord_server.guild.bot.roles.append(discord_server.guild.add_role("bard", right))
        async with seated(discord_server, fake, begin=False) as seat:
            await seat.table.join(seat.channel(stage))
            if right == REQUEST_TO_SPEAK:
                await seat.until(lambda: seat.told, "a word")
                assert "arena is a stage, so I have asked to speak" in seat.told[0]
                await asyncio.sleep(0.3)
                assert discord_server.listener.packets == []
                await discord_server.faults.let_speak()
            await seat.steady()
            seat.check()

    @slow
    async def test_declined_it_says_so_and_waits(self, discord_server: DiscordServer, fake: FakeGenerator) -> None:
        stage = discord_server.guild.add_channel("arena", type=STAGE)
        discord_server.guild.bot.roles.append(discord_server.guild.add_role("bard", REQUEST_TO_SPEAK))
        async with seated(discord_server, fake, begin=False) as seat:
            await seat.table.join(seat.channel(stage))
            await seat.until(lambda: seat.told, "a word")
            await asyncio.sleep(0.2)
            await discord_server.faults.decline()
            await seat.until(lambda: len(seat.told) == 2, "another word")
            assert "was declined" in seat.told[1]
            await discord_server.faults.let_speak()
            await seat.steady()
            await discord_server.faults.decline()
            await seat.until(lambda: "moved to the audience" in seat.told[-1], "another word")
            await seat.until(lambda: not discord_server.listener.speaking[-1].flags, "silence")
            assert not seat.ended

    async def test_dragged_there_it_asks_as_soon_as_it_may(
        self, discord_server: DiscordServer, fake: FakeGenerator
    ) -> None:
        home = discord_server.guild
        stage = home.add_channel("arena", type=STAGE)
        async with seated(discord_server, fake) as seat:
            await discord_server.faults.move_bot(stage)
            await seat.until(lambda: seat.told, "a word")
            assert "I may not speak on the stage arena" in seat.told[0]
            home.everyone.permissions |= REQUEST_TO_SPEAK
            told = {"guild_id": str(home.id), "role": home.everyone.payload()}
            await discord_server.gateway.session_of(home.id).dispatch("GUILD_ROLE_UPDATE", told)
            await seat.until(lambda: len(seat.told) == 2, "another word")
            assert "I have asked to speak" in seat.told[1]
            await discord_server.faults.let_speak()
            await seat.steady()
            seat.check()

    async def test_one_that_may_not_even_ask_is_refused(
        self, discord_server: DiscordServer, fake: FakeGenerator
    ) -> None:
        stage = discord_server.guild.add_channel("arena", type=STAGE)
        async with seated(discord_server, fake, begin=False) as seat:
            with pytest.raises(VoiceError, match="Request to Speak"):
                check(seat.channel(stage))


@slow
async def test_what_nobody_foresaw_is_a_lost_connection(
    discord_server: DiscordServer, fake: FakeGenerator, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with seated(discord_server, fake) as seat:
        with monkeypatch.context() as patch:
            patch.setattr("bot.floor.Floor.follow", lambda *_: 1 / 0)
            await seat.until(lambda: not seat.table.status().audible, "the planted fault")
        await seat.until(lambda: seat.table.status().reconnects > 0, "another connection", 30.0)
        await seat.steady()
        seat.check()


@slow
@pytest.mark.parametrize(
    ("status", "times", "answered"),
    [(500, 1, True), (429, 1, True), (500, 99, False), (0, 1, False)],
    ids=["500 once", "429 with retry-after", "500 for good", "line closed"],
)
async def test_an_answer_that_discord_does_not_take(
    discord_server: DiscordServer, fake: FakeGenerator, status: int, times: int, answered: bool
) -> None:
    """The music does what was asked for, whether or not the person can be told."""
    gm = discord_server.add_member("gm")
    await discord_server.join_voice(gm, discord_server.guild.voice)
    async with party(discord_server, fake, commands=True) as guests:
        await discord_server.slash(gm, "mood", mood="sad")
        await guests.hears("sad")
        begun = time.monotonic()
        failure = Failure("/callback", status, times, retry_after=1.0)
        discord_server.rest.failures.append(failure)
        if answered:
            reply = await discord_server.slash(gm, "mood", mood="fight")
            await reply.wait_for_text("Turning to")
        else:
            with pytest.raises(InteractionFailed):
                await discord_server.slash(gm, "mood", mood="fight")
        await guests.hears("fight")
        if status == 429:
            assert len(failure.met) == 1
            assert reply.seconds >= 1.0  # it was not asked again before its time
        sound = discord_server.listener.heard(begun, time.monotonic() - 0.1)
        assert longest_silence(sound) < 1.0
