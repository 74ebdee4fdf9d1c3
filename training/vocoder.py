"""Training of the amplitude network: recordings → their spectra → what it makes of their Mels.

No phase has a say in it, so a few minutes of a CPU do. The network that ships was trained by this on the same
recordings as the model, the held-out ones left out.
"""

import hashlib
import math
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from generator.amplitude import AmplitudeConfig, AmplitudeNet, save_network
from generator.config import BARD_MEL
from generator.device import bf16_pays, pick_device
from generator.mel import FLOOR
from training import log
from training.data import TARGET_RMS
from training.errors import Interrupted, ManifestError, RunError
from training.loop import SAVE_SECONDS, signals
from training.manifest import Manifest, Split, Track, load_manifest
from training.state import Progress, exclusive, load_state, save_state, unwritable

CONFIG: Final = AmplitudeConfig(BARD_MEL, width=320, blocks=4, expansion=3, notes={})
FILE_NAME: Final = "vocoder.safetensors"

BATCH: Final = 12
FRAMES: Final = 128  #: of a piece
FIT_PIECES: Final = 120  #: from which the band statistics are taken
VALIDATION_PIECES: Final = 48
VALIDATE_SECONDS: Final = 120.0

RATE: Final = 2e-3  #: AdamW's at its highest
WARM_UP: Final = 100  #: steps
MAX_GRADIENT: Final = 1.0  #: norm
QUIET: Final = 2e-3  #: amplitude below which errors hardly count: the Mel's floor, drawn out

GAINS: Final = (-30.0, 6.0)  #: dB, at random: a piece may be any place of a fade
ROUGHENED: Final = 0.5  #: of the pieces: Mels as a diffusion model makes them, blurred or with a little noise
NOISE: Final = 0.2  #: largest deviation of that noise, in ln


class Pieces:
    """One side of the split, from which pieces of sound are drawn."""

    def __init__(self, manifest: Manifest, split: Split) -> None:
        self.manifest = manifest
        self.where: list[tuple[Track, int]] = [
            (track, clip) for track in manifest.of(split) for clip in range(track.clips)
        ]
        mel = CONFIG.mel
        # What a piece lacks at its ends is never made up, as it would be by padding.
        self.samples = min((FRAMES - 1) * mel.hop + mel.n_fft, manifest.clip_samples)

    def draw(self, indices: NDArray[np.int64], random: np.random.Generator) -> Tensor:
        """[pieces, samples] of the clips ``indices``, each track at ``TARGET_RMS``."""
        pieces = []
        for track, clip in (self.where[index] for index in indices):
            begin = int(random.integers(self.manifest.clip_samples - self.samples + 1))
            pcm = self.manifest.shard(track)[clip, begin : begin + self.samples].astype(np.float32)
            pieces.append(pcm * (TARGET_RMS / max(track.rms, 1e-4) / 32_768))
        return torch.from_numpy(np.stack(pieces))

    def spread(self, count: int) -> Tensor:
        """``count`` pieces or fewer, evenly over all tracks, always the same ones."""
        clips = np.linspace(0, len(self.where) - 1, min(count, len(self.where))).astype(np.int64)
        return self.draw(clips, np.random.default_rng(0))


