"""What music costs is told rightly: lines on planted points, and a service that is known."""

import argparse
from pathlib import Path

import aiohttp
import numpy as np
import pytest

from benchmarks import cost, line
from benchmarks.cost_picture import draw
from benchmarks.served import listen
from bot.fake import FakeGenerator
from generator.moods import MOODS
from generator.protocol import Open


def test_a_line_is_found_in_points_that_lie_on_one() -> None:
    found = line.fit([1, 2, 5, 9], [5, 7, 13, 21])
    assert found.slope == pytest.approx(2)
    assert found.intercept == pytest.approx(3)
    assert found.r_squared == pytest.approx(1)
    assert found.largest_deviation == pytest.approx(0, abs=1e-9)
    assert found.reaches(found.at(4)) == pytest.approx(4)


def test_r_squared_and_the_worst_point_are_what_they_are_called() -> None:
    rng = np.random.default_rng(0)
    x = np.arange(20.0)
    y = 3 + 0.5 * x + rng.normal(0, 0.2, 20)
    y[13] += 4
    found = line.fit(list(x), list(y))
    assert found.r_squared == pytest.approx(np.corrcoef(x, y)[0, 1] ** 2)
    slope, intercept = np.polyfit(x, y, 1)
    assert found.largest_deviation == pytest.approx(y[13] - (intercept + slope * 13))
    assert found.largest_deviation_share == pytest.approx(found.largest_deviation / found.at(13))


def test_one_place_makes_no_line() -> None:
    with pytest.raises(ValueError, match="two different places"):
        line.fit([4, 4], [1, 2])


def points(numbers: list[int], seconds_a_stream: float, audio: float = 60.0) -> list[cost.Point]:
    return [
        cost.Point(n, audio, n * seconds_a_stream, n * seconds_a_stream + 1, audio / (n * seconds_a_stream + 1))
        for n in numbers
    ]


def lengths() -> list[cost.Point]:
    return [cost.Point(s, s + 2, 0.1 * s + 0.2, 0.1 * s + 0.3, 9.0) for s in (10.0, 30.0, 60.0)]


def test_a_machine_holds_as_many_streams_as_it_computes_while_they_play() -> None:
    figures = cost.look(lengths(), points([1, 2, 4, 8], 9.0))
    assert figures["by_length"]["slope"] == pytest.approx(0.1)
    assert figures["by_streams"]["slope"] == pytest.approx(9)
    assert figures["streams_held"] == 6  # 6 · 9 + 1 = 55 of 60 s; a seventh would make 64
    assert figures["most_streams_that_kept_up"] == 4


def test_streams_beyond_one_that_failed_do_not_count() -> None:
    tried = points([1, 2, 4], 1.0)
    tried[1] = cost.Point(2, 60.0, 2.0, 61.0, 60 / 61)
    assert cost.look(lengths(), tried)["most_streams_that_kept_up"] == 1


@pytest.mark.parametrize("seconds_a_stream", [9.0, 0.05], ids=["crossed", "far from it"])
def test_both_lines_are_drawn(seconds_a_stream: float, tmp_path: Path) -> None:
    figures = cost.look(lengths(), points([1, 2, 4, 8], seconds_a_stream)) | {"device": "the CPU"}
    path = draw(figures, tmp_path / "cost.png")
    assert path.read_bytes().startswith(b"\x89PNG")


def test_options_that_make_no_line_are_refused() -> None:
    assert cost._counts("1,2") == [1, 2]
    for refused in ("1", "3,3", "0,1", "1,x", "1,inf"):
        with pytest.raises(argparse.ArgumentTypeError):
            cost._numbers(refused)
    with pytest.raises(argparse.ArgumentTypeError, match="whole"):
        cost._counts("1,2.5")


async def test_a_listener_hears_what_its_windows_announced() -> None:
    async with FakeGenerator() as fake, aiohttp.ClientSession() as session:
        heard = await listen(session, f"{fake.url}/v1/stream", Open(MOODS[0], 1), lambda paces: len(paces) >= 3)
    assert len(heard.paces) >= 3
    assert 0 < heard.first_seconds <= heard.seconds
    assert heard.audio_seconds == pytest.approx(sum(pace.audio_seconds for pace in heard.paces))
