import dataclasses
import re
from pathlib import Path

import pytest

from bot.errors import SettingsError
from bot.settings import DEFAULT_VOLUME, Settings, load_settings


def test_an_empty_environment_is_enough_for_the_demo() -> None:
    assert load_settings({"DISCORD_TOKEN": "", "BARDCAST_MODEL": None}) == Settings(volume=DEFAULT_VOLUME)


def test_everything_is_read() -> None:
    env = {
        "DISCORD_TOKEN": " abc ",
        "BARDCAST_GENERATOR_URL": "wss://box:1/base/",
        "BARDCAST_TOKEN": "s",
        "BARDCAST_MODEL": "m",
        "BARDCAST_VOLUME": "0",
        "BARDCAST_STORE": "/srv/bard.db",
        "BARDCAST_PAUSE_AFTER": "5",
        "BARDCAST_LEAVE_AFTER": "0",
        "BARDCAST_SHARDS": "3",
    }
    assert load_settings(env) == Settings("abc", ("https://box:1/base",), "s", "m", 0, Path("/srv/bard.db"), 5, 0, 3)


def test_no_discord_token_says_where_to_get_one() -> None:
    with pytest.raises(SettingsError, match=r"https://discord\.com/developers/applications"):
        load_settings({}).require_discord_token()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("BARDCAST_VOLUME", value) for value in ("101", "-1", "loud", "1.5", "²")),
        *(("BARDCAST_PAUSE_AFTER", value) for value in ("86401", "-1", "a minute")),
        *(("BARDCAST_LEAVE_AFTER", value) for value in ("86401", "-1", "10m")),
        *(("BARDCAST_SHARDS", value) for value in ("0", "1001", "many", "AUTO")),
    ],
)
def test_a_number_that_makes_no_sense_is_refused(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=name):
        load_settings({name: value})


def test_discord_may_choose_the_number_of_shards() -> None:
    assert load_settings({"BARDCAST_SHARDS": "auto"}).shards is None


@pytest.mark.parametrize(
    ("env", "store"),
    [
        ({}, "~/.local/state/bardcast/bardcast.sqlite3"),
        ({"XDG_STATE_HOME": "/var/state"}, "/var/state/bardcast/bardcast.sqlite3"),
        ({"XDG_STATE_HOME": "relative"}, "~/.local/state/bardcast/bardcast.sqlite3"),
        ({"XDG_STATE_HOME": "/var/state", "BARDCAST_STORE": "here.db"}, "here.db"),
    ],
)
def test_the_store_is_where_programs_keep_their_state(env: dict[str, str | None], store: str) -> None:
    assert load_settings(env).store == Path(store)


@pytest.mark.parametrize(
    "url", ["box:8765", "ftp://box", "http://", "http://box?x=1", "http://[::1", "http://box:port", "http://box:70000"]
)
def test_a_bad_address_is_refused_by_name(url: str) -> None:
    for value in (url, f"http://good:1,{url}", f"{url} , http://good:1"):
        with pytest.raises(SettingsError, match=f"BARDCAST_GENERATOR_URL names {re.escape(repr(url))}"):
            load_settings({"BARDCAST_GENERATOR_URL": value})


def test_several_addresses_are_told_apart_by_commas() -> None:
    urls = load_settings({"BARDCAST_GENERATOR_URL": "http://a:1/, wss://b ,http://a:1"}).generator_urls
    assert urls == ("http://a:1", "https://b")
    with pytest.raises(SettingsError, match="names ''"):
        load_settings({"BARDCAST_GENERATOR_URL": "http://a:1,,http://b"})


def test_settings_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Settings().volume = 3  # type: ignore[misc]
