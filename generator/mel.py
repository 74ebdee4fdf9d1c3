"""Waveform → normalised log-Mel, and back to a linear Mel. The only place that computes a Mel."""

from typing import Final

import torch
from torch import Tensor, nn

from generator.config import MelConfig
from generator.torchaudio_shim import torchaudio

FLOOR: Final = 1e-4  #: of a Mel amplitude before the logarithm, for ``standard``
DIFFWAVE_FLOOR: Final = 1e-5


class Mel(nn.Module):
    """A Mel front end with its normalisation. The band statistics travel in checkpoints as buffers.

    With ``diffwave`` scaling this is DiffWave's preprocessing to the letter: normalised amplitude Mel, 20 log₁₀, minus
    20 dB, (dB + 100) / 100 clamped to [0, 1]. With ``standard`` it is (ln Mel − mean) / deviation, band by band.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, config: MelConfig) -> None:
        super().__init__()
        self.config = config
        diffwave = config.scaling == "diffwave"
        self.transform = torchaudio.transforms.MelSpectrogram(
            sample_rate=config.sample_rate,
            n_fft=config.n_fft,
            win_length=config.n_fft,
            hop_length=config.hop,
            f_min=config.f_min,
            f_max=config.f_max,
            n_mels=config.bands,
            power=1.0,
            normalized=diffwave,
            norm=None if diffwave else "slaney",
            mel_scale="htk" if diffwave else "slaney",
        )
        for buffer in ("spectrogram.window", "mel_scale.fb"):  # derived from the config, so not saved
            owner, _, name = buffer.rpartition(".")
            module = self.transform.get_submodule(owner)
            module.register_buffer(name, getattr(module, name), persistent=False)
        self.register_buffer("mean", torch.zeros(config.bands))
        self.register_buffer("deviation", torch.ones(config.bands))

    @property
    def fitted(self) -> bool:
        """Whether the band statistics are those of some music."""
        return bool(self.mean.any())

    @property
    def filters(self) -> Tensor:
        """The filter bank, [n_fft / 2 + 1, bands]."""
        bank: Tensor = self.transform.mel_scale.fb
        return bank

    def linear(self, wave: Tensor) -> Tensor:
        """The amplitude Mel, before any logarithm.

        Args:
            wave: [..., samples], full scale ±1, at ``config.sample_rate``.

        Returns:
            [..., bands, samples // hop]; frame k is centred on sample k · hop.
        """
        mel: Tensor = self.transform(wave)
        return mel[..., : wave.shape[-1] // self.config.hop]

    def forward(self, wave: Tensor) -> Tensor:
        """The normalised log-Mel of a waveform; shapes as for :meth:`linear`."""
        return self.normalise(self.linear(wave))

    def normalise(self, linear: Tensor) -> Tensor:
        """Amplitude Mel → normalised log-Mel, [..., bands, frames]."""
        if self.config.scaling == "diffwave":
            decibels = 20 * linear.clamp(min=DIFFWAVE_FLOOR).log10() - 20
            return ((decibels + 100) / 100).clamp(0, 1)
        return (linear.clamp(min=FLOOR).log() - self.mean[:, None]) / self.deviation[:, None]

    def denormalise(self, mel: Tensor) -> Tensor:
        """The inverse of :meth:`normalise`, up to its floor; never non-finite for a bounded Mel."""
        if self.config.scaling == "diffwave":
            return 10 ** ((mel.clamp(0, 1) * 100 - 100 + 20) / 20)
        return (mel * self.deviation[:, None] + self.mean[:, None]).clamp(max=12.0).exp()

    def fit(self, total: Tensor, squares: Tensor, count: int) -> None:
        """Take the band statistics from sums over a corpus of ln Mel.

        Args:
            total: [bands], sum over frames.
            squares: [bands], sum of squares over frames.
            count: how many frames.
        """
        mean = total / count
        self.mean.copy_(mean)
        # A band that hardly moves (above a codec's cut-off, say) must not be blown up into noise.
        self.deviation.copy_((squares / count - mean**2).clamp(min=0).sqrt().clamp(min=0.5))
