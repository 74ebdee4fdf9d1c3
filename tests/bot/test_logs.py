"""The log says of whom it speaks, a line an event, and never a secret, however it got there."""

import asyncio
import io
import json
import logging
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import aiohttp
import discord
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from yarl import URL

from bot.errors import SettingsError
from bot.fake import FakeGenerator
from bot.logs import JsonFormatter, TextFormatter, about
from bot.redaction import HIDDEN, Redactor
from bot.settings import load_settings
from tests.discord_server import DiscordServer
from tests.discord_server.rest import Failure

BOT_TOKEN: Final = "MTA5MDEyMzQ1Njc4OTAxMjM0NQ.GxyzAB.abcdefghijklmnopqrstuvwxyz0123456789AB"
INTERACTION: Final = "aW50ZXJhY3Rpb246MTIzNDU2Nzg5MDEyMzQ1Njc4OmFiY2RlZmdoaWprbG1ub3A"
CHILDS_TOKEN: Final = "pJ2x-8_Yt7Qm0vNc4sLw9eRk3uHf6aZbXi5gDo1TqE0"

secrets = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), min_size=8).filter(
    lambda text: text == text.strip() and len(set(text)) > 3 and text not in HIDDEN
)
places = st.sampled_from(["message", "argument", "repr", "mapping", "exception", "cause", "bad format", "source"])
formats = pytest.mark.parametrize("kind", [TextFormatter, JsonFormatter])


def plant(log: logging.Logger, secret: str, place: str) -> None:
    """Logs something with the secret in it."""
    try:
        if place == "cause":
            try:
                raise OSError(secret)
            except OSError as error:
                raise RuntimeError("no way") from error
        if place in ("exception", "source"):
            raise KeyError(secret) if place == "exception" else ValueError(f"sent {secret!r} to nobody")
    except (RuntimeError, KeyError, ValueError):
        log.exception("it failed")
    if place == "message":
        log.warning("before " + secret.replace("%", "%%") + " after", *())
    elif place == "argument":
        log.warning("%s and %s", secret, 5)
    elif place == "repr":
        log.warning("%r", secret)
    elif place == "mapping":
        log.warning("%s", {"it": [secret]})
    elif place == "bad format":
        log.warning("%d %d", secret)


