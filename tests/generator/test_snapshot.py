"""A stream's past as bytes: who takes it up goes on to the bit, and no bytes do harm."""

import json
import struct
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import example, given, settings
from hypothesis import strategies as st

from generator.bars import bars
from generator.config import BARD, ModelConfig
from generator.engine import Engine, State, Wanted, Window, always
from generator.moods import Mood
from generator.player import Player
from generator.protocol import FRAME_BYTES, FRAME_SAMPLES, MAX_STATE_BYTES, Controls, ProtocolError
from generator.section import Section
from generator.snapshot import decode_past, encode_past
from generator.stream import Chunk, Stream
from generator.vocoder import GriffinLim
from tests.generator.test_stream import mono, still
from tests.generator.tiny import CPU, TINY, TINY_PAPER, tiny_checkpoint, tiny_engine
from tests.generator.tone_engine import ToneEngine

TOWN, FIGHT, SAD = (Controls(Mood(name)) for name in ("town", "fight", "sad"))


def windows(count: int) -> Callable[[Stream], None]:
    def play(stream: Stream) -> None:
        for _ in range(count):
            stream.advance()

    return play


def turn(controls: Controls, back: int, way: Any = "sudden") -> Callable[[Stream], None]:
    def play(stream: Stream) -> None:
        stream.change(controls, still(max(0, stream.end - back)), way)

    return play


def fade(volume: float, back: int) -> Callable[[Stream], None]:
    def play(stream: Stream) -> None:
        stream.set_volume(volume, stream.end - back)

    return play


HISTORIES: dict[str, list[Callable[[Stream], None]]] = {
    "first": [windows(1)],
    "later": [windows(5)],
    "changed": [windows(3), turn(FIGHT, 100)],
    "changed at the end": [windows(2), turn(FIGHT, 0)],
    "blended": [windows(3), turn(Controls(Mood("epic"), 5, Mood("sad")), 100), windows(1)],
    "on a bridge": [windows(3), turn(SAD, 100, "slow"), windows(1)],
    "off a bridge": [windows(3), turn(SAD, 100, "slow"), windows(14)],
    "fading": [windows(3), fade(0.2, 20)],
    "faded at the end": [windows(3), fade(0.2, 0)],
    "faded": [windows(2), fade(0.2, 60), windows(5)],
    "long": [windows(14)],
}


def go_on(stream: Stream) -> list[Chunk]:
    """Windows, a volume, a change and a bridge."""
    end = stream.end
    return [
        stream.advance(),
        stream.advance(),
        stream.set_volume(0.7, stream.end - 40),
        stream.change(SAD, still(max(end, stream.end - 90))),
        stream.advance(),
        stream.change(TOWN, still(stream.end - 60), "slow"),
        stream.advance(),
    ]


