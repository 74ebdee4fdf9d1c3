"""What the bot tells on its port is what happens at its tables."""

import contextlib
import socket
from collections.abc import AsyncIterator

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from bot.errors import SettingsError
from bot.fake import FakeGenerator
from bot.latency import LatencyMeter
from bot.settings import load_settings
from bot.watch import at_gateway, watched
from generator.moods import Mood
from generator.protocol import FRAME_SECONDS, MoodLands
from tests.bot.party import Party, party, until
from tests.discord_server import DiscordServer, Guild

Samples = dict[tuple[str, int | None, str | None], float]


class Watcher:
    """Asks at the port."""

    def __init__(self, session: aiohttp.ClientSession, port: int) -> None:
        self._session = session
        self._url = f"http://127.0.0.1:{port}"

    async def health(self) -> int:
        async with self._session.get(f"{self._url}/healthz") as response:
            return response.status

    async def metrics(self) -> Samples:
        """As Prometheus reads them: by name, guild and kind."""
        async with self._session.get(f"{self._url}/metrics") as response:
            assert response.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
            text = await response.text()
        found: Samples = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                guild = sample.labels.get("guild")
                key = (sample.name, int(guild) if guild else None, sample.labels.get("kind"))
                assert key not in found
                found[key] = sample.value
        return found


@contextlib.asynccontextmanager
async def watching(found: Party) -> AsyncIterator[Watcher]:
    async with watched(found.bard, 0) as port, aiohttp.ClientSession() as session:
        assert port is not None
        yield Watcher(session, port)


def of(samples: Samples, guild: Guild) -> Samples:
    return {key: value for key, value in samples.items() if key[1] == guild.id}


async def begin(found: Party, guild: Guild) -> None:
    gm = found.server.add_member("gm", guild=guild)
    await found.server.join_voice(gm, guild.voice)
    await until(lambda: found.guild_of(guild).get_member(gm.user.id), "the GM to be known")
    await found.ask(gm, "sad")


async def test_tables_are_told_of_while_they_last() -> None:
    async with (
        FakeGenerator(speed=0.7) as fake,  # too slow, so that some frames have to be held
        DiscordServer(guilds=2) as server,
        party(server, fake) as found,
        watching(found) as watcher,
    ):
        for guild in server.guilds:
            await begin(found, guild)
        first, second = server.guilds
        for guild in server.guilds:
            await found.hears("sad", guild)
        before = await watcher.metrics()
        assert before["bardcast_bot_ready", None, None] == 1
        assert before["bardcast_bot_guilds", None, None] == before["bardcast_bot_tables", None, None] == 2
        for guild in server.guilds:
            assert before["bardcast_table_audible", guild.id, None] == 1
            assert before["bardcast_table_generator_connected", guild.id, None] == 1
            assert before["bardcast_table_change_seconds_count", guild.id, None] == 1
            assert 0 <= before["bardcast_table_buffer_seconds", guild.id, None] <= 8
        listener = server.listener_of(first)
        assert abs(before["bardcast_table_frames_total", first.id, "sent"] - len(listener.packets)) < 100

        await until(lambda: found.bard.tables()[first.id].status().holding, "the buffer to run dry")
        after = await watcher.metrics()
        assert after["bardcast_table_frames_total", first.id, "held"] > 0
        for kind in ("expected", "sent"):
            key = ("bardcast_table_frames_total", first.id, kind)
            assert after[key] > before[key]

        await found.bard.silence(found.guild_of(first))
        last = await watcher.metrics()
        assert not of(last, first)
        assert of(last, second).keys() >= of(after, second).keys()
        assert last["bardcast_bot_tables", None, None] == 1


async def test_health_is_the_line_to_discord(discord_server: DiscordServer, fake: FakeGenerator) -> None:
    async with party(discord_server, fake) as found, watching(found) as watcher:
        assert await watcher.health() == 200
        await fake.leave()  # not the bot's illness
        assert await watcher.health() == 200
        with discord_server.faults.network_gone():
            await until(lambda: not at_gateway(found.bard), "the gateway to be gone")
            assert await watcher.health() == 503
            assert (await watcher.metrics())["bardcast_bot_ready", None, None] == 0
        await until(lambda: at_gateway(found.bard), "the gateway to be back", 20)
        assert await watcher.health() == 200


async def test_the_port_is_closed_at_the_end_and_off_by_default(
    discord_server: DiscordServer, fake: FakeGenerator
) -> None:
    assert load_settings({}).metrics_port is None
    assert load_settings({"BARDCAST_METRICS_PORT": "9100"}).metrics_port == 9100
    for value in ("0", "65536", "nine", "-1"):
        with pytest.raises(SettingsError, match="BARDCAST_METRICS_PORT"):
            load_settings({"BARDCAST_METRICS_PORT": value})
    async with party(discord_server, fake) as found:
        async with watched(found.bard, None) as port:
            assert port is None
        async with watched(found.bard, 0) as port:
            assert port is not None
            with pytest.raises(SettingsError, match=rf"Port {port} .*BARDCAST_METRICS_PORT"):
                async with watched(found.bard, port):
                    pass
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", port)) != 0


# From the wish to the ear


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


LANDING = MoodLands(Mood("sad"), 3, 50)


@given(before=st.floats(0, 100), after=st.floats(0, 100), ahead=st.integers(0, 50))
def test_a_change_takes_from_the_wish_to_the_ear(before: float, after: float, ahead: int) -> None:
    clock = Clock()
    meter = LatencyMeter(ahead, clock)
    meter.advance(10)
    meter.ask()
    clock.now += before
    meter.advance(40)
    meter.lands(LANDING)
    meter.advance(50)  # the frames before the fiftieth
    assert meter.latency.changes == 0
    clock.now += after
    meter.advance(51)
    meter.advance(52)
    assert meter.latency.changes == 1
    assert meter.latency.seconds == pytest.approx(before + after + ahead * FRAME_SECONDS)


def test_the_newest_wish_counts_and_what_is_paused_does_not() -> None:
    clock = Clock()
    meter = LatencyMeter(0, clock)
    meter.ask()
    meter.lands(LANDING)
    clock.now += 5
    meter.ask()
    meter.advance(51)  # what was asked for first; the news of the second has not come
    assert meter.latency.changes == 0
    meter.lands(LANDING)
    clock.now += 1
    meter.advance(51)
    assert (meter.latency.changes, meter.latency.seconds) == (1, 1)
    meter.ask()
    meter.lands(LANDING)
    meter.forget()
    meter.advance(60)
    assert meter.latency.changes == 1
