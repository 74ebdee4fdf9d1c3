import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from generator.amplitude import shipped_network
from generator.config import BARD_MEL
from generator.framing import Framing
from generator.mel import Mel
from generator.oscillators import Oscillators
from generator.plan import BASS, CHROMA, FEATURES
from generator.vocoder import GriffinLim

BANK = Oscillators(BARD_MEL)
VOCODER = GriffinLim(Mel(BARD_MEL), shipped_network(BARD_MEL))
FRAMES = 200
FRAMING = Framing(FRAMES, BARD_MEL.hop, torch.hann_window(BARD_MEL.n_fft))
NOTHING_ELSE = 0.1  #: of a plan's values where nothing is meant to sound


def plan_of(*classes: int, frames: int = FRAMES) -> Tensor:
    plan = torch.full((FEATURES, frames), NOTHING_ELSE)
    for part in (CHROMA, BASS):
        plan[part][list(classes)] = 1.0
    return plan


def sines(*frequencies: float, samples: int = FRAMING.samples) -> Tensor:
    time = torch.arange(samples, dtype=torch.float64) / BARD_MEL.sample_rate
    waves = [0.2 * torch.sin(2 * torch.pi * frequency * time + number) for number, frequency in enumerate(frequencies)]
    return torch.stack(waves).sum(0).float()


def played(amplitude: Tensor, plan: Tensor, begin: int = 0) -> Tensor:
    """The sound of the oscillators alone."""
    spectra = torch.zeros(amplitude.shape, dtype=torch.complex64)
    spectra[:, : BANK.bins] = BANK(amplitude, plan, begin)
    return FRAMING.wave(spectra)


