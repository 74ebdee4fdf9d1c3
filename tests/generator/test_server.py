import asyncio
import json
import signal
import socket
import ssl
from pathlib import Path

import aiohttp
import pytest
import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from generator.moods import MOODS
from generator.protocol import Open, encode
from generator.server import HANGUP, ListenError, bind, make_server, need_certificate, serve
from generator.service import create_app
from generator.settings import Settings, SettingsError
from tests.generator.fake_engine import FakeEngine
from tests.generator.test_service import nothing_else


def test_a_port_in_use_and_a_foreign_address_have_their_own_remedies() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        with pytest.raises(ListenError, match="stop what uses it, or choose another with --port"):
            bind("127.0.0.1", other.getsockname()[1])
    with pytest.raises(ListenError, match="choose an address of this machine with --host"):
        bind("192.0.2.1", 0)  # RFC 5737: nobody's
    for name in ("a..b", "a" * 64):
        with pytest.raises(ListenError, match="no name of a machine"):
            bind(name, 0)


async def test_who_has_vanished_gives_their_place_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("generator.server.PING_SECONDS", 0.5)
    bound, ready = bind("127.0.0.1", 0), asyncio.Event()
    app = create_app(FakeEngine(), Settings(max_streams=1), "fake", nothing_else)
    server = make_server(app, ready.set)
    task = asyncio.create_task(server.serve(sockets=[bound]))
    await ready.wait()
    address = f"http://127.0.0.1:{bound.getsockname()[1]}/v1/stream"

    sockets: list[aiohttp.ClientWebSocketResponse] = []  # kept, so that nobody is let go of but who has vanished

    async def told(session: aiohttp.ClientSession, *, autoping: bool) -> str:
        socket = await session.ws_connect(address, autoping=autoping)
        sockets.append(socket)
        await socket.send_str(encode(Open(MOODS[0], 1)))
        return str(json.loads((await socket.receive()).data)["type"])

    async with aiohttp.ClientSession() as session:
        assert await told(session, autoping=False) == "opened"  # and answers nothing from then on
        assert await told(session, autoping=True) == "problem"
        async with asyncio.timeout(10):
            while await told(session, autoping=True) != "opened":  # noqa: ASYNC110 - a place that is free rings no bell
                await asyncio.sleep(0.1)
    server.should_exit = True
    await task


async def test_with_a_certificate_it_speaks_https(tmp_path: Path) -> None:
    authority, path = trustme.CA(), tmp_path / "room.pem"
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(path)
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    bound, ready = bind("127.0.0.1", 0), asyncio.Event()
    server = make_server(create_app(FakeEngine(), Settings(), "fake", nothing_else), ready.set, path)
    task = asyncio.create_task(server.serve(sockets=[bound]))
    await ready.wait()
    address = f"https://127.0.0.1:{bound.getsockname()[1]}/"
    async with aiohttp.ClientSession() as session, session.get(address, ssl=trusting) as page:
        assert page.status == 200
    server.should_exit = True
    await task


@pytest.mark.parametrize("content", [None, "no certificate", "encrypted"])
def test_a_certificate_that_is_none_is_a_sentence(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "room.pem"
    if content == "encrypted":  # nobody is there to type a pass phrase
        pair = trustme.CA().issue_cert("127.0.0.1")
        key = load_pem_private_key(pair.private_key_pem.bytes(), None)
        locked = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))
        path.write_bytes(locked + pair.cert_chain_pems[0].bytes())
    elif content is not None:
        path.write_text(content)
    with pytest.raises(SettingsError, match="give a PEM file with its key, unencrypted"):
        need_certificate(path)


def test_of_two_that_bound_one_port_the_second_to_serve_is_told() -> None:
    """While neither listens, Linux lets both have it."""
    app = create_app(FakeEngine(), Settings(), "fake", nothing_else)
    with bind("127.0.0.1", 0) as first, bind("127.0.0.1", first.getsockname()[1]) as second:
        first.listen()
        with pytest.raises(ListenError, match="stop what uses it, or choose another with --port"):
            serve(app, second, on_hangup=lambda: None, exit_with_stdin=False)


def test_signals_that_come_too_late_end_nothing_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("generator.server.Server.run", lambda *_, **__: None)  # it was told to end
    app = create_app(FakeEngine(), Settings(), "fake", nothing_else)
    numbers = [number for number in (signal.SIGTERM, signal.SIGINT, HANGUP) if number is not None]
    before = {number: signal.getsignal(number) for number in numbers}
    try:
        with bind("127.0.0.1", 0) as bound:
            serve(app, bound, on_hangup=lambda: None, exit_with_stdin=False)
        assert all(signal.getsignal(number) is signal.SIG_IGN for number in numbers)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
