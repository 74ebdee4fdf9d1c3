import dataclasses

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
    }
    assert load_settings(env) == Settings("abc", "https://box:1/base", "s", "m", 0)


def test_no_discord_token_says_where_to_get_one() -> None:
    with pytest.raises(SettingsError, match=r"https://discord\.com/developers/applications"):
        load_settings({}).require_discord_token()


@pytest.mark.parametrize("volume", ["101", "-1", "loud", "1.5", "²"])
def test_a_bad_volume_is_refused(volume: str) -> None:
    with pytest.raises(SettingsError, match="BARDCAST_VOLUME"):
        load_settings({"BARDCAST_VOLUME": volume})


@pytest.mark.parametrize("url", ["box:8765", "ftp://box", "http://", "http://box?x=1"])
def test_a_bad_address_is_refused(url: str) -> None:
    with pytest.raises(SettingsError, match="BARDCAST_GENERATOR_URL"):
        load_settings({"BARDCAST_GENERATOR_URL": url})


def test_settings_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Settings().volume = 3  # type: ignore[misc]
