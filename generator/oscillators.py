"""The lowest partials, in tune: a bank of oscillators, one a semitone, on which the plan's pitches are played.

Down there the bands of a Mel and the bins of a spectrum are wider than a semitone. Neither says which pitch a partial
has, and phases that guess at it make a bass that wavers. The plan knows. So the amplitudes are shared out among the
pitches that it names, by non-negative matrix factorisation with the spectra of the pitches given, and each pitch
sounds on an oscillator of its own. All of them run on for ever, as an organ's tone wheels do: a pure function of time,
which a window needs no memory to go on from.
"""

import math
from typing import Final

import numpy as np
import torch
from torch import Tensor, nn

from generator.config import MelConfig
from generator.plan import BASS, CHROMA

HIGHEST_HZ: Final = 490  #: above, bins are narrower than semitones
LOWEST: Final = 28  #: MIDI number of the lowest pitch, E of 41 Hz; the bass of a plan begins there
BASS_HZ: Final = (180, 250)  #: below the first a plan's bass is what counts, above the second its chroma
PROMINENCE: Final = 6  #: power of a plan's value: neighbours can't be told apart but by it
FLOOR: Final = 1e-12  #: of a pitch's power to begin with; what is zero stays zero
LEAST: Final = 1e-18  #: power to divide by
UPDATES: Final = 8
GOLDEN: Final = (math.sqrt(5) - 1) / 2  #: turns from one oscillator's phase to the next's: octaves don't peak together


class Oscillators(nn.Module):
    """Makes the lower end of a spectrum of the pitches that a plan names."""

    above: Tensor
    below: Tensor
    power: Tensor
    hertz: Tensor

    def __init__(self, config: MelConfig) -> None:
        """Tune them, to A = 440 Hz in equal temperament.

        Args:
            config: of the Mel; its window and hop are those of the spectra.
        """
        super().__init__()
        self.bins = round(HIGHEST_HZ * config.n_fft / config.sample_rate)  #: how many are made here
        # Pitches that are too high for these bins, but not for the skirts of their window.
        highest = round(69 + 12 * math.log2((self.bins + 2) * config.sample_rate / config.n_fft / 440))
        self.pitches = np.arange(LOWEST, highest + 1)
        hertz = 440 * 2.0 ** ((self.pitches - 69) / 12)
        #: Turns in a hop, in units of 2⁻⁶⁴: whole numbers are exact however long a stream has run.
        self.turns = np.array(
            [round(each * config.hop / config.sample_rate * 2**64) % 2**64 for each in hertz], np.uint64
        )
        time = np.arange(config.n_fft) / config.sample_rate
        window = torch.hann_window(config.n_fft, dtype=torch.float64)
        turning = torch.polar(window.expand(len(hertz), -1), torch.from_numpy(2 * np.pi * hertz[:, None] * time))
        above, below = (torch.fft.fft(wave)[:, : self.bins].to(torch.complex64) for wave in (turning, turning.conj()))
        self.register_buffer("above", above, persistent=False)  # [pitches, bins]
        self.register_buffer("below", below, persistent=False)  # of the negative frequencies
        self.register_buffer("power", above.abs().square(), persistent=False)
        self.register_buffer("hertz", torch.from_numpy(hertz).float(), persistent=False)

    def forward(self, amplitude: Tensor, plan: Tensor, begin: int) -> Tensor:
        """Spectra of the oscillators, as strong as the amplitudes are.

        Args:
            amplitude: [frames, bins], linear; only the first ``self.bins`` count.
            plan: [FEATURES, frames], drawn out to the frames.
            begin: Mel frame of the stream of the first; not negative.

        Returns:
            [frames, ``self.bins``], complex, counted as an FFT does from a frame's first sample.
        """
        strength = self._strengths(amplitude[:, : self.bins], self._prominence(plan))
        places = np.uint64(begin) + np.arange(len(amplitude), dtype=np.uint64)
        turned = (places[:, None] * self.turns) / 2.0**64 + GOLDEN * np.arange(len(self.turns))  # whole turns fall away
        played = torch.polar(strength, torch.from_numpy(2 * np.pi * turned).to(strength))
        spectra: Tensor = played @ self.above + played.conj() @ self.below
        return spectra

    def _prominence(self, plan: Tensor) -> Tensor:
        """How far each pitch stands out in a plan: [FEATURES, frames] → [frames, pitches], 0 to 1."""
        low, high = BASS_HZ
        share = ((self.hertz - low) / (high - low)).clamp(0, 1)[:, None]
        classes = torch.from_numpy(self.pitches % 12).to(plan.device)
        return torch.lerp(plan[BASS][classes], plan[CHROMA][classes], share).clamp(0, 1).T

    def _strengths(self, amplitude: Tensor, prominence: Tensor) -> Tensor:
        """How strongly each pitch sounds, [frames, pitches], so that together they have these amplitudes, or nearly.

        Multiplicative updates for the divergence (Lee & Seung 2001, equation 5). Where many mixtures would do, they
        end near where they began: at what the plan says. Of powers, since those of pitches that overlap add up;
        amplitudes don't.
        """
        wanted = amplitude.square()
        share = prominence**PROMINENCE + FLOOR
        share = share * (wanted.sum(1, keepdim=True) / (share @ self.power).sum(1, keepdim=True))
        for _ in range(UPDATES):
            lack = wanted / (share @ self.power).clamp(min=LEAST)
            share = share * (lack @ self.power.T) / self.power.sum(1)
        return share.sqrt()
