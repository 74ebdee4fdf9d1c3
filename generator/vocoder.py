"""Log-Mel → waveform: amplitudes, first phases, oscillators, Griffin-Lim; and the paper's inversion."""

from typing import Final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from generator.amplitude import AmplitudeNet
from generator.device import bf16_is_native
from generator.framing import Framing
from generator.mel import FLOOR, Mel
from generator.oscillators import Oscillators
from generator.phases import first_phases

UPDATES: Final = 8  #: multiplicative updates of the filter bank's amplitudes
ITERATIONS: Final = 8  #: of Griffin-Lim
MOMENTUM: Final = 0.99
PITCHED_HZ: Final = 4_000  #: above, first phases are random: what is mostly noise would pulse at the frames' rate
#: How far each iteration brings amplitudes above ``PITCHED_HZ`` to what is expected of them. Noise has its expected
#: amplitude on average only; made to have it in each bin, it has it nowhere else: a comb, with a tooth a bin.
NOISE_TRUST: Final = 0.25


class GriffinLim(nn.Module):
    """Inverts a normalised log-Mel; can continue sound that was already heard."""

    window: Tensor
    filters: Tensor

    def __init__(self, mel: Mel, network: AmplitudeNet | None = None, iterations: int = ITERATIONS) -> None:
        """Set up.

        Args:
            mel: what is inverted, with the statistics of the model that makes it.
            network: finds the amplitudes, if there is one for such a Mel; else the filter bank is inverted.
            iterations: of Griffin-Lim; with none, the first phases are the last.
        """
        super().__init__()
        self.mel, self.network, self.iterations = mel, network, iterations
        self.context = 0 if network is None else network.config.context
        self.norm = _window_norm(mel)
        self.oscillators = Oscillators(mel.config)
        self.pitched = round(PITCHED_HZ * mel.config.n_fft / mel.config.sample_rate)  #: bins below ``PITCHED_HZ``
        self.register_buffer("window", torch.hann_window(mel.config.n_fft), persistent=False)
        self.register_buffer("filters", mel.filters.T.contiguous(), persistent=False)  # [bands, bins]

    @torch.no_grad()
    def amplitudes(self, mel: Tensor) -> Tensor:
        """Linear STFT amplitudes whose Mel is ``mel``, or nearly.

        Args:
            mel: [bands, frames], normalised.

        Returns:
            [frames, bins]
        """
        linear = self.mel.denormalise(mel).T
        if self.network is None:
            return self._inverted(linear)
        amplitude: Tensor = self.network(linear.clamp(min=FLOOR).log()[None], bf16_is_native(mel.device))[0]
        return amplitude

    def _inverted(self, target: Tensor) -> Tensor:
        """The filter bank inverted: [frames, bands] → [frames, bins].

        Multiplicative updates for non-negative least squares (Lee & Seung 2001, equation 4), begun from the bank's own
        spread of each band: never negative, and exact where a band holds one bin.
        """
        target = target @ self.filters
        guess = target / self.filters.sum(0).clamp(min=1e-6)
        for _ in range(UPDATES):
            guess = guess * target / ((guess @ self.filters.T) @ self.filters).clamp(min=1e-8)
        return guess * self.norm

    @torch.no_grad()
    def forward(
        self,
        mel: Tensor,
        random: torch.Generator,
        heard: Tensor | None = None,
        plan: Tensor | None = None,
        place: int = 0,
    ) -> Tensor:
        """Find a waveform for a Mel by fast Griffin-Lim (Perraudin et al. 2013, algorithm 2).

        Args:
            mel: [bands, frames], normalised.
            random: gives the phases that the first partials begin with, and those of the treble; a generator of the
                CPU.
            heard: [samples], the beginning of the waveform where it is settled already. Each iteration puts it back, so
                the phases after it grow out of it and the splice is a continuation.
            plan: [FEATURES, columns], what the Mel was made by. With it the lowest partials are in tune.
            place: Mel frame of the stream at which this Mel begins: where the oscillators are by then.

        Returns:
            [frames · hop], full scale ±1. The last window length is less sure than the rest, for want of what follows.
        """
        config = self.mel.config
        half, length = config.n_fft // 2, mel.shape[1] * config.hop
        heard = mel.new_zeros(0) if heard is None else heard
        first = self._first_frame(len(heard))
        # One frame more than the Mel has, so that the last hop is covered as well.
        begin = max(0, first - self.context)  # frames of the past help to find the amplitudes of those after
        amplitude = self.amplitudes(torch.cat([mel, mel[:, -1:]], dim=1)[:, begin:])[first - begin :].contiguous()
        framing = Framing(len(amplitude), config.hop, self.window)
        pitched, noisy = slice(self.pitched), slice(self.pitched, None)
        before = self._phases_before(heard, first, random)
        phases = torch.empty_like(amplitude)
        phases[:, pitched] = first_phases(amplitude[:, pitched], before[pitched], config.hop, config.n_fft)
        treble = phases[:, noisy]
        treble.copy_(2 * torch.pi * torch.rand(treble.shape, generator=random))
        start = first * config.hop - half  # of the frames' first sample, in the waveform

        def settled(wave: Tensor) -> Tensor:
            wave[max(0, -start) : len(heard) - start] = heard[max(0, start) :]
            if start < 0:  # mirrored at its ends, as a recording is before its Mel is measured
                wave[:half] = wave[half + 1 : 2 * half + 1].flip(0)
            wave[-half:] = wave[-2 * half - 1 : -half - 1].flip(0)
            return wave

        spectra = torch.polar(amplitude, phases)
        low = spectra[:, :0]
        if plan is not None:
            drawn_out = F.pad(F.interpolate(plan[None], mel.shape[1], mode="linear"), (0, 1), mode="replicate")[0]
            low = self.oscillators(amplitude, drawn_out[:, first:], place + first)
        spectra[:, : low.shape[1]] = low
        pairs = amplitude[..., None].expand(-1, -1, 2).contiguous()  # real numbers by real numbers is what is fast
        pairs[:, noisy] *= NOISE_TRUST
        previous: Tensor | None = None
        for _ in range(self.iterations):
            wave = settled(framing.wave(spectra))
            # Momentum of the spectra, which are linear in the wave: there it costs a quarter.
            ahead = wave if previous is None else torch.lerp(previous, wave, 1 + MOMENTUM)
            previous = wave
            spectra = framing.spectra(ahead)
            found = torch.view_as_real(spectra)
            as_found = found[:, noisy].clone()
            spectra.sgn_()
            found.mul_(pairs)[:, noisy].add_(as_found, alpha=1 - NOISE_TRUST)
            spectra[:, : low.shape[1]] = low
        return torch.cat([heard, framing.wave(spectra)[len(heard) - start : length - start]])

    def _first_frame(self, heard: int) -> int:
        """The first frame that reaches beyond ``heard`` samples; those before it say nothing of what comes."""
        config = self.mel.config
        first = (heard - config.n_fft // 2) // config.hop + 1
        # The frame before it gives the phases that go on, so it must not begin before the sound does.
        return first if (first - 1) * config.hop >= config.n_fft // 2 else 0

    def _phases_before(self, heard: Tensor, first: int, random: torch.Generator) -> Tensor:
        """Phases of the frame before ``first``, [bins]: as heard, else random."""
        config = self.mel.config
        if first == 0:
            # Drawn on the CPU whatever the device, as the sampler's noise is.
            drawn = torch.rand(config.n_fft // 2 + 1, generator=random)
            return (2 * torch.pi * drawn).to(heard.device)
        begin = (first - 1) * config.hop - config.n_fft // 2
        spectrum: Tensor = torch.fft.rfft(heard[begin : begin + config.n_fft] * self.window)
        return spectrum.angle()


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