def strongest(wave: Tensor, below: float = 520.0) -> float:
    """The frequency of the strongest partial, Hz, to a hundredth of a semitone."""
    middle = wave[len(wave) // 8 : -len(wave) // 8]
    spectrum = torch.fft.rfft(middle * torch.hann_window(len(middle)), 2**21).abs()
    hertz = torch.fft.rfftfreq(2**21, 1 / BARD_MEL.sample_rate)
    return float(hertz[torch.where(hertz < below, spectrum, 0.0).argmax()])


@pytest.mark.parametrize("midi", range(31, 70, 3))
@pytest.mark.parametrize("cents", [-40, 0, 40])
def test_a_partial_that_is_a_little_off_sounds_at_the_pitch_that_the_plan_names(midi: int, cents: int) -> None:
    meant = 440 * 2 ** ((midi - 69) / 12)
    amplitude = FRAMING.spectra(sines(meant * 2 ** (cents / 1200))).abs()
    found = strongest(played(amplitude, plan_of(midi % 12)))
    assert abs(1200 * np.log2(found / meant)) < 3


def test_of_two_neighbours_that_no_spectrum_tells_apart_the_one_in_the_plan_sounds() -> None:
    amplitude = FRAMING.spectra(sines(80.1)).abs()  # between D sharp and E
    for pitch_class, meant in ((3, 77.78), (4, 82.41)):
        assert strongest(played(amplitude, plan_of(pitch_class))) == pytest.approx(meant, abs=0.2)


def test_the_bass_is_told_by_the_bass_and_what_lies_above_by_the_chroma() -> None:
    plan = plan_of(frames=FRAMES)
    plan[BASS][9], plan[CHROMA][1] = 1.0, 1.0  # A, and C sharp
    amplitude = FRAMING.spectra(sines(111.0, 274.0)).abs()
    wave = played(amplitude, plan)
    assert strongest(wave, below=180) == pytest.approx(110.0, abs=0.3)
    assert strongest(wave - FRAMING.wave(FRAMING.spectra(wave) * (torch.arange(1025) < 8))) == pytest.approx(
        277.2, abs=0.6
    )


def test_together_they_are_as_strong_as_the_amplitudes_and_come_and_go_with_them() -> None:
    swell = torch.sin(torch.linspace(0, 3 * torch.pi, FRAMING.samples)).abs()
    amplitude = FRAMING.spectra(sines(110.0, 277.18, 329.63) * swell).abs()
    made = BANK(amplitude, plan_of(9, 1, 4), 0).abs()
    wanted = amplitude[:, : BANK.bins]
    assert float((made - wanted).norm() / wanted.norm()) < 0.25
    assert float(torch.corrcoef(torch.stack([made.sum(1), wanted.sum(1)]))[0, 1]) > 0.99


def test_pitches_that_overlap_are_as_loud_together_as_what_they_stand_for() -> None:
    """Neighbours that no spectrum tells apart add up by their powers: by amplitudes they were 5 dB too soft."""
    noise = FRAMING.spectra(torch.randn(FRAMING.samples, generator=torch.Generator().manual_seed(3)))
    low = torch.arange(noise.shape[1])
    sound = FRAMING.wave(noise * ((low > 2) & (low < BANK.bins - 3)))
    plan = plan_of(9, 4)
    for part in (BASS, CHROMA):
        plan[part][[8, 10, 3, 5]] = 0.45  # as a composer blurs them
    middle = slice(4_000, -4_000)
    made = played(FRAMING.spectra(sound).abs(), plan)[middle]
    assert 20 * torch.log10(made.std() / sound[middle].std()).item() == pytest.approx(0, abs=1)


@given(begin=st.integers(0, 2**54), later=st.integers(1, 100))
def test_whoever_begins_later_agrees_with_who_began_before(begin: int, later: int) -> None:
    random = torch.Generator().manual_seed(begin % 1000)
    amplitude, plan = torch.rand(120, 1025, generator=random), torch.rand(FEATURES, 120, generator=random)
    whole, rest = BANK(amplitude, plan, begin), BANK(amplitude[later:], plan[:, later:], begin + later)
    assert torch.allclose(whole[later:], rest, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("level", [0.0, 1e-30, 1e6])
@pytest.mark.parametrize("value", [-1.0, 0.0, 1.0, 5.0])
def test_nothing_that_could_be_given_is_infinite(level: float, value: float) -> None:
    spectra = BANK(torch.full((8, 1025), level), torch.full((FEATURES, 8), value), 3)
    assert torch.view_as_real(spectra).isfinite().all()
    assert level > 1e-6 or spectra.abs().max() < 1e-3


def test_a_mel_is_in_tune_with_its_plan_and_not_without() -> None:
    detuned = sines(113.0, 218.0, 335.0, samples=256 * 480)  # 40 to 47 cents off A, A and E
    mel = VOCODER.mel(detuned[None])[0]
    wander = torch.Generator().manual_seed(0)
    mel = mel + 0.15 * torch.randn(mel.shape, generator=wander)  # as a network leaves it
    plan = plan_of(9, 4, frames=32)
    tuned = VOCODER(mel, torch.Generator().manual_seed(1), None, plan)
    assert strongest(tuned, below=160) == pytest.approx(110.0, abs=0.3)
    free = VOCODER(mel, torch.Generator().manual_seed(1))
    assert strongest(free, below=160) != pytest.approx(110.0, abs=0.3)


def test_a_sound_goes_on_in_phase_with_what_was_heard() -> None:
    mel = VOCODER.mel(sines(110.0, 220.0, 329.63, samples=256 * 480)[None])[0]
    plan, begin = plan_of(9, 4, frames=32), 12_345 * 2
    whole = VOCODER(mel, torch.Generator().manual_seed(1), None, plan, begin)
    later = VOCODER(mel[:, 64:], torch.Generator().manual_seed(2), None, plan[:, 8:], begin + 64)
    both = slice(32 * 480, -16 * 480)
    assert float(torch.corrcoef(torch.stack([whole[64 * 480 :][both], later[both]]))[0, 1]) > 0.99
