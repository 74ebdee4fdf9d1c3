"""The one vocabulary of moods. Torch-free."""

from typing import Final, NewType

Mood = NewType("Mood", str)

#: The order is part of every checkpoint (row *i* of a mood embedding is ``MOODS[i]``): append only.
MOODS: Final[tuple[Mood, ...]] = tuple(
    Mood(name)
    for name in (
        "epic",
        "festival",
        "fight",
        "mysterious",
        "romance",
        "sad",
        "tavern",
        "town",
    )
)

#: One colour a mood (sRGB hex), wherever a mood is drawn.
COLOURS: Final[dict[Mood, str]] = dict(
    zip(
        MOODS,
        ("#c9a227", "#e4572e", "#b3001b", "#5f4bb6", "#d1495b", "#3d6b99", "#a0652f", "#4c956c"),
        strict=True,
    )
)


class UnknownMood(ValueError):  # noqa: N818 - reads as the sentence that it carries
    """The name is not one of the eight moods; the message lists them."""

    def __init__(self, name: str) -> None:
        super().__init__(f"there is no mood {name!r}; choose one of: {', '.join(MOODS)}")


def parse_mood(name: str) -> Mood:
    """The mood called ``name``, in any case and with spaces around it.

    Raises:
        UnknownMood: it is none of ``MOODS``.
    """
    mood = Mood(name.strip().lower())
    if mood not in MOODS:
        raise UnknownMood(name)
    return mood
