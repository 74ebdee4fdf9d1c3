"""The load benchmark tells the truth: on packets of which all is known; and its generator keeps the protocol."""

import argparse
import asyncio
from collections.abc import Sequence

import pytest
from aiohttp.test_utils import TestServer

from benchmarks import load
from benchmarks.recorded import LATENCY_FRAMES, WINDOW_FRAMES, app, record
from bot.client import FixedEndpoint, GeneratorClient, Wish
from generator.moods import Mood
from generator.protocol import AHEAD_FRAMES, FRAME_BYTES, Controls, MoodLands
from tests.bot.conftest import Ear
from tests.bot.party import until
from tests.discord_server import SILENCE, Listener, Packet
from tests.discord_server.changes import Changes


async def listener(arrivals: Sequence[float], silent: Sequence[int] = (), lost: Sequence[int] = ()) -> Listener:
    made = Listener(bytes(32), 1, Changes())
    made.packets = [
        Packet(arrival, index, index * 960, SILENCE if index in silent else b"music")
        for index, arrival in enumerate(arrivals)
        if index not in lost
    ]
    return made


async def test_figures_are_those_of_all_tables_while_it_was_measured() -> None:
    steady = [0.02 * place for place in range(1_000)]
    stalled = [arrival + (0.03 if place >= 500 else 0.0) for place, arrival in enumerate(steady)]
    heard = [await listener(steady, silent=[600]), await listener(stalled, silent=[1, 700], lost=[400])]
    cost = load.Cost
    run = load.Run(heard, 2.0, 19.0, cost(1.0, 80.0), cost(2.0, 99.0), cost(10.5, 100.0), 120.0)
    found = load.look(run)
    assert (found["tables"], found["packets_missing"]) == (2, 1)
    assert found["silent_share"] == pytest.approx(2 / found["packets"])
    # The stall of 50 ms is late, and so is what came after the lost one, by a hair's breadth or not.
    assert found["late_share"] * (found["packets"] - 2) == pytest.approx(1.5, abs=0.51)
    assert found["inter_arrival_ms"]["most"] == pytest.approx(50)
    assert found["inter_arrival_ms"]["p50"] == pytest.approx(20)
    assert found["cpu_seconds_per_table_second"] == pytest.approx(8.5 / 2 / 17)
    assert found["rss_mib_per_table"] == 10


async def test_recorded_frames_come_as_a_generators_would() -> None:
    frames = record()
    assert {len(frame) for frame in frames} == {FRAME_BYTES}
    ear = Ear()
    async with TestServer(app()) as server:
        client = GeneratorClient(
            FixedEndpoint(str(server.make_url("")).rstrip("/")), ear, Wish(Controls(Mood("epic")), 1.0), seed=1
        )
        client.start()
        try:
            await until(lambda: len(ear.frames) >= AHEAD_FRAMES, "as much as is allowed")
            await asyncio.sleep(0.1)  # and no more
            assert ear.frames == list(range(AHEAD_FRAMES))
            client.advance(WINDOW_FRAMES)
            await until(lambda: len(ear.frames) == AHEAD_FRAMES + WINDOW_FRAMES, "one more window")
            client.set_mood(Controls(Mood("sad")))
            await until(lambda: len(ear.frames) > AHEAD_FRAMES + 2 * WINDOW_FRAMES, "the change")
            landing = [event for event in ear.events if isinstance(event, MoodLands)][-1]
            assert (landing.mood, landing.frame) == ("sad", WINDOW_FRAMES + LATENCY_FRAMES)
            assert ear.frames[AHEAD_FRAMES + WINDOW_FRAMES] == landing.frame
        finally:
            await client.close()


@pytest.mark.slow
async def test_two_tables_are_measured() -> None:
    found = load.look(await load.play(2, 4.0, seed=1))
    assert found["packets"] == pytest.approx(400, abs=20)
    assert found["packets_missing"] == 0
    assert found["inter_arrival_ms"]["p50"] == pytest.approx(20, abs=1)
    assert 0.002 < found["cpu_seconds_per_table_second"] < 0.2
    assert 20 < found["idle_rss_mib"] < found["peak_rss_mib"] < 300


def test_at_least_one_table() -> None:
    with pytest.raises(argparse.ArgumentTypeError):
        load._counts("1,0")