class RoughEngine(ToneEngine):
    """Windows as uneven as a model's, and all that they depend on."""

    def window(self, state: State, section: Section, seed: int, wanted: Wanted = always) -> Window:
        window = super().window(state, section, seed, wanted)
        random = np.random.default_rng(seed)
        gain = random.uniform(0.1, 2, window.sound.size // FRAME_SAMPLES).astype(np.float32).repeat(FRAME_SAMPLES)
        gain[: len(state.sound)] = 1
        mel = window.mel + random.normal(size=window.mel.shape).astype(np.float32)
        mel[:, : state.mel.shape[1]] = state.mel
        return Window(window.begin, window.sound * gain, mel)


def same_from_here(stream: Stream, player: Player) -> None:
    """Whoever resumes the stream there plays on as the stream does."""
    state = stream.snapshot()
    resumed = player.resume(state)
    for each in (stream, resumed):  # where a change can land depends on what windows cost
        each._clock, each._urgent_seconds = lambda: 0.0, 1.0
    assert resumed.continues
    assert (resumed.end, resumed.volume, resumed.controls) == (stream.end, stream.volume, stream.controls)
    assert resumed.snapshot() == state
    assert go_on(resumed) == go_on(stream)
    assert resumed.snapshot() == stream.snapshot()


@pytest.mark.parametrize(
    ("blind", "history"), [*((False, name) for name in HISTORIES), *((True, name) for name in ("changed", "faded"))]
)
def test_who_takes_up_a_state_goes_on_to_the_bit(blind: bool, history: str) -> None:
    stream = Stream(RoughEngine(blind), 5, TOWN, 0.8, 300, origin=7, home=3)
    for play in HISTORIES[history]:
        play(stream)
    same_from_here(stream, Player(RoughEngine(blind)))


@pytest.mark.parametrize("config", [TINY, pytest.param(TINY_PAPER, marks=pytest.mark.slow)], ids=["patched", "paper"])
def test_a_network_in_another_place_goes_on_to_the_bit(config: ModelConfig) -> None:
    stream = Stream(tiny_engine(config), 5, TOWN, 0.8, 300)
    for play in HISTORIES["on a bridge"]:
        play(stream)
    same_from_here(stream, Player(another_engine(config)))


@cache
def another_engine(config: ModelConfig) -> Engine:
    """Of the same checkpoint, as in another process."""
    engine = Engine(tiny_checkpoint(config), CPU)
    engine.vocoder = GriffinLim(engine.mel, iterations=4)
    return engine


def test_a_state_from_between_two_kinds_of_mel_goes_on_to_the_bit() -> None:
    """The new model's window was given up, and its Mel knows nothing yet of what is heard."""
    config = replace(TINY, mel=replace(TINY.mel, n_fft=2 * TINY.mel.n_fft))
    engines = [tiny_engine()]
    stream = Stream(engines[0], 5, TOWN, newest=lambda: engines[-1])
    windows(3)(stream)
    engines.append(another_engine(config))
    stream._take_newest()
    assert stream.engine is engines[-1]
    same_from_here(stream, Player(another_engine(config)))


def test_another_model_goes_on_in_the_same_bar_of_the_same_piece_at_the_same_volume() -> None:
    stream = Stream(tiny_engine(), 5, TOWN, 1.0, 300, origin=7, home=3)
    for play in HISTORIES["on a bridge"]:
        play(stream)
    stream.set_volume(0.3, stream.end - 60)
    other = Engine(tiny_checkpoint(seed=1), CPU)
    other.vocoder = GriffinLim(other.mel, iterations=4)
    resumed = Player(other).resume(stream.snapshot())
    assert not resumed.continues
    assert (resumed.end, resumed.volume, resumed.section) == (stream.end, 0.3, stream.section)
    chunk = resumed.advance()
    assert chunk.lands == stream.end
    assert chunk.bars == tuple(bars(stream.section, stream.end, resumed.end, joined=True))


def test_what_is_heard_at_the_place_where_one_server_follows_another_is_one_sound() -> None:
    engine = ToneEngine()
    stream = Stream(engine, 5, TOWN)
    windows(6)(stream)
    before = mono(stream._render(stream.end - 10, stream.end))
    chunk = Player(engine).resume(stream.snapshot()).advance()
    steps = np.abs(np.diff(np.concatenate([before, mono(chunk.frames[:10])])))
    place = len(before) - 1
    assert steps[place] <= 1.05 * np.delete(steps, place).max()


def test_a_state_of_the_shipped_models_shape_is_small() -> None:
    engine = ToneEngine()
    engine.config = replace(engine.config, mel=replace(engine.config.mel, bands=BARD.mel.bands))
    engine.prefix_frames = BARD.prefix // engine.mels_a_frame
    engine.lead, engine.window_frames = engine.prefix_frames - engine.overlap, BARD.unet.frames // engine.mels_a_frame
    stream = Stream(engine, 5, TOWN)
    windows(4)(stream)
    state = stream.snapshot()
    assert engine.prefix_frames * FRAME_SAMPLES * 2 < len(state) < 200_000
    assert decode_past(state).mel.shape == (BARD.mel.bands, BARD.prefix)


# Bytes from anywhere


@cache
def good() -> bytes:
    stream = Stream(ToneEngine(), 5, TOWN, 0.5, 400)
    windows(4)(stream)
    stream.change(SAD, still(stream.end - 60), "slow")
    return stream.snapshot()


def only_protocol_errors(data: bytes) -> None:
    """It is refused in a sentence, or plays."""
    with suppress(ProtocolError):
        stream = Player(ToneEngine()).resume(data)
        chunk = stream.advance()
        assert all(len(frame) == FRAME_BYTES for frame in chunk.frames)
        stream.snapshot()


@given(st.binary(max_size=400))
def test_random_bytes_raise_nothing_else(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        decode_past(data)


@given(st.lists(st.tuples(st.integers(0, 2_500), st.integers(0, 255)), min_size=1, max_size=6), st.integers(0, 5))
@settings(max_examples=60, deadline=None)
def test_mutated_bytes_raise_nothing_else(changes: list[tuple[int, int]], cut: int) -> None:
    data = bytearray(good())
    for place, value in changes:
        data[place] = value
    only_protocol_errors(bytes(data[: len(data) - cut]))


values: st.SearchStrategy[Any] = (
    st.none() | st.booleans() | st.integers(-3, 2**50) | st.floats() | st.text(max_size=5) | st.lists(st.integers(0, 3))
)
fields = st.sampled_from(["model", "position", "held", "seed", "section", "before", "more"])
inner = st.sampled_from(["mood", "intensity", "blend", "origin", "home", "bridge", "more"])


def remade(change: Callable[[dict[str, Any], dict[str, Any]], None]) -> bytes:
    """The good state with something else in it."""
    data = good()
    (length,) = struct.unpack_from("<Q", data)
    about = json.loads(json.loads(data[8 : 8 + length])["__metadata__"]["past"])
    tensors = dict(safetensors.numpy.load(data))
    change(about, tensors)
    plain = {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}
    return safetensors.numpy.save(plain, {"past": json.dumps(about)})


@given(st.lists(st.tuples(fields, values), max_size=2), st.lists(st.tuples(st.booleans(), inner, values), max_size=3))
@example([], [(False, "bridge", {"mood": "sad"})])
@settings(max_examples=30, deadline=None)
def test_other_fields_raise_nothing_else(outer: list[tuple[str, Any]], deep: list[tuple[bool, str, Any]]) -> None:
    def change(about: dict[str, Any], _: dict[str, Any]) -> None:
        for bridge, name, value in deep:
            (about["section"]["bridge"] if bridge and about["section"].get("bridge") else about["section"])[name] = (
                value
            )
        about.update(outer)

    with suppress(AttributeError, TypeError):  # of this test's own hand, where there is no bridge any more
        only_protocol_errors(remade(change))


shapes = st.lists(st.integers(0, 9), min_size=0, max_size=3)
kinds = st.sampled_from([np.float16, np.float32, np.float64, np.int64, np.uint8])
fills = st.sampled_from([0.0, -1.0, 0.5, 2.0, 101.0, np.nan, np.inf])


@given(st.sampled_from(["mel", "sound", "sharp", "powers", "levels", "gains", "more"]), shapes, kinds, fills)
@settings(max_examples=30, deadline=None)
@pytest.mark.filterwarnings("ignore:invalid value encountered in cast")
def test_other_tensors_raise_nothing_else(name: str, shape: list[int], kind: Any, fill: float) -> None:
    def change(_: dict[str, Any], tensors: dict[str, Any]) -> None:
        tensors[name] = np.full(shape, fill).astype(kind)

    only_protocol_errors(remade(change))


@pytest.mark.parametrize("name", ["mel", "sound", "sharp", "powers", "levels", "gains"])
@pytest.mark.parametrize("value", [np.nan, np.inf, 1e4, -1e4])
def test_what_is_not_finite_or_beyond_reason_is_refused_in_a_sentence(name: str, value: float) -> None:
    def change(_: dict[str, Any], tensors: dict[str, Any]) -> None:
        tensors[name] = tensors[name].copy()
        tensors[name].flat[-1] = value

    with pytest.raises(ProtocolError, match=f"a state's {name}"):
        decode_past(remade(change))


@pytest.mark.parametrize("value", [-100.0, 100.0])
def test_what_no_model_would_have_heard_ends_no_stream(value: float) -> None:
    player = Player(tiny_engine())
    stream = player.stream(3, TOWN)
    windows(3)(stream)
    past = decode_past(stream.snapshot())
    resumed = player.resume(encode_past(replace(past, mel=np.full_like(past.mel, value))))
    assert resumed.continues
    assert len(resumed.advance().frames) == len(stream.advance().frames)


def test_a_state_without_end_is_not_read() -> None:
    with pytest.raises(ProtocolError, match="at most"):
        decode_past(b" " * (MAX_STATE_BYTES + 1))


def test_the_past_survives_the_way() -> None:
    past = decode_past(good())
    assert encode_past(past) == good()
    assert past.section.bridge is not None
    assert past.section.controls == SAD