class VocoderRun:
    """Network, optimiser and progress; goes on from the folder's state if it has one."""

    def __init__(self, manifest: Manifest, folder: Path) -> None:
        """Set up, or restore.

        Raises:
            ManifestError: there is nothing to train on.
            RunError: the folder's state is damaged or another run's.
        """
        if not manifest.of("train"):
            raise ManifestError(f"{manifest.folder}: no clip to train on; run `bardcast-train prepare` on more music")
        self.folder, self.device = folder, pick_device()
        self.train = Pieces(manifest, "train")
        self.held_out = Pieces(manifest, "validation") if manifest.of("validation") else None
        torch.manual_seed(0)
        self.network = AmplitudeNet(CONFIG).to(self.device)
        self.window = torch.hann_window(CONFIG.mel.n_fft, device=self.device)
        self.optimiser = torch.optim.AdamW(self.network.parameters(), RATE, weight_decay=1e-2)
        self.progress = Progress()
        self.bf16 = False
        keys = "\n".join(sorted(f"{track.split}/{track.key}" for track in manifest.tracks if track.clips))
        self.identity = f"{asdict(CONFIG)}/{hashlib.sha256(keys.encode()).hexdigest()}"
        if (found := load_state(folder)) is None:
            self._fit()
            return
        self.progress, parts = found
        if parts.get("identity") != self.identity:
            raise RunError(f"{folder} holds another run, or was trained on other clips; choose another --run")
        self.network.load_state_dict(parts["network"])
        self.optimiser.load_state_dict(parts["optimiser"])

    def spectra(self, waves: Tensor) -> tuple[Tensor, Tensor]:
        """Amplitudes [pieces, frames, bins] and log-Mels [pieces, frames, bands] of waveforms."""
        mel = CONFIG.mel
        framed = waves.to(self.device).unfold(-1, mel.n_fft, mel.hop)
        amplitude = torch.fft.rfft(framed * self.window).abs()
        return amplitude, (amplitude @ self.network.filters).clamp(min=FLOOR).log()

    def probe(self) -> None:
        """Find out by a stop-watch whether bfloat16 pays here."""
        amplitude, log_mel = self.spectra(self.train.spread(2))

        def work() -> None:
            # The network asks for its precision itself, and is asked here by what surrounds it.
            bf16 = torch.is_autocast_enabled(self.device.type)
            with torch.autocast(self.device.type, enabled=False):
                error(self.network(log_mel, bf16), amplitude).backward()  # type: ignore[no-untyped-call]
            self.network.zero_grad(set_to_none=True)

        self.bf16 = bf16_pays(work, self.device)

    def step(self, random: np.random.Generator, share: float) -> tuple[float, float]:
        """One optimiser step.

        Args:
            random: draws the pieces, and what is done to them.
            share: how much of the run's time is over; the rate falls to nothing towards its end.

        Returns:
            Loss, and the gradient's norm before it was clipped.

        Raises:
            RunError: they are not finite; nothing was changed.
        """
        for group in self.optimiser.param_groups:
            group["lr"] = RATE * min(1.0, (self.progress.step + 1) / WARM_UP) * math.cos(math.pi / 2 * share) ** 2
        gains = torch.from_numpy(10 ** (random.uniform(*GAINS, (BATCH, 1)) / 20)).float()
        waves = gains * self.train.draw(random.integers(len(self.train.where), size=BATCH), random)
        amplitude, log_mel = self.spectra(waves)
        self.optimiser.zero_grad(set_to_none=True)
        loss = error(self.network(_roughened(log_mel, random), self.bf16), amplitude)
        loss.backward()  # type: ignore[no-untyped-call]
        gradient = nn.utils.clip_grad_norm_(self.network.parameters(), MAX_GRADIENT)
        if not gradient.isfinite():
            raise RunError(
                f"the gradient became {gradient.item()} at step {self.progress.step + 1}; the last good state is kept "
                f"in {self.folder}; run the same command again to go on from there"
            )
        self.optimiser.step()
        self.progress.step += 1
        self.progress.samples += BATCH
        return loss.item(), gradient.item()

    @torch.no_grad()
    def validate(self) -> None:
        """Measure the loss on held-out recordings, always the same pieces."""
        if self.held_out is None:
            return
        losses = []
        pieces = self.held_out.spread(VALIDATION_PIECES)
        for begin in range(0, len(pieces), BATCH):
            amplitude, log_mel = self.spectra(pieces[begin : begin + BATCH])
            losses.append(error(self.network(log_mel, self.bf16), amplitude).item())
        self.progress.validation = float(np.mean(losses))

    def save(self) -> None:
        """State for resuming, and the file that plays.

        Raises:
            RunError: the disk is full.
        """
        parts = {"network": self.network.state_dict(), "optimiser": self.optimiser.state_dict()}
        save_state(self.folder, self.progress, parts | {"identity": self.identity})
        notes = {
            "clips": f"{len(self.train.where)} clips of {len(self.train.manifest.of('train'))} recordings",
            "steps": str(self.progress.step),
            "pieces": str(self.progress.samples),
            "hours": f"{self.progress.seconds / 3600:.3f}",
        }
        if self.progress.validation is not None:
            notes["validation loss"] = f"{self.progress.validation:.4f}"
        self.network.config = replace(CONFIG, notes=notes)
        path = self.folder / FILE_NAME
        try:
            save_network(path, self.network)
        except (OSError, SafetensorError) as failure:
            raise RunError(unwritable(path)) from failure

    def _fit(self) -> None:
        """The band statistics that inputs are standardised with."""
        level = self.spectra(self.train.spread(FIT_PIECES))[1].flatten(0, 1)
        self.network.mean.copy_(level.mean(0))
        # A band that hardly moves must not be blown up into noise.
        self.network.deviation.copy_(level.std(0).clamp(min=0.5))


