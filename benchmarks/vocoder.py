"""How near the vocoder comes to recordings that nobody learnt from, and how fast it is; librosa's inversion beside it.

For one window of each held-out track: its Mel, inverted, against the recording itself. Phases are never compared, since
a Mel has none. Spectral convergence is ‖|S| − |Ŝ|‖ / ‖|S|‖ over the Mel's own STFT (Sturmel & Daudet 2011); the
multi-resolution STFT distance is the loss of Yamamoto et al. 2020 (Parallel WaveGAN), equation 6.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

import librosa
import numpy as np
import torch
from torch import Tensor

from benchmarks.report import checkpoint, finish, note, parser
from generator.amplitude import load_network
from generator.config import MelConfig
from generator.mel import Mel
from generator.vocoder import GriffinLim, PaperInversion
from training.data import TARGET_RMS
from training.manifest import Manifest, Track, load_manifest

FRAMES: Final = 512  #: of a window: the default model's, 5.12 s
#: FFT, hop and window, twice as long as the paper's for 24 kHz.
RESOLUTIONS: Final = ((2048, 240, 1200), (4096, 480, 2400), (1024, 100, 480))

Inversion = Callable[[Tensor, torch.Generator], Tensor]


def spectral_convergence(wave: Tensor, made: Tensor, fft: int, hop: int, window: int) -> float:
    """0 where the amplitudes are the same, 1 for silence."""
    true, own = (_amplitudes(sound, fft, hop, window) for sound in (wave, made))
    return float((true - own).norm() / true.norm())


def stft_distance(wave: Tensor, made: Tensor) -> float:
    """Multi-resolution STFT distance."""
    parts = []
    for resolution in RESOLUTIONS:
        true, own = (_amplitudes(sound, *resolution) for sound in (wave, made))
        logarithms = float((true.log() - own.log()).abs().mean())
        parts.append(spectral_convergence(wave, made, *resolution) + logarithms)
    return float(np.mean(parts))


def _amplitudes(sound: Tensor, fft: int, hop: int, window: int) -> Tensor:
    spectra = torch.stft(sound, fft, hop, window, torch.hann_window(window), return_complex=True)
    return spectra.abs().square().clamp(min=1e-7).sqrt()  # Yamamoto et al.'s own floor


def inversions(mel: Mel, network: Path) -> dict[str, Inversion]:
    """All that is compared."""
    return {
        "librosa, least squares": lambda log_mel, random: by_librosa(mel, log_mel, random),
        "librosa, pseudo-inverse": PaperInversion(mel),
        "filter bank": GriffinLim(mel),
        "network": GriffinLim(mel, load_network(network)),
    }


def by_librosa(mel: Mel, log_mel: Tensor, random: torch.Generator) -> Tensor:
    """``librosa.feature.inverse.mel_to_audio`` with its 32 iterations, but for amplitudes in place of powers."""
    config = mel.config
    amplitude = librosa.feature.inverse.mel_to_stft(
        mel.denormalise(torch.cat([log_mel, log_mel[:, -1:]], dim=1)).numpy(),
        sr=config.sample_rate,
        n_fft=config.n_fft,
        power=1.0,
        fmin=config.f_min,
        fmax=config.f_max,
    )
    wave = librosa.griffinlim(
        amplitude,
        n_iter=32,
        hop_length=config.hop,
        n_fft=config.n_fft,
        length=log_mel.shape[1] * config.hop,
        random_state=int(torch.randint(2**31, (1,), generator=random)),
    )
    return torch.from_numpy(wave).float()


def measure(
    inversions: Mapping[str, Inversion], waves: Sequence[Tensor], mel: Mel, seed: int
) -> dict[str, dict[str, float]]:
    """For each inversion its distances, averaged over the waves ([samples] each), and its speed, median."""
    config = mel.config
    figures = {}
    for name, invert in inversions.items():
        invert(mel(waves[0]), torch.Generator().manual_seed(seed))  # what is only done once, and compiled, is not timed
        found = []
        for number, wave in enumerate(waves):
            log_mel, random = mel(wave), torch.Generator().manual_seed(seed + number)
            begun = time.perf_counter()
            made = invert(log_mel, random)
            seconds = time.perf_counter() - begun
            convergence = spectral_convergence(wave, made, config.n_fft, config.hop, config.n_fft)
            found.append((convergence, stft_distance(wave, made), seconds))
            note(f"{name}, {number + 1} of {len(waves)}: {convergence:.3f}, {found[-1][1]:.3f}, {seconds:.3f} s")
        convergences, distances, times = zip(*found, strict=True)
        figures[name] = {
            "spectral_convergence": float(np.mean(convergences)),
            "stft_distance": float(np.mean(distances)),
            "real_time_factor": len(waves[0]) / config.sample_rate / float(np.median(times)),
        }
    return figures


def _wave(manifest: Manifest, track: Track, config: MelConfig) -> Tensor:
    pcm = manifest.shard(track)[track.clips // 2, : FRAMES * config.hop].astype(np.float32) / 32_768
    return torch.from_numpy(pcm * (TARGET_RMS / max(track.rms, 1e-4)))


def main(arguments: list[str] | None = None) -> None:
    """Measure on every held-out track."""
    made = parser(str(__doc__).splitlines()[0])
    made.set_defaults(model="vocoder")
    made.add_argument("--prepared", type=Path, default=Path("data/prepared"), help="folder that prepare made")
    options = made.parse_args(arguments)
    with checkpoint(options.model) as path:
        mel = Mel(load_network(path).config.mel)
        compared = inversions(mel, path)
    manifest = load_manifest(options.prepared)
    waves = [_wave(manifest, track, mel.config) for track in manifest.of("validation")]
    if not waves:
        raise SystemExit(f"{options.prepared}: no recording is held out to measure on; prepare two or more in a mood")
    figures = measure(compared, waves, mel, options.seed)
    rows = [("held-out tracks", str(len(waves)))]
    rows += [
        (
            name,
            f"spectral convergence {found['spectral_convergence']:.3f}, STFT distance {found['stft_distance']:.3f}, "
            f"{found['real_time_factor']:.1f} times real time",
        )
        for name, found in figures.items()
    ]
    finish("The vocoder", options, rows, figures)


if __name__ == "__main__":
    main()