def written(
    kind: Callable[[Redactor], logging.Formatter], redact: Redactor, do: Callable[[logging.Logger], None]
) -> str:
    """What a log says of what ``do`` logs."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(kind(redact))
    log = logging.Logger("test")
    log.addHandler(handler)
    do(log)
    assert stream.getvalue()
    return stream.getvalue()


@formats
@settings(max_examples=40)
@given(secret=secrets, place=places)
def test_a_known_secret_is_never_written(kind: type[logging.Formatter], secret: str, place: str) -> None:
    text = written(kind, Redactor(secret), lambda log: plant(log, secret, place))
    for form in (secret, repr(secret)[1:-1], json.dumps(secret)[1:-1], quote(secret)):
        assert form not in text
    if kind is JsonFormatter:
        for line in text.splitlines():
            assert secret not in "".join(map(str, json.loads(line).values()))


SIGHTS: Final[dict[str, Callable[[], object]]] = {
    "a bot's token": lambda: BOT_TOKEN,
    "in a sentence": lambda: f"the token {BOT_TOKEN}, is that right?",
    "interaction": lambda: INTERACTION,
    "rate limit, as discord.py logs it": lambda: (
        f"We are being rate limited. POST https://discord.com/api/v10/webhooks/1/{INTERACTION[20:]} responded with 429"
    ),
    "callback": lambda: URL(f"https://discord.com/api/v10/interactions/12/{CHILDS_TOKEN}/callback"),
    "header": lambda: {"Authorization": f"Bot {BOT_TOKEN}", "User-Agent": "x"},
    "bearer": lambda: {"Authorization": f"Bearer {CHILDS_TOKEN}"},
    "bearer alone": lambda: f"sent Bearer {CHILDS_TOKEN} to it",
    "identify": lambda: {"op": 0, "d": {"session_id": "s", "token": CHILDS_TOKEN, "max_dave_protocol_version": 1}},
    "JSON": lambda: json.dumps({"token": CHILDS_TOKEN, "v": 10}),
    "environment": lambda: f"BARDCAST_TOKEN={CHILDS_TOKEN} exec",
    "query": lambda: f"GET /v1/stream?token={CHILDS_TOKEN}&v=1",
    "dataclass": lambda: f"Settings(discord_token='{CHILDS_TOKEN}', volume=60)",
    "address": lambda: f"http://gm:{CHILDS_TOKEN}@box:8765/v1/stream",
    "an interaction's exception": lambda: _http_exception(),
    "a client's exception": lambda: aiohttp.ClientResponseError(
        _request_info(), (), status=500, message="no", headers=None
    ),
}


def _request_info() -> aiohttp.RequestInfo:
    url = URL(f"https://discord.com/api/v10/webhooks/1/{CHILDS_TOKEN}")
    return aiohttp.RequestInfo(url, "POST", {}, url)  # type: ignore[arg-type]


def _http_exception() -> discord.HTTPException:
    class Response:
        status, reason = 404, "Not Found"

    return discord.HTTPException(Response(), f"Unknown webhook /webhooks/77/{CHILDS_TOKEN}")  # type: ignore[arg-type]


@formats
@pytest.mark.parametrize("sight", SIGHTS)
def test_what_looks_like_a_secret_is_never_written(kind: type[logging.Formatter], sight: str) -> None:
    def log_all(log: logging.Logger) -> None:
        thing = SIGHTS[sight]()
        log.warning("%s", thing)
        log.warning("%r", thing)
        try:
            raise thing if isinstance(thing, Exception) else RuntimeError(thing)
        except Exception:
            log.exception("it failed: %s", thing)

    text = written(kind, Redactor(), log_all)
    for secret in (BOT_TOKEN, INTERACTION, INTERACTION[20:], CHILDS_TOKEN):
        assert secret not in text
    assert HIDDEN in text


@pytest.mark.parametrize(
    "sentence",
    [
        "the music generator refuses this bot's token: set BARDCAST_TOKEN to the same value on both sides",
        "put the token into the file .env as DISCORD_TOKEN=…",
        "the music generator can't be reached: Cannot connect to host 127.0.0.1:8765 ssl:default",
        "https://discord.com/developers/applications (Reset Token makes a new one).",
        "Shard ID None has connected to Gateway (Session ID: 0f8fad5bd9cb469fa165708677289501).",
        "listening on 127.0.0.1:43215 at 2026-11-02T20:15:00+01:00 in table@home",
    ],
)
def test_what_is_no_secret_stays_readable(sentence: str) -> None:
    assert Redactor(CHILDS_TOKEN)(sentence) == sentence


@settings(max_examples=40)
@given(text=st.text(), secret=secrets)
def test_redaction_is_done_once_and_for_all(text: str, secret: str) -> None:
    redact = Redactor(secret)
    once = redact(text)
    assert secret not in once
    assert Redactor()(once) == Redactor()(Redactor()(once))


# Whom it is about


async def test_tasks_and_timers_take_along_what_they_are_about() -> None:
    lines: list[dict[str, Any]] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(json.loads(self.format(record)))

    log, handler = logging.Logger("test"), Keep()
    handler.setFormatter(JsonFormatter(Redactor()))
    log.addHandler(handler)
    rung = asyncio.Event()

    async def work() -> None:
        with about(table=2):
            log.info("inside")
        log.info("outside")

    def ring() -> None:
        log.info("rings")
        rung.set()

    with about(guild=1):
        task = asyncio.create_task(work())
        asyncio.get_running_loop().call_later(0, ring)
    await asyncio.gather(task, rung.wait())
    log.info("afterwards")
    found = {line["message"]: (line.get("guild"), line.get("table")) for line in lines}
    assert found == {"inside": (1, 2), "outside": (1, None), "rings": (1, None), "afterwards": (None, None)}


@settings(max_examples=40)
@given(message=st.text(min_size=1))
def test_text_is_a_line_an_event_and_json_is_what_was_said(message: str) -> None:
    with about(guild=12, table=34):
        text = written(TextFormatter, Redactor(), lambda log: log.warning("%s", message))
        line = written(JsonFormatter, Redactor(), lambda log: log.warning("%s", message))
    assert len(text.splitlines()) == len(line.splitlines()) == 1
    assert "WARNING test [guild 12 table 34]: " in text
    read = json.loads(line)
    assert (read["message"], read["level"], read["guild"], read["table"]) == (Redactor()(message), "warning", 12, 34)


def test_the_style_is_a_setting() -> None:
    assert [load_settings({"BARDCAST_LOG": value}).log for value in ("json", "text", "")] == ["json", "text", None]
    with pytest.raises(SettingsError, match="BARDCAST_LOG"):
        load_settings({"BARDCAST_LOG": "xml"})


# The bot as it is run


FALLS = """
import sys, threading
from bot import logs
from bot.redaction import Redactor
logs.configure(20, sys.argv[1] or None, Redactor("hunter2-hunter2"))
logs.catch_the_rest()
def fall():
    raise RuntimeError("hunter2-hunter2 in " + threading.current_thread().name)
