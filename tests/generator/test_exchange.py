"""Which models are taken while others play, and which are refused."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from generator.checkpoint import Checkpoint, CheckpointError, load_checkpoint, save_checkpoint
from generator.config import ModelConfig
from generator.engine import Engine, State, Wanted, Window, always
from generator.exchange import TRIAL_WINDOWS, Exchange, ExchangeError
from generator.metrics import Metrics
from generator.player import Player
from generator.protocol import FRAME_SECONDS
from generator.section import Section
from tests.generator.test_stream import SAD
from tests.generator.test_stream_exchange import engine, spied
from tests.generator.tiny import CPU, TINY, tiny_checkpoint


def load(model: str) -> Player:
    return Player(Engine(load_checkpoint(model), CPU))


@asynccontextmanager
async def exchanging(
    player: Player,
    load: Callable[[str], Player],
    model: str = "first",
    clock: Callable[[], float] = time.perf_counter,
) -> AsyncIterator[Exchange]:
    exchange = Exchange(player, model, load, Metrics(), clock)
    exchange.start()
    try:
        yield exchange
    finally:
        exchange.stop(5)


def counted(exchange: Exchange) -> dict[str, float]:
    return {
        sample.labels["result"]: sample.value
        for family in exchange._metrics.models.collect()
        for sample in family.samples
        if sample.name.endswith("_total") and sample.value
    }


def write(path: Path, config: ModelConfig = TINY, seed: int = 0, **tensors: torch.Tensor) -> Path:
    checkpoint = tiny_checkpoint(config, seed)
    changed = {**checkpoint.tensors, **{name.replace("__", "."): value for name, value in tensors.items()}}
    save_checkpoint(path, Checkpoint(config, changed))
    return path


def damage(path: Path) -> Path:
    content = bytearray(write(path).read_bytes())
    content[-100] ^= 1
    path.write_bytes(content)
    return path


def cut_off(path: Path) -> Path:
    content = write(path).read_bytes()
    path.write_bytes(content[: len(content) // 2])
    return path


def foreign(path: Path) -> Path:
    save_file({"weights": torch.ones(3)}, path)
    return path


def text(path: Path) -> Path:
    path.write_text("music")
    return path


def infinite(path: Path) -> Path:
    config = replace(TINY, diffusion=replace(TINY.diffusion, bound=None))
    weight = tiny_checkpoint().tensors["network.leave.2.weight"]
    return write(path, config, network__leave__2__weight=torch.full_like(weight, 3e38))


BAD: dict[str, tuple[Callable[[Path], Path], str]] = {
    "missing": (lambda path: path, "no such model"),
    "folder": (lambda path: path.parent, "no such model"),
    "damaged": (damage, "fetch or train it again"),
    "cut off": (cut_off, "fetch or train it again"),
    "text": (text, "fetch or train it again"),
    "foreign": (foreign, "not a Bardcast model"),
    "not a number": (lambda path: write(path, mel__mean=torch.full((16,), float("nan"))), "not finite"),
    "misfit": (lambda path: write(path, mel__mean=torch.zeros(3)), "does not fit"),
    "flat": (lambda path: write(path, mel__deviation=torch.zeros(16)), "never moves"),
    "makes infinity": (infinite, "infinite values; choose another checkpoint"),
    "blares": (
        lambda path: write(path, mel__mean=torch.full((16,), 3e38)),
        "infinite values; choose another checkpoint",
    ),
    "too short": (lambda path: write(path, replace(TINY, prefix=120)), "train longer ones"),
}


@pytest.mark.parametrize("kind", BAD)
async def test_a_bad_checkpoint_is_refused_with_a_sentence_and_the_old_plays_on(kind: str, tmp_path: Path) -> None:
    make, sentence = BAD[kind]
    path = make(tmp_path / "bad.safetensors")
    player = Player(engine())
    old = player.engine
    async with exchanging(player, load) as exchange:
        with pytest.raises(ExchangeError, match=sentence) as refusal:
            await exchange.play(str(path))
        assert str(refusal.value).endswith("; tiny plays on")
        assert "\n" not in str(refusal.value)
        assert len(str(refusal.value)) < 500
        assert counted(exchange) == {"refused": 1}
    assert player.engine is old


async def test_a_fault_that_nobody_foresaw_refuses_as_well(caplog: pytest.LogCaptureFixture) -> None:
    def burst(model: str) -> Player:
        raise RuntimeError("not enough memory: you tried to allocate 8796093022208 bytes")

    async with exchanging(Player(engine()), burst) as exchange:
        with pytest.raises(ExchangeError, match="huge: can't be played; look into the generator's log"):
            await exchange.play("huge")
    assert "8796093022208" in caplog.text


async def test_a_good_checkpoint_is_tried_off_the_loop_and_plays(tmp_path: Path) -> None:
    path = write(tmp_path / "new.safetensors", replace(TINY, name="new"), seed=1)
    threads: list[str] = []
    windows: list[list[tuple[State, Window]]] = []

    def watched(model: str) -> Player:
        threads.append(threading.current_thread().name)
        made = load(model)
        windows.append(spied(made.engine))
        return made

    player = Player(engine())
    stream = player.stream(1, SAD)
    stream.advance()
    async with exchanging(player, watched) as exchange:
        await exchange.play(str(path))
        assert counted(exchange) == {"taken": 1}
    assert player.name == stream._newest().name == "new"  # type: ignore[misc]
    assert threads == ["models_0"]
    assert [bool(state.mel.size) for state, _ in windows[0]] == [False, True]
    assert len(windows[0]) == TRIAL_WINDOWS
    stream.advance()
    assert stream.engine.name == "new"


@pytest.mark.parametrize(
    ("frames", "paces", "taken"),
    [(128, [59.0, 1.9], True), (128, [0.1, 2.1], False), (1024, [0.1, 0.7], True), (1024, [0.1, 0.9], False)],
    ids=["slow start", "slow", "long", "longer than what lies ready"],
)
async def test_a_model_that_would_starve_the_tables_is_refused(frames: int, paces: list[float], taken: bool) -> None:
    """Each window of the trial takes so many times what its new frames last; the first also warms up."""
    config = replace(TINY, unet=replace(TINY.unet, frames=frames))
    lasts, now, trial = engine(config).new_frames * FRAME_SECONDS, 0.0, iter(paces)

    def slow(_model: str) -> Player:
        made = engine(config)
        make = made.window

        def window(state: State, section: Section, seed: int, wanted: Wanted = always) -> Window:
            nonlocal now
            now += next(trial) * lasts
            return make(state, section, seed)

        made.window = window  # type: ignore[method-assign]
        return Player(made)

    player = Player(engine())
    old = player.engine
    async with exchanging(player, slow, clock=lambda: now) as exchange:
        if taken:
            await exchange.play("slow")
        else:
            sentence = (
                rf"slow: makes {lasts:.1f} s of music in {paces[1] * lasts:.1f} s on this machine .* that is faster"
            )
            with pytest.raises(ExchangeError, match=sentence):
                await exchange.play("slow")
    assert (player.engine is not old) == taken


async def test_a_model_whose_window_never_ends_is_given_up_and_the_next_has_its_turn() -> None:
    endless = replace(TINY, diffusion=replace(TINY.diffusion, steps=100_000))
    now = count()  # a tenth of a second a look: one at each step
    async with exchanging(
        Player(engine()),
        lambda model: Player(engine(endless if model == "endless" else TINY)),
        clock=lambda: next(now) / 10,
    ) as exchange:
        with pytest.raises(ExchangeError, match="endless: makes no window in 60 s on this machine; give"):
            await exchange.play("endless")
        assert next(now) < 700
        await exchange.play("usual")


async def test_the_model_is_read_again_from_where_it_came(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    first = write(tmp_path / "first.safetensors", replace(TINY, name="one"))
    second = write(tmp_path / "second.safetensors", replace(TINY, name="two"))

    async def told(line: str) -> None:
        async with asyncio.timeout(10):
            while line not in caplog.text:  # noqa: ASYNC110 - a log has no event
                await asyncio.sleep(0.01)

    player = load(str(first))
    async with exchanging(player, load, str(first)) as exchange:
        write(first, replace(TINY, name="one, better"))
        exchange.reload()
        await told(f"one, better plays now, as read from {first}")
        await exchange.play(str(second))
        with pytest.raises(ExchangeError):
            await exchange.play(str(tmp_path / "none"))
        write(second, replace(TINY, name="two, better"))
        exchange.reload()
        await told(f"two, better plays now, as read from {second}")
        second.write_bytes(b"")
        exchange.reload()
        await told("two, better plays on")
        assert player.name == "two, better"
        assert counted(exchange) == {"taken": 3, "refused": 2}


async def test_wishes_come_one_after_the_other_and_the_last_one_plays() -> None:
    made = {name: Player(engine(replace(TINY, name=name))) for name in ("one", "two", "three")}
    loading: list[str] = []
    most = 0

    def slow(model: str) -> Player:
        nonlocal most
        loading.append(model)
        most = max(most, len(loading))
        time.sleep(0.02)
        loading.remove(model)
        return made[model]

    player = Player(engine())
    async with exchanging(player, slow) as exchange:
        names: list[str] = []

        async def ask(model: str) -> None:
            await exchange.play(model)
            names.append(player.name)

        await asyncio.gather(*(ask(model) for model in made))
    assert names == list(made)
    assert most == 1


async def test_many_hangups_while_one_is_obeyed_are_one_more() -> None:
    gate, asked = threading.Event(), list[str]()

    def held(model: str) -> Player:
        asked.append(model)
        assert gate.wait(20)
        raise CheckpointError("no")

    async with exchanging(Player(engine()), held) as exchange:
        exchange.reload()
        async with asyncio.timeout(10):
            while not asked:  # noqa: ASYNC110 - another thread
                await asyncio.sleep(0.01)
            for _ in range(10):
                exchange.reload()
            gate.set()
            while counted(exchange) != {"refused": 2}:  # noqa: ASYNC110 - nor does a counter tell
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)
        assert asked == ["first", "first"]


async def test_a_hangup_while_a_model_is_loaded_reads_that_model_again() -> None:
    gate, asked = threading.Event(), list[str]()

    def held(model: str) -> Player:
        asked.append(model)
        assert gate.wait(20)
        return Player(engine())

    async with exchanging(Player(engine()), held) as exchange, asyncio.timeout(10):
        wish = asyncio.create_task(exchange.play("new"))
        while not asked:  # noqa: ASYNC110 - another thread
            await asyncio.sleep(0.01)
        exchange.reload()
        await asyncio.sleep(0.05)  # the hangup is heard
        gate.set()
        await wish
        while counted(exchange) != {"taken": 2}:  # noqa: ASYNC110 - nor does a counter tell
            await asyncio.sleep(0.01)
    assert asked == ["new", "new"]
