"""The page as it is served, and what is told about models."""

import json
import re
from pathlib import Path

import aiohttp
import pytest
from websockets.asyncio.client import connect

from generator.cards import card
from generator.moods import COLOURS
from generator.protocol import SUBPROTOCOL, Bar, Open, Problem
from generator.room import HEADERS
from generator.service import Beside
from generator.settings import Settings
from tests.generator.fake_engine import FakeEngine, sine
from tests.generator.test_guard import offered
from tests.generator.test_service import TAVERN, Client, fetch, serving, table


async def test_nobody_needs_a_secret_for_the_page_and_all_of_it_is_here() -> None:
    async with serving(FakeEngine(), Settings(token="secret")) as address, aiohttp.ClientSession() as session:
        waiting, seen = [""], set()
        while waiting:
            path = waiting.pop()
            async with session.get(f"http://{address}/{path}") as answer:
                assert answer.status == 200, path
                for name, value in HEADERS.items():
                    assert answer.headers[name] == value
                text = (await answer.read()).decode(errors="replace")
            seen.add(path)
            elsewhere = r"""(src|href|from|url\()[ =(]*["']?(https?:)?//"""
            assert not re.search(elsewhere, text), f"{path} is not whole"
            found = re.findall(r"""(?:src|href)="(room/[^"]+)"|from "\./([\w.-]+)"|\("([\w.-]+\.js)",""", text)
            for parts in found:
                name = "".join(parts)
                waiting += [each for each in [name if "/" in name else f"room/{name}"] if each not in seen]
        assert {"room/worklet.js", "room/moods.js", "room/room.webmanifest"} <= seen
        status, text = await fetch(address, "/room/../service.py")
        assert status == 404
        assert json.loads((await fetch(address, "/room/moods.js"))[1].split("= ")[1].rstrip(";\n")) == COLOURS


async def test_models_and_cards_are_told_to_who_may_come_in(tmp_path: Path) -> None:
    figure = {"section": "s", "name": "n", "unit": "", "value": 1, "real": 2, "aim": "", "met": True, "wish": "low"}
    (tmp_path / "fake").mkdir()
    (tmp_path / "fake/report.json").write_text(json.dumps({"figures": [figure], "faults": ["none"]}))
    async with serving(FakeEngine(), Settings(token="secret", cards=tmp_path)) as address:
        assert (await fetch(address, "/v1/models"))[0] == 401
        status, text = await fetch(address, "/v1/models", Authorization="Bearer secret")
        del figure["wish"]
        assert status == 200
        assert json.loads(text) == [{"name": "fake", "card": {"figures": [figure], "faults": ["none"]}}]


#: A figure that no page can read.
NAN = '{"figures": [{"section": "", "name": "", "unit": "", "value": NaN, "real": 1, "aim": "", "met": true}], '
NAN += '"faults": []}'


@pytest.mark.parametrize("text", [None, "", "[]", '{"figures": [{}]}', '{"figures": 3}', "{", NAN])
def test_a_card_that_is_none_is_no_card(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "mine").mkdir()
        (tmp_path / "mine/report.json").write_text(text)
    assert card("models/mine.safetensors", tmp_path) is None


@pytest.mark.parametrize(
    ("model", "name"), [("runs/mine/model.safetensors", "mine"), ("a/b.old.safetensors", "b.old"), ("b.old", "b.old")]
)
def test_a_card_is_found_by_what_it_was_measured_of(tmp_path: Path, model: str, name: str) -> None:
    (tmp_path / name).mkdir()
    (tmp_path / name / "report.json").write_text('{"figures": [], "faults": []}')
    assert card(model, tmp_path) == {"figures": [], "faults": []}
    assert card("bard.old", tmp_path / "nothing") is None


def test_the_model_that_ships_has_its_card() -> None:
    found = card("bard", Path("nowhere"))
    assert found is not None
    assert any(figure["name"] == "mood accuracy" for figure in found["figures"])


async def test_a_page_of_the_services_own_opens_a_stream_with_the_token_as_a_subprotocol() -> None:
    async with serving(FakeEngine(), Settings(token="secret")) as address:
        protocols = offered("secret").split(", ")
        async with connect(
            f"ws://{address}/v1/stream",
            subprotocols=protocols,  # type: ignore[arg-type]
            origin=f"http://{address}",  # type: ignore[arg-type]
        ) as socket:
            assert socket.subprotocol == SUBPROTOCOL
            client = Client(socket)
            await client.say(Open(TAVERN, 1, bars=True, start=200, origin=100, home=4))
            bar = await client.until_event(Bar)
            assert (bar.frame, bar.origin, bar.home) == (200, 100, 4)


async def test_bars_are_told_to_who_asks_alone() -> None:
    async with serving(FakeEngine()) as address, table(address) as quiet:
        await quiet.say(Open(TAVERN, 1))
        await quiet.fill()
        assert not any(isinstance(item, Bar) for item in quiet.items)


async def test_the_model_beside_plays_to_who_asks_for_it() -> None:
    async with serving(FakeEngine()) as address, table(address) as client:
        await client.say(Open(TAVERN, 1, beside=True))
        problem = await client.until_event(Problem)
        assert "--beside" in problem.message
    beside = Beside(FakeEngine("other", level=0.5), "other")
    async with serving(FakeEngine(), beside=beside) as address, table(address) as one, table(address) as other:
        for client, asked, level in ((one, False, 1.0), (other, True, 0.5)):
            await client.say(Open(TAVERN, 1, beside=asked))
            await client.until(lambda item: isinstance(item, tuple))
            assert client.frames[0] == sine(TAVERN, level)
        assert [each["name"] for each in json.loads((await fetch(address, "/v1/models"))[1])] == ["fake", "other"]


async def test_a_machine_that_is_full_says_so_and_goes_on_playing() -> None:
    engine = FakeEngine(free_windows=1)  # held in its second window: what it measures is not yet known
    async with serving(engine, factor=1.5) as address, table(address) as first, table(address) as second:
        await first.say(Open(TAVERN, 1))
        await first.until(lambda item: isinstance(item, tuple))
        await second.say(Open(TAVERN, 1))
        problem = await second.until_event(Problem)
        assert problem.fatal
        assert "one more would make all of them stutter" in problem.message
        engine.gate.set()
        await first.fill()