thread = threading.Thread(target=fall, name="a thread")
thread.start()
thread.join()
fall()
"""


@pytest.mark.parametrize("style", ["text", ""])
def test_what_nobody_caught_is_logged_without_secrets(style: str) -> None:
    done = subprocess.run([sys.executable, "-c", FALLS, style], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "hunter2" not in done.stderr
    assert done.stderr.count("what nobody foresaw") == 2
    if style != "text":  # a pipe is no terminal
        assert ["a thread" in json.loads(line)["exception"] for line in done.stderr.splitlines()] == [True, False]


async def test_a_whole_run_says_who_and_tells_nothing(
    discord_server: DiscordServer, fake: FakeGenerator, tmp_path: Path
) -> None:
    """The bot as a process, with a rate limit on its answers, of which discord.py logs the address."""
    gm = discord_server.add_member("gm")
    await discord_server.join_voice(gm, discord_server.guild.voice)
    limit = Failure("/webhooks/", 429, retry_after=0.1)
    env = {
        "DISCORD_TOKEN": BOT_TOKEN,
        "BARDCAST_GENERATOR_URL": fake.url,
        "BARDCAST_TOKEN": CHILDS_TOKEN,
        "BARDCAST_STORE": str(tmp_path / "store.sqlite3"),
    }
    process = await discord_server.spawn("bot", "run", env=env, output=subprocess.PIPE)
    try:
        await discord_server.wait_ready(timeout=30)
        discord_server.rest.failures.append(limit)
        reply = await discord_server.slash(gm, "mood", mood="tavern")
        await reply.wait_for_text("tavern")
        await discord_server.wait_voice(packets=5)
        await fake.leave()
        assert process.stderr is not None
        text = ""
        while "holds" not in text:
            text += (await process.stderr.readline()).decode()
    finally:
        process.send_signal(signal.SIGTERM)
        _, rest = await process.communicate()
    text += rest.decode()
    for secret in (BOT_TOKEN, CHILDS_TOKEN, reply.token):
        assert secret not in text
    assert "rate limited" in text
    lines = [json.loads(line) for line in text.splitlines()]
    holds = next(line for line in lines if "holds" in line["message"])
    assert holds["guild"] == discord_server.guild.id
    assert isinstance(holds["table"], int)
    assert lines[0].keys() == {"time", "level", "logger", "message"}  # before anybody asked for anything