def error(made: Tensor, amplitude: Tensor) -> Tensor:
    """How far amplitudes are from the true ones, linearly and in proportion.

    Spectral convergence (Sturmel & Daudet 2011) and the mean difference of logarithms, the two halves of the
    multi-resolution STFT loss (Yamamoto et al. 2020, equations 4 and 5), at the resolution that there is.

    Args:
        made: [pieces, frames, bins].
        amplitude: the true ones.

    Returns:
        A scalar.
    """
    squares = (made - amplitude).square().sum((1, 2)) / amplitude.square().sum((1, 2)).clamp(min=QUIET)
    difference = ((made + QUIET).log() - (amplitude + QUIET).log()).abs().mean()
    return squares.clamp(min=1e-8).sqrt().mean() + difference


def _roughened(log_mel: Tensor, random: np.random.Generator) -> Tensor:
    """Some Mels blurred over three frames, some with noise: [pieces, frames, bands]."""

    def strength() -> Tensor:
        drawn = random.uniform(size=(len(log_mel), 1, 1)) * (random.uniform(size=(len(log_mel), 1, 1)) < ROUGHENED)
        return torch.from_numpy(drawn).float().to(log_mel.device)

    blurred = F.avg_pool1d(log_mel.mT, 3, 1, 1, count_include_pad=False).mT
    return torch.lerp(log_mel, blurred, strength()) + NOISE * strength() * torch.randn_like(log_mel)


def train_vocoder(
    prepared: Path, folder: Path, seconds: float, say: Callable[[str], None], progress_bar: bool = True
) -> Progress:
    """Train for ``seconds`` in all; called again with the same folder it goes on where it was.

    The folder gets ``state.pt`` (to resume), ``vocoder.safetensors`` (ready to ship) and ``log.jsonl``.

    Args:
        prepared: a folder that ``prepare`` made.
        folder: the run's own.
        seconds: of training, over every call. The learning rate falls to nothing towards them.
        say: told what a person should know before it starts.
        progress_bar: draw one on stderr, where that is a terminal.

    Returns:
        How far the run is.

    Raises:
        TrainingError: the data or the folder is unusable, or the loss is no longer finite.
        Interrupted: SIGINT or SIGTERM came; everything but the step under way is saved.
    """
    manifest = load_manifest(prepared)
    with exclusive(folder):
        run = VocoderRun(manifest, folder)
        if run.progress.step:
            say(f"going on with {folder} after {run.progress.step} steps")
        if run.held_out is None:
            say("no recording is held out, so no validation loss is measured: that takes two recordings in a mood")
        _loop(run, seconds, progress_bar)
        return run.progress


def _loop(run: VocoderRun, seconds: float, progress_bar: bool) -> None:
    progress = run.progress
    # Pieces and noise depend on the step at which this call began, so a resumed run doesn't see its start again.
    random = np.random.default_rng(progress.step)
    torch.manual_seed(progress.step)
    run.probe()
    log.append(run.folder, {"event": "start", "step": progress.step, "bf16": run.bf16, "device": run.device.type})
    saved = validated = last = time.monotonic()
    bar = tqdm(total=round(seconds), initial=round(progress.seconds), unit="s", disable=None if progress_bar else True)
    with signals() as received, bar:
        while progress.seconds < seconds and not received:
            loss, gradient = run.step(random, progress.seconds / seconds)
            now = time.monotonic()
            progress.seconds, last = progress.seconds + now - last, now
            bar.update(min(round(progress.seconds), round(seconds)) - bar.n)
            bar.set_postfix(step=progress.step, loss=f"{loss:.4f}", refresh=False)
            entry: dict[str, object] = {"step": progress.step, "samples": progress.samples, "loss": loss}
            if now - validated > VALIDATE_SECONDS:
                run.validate()
                entry["validation"] = progress.validation
                validated = time.monotonic()
            log.append(run.folder, entry | {"gradient": round(gradient, 4), "seconds": round(progress.seconds, 2)})
            if time.monotonic() - saved > SAVE_SECONDS:
                run.save()
                saved = time.monotonic()
        if not received:
            run.validate()
        run.save()
        stop: dict[str, object] = {"event": "stop", "step": progress.step, "samples": progress.samples}
        log.append(run.folder, stop | {"validation": progress.validation})
    if received:
        raise Interrupted(received[0])
