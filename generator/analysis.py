"""Plans as tensors: measured from a recording, and handed to a network."""

from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from generator.config import ModelConfig
from generator.plan import FEATURES, ONSET_GAIN, ONSET_PARTS

CHROMA_FFT: Final = 8192  #: at 48 kHz: bins of 5.9 Hz, a semitone at 100 Hz


def _pitch_classes(sample_rate: int, low: float, high: float) -> Tensor:
    """Weights from STFT bins to pitch classes, [12, bins]: a raised cosine a semitone wide on either side."""
    frequencies = torch.fft.rfftfreq(CHROMA_FFT, 1 / sample_rate)
    semitones = 12 * torch.log2(frequencies.clamp(min=1.0) / 440.0) + 9  # 0 is C
    distance = (semitones[None, :] - torch.arange(12)[:, None] + 6) % 12 - 6
    near = (distance.abs() < 1) & (frequencies >= low) & (frequencies <= high)
    weights: Tensor = (0.5 + 0.5 * torch.cos(torch.pi * distance)) * near
    return weights


class PlanAnalysis(nn.Module):
    """Measures the plan of a recording."""

    chroma: Tensor
    bass: Tensor
    window: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.column = config.unet.patch[1]
        self.hop = config.mel.hop * self.column
        self.register_buffer("chroma", _pitch_classes(config.mel.sample_rate, 180.0, 2_500.0), persistent=False)
        self.register_buffer("bass", _pitch_classes(config.mel.sample_rate, 40.0, 250.0), persistent=False)
        self.register_buffer("window", torch.hann_window(CHROMA_FFT), persistent=False)

    def forward(self, wave: Tensor, mel: Tensor) -> Tensor:
        """The plan of a recording.

        Args:
            wave: [batch, samples] at the Mel's sample rate.
            mel: [batch, bands, frames], its normalised log-Mel; frames divide by the column's length.

        Returns:
            [batch, FEATURES, frames / column]
        """
        columns = mel.shape[-1] // self.column
        shifted = F.pad(wave, (0, self.hop))[:, self.hop // 2 :]  # a column's spectrum is taken at its middle
        spectrum = torch.stft(
            shifted, CHROMA_FFT, self.hop, window=self.window, center=True, pad_mode="constant", return_complex=True
        ).abs()[..., :columns]
        parts = [_chroma(self.chroma, spectrum), _chroma(self.bass, spectrum)]
        rise = F.pad(mel.diff(dim=-1), (1, 0)).clamp(min=0).mean(dim=1)
        parts.append(ONSET_GAIN * rise.reshape(len(rise), columns, ONSET_PARTS, -1).amax(-1).transpose(1, 2))
        by_column = mel.reshape(*mel.shape[:2], columns, self.column).mean(-1)
        half = mel.shape[1] // 2
        brightness = by_column[:, half:].mean(1) - by_column[:, :half].mean(1)
        parts.append(torch.stack([by_column.mean(1), brightness], dim=1))
        return torch.cat(parts, dim=1)


def _chroma(weights: Tensor, spectrum: Tensor) -> Tensor:
    chroma = weights @ spectrum
    # Below this level (about -80 dBFS) there is no pitch to speak of, only rounding.
    return chroma / chroma.amax(dim=1, keepdim=True).clamp(min=0.2)


def condition(plan: Tensor | None, batch: int, columns: int, given: Tensor | None = None) -> Tensor:
    """A plan as the network takes it: with a last row that is 1 where the plan counts, all zero where it doesn't.

    Args:
        plan: [batch, FEATURES, columns], or ``None`` for no plan at all.
        batch: rows wanted where there is no plan.
        columns: columns wanted where there is no plan.
        given: [batch], False where the plan is to be dropped.

    Returns:
        [batch, FEATURES + 1, columns]
    """
    if plan is None:
        return torch.zeros(batch, FEATURES + 1, columns)
    flagged = F.pad(plan, (0, 0, 0, 1), value=1.0)
    return flagged if given is None else flagged * given[:, None, None].to(plan.dtype)
