"""Every sentence in every language: found in the source, so that none can be forgotten."""

import ast
import re
import string
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

import bot
from bot.errors import BotError, VoiceError
from bot.localisation import ENGLISH, LANGUAGES, Catalog, Sentence, language_of, load, say
from generator.moods import MOODS
from generator.protocol import TRANSITIONS

SOURCE: Final = Path(bot.__file__).parent
TRANSLATED: Final = [language for language in LANGUAGES if language != ENGLISH]
#: Errors that the admin reads in the terminal, or that only the log sees, in English like the log itself.
TERMINAL: Final = {"SettingsError", "GeneratorError", "DemoError"}
#: Modules whose errors end the program before Discord is there.
TERMINAL_MODULES: Final = {"__main__.py", "run.py", "demo.py", "recording.py", "settings.py", "generator_process.py"}


def errors_for_people(trees: dict[str, ast.Module]) -> set[str]:
    """The names of all errors whose texts are sentences."""
    bases = {
        node.name: {ast.unparse(base) for base in node.bases}
        for tree in trees.values()
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef) and node.name not in TERMINAL
    }
    found = {"BotError"}
    while more := {name for name, above in bases.items() if above & found} - found:
        found |= more
    return found


def texts(node: ast.AST) -> list[str]:
    return [part.value for part in ast.walk(node) if isinstance(part, ast.Constant) and isinstance(part.value, str)]


def said(tree: ast.Module, sentences: set[str]) -> Iterator[str]:
    """Every text that a module makes a sentence of; a name stands for all that it is ever set to."""
    known: dict[str, list[str]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
            for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                if isinstance(target, ast.Name):
                    known.setdefault(target.id, []).extend(texts(node.value))
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
        if name == "describe":
            yield from (text for keyword in node.keywords for text in texts(keyword.value))
        elif name == "command":
            yield from (text for word in node.keywords if word.arg == "description" for text in texts(word.value))
        elif (name in sentences or brings_its_text(node)) and node.args:
            match node.args[0]:
                case ast.Constant(str(text)):
                    yield text
                case ast.Name(id=name):
                    yield from known.get(name, [])
                case ast.JoinedStr():
                    pytest.fail(f"{ast.unparse(node)}: facts belong into the sentence's places")


def brings_its_text(call: ast.Call) -> bool:
    """An error that brings its own text along; those of other classes take no text."""
    return ast.unparse(call.func) == "super().__init__" and bool(call.args) and bool(texts(call.args[0]))


@cache
def all_said() -> set[str]:
    trees = {path.name: ast.parse(path.read_text(encoding="utf-8")) for path in SOURCE.glob("*.py")}
    sentences = {"Sentence", *errors_for_people(trees)}
    assert {"VoiceError", "NotAllowedError", "StoreError", "NothingPlays"} <= sentences
    found: set[str] = {*MOODS, *TRANSITIONS}
    for name, tree in trees.items():
        if name not in TERMINAL_MODULES:
            found |= set(said(tree, sentences))
    return found


def places(text: str) -> list[str]:
    return sorted(name for _, name, _, _ in string.Formatter().parse(text) if name is not None)


def commands_in(text: str, names: dict[str, str]) -> list[str]:
    """The commands that a text mentions, by their English names."""
    english = {shown: name for name, shown in names.items()}
    return sorted(english.get(shown, shown) for shown in re.findall(r"(?<![\w/:])/(\w+)", text))


@pytest.mark.parametrize("language", TRANSLATED)
def test_every_sentence_in_every_language_and_none_that_is_never_said(language: str) -> None:
    assert set(load(language).sentences) == all_said()


def test_the_search_for_sentences_finds_them() -> None:
    found = all_said()
    assert len(found) > 80
    for text in ("Set how loud the music is", "What the story is like now", "You are in no voice channel. Join one, "):
        assert any(sentence.startswith(text) for sentence in found)


@pytest.mark.parametrize("language", TRANSLATED)
def test_a_translation_has_the_same_places_and_names_the_same_commands(language: str) -> None:
    catalog = load(language)
    for english, text in catalog.sentences.items():
        assert text.strip() == text != "", english
        assert places(text) == places(english), english
        assert commands_in(text, dict(catalog.names)) == commands_in(english, {}), english


@pytest.mark.parametrize("language", TRANSLATED)
def test_no_language_says_it_in_english(language: str) -> None:
    """What reads as in English is a name or a number, or the languages share the word."""
    catalog = load(language)
    same = {english for english, text in catalog.sentences.items() if english == text}
    assert all(len(text.split()) <= 2 for text in same), same
    assert len(same) < 12


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_list_is_joined_as_the_language_does(language: str) -> None:
    shown = Sentence("{names}", names=("a", "b", "c")).to(language)
    assert shown.index("a") < shown.index("b") < shown.index("c")
    assert places(load(language).listing) == ["first", "last"]


def test_there_is_a_file_for_each_language_and_no_other() -> None:
    assert {path.stem for path in (SOURCE / "locales").iterdir()} == set(TRANSLATED)


def test_facts_are_translated_in_their_turn() -> None:
    sentence = Sentence("Turning to {music}.", music=Sentence("{mood} with {blend}", mood=Sentence("fight"), blend="x"))
    assert str(sentence) == "Turning to fight with x."
    assert sentence.to("de") == "Es wechselt zu: Kampf mit x."
    assert say([sentence, Sentence("The music goes on.")], "ja") == "戦闘とx に切り替えます。音楽を再開しました。"


def test_an_error_is_english_for_the_log_and_a_sentence_for_people() -> None:
    error = VoiceError("{channel} is full.", channel="tavern {room}")
    assert str(error) == "tavern {room} is full."
    assert error.sentence == Sentence("{channel} is full.", channel="tavern {room}")
    assert error.sentence != Sentence("{channel} is full.", channel="tavern")


@given(st.text())
def test_a_text_without_facts_is_taken_as_it_is(text: str) -> None:
    assert str(BotError(text)) == text


@given(st.text(), st.text())
def test_facts_are_never_taken_for_places(first: str, second: str) -> None:
    assert str(Sentence("{a}|{b}", a=first, b=second)) == f"{first}|{second}"


@pytest.mark.parametrize(
    ("locale", "language"),
    [
        *((language, language) for language in LANGUAGES),
        ("es-ES", "es"),
        ("es-419", "es"),
        ("en-US", "en"),
        ("en-GB", "en"),
        ("pt-BR", "pt-BR"),
        ("ko", "en"),
        ("", "en"),
    ],
)
def test_each_locale_of_discord_has_its_language(locale: str, language: str) -> None:
    assert language_of(locale) == language


def test_catalogs_are_plain_data() -> None:
    for language in TRANSLATED:
        catalog = load(language)
        assert isinstance(catalog, Catalog)
        assert catalog.language == language
        assert all(isinstance(text, str) for text in (*catalog.names.values(), *catalog.sentences.values()))
