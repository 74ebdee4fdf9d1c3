import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from generator.analysis import PlanAnalysis, condition
from generator.config import BARD
from generator.mel import Mel
from generator.plan import BASS, BRIGHTNESS, CHROMA, FEATURES, LOUDNESS, ONSET

RATE, COLUMN = 48_000, 3_840  # samples
SECONDS = 2.56
COLUMNS = round(SECONDS * RATE) // COLUMN
MEL, ANALYSIS = Mel(BARD.mel), PlanAnalysis(BARD)
MEL.mean.fill_(-6.0)
MEL.deviation.fill_(2.0)

C2, C4, E4, G4 = 65.406, 261.626, 329.628, 391.995
TIME = torch.arange(round(SECONDS * RATE)) / RATE


def chord(*hertz: float) -> Tensor:
    return sum((0.1 * torch.sin(2 * torch.pi * pitch * TIME) for pitch in hertz), torch.zeros_like(TIME))


def plan(wave: Tensor) -> Tensor:
    measured: Tensor = ANALYSIS(wave[None], MEL(wave[None]))[0]
    return measured


def test_c_major_over_c() -> None:
    measured = plan(chord(C2, C4, E4, G4))[:, 2:-2]
    chroma, bass = measured[CHROMA], measured[BASS]
    assert set(chroma.mean(1).topk(3).indices.tolist()) == {0, 4, 7}
    assert chroma[[0, 4, 7]].min() > 0.7
    assert chroma[[1, 2, 3, 5, 6, 8, 9, 10, 11]].max() < 0.3
    assert bass.argmax(0).tolist() == [0] * bass.shape[1]


@given(pitch=st.integers(0, 11))
@settings(max_examples=12)
def test_transposed_by_a_semitone_the_chroma_turn_by_one_row(pitch: int) -> None:
    measured = plan(chord(C4 * 2 ** (pitch / 12)))
    assert set(measured[CHROMA][:, 2:-2].argmax(0).tolist()) == {pitch}


def test_octaves_share_a_row() -> None:
    for octave in (1, 2, 4, 8):
        assert int(plan(chord(C4 * octave))[CHROMA].mean(1).argmax()) == 0


@pytest.mark.parametrize("turn", [15.0, 15.25, 15.75])
def test_a_columns_chroma_are_those_of_its_middle(turn: float) -> None:
    wave = torch.where(turn * COLUMN / RATE > TIME, chord(C4), chord(440.0))
    leader = plan(wave)[CHROMA].argmax(0)[2:-2]
    middles = torch.arange(2, COLUMNS - 2) + 0.5
    assert leader.tolist() == torch.where(middles < turn, 0, 9).tolist()


def test_a_click_train_is_measured_in_its_quarters() -> None:
    """A click's rise in a Mel begins when it enters the analysis window, so at most one quarter before it."""
    clicks = [17, 34, 51, 68, 85, 102]  # in quarters of a column
    wave = 1e-4 * torch.randn(len(TIME), generator=torch.Generator().manual_seed(0))
    for quarter in clicks:
        wave[quarter * 960 + 480] += 0.9
    onsets = plan(wave)[ONSET].T.reshape(-1).numpy()
    strongest = sorted(np.argsort(onsets)[-len(clicks) :].tolist())
    assert all(found in (true - 1, true) for found, true in zip(strongest, clicks, strict=True)), strongest
    quiet = np.delete(onsets, [near for quarter in clicks for near in range(quarter - 2, quarter + 3)])
    assert onsets[strongest].min() > 4 * quiet.max()


def test_loudness_and_brightness_follow_the_sound() -> None:
    noise = torch.randn(len(TIME), generator=torch.Generator().manual_seed(0))
    soft, loud = plan(0.01 * noise), plan(0.1 * noise)
    rise = np.log(10) / 2  # ln of the amplitude, in deviations of 2
    assert (loud - soft)[LOUDNESS].numpy() == pytest.approx(rise, abs=0.02)
    assert (loud - soft)[BRIGHTNESS].numpy() == pytest.approx(0, abs=0.05)
    assert plan(chord(6_000.0))[BRIGHTNESS].mean() > plan(chord(200.0))[BRIGHTNESS].mean() + 0.5


def test_silence_has_no_pitch_and_is_finite() -> None:
    measured = plan(torch.zeros(len(TIME)))
    assert measured.isfinite().all()
    assert measured[CHROMA].max() == measured[BASS].max() == 0


def test_a_batch_is_its_rows() -> None:
    waves = torch.stack([chord(C4), chord(E4)])
    assert torch.allclose(ANALYSIS(waves, MEL(waves))[1], plan(waves[1]), atol=1e-4)


def test_no_plan_is_zero_and_says_so() -> None:
    assert torch.equal(condition(None, 2, 5), torch.zeros(2, FEATURES + 1, 5))


def test_a_plan_is_flagged_and_a_dropped_one_is_like_none() -> None:
    given_plan = torch.randn(2, FEATURES, 5, generator=torch.Generator().manual_seed(0))
    taken = condition(given_plan, 2, 5, torch.tensor([True, False]))
    assert torch.equal(taken[0, :FEATURES], given_plan[0])
    assert torch.equal(taken[0, FEATURES], torch.ones(5))
    assert torch.equal(taken[1], condition(None, 1, 5)[0])
