"""What the bot says to people: English in the code, the other languages in ``locales/*.json``.

As in gettext an English sentence is its own key, so the code reads as what is said, and English needs no file. What
varies goes into named places, never into the text: ``Sentence("{channel} is full.", channel=channel.name)``. The
language is chosen where the sentence is shown, since a wish may come from one person and its answer go to another.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Final

ENGLISH: Final = "en"
#: Every language spoken, under its own name, as a list to choose from shows it.
LANGUAGES: Final[Mapping[str, str]] = {
    ENGLISH: "English",
    "de": "Deutsch",
    "es": "Español",
    "fr": "Français",
    "ja": "日本語",
    "pl": "Polski",
    "pt-BR": "Português do Brasil",
}


class Sentence:
    """Something to say. It compares by what it says, and ``str()`` of it is English."""

    __slots__ = ("facts", "text")

    def __init__(self, text: str, /, **facts: object) -> None:
        """A sentence.

        Args:
            text: English, with a place ``{name}`` for each fact, formatted as by ``str.format``.
            facts: what goes there. A sentence is translated in its turn; several (a tuple) are listed.
        """
        self.text = text
        self.facts = facts

    def to(self, language: str) -> str:
        """In one of :data:`LANGUAGES`."""
        catalog = load(language)
        text = catalog.sentences.get(self.text, self.text)
        # A text without facts may quote braces, e.g. from an error of somebody else's.
        return (
            text.format_map({name: _show(fact, catalog) for name, fact in self.facts.items()}) if self.facts else text
        )

    def __str__(self) -> str:
        return self.to(ENGLISH)

    def __repr__(self) -> str:
        return f"Sentence({self.text!r}, {self.facts!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sentence) and (self.text, self.facts) == (other.text, other.facts)

    def __hash__(self) -> int:
        return hash(self.text)


@dataclass(frozen=True, slots=True)
class Catalog:
    """One language.

    Attributes:
        language: one of :data:`LANGUAGES`.
        space: what stands between two sentences.
        listing: how the last two of a list are joined, with the places ``first`` and ``last``.
        names: what commands and their options are called, by their English names.
        sentences: by the English ones.
    """

    language: str
    space: str
    listing: str
    names: Mapping[str, str]
    sentences: Mapping[str, str]


@cache
def load(language: str) -> Catalog:
    """The catalog of one of :data:`LANGUAGES`."""
    if language == ENGLISH:
        return Catalog(ENGLISH, " ", "{first} and {last}", {}, {})
    text = files("bot").joinpath("locales", f"{language}.json").read_text(encoding="utf-8")
    return Catalog(language, **json.loads(text))


def language_of(locale: str) -> str:
    """The language for one of Discord's locales, e.g. ``es`` for ``es-419``; English where it is not spoken here."""
    for language in (locale, locale.partition("-")[0]):
        if language in LANGUAGES:
            return language
    return ENGLISH


def say(sentences: Iterable[Sentence], language: str) -> str:
    """All of them, one after the other."""
    return load(language).space.join(sentence.to(language) for sentence in sentences)


def _show(fact: object, catalog: Catalog) -> object:
    if isinstance(fact, Sentence):
        return fact.to(catalog.language)
    if isinstance(fact, tuple):
        *others, last = [str(_show(item, catalog)) for item in fact]
        return catalog.listing.format(first=", ".join(others), last=last) if others else last
    return fact
