"""The service on Ray Serve, with real Ray processes: what is killed, hangs or is updated while tables play."""

import asyncio
import os
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import aiohttp
import pytest

from generator.__main__ import main
from generator.checkpoint import save_checkpoint
from generator.moods import MOODS
from generator.protocol import AHEAD_FRAMES, Controls
from tests.generator.cluster_process import Table, cluster, tables, until
from tests.generator.tiny import TINY, tiny_checkpoint

LONG = replace(TINY, unet=replace(TINY.unet, frames=512))  # windows of 5 s, as the models that ship have them
EIGHT = MOODS[:8]
TONES = {mood: 200 + 50 * number for number, mood in enumerate(MOODS)}  #: Hz, of tests.generator.tone_engine


@pytest.fixture
def model(tmp_path: Path) -> Callable[[str, int], Path]:
    """Makes a model's file."""

    def made(name: str, seed: int) -> Path:
        path = tmp_path / f"{name}.safetensors"
        save_checkpoint(path, tiny_checkpoint(replace(LONG, name=name), seed))
        return path

    return made


def nothing_was_missing(listeners: list[Table]) -> None:
    assert [table.buffer.counts.held for table in listeners] == [0] * len(listeners)
    assert min(table.quietest for table in listeners) > 0.03


async def listen(seconds: float) -> None:
    """Let the tables listen on."""
    await asyncio.sleep(seconds)


#: Imported here, Ray warns of how it uses pydantic.
RAYS_OWN = pytest.mark.filterwarnings("ignore:Using extra keyword arguments")


def test_without_ray_a_sentence_says_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    assert main(["cluster", "up"]) == 1
    assert capsys.readouterr().err == "bardcast-generator: a cluster needs Ray: pip install 'bardcast[cluster]'\n"


@RAYS_OWN
def test_another_model_is_told_to_this_application_and_nothing_else_is_lost(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    other = {"name": "another", "import_path": "its.own"}
    sampler = {"name": "Sampler", "num_replicas": 3, "user_config": {"model": "bard"}}
    ours = {"name": "bardcast", "import_path": "ours", "deployments": [sampler, {"name": "Third"}]}
    client = Mock()
    client.get_serve_details.return_value = {
        "applications": {
            "bardcast": {"deployed_app_config": ours},
            "another": {"deployed_app_config": other},
            "by hand": {"deployed_app_config": None},
        }
    }
    monkeypatch.setattr("generator.cluster_up.ServeSubmissionClient", lambda _: client)
    save_checkpoint(path := tmp_path / "new.safetensors", tiny_checkpoint())
    assert main(["cluster", "model", str(path)]) == 0
    ((told,), _) = client.deploy_applications.call_args
    model = {"user_config": {"model": str(path)}}
    deployments = [sampler | model, {"name": "Third"}, {"name": "Ingress"} | model]
    assert told == {"applications": [ours | {"deployments": deployments}, other]}


@RAYS_OWN
def test_an_address_that_is_none_is_a_sentence(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    save_checkpoint(path := tmp_path / "new.safetensors", tiny_checkpoint())
    assert main(["cluster", "model", str(path), "--address", "foo"]) == 1
    assert "no Bardcast cluster is managed at foo" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["up", "--replicas", "0"], ["up", "--replicas", "3:2"], ["up", "--replicas", "2:"]])
def test_what_is_no_number_of_replicas_is_refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["cluster", *words])
    assert "--replicas" in capsys.readouterr().err


@pytest.mark.slow  # a dozen processes that start at once would starve whatever test runs beside it in real time
@pytest.mark.timeout(300)
async def test_a_cluster_plays_and_leaves_nothing_behind(model: Callable[[str, int], Path]) -> None:
    async with cluster(model("one", 0)) as one, aiohttp.ClientSession() as session:
        async with session.get(f"{one.url}/healthz") as answer:
            assert await answer.json() == {"status": "ok", "model": "one", "streams": 0}
        async with session.post(f"{one.url}/v1/model", json={"model": "bard"}) as answer:
            assert answer.status == 409
            assert "cluster model" in await answer.text()
        with pytest.raises(aiohttp.WSServerHandshakeError, match="403"):
            await session.ws_connect(f"{one.url}/v1/stream", headers={"Origin": "http://elsewhere.example"})
        async with tables(one.url, EIGHT[:1]) as (table,):
            table.client.set_mood(Controls(MOODS[1]))
            await until(lambda: table.mood == MOODS[1], 20)
            nothing_was_missing([table])


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(("blow", "seconds"), [(signal.SIGKILL, 10), (signal.SIGSTOP, 20)])
async def test_a_sampler_that_dies_or_hangs_is_not_heard(
    model: Callable[[str, int], Path], blow: signal.Signals, seconds: float
) -> None:
    async with cluster(model("one", 0), 2, 2) as one, tables(one.url, EIGHT) as listeners:
        await listen(5)
        victim, _ = await one.replicas("Sampler")
        os.kill(victim, blow)
        begun = time.monotonic()
        await one.until_running("Sampler", 2, without=[victim])
        assert time.monotonic() - begun < seconds
        await listen(10)
        nothing_was_missing(listeners)
        assert not any(table.aways for table in listeners)


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_a_dead_ingress_is_resumed_elsewhere_in_the_same_mood(model: Callable[[str, int], Path]) -> None:
    async with cluster(model("one", 0), 2, 2) as one, tables(one.url, EIGHT) as listeners:
        wishes = [*EIGHT[1:], EIGHT[0]]
        for table, mood in zip(listeners, wishes, strict=True):
            table.client.set_mood(Controls(mood))
        await until(lambda: [table.mood for table in listeners] == wishes, 20)
        await until(lambda: all(table.buffer.ready > AHEAD_FRAMES // 2 for table in listeners), 20)
        before = [table.buffer.counts.held for table in listeners]
        victim, _ = await one.replicas("Ingress")
        os.kill(victim, signal.SIGKILL)
        killed = time.monotonic()
        await listen(3)
        fallen = [table for table in listeners if table.aways]
        assert fallen
        assert all(table.client.connected and table.resumed[-1] - killed < 3 for table in fallen)
        await listen(10)  # past all that lay ready
        assert [table.mood for table in listeners] == wishes
        for table, mood in zip(listeners, wishes, strict=True):
            assert table.pitch == pytest.approx(TONES[mood], abs=5)
        assert [table.buffer.counts.held for table in listeners] == before
        await one.until_running("Ingress", 2, without=[victim])


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_another_model_drops_nobody(model: Callable[[str, int], Path]) -> None:
    async with cluster(model("one", 0), 2, 2) as one, tables(one.url, EIGHT) as listeners:
        samplers, ingresses = await one.replicas("Sampler"), await one.replicas("Ingress")
        await one.play(model("two", 1))
        await listen(15)
        nothing_was_missing(listeners)
        assert not any(table.aways for table in listeners)
        assert await one.replicas("Sampler") == samplers
        assert await one.replicas("Ingress") == ingresses
        async with tables(one.url, EIGHT) as others:
            assert {table.models[0] for table in others} == {"two"}
