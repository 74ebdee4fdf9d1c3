import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from librosa.filters import mel as librosa_filters

from generator.config import BARD_MEL, DIFFWAVE_MEL, MelConfig
from generator.mel import DIFFWAVE_FLOOR, FLOOR, Mel

BARD, DIFFWAVE = Mel(BARD_MEL), Mel(DIFFWAVE_MEL)
BOTH = pytest.mark.parametrize("mel", [BARD, DIFFWAVE], ids=["bard", "diffwave"])


def noise(samples: int, seed: int = 0) -> torch.Tensor:
    return 0.1 * torch.randn(samples, generator=torch.Generator().manual_seed(seed))


@BOTH
@settings(max_examples=20)
@given(frame=st.integers(6, 90))
def test_a_click_lands_in_its_frame(mel: Mel, frame: int) -> None:
    wave = torch.zeros(mel.config.hop * 100)
    wave[frame * mel.config.hop] = 1.0
    assert int(mel.linear(wave).sum(0).argmax()) == frame


@BOTH
@pytest.mark.parametrize("extra", [0, 1, 200])
def test_as_many_frames_as_whole_hops(mel: Mel, extra: int) -> None:
    config = mel.config
    assert mel(noise(20 * config.hop + extra)).shape == (config.bands, 20)


@pytest.mark.parametrize(
    ("mel", "htk", "norm"), [(BARD, False, "slaney"), (DIFFWAVE, True, None)], ids=["bard", "diffwave"]
)
def test_the_filter_bank_agrees_with_librosa(mel: Mel, htk: bool, norm: str | None) -> None:
    config = mel.config
    theirs = librosa_filters(
        sr=config.sample_rate,
        n_fft=config.n_fft,
        n_mels=config.bands,
        fmin=config.f_min,
        fmax=config.f_max,
        htk=htk,
        norm=norm,
    )
    assert np.abs(mel.filters.numpy().T - theirs).max() < 1e-6 * max(1, theirs.max() / 0.05)


def test_diffwaves_formula_to_the_letter() -> None:
    """``preprocess.py`` of DiffWave, written out with nothing but an FFT and librosa's filters."""
    wave = noise(22_050).numpy()
    window = np.hanning(1025)[:-1]
    padded = np.pad(wave, 512, mode="reflect")
    frames = np.stack([padded[at : at + 1024] * window for at in range(0, len(wave), 256)])[: len(wave) // 256]
    spectrum = np.abs(np.fft.rfft(frames)) / np.sqrt((window**2).sum())  # torchaudio's normalized=True
    bank = librosa_filters(sr=22_050, n_fft=1024, n_mels=80, fmin=20.0, fmax=11_025, htk=True, norm=None)
    decibels = 20 * np.log10(np.maximum(spectrum @ bank.T, 1e-5)) - 20
    expected = np.clip((decibels + 100) / 100, 0, 1).T
    assert DIFFWAVE(torch.from_numpy(wave)).numpy() == pytest.approx(expected, abs=1e-4)


def test_a_standard_mel_is_the_standardised_natural_logarithm() -> None:
    mel, wave = Mel(BARD_MEL), noise(48_000)
    logarithm = mel.linear(wave).clamp(min=FLOOR).log()
    mel.fit(logarithm.sum(1), logarithm.square().sum(1), logarithm.shape[1])
    mel.deviation.copy_(logarithm.std(1, correction=0))  # fit bounds it from below, see the next test
    out = mel(wave)
    assert out.mean(1) == pytest.approx(np.zeros(128), abs=1e-3)
    assert out.std(1, correction=0) == pytest.approx(np.ones(128), abs=1e-3)


def test_statistics_are_means_and_deviations_and_still_bands_are_not_blown_up() -> None:
    mel = Mel(MelConfig(48_000, 1024, 480, 16, 20.0, 16_000.0, "standard"))
    values = 2 * torch.randn(16, 5_000, generator=torch.Generator().manual_seed(1)) - 3
    values[3] = math.log(FLOOR)
    mel.fit(values.sum(1), values.square().sum(1), values.shape[1])
    assert mel.mean.numpy() == pytest.approx(values.mean(1).numpy(), abs=1e-3)
    assert mel.deviation[0].item() == pytest.approx(values[0].std().item(), rel=1e-2)
    assert mel.deviation[3].item() == pytest.approx(0.5)


@BOTH
def test_denormalise_undoes_normalise_above_the_floor(mel: Mel) -> None:
    floor = 10 ** (-80 / 20) if mel is DIFFWAVE else FLOOR
    linear = floor * torch.logspace(0.01, 3.9, 40)[None].expand(mel.config.bands, -1)
    assert torch.allclose(mel.denormalise(mel.normalise(linear)), linear, rtol=1e-3)
    assert torch.allclose(mel.denormalise(mel.normalise(torch.zeros(mel.config.bands, 1))), torch.tensor(floor))


@BOTH
def test_normalise_undoes_denormalise(mel: Mel) -> None:
    values = torch.linspace(0.01, 0.99, 50)[None].expand(mel.config.bands, -1)
    assert torch.allclose(mel.normalise(mel.denormalise(values)), values, atol=1e-4)


@BOTH
@given(value=st.floats(-1e6, 1e6, width=32))
def test_no_bounded_mel_becomes_infinite(mel: Mel, value: float) -> None:
    assert mel.denormalise(torch.full((mel.config.bands, 2), value)).isfinite().all()


def test_silence_is_finite() -> None:
    for mel in (BARD, DIFFWAVE):
        assert mel(torch.zeros(48_000)).isfinite().all()
    assert DIFFWAVE(torch.zeros(22_050)).max() == 0
    assert DIFFWAVE_FLOOR < 10 ** (-80 / 20)  # so the clamp to 0 decides, as in DiffWave


def test_a_batch_is_its_rows() -> None:
    waves = torch.stack([noise(9_600, 1), noise(9_600, 2)])
    assert torch.allclose(BARD(waves)[1], BARD(waves[1]), atol=1e-5)


def test_only_the_statistics_are_saved() -> None:
    assert set(BARD.state_dict()) == {"mean", "deviation"}
