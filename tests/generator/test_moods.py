import pytest
from hypothesis import given
from hypothesis import strategies as st

from generator.moods import COLOURS, MOODS, UnknownMood, parse_mood


def test_the_order_is_part_of_every_checkpoint() -> None:
    assert MOODS[:8] == ("epic", "festival", "fight", "mysterious", "romance", "sad", "tavern", "town")


def test_every_mood_has_a_colour_of_its_own() -> None:
    assert set(COLOURS) == set(MOODS)
    assert len(set(COLOURS.values())) == len(MOODS)


@given(st.sampled_from(MOODS), st.sampled_from([str.upper, str.title, str.lower]), st.sampled_from(["", " ", "\t\n "]))
def test_case_and_spaces_around_do_not_matter(mood: str, case: object, space: str) -> None:
    assert callable(case)
    assert parse_mood(space + case(mood) + space) == mood


@given(st.text().filter(lambda text: text.strip().lower() not in MOODS))
def test_any_other_name_is_an_error_that_lists_the_moods(name: str) -> None:
    with pytest.raises(UnknownMood) as error:
        parse_mood(name)
    assert all(mood in str(error.value) for mood in MOODS)
