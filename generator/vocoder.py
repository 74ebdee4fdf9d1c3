"""Log-Mel → waveform: amplitudes by non-negative inversion of the filter bank, phases by Griffin-Lim."""

from typing import Final

import numpy as np
import torch
from torch import Tensor, nn

from generator.mel import Mel

UPDATES: Final = 8  #: multiplicative updates of the amplitudes
ITERATIONS: Final = 24  #: of Griffin-Lim
MOMENTUM: Final = 0.99
REACH: Final = 24  #: frames for which partials are expected to go on turning as they did in what was heard


class GriffinLim(nn.Module):
    """Inverts a normalised log-Mel; can continue sound that was already heard."""

    window: Tensor
    filters: Tensor

    def __init__(self, mel: Mel, iterations: int = ITERATIONS) -> None:
        super().__init__()
        self.mel, self.iterations = mel, iterations
        window = torch.hann_window(mel.config.n_fft)
        self.norm = _window_norm(mel)
        self.register_buffer("window", window, persistent=False)
        self.register_buffer("filters", mel.filters.T.contiguous(), persistent=False)  # [bands, bins]

    def amplitudes(self, mel: Tensor) -> Tensor:
        """Linear STFT amplitudes whose Mel is ``mel``.

        Multiplicative updates for non-negative least squares (Lee & Seung 2001, equation 4), begun from the bank's own
        spread of each band: never negative, and exact where a band holds one bin.

        Args:
            mel: [bands, frames], normalised.

        Returns:
            [bins, frames]
        """
        target = self.filters.T @ self.mel.denormalise(mel)
        guess = target / self.filters.sum(0, keepdim=True).T.clamp(min=1e-6)
        for _ in range(UPDATES):
            guess = guess * target / (self.filters.T @ (self.filters @ guess)).clamp(min=1e-8)
        return guess * self.norm

    @torch.no_grad()
    def forward(self, mel: Tensor, random: torch.Generator, heard: Tensor | None = None) -> Tensor:
        """Find a waveform for a Mel by fast Griffin-Lim (Perraudin et al. 2013, algorithm 2).

        Args:
            mel: [bands, frames], normalised.
            random: gives the initial phases; a generator of the CPU.
            heard: [samples], the beginning of the waveform where it is settled already. Each iteration puts it back, so
                the phases after it grow out of it and the splice is a continuation.

        Returns:
            [frames · hop], full scale ±1. The last window length is less sure than the rest, for want of what follows.
        """
        config = self.mel.config
        length = mel.shape[1] * config.hop
        # One frame more than the Mel has, so that the last hop is covered as well.
        amplitude = self.amplitudes(torch.cat([mel, mel[:, -1:]], dim=1))
        estimate = torch.polar(amplitude, self._first_phases(amplitude, random, heard))
        previous = torch.zeros_like(estimate)
        for _ in range(self.iterations):
            wave = self._settle(self._inverse(estimate, length), heard)
            projected = self._forward(wave)
            ahead = projected + MOMENTUM * (projected - previous)
            estimate = amplitude * ahead / ahead.abs().clamp(min=1e-8)
            previous = projected
        return self._settle(self._inverse(estimate, length), heard)

    def _first_phases(self, amplitude: Tensor, random: torch.Generator, heard: Tensor | None) -> Tensor:
        """Random, but where sound was heard its own, and after it turned on at the pace of its last frames."""
        # Drawn on the CPU whatever the device, as the sampler's noise is.
        phases = (torch.rand(amplitude.shape, generator=random) * (2 * torch.pi)).to(amplitude.device)
        config = self.mel.config
        last = 0 if heard is None else (len(heard) - config.n_fft // 2) // config.hop  # that no silence leaks into
        if heard is None or last < 1:
            return phases
        spectrum = self._forward(heard)[:, : last + 1]
        phases[:, : last + 1] = spectrum.angle()
        pace = (spectrum[:, last] * spectrum[:, last - 1].conj()).angle()
        after = phases[:, last + 1 : last + 1 + REACH]
        after[:] = phases[:, last, None] + pace[:, None] * torch.arange(1, after.shape[1] + 1, device=phases.device)
        return phases

    def _forward(self, wave: Tensor) -> Tensor:
        config = self.mel.config
        return torch.stft(wave, config.n_fft, config.hop, window=self.window, center=True, return_complex=True)

    def _inverse(self, spectrum: Tensor, length: int) -> Tensor:
        config = self.mel.config
        return torch.istft(spectrum, config.n_fft, config.hop, window=self.window, center=True, length=length)

    @staticmethod
    def _settle(wave: Tensor, heard: Tensor | None) -> Tensor:
        return wave if heard is None else torch.cat([heard, wave[len(heard) :]])


class PaperInversion(nn.Module):
    """The paper's inversion: pseudo-inverse of the filter bank, then librosa's Griffin-Lim.

    For the paper's own models, and too slow to play live: the first call waits many seconds while numba compiles.
    """

    def __init__(self, mel: Mel, iterations: int = 32) -> None:
        super().__init__()
        self.mel, self.iterations = mel, iterations
        self.norm = _window_norm(mel)

    @torch.no_grad()
    def forward(self, mel: Tensor, random: torch.Generator, heard: Tensor | None = None) -> Tensor:
        """Find a waveform for a Mel; arguments as for :class:`GriffinLim`, but it can't continue what was heard."""
        import librosa  # half a second, which nobody who plays the default model should wait

        if heard is not None:
            raise ValueError("the paper's inversion can't continue a sound")
        config = self.mel.config
        # One frame more than the Mel has, so that the last hop is covered as well.
        linear = self.norm * self.mel.denormalise(torch.cat([mel, mel[:, -1:]], dim=1)).cpu().numpy()
        # librosa's non-negative least squares takes minutes over a Mel that is no sound's, and these often are none.
        amplitude = np.maximum(0, np.linalg.pinv(self.mel.filters.T.cpu().numpy()) @ linear)
        wave = librosa.griffinlim(
            amplitude,
            n_iter=self.iterations,
            hop_length=config.hop,
            n_fft=config.n_fft,
            length=mel.shape[1] * config.hop,
            random_state=int(torch.randint(2**31, (1,), generator=random)),
        )
        return torch.from_numpy(wave).float()


def _window_norm(mel: Mel) -> float:
    """What DiffWave's Mel divides a spectrum by, and no other: the norm of the window."""
    return float(torch.hann_window(mel.config.n_fft).norm()) if mel.config.scaling == "diffwave" else 1.0
