from dataclasses import replace

import pytest
import torch
from torch import Tensor

from generator.amplitude import shipped_network
from generator.config import BARD_MEL, DIFFWAVE_MEL, MelConfig
from generator.mel import Mel
from generator.vocoder import GriffinLim, PaperInversion

BARD = GriffinLim(Mel(BARD_MEL))
LEARNT = GriffinLim(Mel(BARD_MEL), shipped_network(BARD_MEL))
DIFFWAVE = GriffinLim(Mel(DIFFWAVE_MEL))
DIFFWAVE_STANDARD = GriffinLim(Mel(replace(DIFFWAVE_MEL, scaling="standard")))
ALL = pytest.mark.parametrize(
    "vocoder", [BARD, LEARNT, DIFFWAVE, DIFFWAVE_STANDARD], ids=["bank", "network", "diffwave", "fixed"]
)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def tones(config: MelConfig, seconds: float = 1.0) -> Tensor:
    """A chord with overtones that swells, and a little noise: harmonic, but not still."""
    time = torch.arange(int(seconds * config.sample_rate) // config.hop * config.hop) / config.sample_rate
    wave = 0.002 * torch.randn(len(time), generator=generator())
    for pitch in (220.0, 277.2, 329.6):
        for overtone in range(1, 8):
            wave += 0.05 / overtone * torch.sin(2 * torch.pi * pitch * overtone * time + pitch)
    return wave * (0.6 + 0.4 * torch.sin(2 * torch.pi * 2 * time))


def spectrum(vocoder: GriffinLim, wave: Tensor) -> Tensor:
    config = vocoder.mel.config
    return torch.stft(wave, config.n_fft, config.hop, window=vocoder.window, return_complex=True).abs()


@ALL
def test_amplitudes_are_not_negative_and_have_the_mel_that_was_asked_for(vocoder: GriffinLim) -> None:
    mel = vocoder.mel(tones(vocoder.mel.config))
    amplitudes = vocoder.amplitudes(mel)
    assert amplitudes.min() >= 0
    assert amplitudes.isfinite().all()
    again = vocoder.mel.normalise(vocoder.filters @ amplitudes.T / vocoder.norm)
    difference = (again - mel).abs()
    decibel = 0.01 if vocoder is DIFFWAVE else 0.115
    assert difference.median() < 0.5 * decibel
    assert difference.mean() < 2 * decibel


@pytest.mark.parametrize("vocoder", [BARD, LEARNT], ids=["bank", "network"])
def test_noise_comes_back_without_a_comb(vocoder: GriffinLim) -> None:
    """Griffin-Lim that makes every bin as strong as expected leaves what lies between the bins 1.3 dB weaker."""
    noise = 0.05 * torch.randn(5 * BARD_MEL.sample_rate, generator=generator(4))
    made = vocoder(vocoder.mel(noise), generator(5))
    twice = 2 * BARD_MEL.n_fft  # every other bin of it lies between two of the vocoder's
    spectra = torch.stft(made, twice, twice // 2, window=torch.hann_window(twice), return_complex=True)
    treble = 20 * spectra.abs().log10().mean(1)[400:1000]  # from 4.7 to 11.7 kHz
    assert abs((treble[0::2] - treble[1::2]).mean().item()) < 0.9


@ALL
@pytest.mark.parametrize("level", [0.03, 0.3])
def test_sound_comes_back_as_loud_as_it_was(vocoder: GriffinLim, level: float) -> None:
    wave = level * tones(vocoder.mel.config)
    out = vocoder(vocoder.mel(wave), generator())
    assert out.shape == wave.shape
    assert (out.std() / wave.std()).item() == pytest.approx(1, abs=0.15)


@ALL
def test_its_spectrum_converges_to_that_of_the_sound(vocoder: GriffinLim) -> None:
    """Spectral convergence as Sturmel & Daudet 2011 define it; librosa's pseudo-inverse has about 0.58 on music."""
    wave = tones(vocoder.mel.config)
    true = spectrum(vocoder, wave)
    out = spectrum(vocoder, vocoder(vocoder.mel(wave), generator()))
    assert ((out - true).norm() / true.norm()).item() < 0.45


def test_more_iterations_fit_the_amplitudes_better() -> None:
    mel = BARD.mel(tones(BARD_MEL))
    wanted = BARD.amplitudes(torch.cat([mel, mel[:, -1:]], dim=1)).T
    errors = []
    for iterations in (0, 4, 24):
        out = spectrum(BARD, GriffinLim(BARD.mel, iterations=iterations)(mel, generator()))
        errors.append(((out - wanted).norm() / wanted.norm()).item())
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.5 * errors[0]


def test_what_was_heard_is_kept_to_the_bit_and_goes_on_in_phase() -> None:
    time = torch.arange(96 * 480) / 48_000
    wave = 0.3 * torch.sin(2 * torch.pi * 440 * time)
    mel, cut = BARD.mel(wave), 48 * 480

    def after(heard: Tensor | None, seed: int) -> float:
        out = BARD(mel, generator(seed), heard)
        if heard is not None:
            assert torch.equal(out[:cut], wave[:cut])
        stretch = slice(cut, cut + 2400)  # 50 ms
        return torch.corrcoef(torch.stack([out[stretch], wave[stretch]]))[0, 1].item()

    assert min(after(wave[:cut], seed) for seed in range(3)) > 0.9
    assert min(after(None, seed) for seed in range(3)) < 0.5  # by itself any phase is as good


@pytest.mark.parametrize("samples", [1, 480, 1024, 1503, 1504, 1984, 20_000, 48_000])
def test_any_length_of_what_was_heard_will_do(samples: int) -> None:
    wave = tones(BARD_MEL)
    out = BARD(BARD.mel(wave), generator(), wave[:samples])
    assert torch.equal(out[:samples], wave[:samples])
    assert out.isfinite().all()


def test_no_click_where_the_heard_ends() -> None:
    wave, cut = tones(BARD_MEL), 48 * 480
    out = BARD(BARD.mel(wave), generator(), wave[:cut])
    steps = out.diff().abs()
    assert steps[cut - 2 : cut + 2].max() < 1.5 * wave.diff().abs().max()


def test_the_same_seed_is_the_same_sound_and_another_is_another() -> None:
    mel = BARD.mel(tones(BARD_MEL, 0.5))
    assert torch.equal(BARD(mel, generator(1)), BARD(mel, generator(1)))
    assert not torch.equal(BARD(mel, generator(1)), BARD(mel, generator(2)))


@ALL
@pytest.mark.parametrize("value", [-1e3, 0.0, 5.0, 1e3])
def test_no_bounded_mel_makes_a_sound_that_is_not_finite(vocoder: GriffinLim, value: float) -> None:
    mel = torch.full((vocoder.mel.config.bands, 16), value)
    assert vocoder(mel, generator()).isfinite().all()


@ALL
def test_silence_stays_silent(vocoder: GriffinLim) -> None:
    mel = vocoder.mel(torch.zeros(32 * vocoder.mel.config.hop))
    assert vocoder(mel, generator()).abs().max() < 10 ** (-50 / 20)


def test_the_papers_inversion_is_as_loud_as_the_sound_and_follows_its_seed() -> None:
    paper = PaperInversion(Mel(DIFFWAVE_MEL), iterations=4)
    wave = 0.3 * tones(DIFFWAVE_MEL, 0.2)
    mel = paper.mel(wave)
    out = paper(mel, generator(1))
    assert out.shape == wave.shape
    assert (out.std() / wave.std()).item() == pytest.approx(1, abs=0.2)
    assert torch.equal(out, paper(mel, generator(1)))
    assert not torch.equal(out, paper(mel, generator(2)))
    with pytest.raises(ValueError, match="can't continue"):
        paper(mel, generator(), wave)


def test_noise_does_not_pulse_at_the_rate_of_the_frames() -> None:
    """Phases that agree in the middle of each frame turn noise into a buzz of 100 Hz."""
    noise = 0.1 * torch.randn(5 * 48_000, generator=generator(3))
    made = BARD(BARD.mel(noise), generator())
    sharp = made[9_600:-9_600].diff(n=2).square()
    by_place = sharp[: len(sharp) // 480 * 480].reshape(-1, 20, 24).mean((0, 2))  # within a hop, in pieces of 0.5 ms
    assert by_place.max() / by_place.min() < 1.25
