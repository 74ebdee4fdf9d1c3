import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from generator.checkpoint import Checkpoint, CheckpointError, save_checkpoint
from generator.config import BARD, PAPER_NOISE, ModelConfig
from generator.engine import Engine, GenerationError, State, Wanted, Window, always, load_engine
from generator.mel import Mel
from generator.moods import Mood
from generator.network import make_network
from generator.protocol import FRAME_SAMPLES, Controls
from generator.section import Section
from generator.stream import Stream
from generator.vocoder import GriffinLim, PaperInversion
from tests.generator.tiny import CPU, TINY, TINY_PAPER, plan_statistics, tiny_checkpoint, tiny_engine

FIGHT, SAD = Section(Controls(Mood("fight")), 7, 0), Section(Controls(Mood("sad")), 7, 40)
BOTH = pytest.mark.parametrize("config", [TINY, TINY_PAPER], ids=["tiny", "paper"])


def fresh_engine(config: ModelConfig = TINY) -> Engine:
    """Of its own, sharing nothing with any other."""
    return tiny_engine.__wrapped__(config)


def same(one: Window, two: Window) -> bool:
    return one.begin == two.begin and np.array_equal(one.sound, two.sound) and np.array_equal(one.mel, two.mel)


def after(engine: Engine, window: Window, position: int, section: Section, beyond: int) -> State:
    """The state of a stream that played ``window`` up to ``position``, by its definition."""
    lead = engine.prefix_frames - beyond
    first = position - lead - window.begin
    sound = window.sound[first * FRAME_SAMPLES : (position - window.begin) * FRAME_SAMPLES]
    mel = window.mel[:, first * engine.mels_a_frame : (first + engine.prefix_frames) * engine.mels_a_frame]
    return State(position, section, mel, sound)


@BOTH
def test_the_same_seed_is_the_same_to_the_bit_whoever_makes_it(config: ModelConfig) -> None:
    one, two = fresh_engine(config), fresh_engine(config)
    begin = one.beginning()
    assert same(one.window(begin, FIGHT, 5), two.window(begin, FIGHT, 5))
    assert not np.array_equal(one.window(begin, FIGHT, 5).sound, one.window(begin, FIGHT, 6).sound)


@BOTH
def test_a_window_leaves_no_trace(config: ModelConfig) -> None:
    engine = tiny_engine(config)
    first = engine.window(engine.beginning(), FIGHT, 5)
    engine.window(engine.beginning(9), SAD, 1)
    assert same(engine.window(engine.beginning(), FIGHT, 5), first)


@BOTH
def test_a_window_is_as_long_as_it_says(config: ModelConfig) -> None:
    engine = tiny_engine(config)
    window = engine.window(engine.beginning(33), FIGHT, 5)
    assert window.begin == 33
    assert window.sound.shape == (engine.window_frames * FRAME_SAMPLES,)
    assert window.sound.dtype == np.float32
    assert window.mel.shape == (config.mel.bands, config.unet.frames)
    seconds = config.unet.frames * config.mel.hop / config.mel.sample_rate
    assert 0 <= seconds - engine.window_frames / 50 < 1 / 50
    assert window.sound.std() > 1e-3


@pytest.mark.parametrize("other", [Mood("sad"), Mood("town"), Mood("epic")])
def test_the_mood_is_heard(other: Mood) -> None:
    engine = tiny_engine()
    begin, section = engine.beginning(), Section(Controls(other), 7, 0)
    assert np.abs(engine.window(begin, FIGHT, 5).mel - engine.window(begin, section, 5).mel).max() > 0.01


def test_a_state_that_was_sent_elsewhere_goes_on_to_the_bit() -> None:
    engine = tiny_engine()
    first = engine.window(engine.beginning(), FIGHT, 5)
    state = after(engine, first, engine.window_frames - engine.overlap, FIGHT, engine.overlap)
    sent = pickle.loads(pickle.dumps(state))  # noqa: S301 - our own
    # As they come off a wire: read-only views of bytes.
    mel = np.frombuffer(state.mel.tobytes(), np.float32).reshape(state.mel.shape)
    sound = np.frombuffer(state.sound.tobytes(), np.float32)
    here = engine.window(state, FIGHT, 6)
    assert same(fresh_engine().window(sent, FIGHT, 6), here)
    assert same(fresh_engine().window(State(state.position, FIGHT, mel, sound), FIGHT, 6), here)


