"""The score as a client is told it."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from generator.bars import NOTES, bars
from generator.moods import MOODS, Mood
from generator.protocol import Bar, Controls, decode_server, encode
from generator.score import phrase
from generator.section import Section

SAD = Controls(Mood("sad"))


def told(section: Section, start: int, end: int, *, joined: bool = False) -> list[Bar]:
    return list(bars(section, start, end, joined=joined))


@given(
    st.sampled_from(MOODS), st.integers(0, 2**32 - 1), st.integers(0, 10**7), st.lists(st.integers(1, 400), max_size=8)
)
def test_window_by_window_is_all_at_once(mood: Mood, seed: int, origin: int, lengths: list[int]) -> None:
    section = Section(Controls(mood), seed, origin)
    end = origin + sum(lengths)
    pieces, place = [], origin
    for length in lengths:
        pieces += told(section, place, place + length, joined=place == origin)
        place += length
    assert pieces == told(section, origin, end, joined=True)
    assert [bar.number for bar in pieces] == list(range(len(pieces)))


@given(st.sampled_from(MOODS), st.integers(0, 2**32 - 1), st.integers(0, 5_000))
def test_bars_begin_where_the_music_has_its_downbeats(mood: Mood, seed: int, start: int) -> None:
    section = Section(Controls(mood), seed, 0)
    for bar in told(section, start, start + 500):
        assert bar.frame == bar.downbeat == section.next_bar(bar.frame)
        assert section.bar_at(bar.frame) == bar.number
        assert section.bar_at(bar.frame - 1) == bar.number - 1
        assert bar.key.split(" ")[0] == NOTES[phrase(section, bar.number // 4).tonic]
        assert bar.key.split(" ")[0] == NOTES[section.tonic(bar.frame + 1)]


def test_a_bar_that_is_joined_midway_is_told_from_there_on() -> None:
    section = Section(SAD, 1, 0)
    first, second = told(section, 150, 300, joined=True)
    assert (first.frame, first.downbeat, first.number) == (150, 0, 0)
    assert second.frame == second.downbeat == section.downbeat(1)
    assert told(section, 150, 300) == [second]


def test_a_bridge_is_told_as_one_and_followed_by_where_it_leads() -> None:
    home = Section(Controls(Mood("tavern")), 5, 0)
    turning = home.turning(SAD, home.next_bar(300))
    found = told(turning, home.next_bar(300), turning.origin + 400, joined=True)
    assert [bar.bridge for bar in found] == sorted((bar.bridge for bar in found), reverse=True)
    first = next(bar for bar in found if not bar.bridge)
    assert (first.frame, first.number, first.mood, first.origin) == (turning.origin, 0, "sad", turning.origin)


@pytest.mark.parametrize("mood", MOODS)
def test_what_a_bar_tells_is_enough_to_play_it_again(mood: Mood) -> None:
    section = Section(Controls(Mood("town")), 9, 40).turned(Controls(mood, 4), 1_000)
    for bar in told(section, 5_000, 6_000):
        again = Section(Controls(bar.mood, bar.intensity, bar.blend), 9, bar.origin, bar.home)
        assert told(again, bar.frame, bar.frame + 1, joined=True) == [bar]
        assert again == replace(section, bridge=None)
        assert decode_server(encode(bar)) == bar
