import pytest
import torch
from torch import Tensor

from generator.framing import Framing
from generator.phases import first_phases

N_FFT, HOP, FRAMES, BINS = 2048, 480, 60, 1025
FRAMING = Framing(FRAMES, HOP, torch.hann_window(N_FFT))


def sines(*frequencies: float) -> Tensor:
    time = torch.arange(FRAMING.samples, dtype=torch.float64) / 48_000
    waves = [torch.sin(2 * torch.pi * frequency * time + number) for number, frequency in enumerate(frequencies)]
    return (torch.stack(waves).sum(0) / len(waves)).float()


def misfit(amplitude: Tensor, phases: Tensor) -> float:
    """How much of the amplitudes is lost because the phases of neighbours don't fit."""
    made = FRAMING.spectra(FRAMING.wave(torch.polar(amplitude, phases))).abs()
    inner = slice(5, -5)
    return float((made - amplitude)[inner].norm() / amplitude[inner].norm())


@pytest.mark.parametrize("frequencies", [(440.0,), (57.3, 1234.5), (220.0, 277.2, 329.6, 8000.0)])
def test_steady_partials_fit_at_once(frequencies: tuple[float, ...]) -> None:
    amplitude = FRAMING.spectra(sines(*frequencies)).abs()
    random = torch.rand(BINS, generator=torch.Generator().manual_seed(0))
    drawn = 2 * torch.pi * torch.rand(amplitude.shape, generator=torch.Generator().manual_seed(0))
    found = misfit(amplitude, first_phases(amplitude, 2 * torch.pi * random, HOP, N_FFT))
    assert found < 0.1
    assert found < 0.3 * misfit(amplitude, drawn)


def test_a_glide_fits_too() -> None:
    time = torch.arange(FRAMING.samples) / 48_000
    amplitude = FRAMING.spectra(torch.sin(2 * torch.pi * (400 * time + 300 * time**2))).abs()
    assert misfit(amplitude, first_phases(amplitude, torch.zeros(BINS), HOP, N_FFT)) < 0.15


def test_phases_go_on_from_those_before() -> None:
    wave = sines(440.0, 1000.0)
    spectra = FRAMING.spectra(wave)
    amplitude = spectra.abs()
    phases = first_phases(amplitude[20:], spectra[19].angle(), HOP, N_FFT)
    loud = amplitude[20:] > 0.3 * amplitude.max()
    near = torch.cos(phases - spectra[20:].angle())
    assert near[:10][loud[:10]].min() > 0.9


def test_the_lower_bins_alone_are_as_among_all() -> None:
    amplitude = FRAMING.spectra(sines(220.0, 440.0, 1234.5)).abs()
    low = slice(0, 80)  # to 1.9 kHz: no peak stands at the border
    some = first_phases(amplitude[:, low], torch.zeros(80), HOP, N_FFT)
    loud = amplitude[:, low] > 0.01 * amplitude.max()
    assert torch.cos(some - first_phases(amplitude, torch.zeros(BINS), HOP, N_FFT)[:, low])[loud].min() > 0.999


@pytest.mark.parametrize("value", [0.0, 1e-30, 1.0, 1e6])
def test_amplitudes_without_a_peak_have_phases_all_the_same(value: float) -> None:
    phases = first_phases(torch.full((4, BINS), value), torch.zeros(BINS), HOP, N_FFT)
    assert phases.shape == (4, BINS)
    assert phases.isfinite().all()
