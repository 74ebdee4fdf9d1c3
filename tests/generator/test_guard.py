"""Who may come in."""

import base64

import pytest

from generator.guard import Guard
from generator.metrics import Metrics
from generator.settings import Settings, SettingsError, load_settings

HOME = "127.0.0.1:8765"


def status(settings: Settings, **headers: str) -> int:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    refusal = Guard(settings, Metrics()).refusal({"host": HOME, **named})
    return 200 if refusal is None else refusal.status_code


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("https://music.example", "https://music.example"),
        (" HTTPS://Music.Example:443/ ", "https://music.example"),
        ("http://music.example:8080", "http://music.example:8080"),
        ("http://[::1]:8765", "http://[::1]:8765"),
    ],
)
def test_an_origin_is_written_as_browsers_do(text: str, expected: str) -> None:
    assert load_settings({}, host="127.0.0.1", port=0, origins=[text]).origins == (expected,)


@pytest.mark.parametrize(
    "text",
    ["", "music.example", "ftp://music.example", "https://", "https://music.example/room", "https://a:b", "https://[",
     "https://me@music.example"],
)  # fmt: skip
def test_what_is_no_origin_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match="give scheme and host, such as https://music"):
        load_settings({}, host="127.0.0.1", port=0, origins=[text])


def offered(token: str) -> str:
    return "bardcast, bardcast.token." + base64.urlsafe_b64encode(token.encode()).decode().rstrip("=")


@pytest.mark.parametrize(
    ("origin", "host", "expected"),
    [
        (f"http://{HOME}", HOME, 200),
        ("http://localhost:8765", "localhost:8765", 200),
        ("http://[::1]:8765", "[::1]:8765", 200),
        ("http://evil.example", HOME, 403),
        ("null", HOME, 403),
        ("http://[::1", HOME, 403),  # no address at all
        ("http://127.0.0.1:9999", HOME, 403),
        ("http://evil.example:8765", "evil.example:8765", 403),  # whose name leads to this machine
        ("https://music.example", HOME, 200),  # listed
    ],
)
def test_without_a_token_only_pages_of_this_machine_come_in(origin: str, host: str, expected: int) -> None:
    assert status(Settings(origins=("https://music.example",)), origin=origin, host=host) == expected


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8765", "[", ""])
def test_a_foreign_name_for_this_machine_is_refused_without_an_origin_too(host: str) -> None:
    assert status(Settings(), host=host) == 403


def test_a_page_elsewhere_stays_out_even_with_the_token() -> None:
    settings = Settings(host="0.0.0.0", token="secret")  # noqa: S104
    shown = {"host": "music.example", "authorization": "Bearer secret"}

    def at(origin: str | None) -> int:
        headers = shown if origin is None else {**shown, "origin": origin}
        refusal = Guard(settings, Metrics()).refusal({name.title(): value for name, value in headers.items()} | headers)
        return 200 if refusal is None else refusal.status_code

    assert at(None) == 200
    assert at("https://music.example") == 200
    assert at("https://evil.example") == 403


@pytest.mark.parametrize("token", ["secret", "with / + = , and spaces", "~" * 200])
def test_a_token_comes_as_a_subprotocol(token: str) -> None:
    settings = Settings(token=token)
    assert status(settings, sec_websocket_protocol=offered(token)) == 200
    assert status(settings, sec_websocket_protocol=offered(token + "x")) == 401
    for broken in ("bardcast", "bardcast, bardcast.token.", "bardcast.token.!", "bardcast.token.A", "bardcast.token.é"):
        assert status(settings, sec_websocket_protocol=broken) == 401
