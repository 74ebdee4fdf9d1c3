import pytest
import torch

from generator.framing import Framing

SHAPES = pytest.mark.parametrize(("n_fft", "hop"), [(2048, 480), (1024, 256), (1024, 480), (512, 512)])


def noise(samples: int) -> torch.Tensor:
    return torch.randn(samples, generator=torch.Generator().manual_seed(0))


@SHAPES
def test_spectra_are_those_of_torch(n_fft: int, hop: int) -> None:
    window = torch.hann_window(n_fft)
    framing = Framing(9, hop, window)
    wave = noise(framing.samples)
    wanted = torch.stft(wave, n_fft, hop, window=window, center=False, return_complex=True).T
    assert wanted.shape == (9, n_fft // 2 + 1)
    assert torch.allclose(framing.spectra(wave), wanted, atol=1e-4)


@SHAPES
def test_a_wave_comes_back_from_its_spectra(n_fft: int, hop: int) -> None:
    framing = Framing(9, hop, torch.hann_window(n_fft))
    wave = noise(framing.samples)
    inside = slice(n_fft // 8, -n_fft // 8) if hop < n_fft else slice(n_fft // 8, n_fft * 7 // 8)
    assert torch.allclose(framing.wave(framing.spectra(wave))[inside], wave[inside], atol=1e-4)


def test_spectra_that_no_sound_has_make_the_sound_that_torch_makes_of_them() -> None:
    window = torch.hann_window(2048)
    framing = Framing(40, 480, window)
    spectra = torch.polar(noise(40 * 1025).abs(), noise(40 * 1025 + 1)[1:]).reshape(40, 1025)
    wanted = torch.istft(spectra.T, 2048, 480, window=window)
    assert torch.allclose(framing.wave(spectra)[1024 : 1024 + len(wanted)], wanted, atol=1e-3)