def test_a_window_continues_the_prefix_and_the_sound() -> None:
    engine = tiny_engine()
    first = engine.window(engine.beginning(), FIGHT, 5)
    state = after(engine, first, engine.window_frames - engine.overlap, FIGHT, engine.overlap)
    assert state.mel.shape[1] == TINY.prefix
    window = engine.window(state, FIGHT, 6)
    assert window.begin == state.position - engine.lead
    assert np.array_equal(window.mel[:, : TINY.prefix], state.mel)
    assert np.array_equal(window.sound[: engine.lead * FRAME_SAMPLES], state.sound)


def test_another_mood_continues_what_is_heard_and_is_itself_from_its_first_frame() -> None:
    engine = tiny_engine()
    first = engine.window(engine.beginning(), FIGHT, 5)
    state = after(engine, first, 40, FIGHT, 0)
    windows = [engine.window(state, section, 6) for section in (replace(FIGHT, origin=40), SAD)]
    for window in windows:
        assert window.begin == 40 - engine.prefix_frames
        assert np.array_equal(window.mel[:, : TINY.prefix], state.mel)
        assert np.array_equal(window.sound[: len(state.sound)], state.sound)
    moved = np.abs(windows[0].mel - windows[1].mel).max(0)
    assert moved[TINY.prefix] > 1e-3


def test_the_plan_of_the_past_is_that_of_what_was_heard() -> None:
    engine = tiny_engine()
    first = engine.window(engine.beginning(), FIGHT, 5)
    state = after(engine, first, 40, FIGHT, 0)
    plan, whole, old = (
        engine._plan(state, SAD, 24),
        engine._plan(replace(state, section=SAD), SAD, 24),
        engine._plan(state, FIGHT, 24),
    )
    assert plan is not None
    assert whole is not None
    assert old is not None
    assert torch.equal(plan[:, :4], old[:, :4])
    assert torch.equal(plan[:, 4:], whole[:, 4:])
    assert not torch.equal(old[:, :4], whole[:, :4])


def test_the_vocoder_is_told_the_plan_and_where_in_the_stream_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = fresh_engine()
    state = after(engine, engine.window(engine.beginning(), FIGHT, 5), 40, FIGHT, 0)
    vocoder, given = engine.vocoder, []

    def spy(*arguments: object) -> torch.Tensor:
        given.append(arguments)
        sound: torch.Tensor = vocoder(*arguments)
        return sound

    monkeypatch.setattr(engine, "vocoder", spy)
    window = engine.window(state, SAD, 6)
    ((_, _, _, plan, place),) = given
    expected = engine._plan(state, SAD, window.begin)
    assert isinstance(plan, torch.Tensor)
    assert expected is not None
    assert torch.equal(plan, expected)
    assert place == window.begin * engine.mels_a_frame > 0


@BOTH
def test_one_long_stream_is_its_windows_made_by_many(config: ModelConfig) -> None:
    """Any worker can continue any stream, in between which it served others."""

    class Relay(Engine):
        def __init__(self) -> None:
            self.workers = [fresh_engine(config) for _ in range(3)]
            vars(self).update(vars(self.workers[0]))
            self.calls = 0

        def window(self, state: State, section: Section, seed: int, wanted: Wanted = always) -> Window:
            self.calls += 1
            worker = self.workers[self.calls % 3]
            worker.window(worker.beginning(3), SAD, self.calls)
            return worker.window(pickle.loads(pickle.dumps(state)), section, seed)  # noqa: S301 - our own

    alone = Stream(tiny_engine(config), 11, FIGHT.controls)
    relayed = Stream(Relay(), 11, FIGHT.controls)
    for _ in range(4):
        assert alone.advance() == relayed.advance()
    change = alone.change(SAD.controls, lambda: 5), relayed.change(SAD.controls, lambda: 5)
    assert min(chunk.frames for chunk in change)
    assert alone.advance().frames[-1] == relayed.advance().frames[-1] or change[0].start != change[1].start


