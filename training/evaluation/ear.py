"""The card's ear: what is heard in a sound, as numbers in which similar music is near."""

from collections.abc import Iterable
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from generator.torchaudio_shim import torchaudio
from training.evaluation.excerpts import Sound
from training.evaluation.musicnn import BANDS, FEATURES, HOP, PATCH_FRAMES, LogMel, load_musicnn
from training.evaluation.musicnn import SAMPLE_RATE as EAR_RATE
from training.manifest import SAMPLE_RATE

SHORTEST: Final = PATCH_FRAMES * HOP * SAMPLE_RATE // EAR_RATE  #: samples; a shorter sound is followed by silence


class Ear:
    """Hears with the layer of musicnn before its tags, averaged over a sound's patches of three seconds.

    Raises:
        EvaluationError: musicnn is not installed as it should be.
    """

    def __init__(self) -> None:
        self._resample = torchaudio.transforms.Resample(SAMPLE_RATE, EAR_RATE)
        self._mel = LogMel()
        self._network = load_musicnn()

    def listen(self, sounds: Iterable[Sound]) -> NDArray[np.float32]:
        """Embed sounds.

        Args:
            sounds: each float32 [samples], mono at 48 kHz, of any length. What is not finite is heard as silence, and
                what is beyond full scale as clipped, as it would be played.

        Returns:
            [sounds, 200], always finite.
        """
        heard = [self._hear(sound) for sound in sounds]
        return np.array(heard, np.float32).reshape(len(heard), FEATURES)

    def _hear(self, sound: Sound) -> NDArray[np.float32]:
        playable = np.clip(np.where(np.isfinite(sound), sound, 0), -1, 1).astype(np.float32)
        padded = np.pad(playable, (0, max(0, SHORTEST - len(playable))))
        with torch.inference_mode():
            mel = self._mel(self._resample(torch.from_numpy(padded)))
            whole = len(mel) // PATCH_FRAMES
            patches = mel[: whole * PATCH_FRAMES].reshape(whole, PATCH_FRAMES, BANDS)
            features: NDArray[np.float32] = self._network(patches).penultimate.mean(0).numpy()
        return features