@BOTH
def test_a_model_that_makes_infinity_says_so(config: ModelConfig) -> None:
    tensors = dict(tiny_checkpoint(config).tensors)
    last = "network.leave.2.weight" if config is TINY else "network.thin.weight"
    tensors[last] = torch.full_like(tensors[last], 3e38)
    unbound = replace(config, diffusion=replace(config.diffusion, bound=None))
    engine = Engine(Checkpoint(unbound, tensors), CPU)
    with pytest.raises(GenerationError, match="another checkpoint"):
        engine.window(engine.beginning(), FIGHT, 5)


@pytest.mark.parametrize(
    "config",
    [
        replace(TINY, mel=replace(TINY.mel, sample_rate=44_100)),
        replace(TINY, mel=replace(TINY.mel, hop=320)),
        replace(TINY, unet=replace(TINY.unet, frames=32), prefix=24),
        replace(TINY, prefix=120),
        replace(TINY_PAPER, unet=replace(TINY_PAPER.unet, frames=84)),
    ],
    ids=["rate", "hop", "short", "prefix", "blind"],
)
def test_windows_that_no_stream_can_be_made_of_are_refused(config: ModelConfig) -> None:
    with pytest.raises(CheckpointError):
        Engine(tiny_checkpoint(config), CPU)


def test_a_plan_without_statistics_is_refused() -> None:
    tensors = dict(tiny_checkpoint().tensors)
    for broken in (None, plan_statistics()[:8]):
        del tensors["plan.statistics"]
        if broken is not None:
            tensors["plan.statistics"] = broken
        with pytest.raises(CheckpointError, match="statistics"):
            Engine(Checkpoint(TINY, tensors), CPU)
        tensors["plan.statistics"] = plan_statistics()


def test_steps_can_be_chosen_up_to_what_the_papers_process_has() -> None:
    assert Engine(tiny_checkpoint(), CPU).steps == 2
    assert Engine(tiny_checkpoint(), CPU, steps=7).steps == 7
    paper = Engine(tiny_checkpoint(TINY_PAPER), CPU, steps=100)
    assert paper.steps == 4
    assert np.isfinite(paper.window(paper.beginning(), FIGHT, 1).sound).all()


def test_the_samplers_times_are_warped_as_the_model_says() -> None:
    config = replace(TINY, diffusion=replace(TINY.diffusion, steps=4, warp=2.0))
    assert Engine(tiny_checkpoint(config), CPU).times.tolist() == [1, 0.5625, 0.25, 0.0625, 0]


def test_a_file_that_is_written_over_leaves_the_engine_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    save_checkpoint(path, tiny_checkpoint())
    engine = load_engine(str(path), device="cpu")
    with path.open("r+b") as file:  # in place, as `cp` does it
        file.write(bytes(path.stat().st_size))
    assert engine.statistics is not None
    assert np.array_equal(engine.statistics, plan_statistics().numpy())


def test_an_engine_is_loaded_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    save_checkpoint(path, tiny_checkpoint())
    engine = load_engine(str(path), device="cpu", steps=1)
    assert (engine.name, engine.steps) == ("tiny", 1)


@pytest.mark.parametrize("config", [BARD, PAPER_NOISE], ids=["bard", "paper"])
def test_the_real_models_windows_fit_the_wire(config: ModelConfig) -> None:
    tensors = {
        f"network.{name}": value for name, value in make_network(config.unet, config.mel.bands).state_dict().items()
    }
    tensors |= {f"mel.{name}": value for name, value in Mel(config.mel).state_dict().items()}
    tensors["plan.statistics"] = plan_statistics()
    engine = Engine(Checkpoint(config, tensors), CPU)
    if config is BARD:
        assert (engine.window_frames, engine.lead, engine.new_frames) == (256, 60, 192)
        assert isinstance(engine.vocoder, GriffinLim)
    else:
        assert (engine.window_frames, engine.lead, engine.new_frames) == (501, 0, 451)
        assert isinstance(engine.vocoder, PaperInversion)
