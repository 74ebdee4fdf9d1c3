"""(state, section, seed) → (sound, state): one window of the endless stream. Knows no transport and keeps no state.

Positions are wire frames of 20 ms since the stream's beginning. A window covers ``window_frames``; its first
``lead`` frames were heard already, and its last ``overlap`` frames are held back, because the next window sounds them
better, knowing what follows. The clean prefix, which the window keeps as it is given, is the lead and, where the same
music goes on, the overlap held back by the last window.

    |<------------------------- window ------------------------->|
    |<--- lead --->|<------------- new sound ----------->|overlap|
    |<------ prefix ------>|
    ^ begin        ^ state.position                      ^ next state.position
"""

from collections.abc import Callable, Generator, Sequence
from concurrent.futures import CancelledError
from dataclasses import dataclass, field, replace
from time import perf_counter
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from generator.amplitude import shipped_network
from generator.checkpoint import Checkpoint, CheckpointError, load_checkpoint, load_state, need_sizes
from generator.composer import COLUMN_FRAMES, write_plan
from generator.denoiser import Denoiser, Question, answer
from generator.device import bf16_is_native, pick_device, settle
from generator.diffusion import make_schedule
from generator.errors import GeneratorError
from generator.mel import Mel
from generator.moods import MOODS
from generator.network import make_network
from generator.plan import FEATURES
from generator.protocol import FRAME_SAMPLES, FRAMES_PER_SECOND, SAMPLE_RATE
from generator.sampling import Sampler, ancestral, ask, dpm_solver_2m, warped_times
from generator.section import Section
from generator.snapshot import LOUDEST
from generator.torchaudio_shim import torchaudio
from generator.vocoder import GriffinLim, PaperInversion

Sound = NDArray[np.float32]
#: Whether a window is still wanted, asked while it is made.
Wanted = Callable[[], bool]


def always() -> bool:
    """Whatever comes, it is wanted."""
    return True


CONTINUED_OVERLAP: Final = 4  #: frames, where a window continues the phases of the last: 80 ms
BLIND_OVERLAP: Final = 50  #: frames, where windows know nothing of each other: a cross-fade of 1 s


class GenerationError(GeneratorError):
    """The model made something that is no sound; the text is a sentence."""


@dataclass(frozen=True)
class State:
    """All that the next window needs of the past.

    Attributes:
        position: where new sound begins.
        section: what was being played, ``None`` at the very beginning.
        mel: [bands, frames], normalised: the prefix, whole columns of a plan, up to ``position`` or up to ``overlap``
            frames past it; empty at the beginning, and always for a model without a prefix.
        sound: [samples], mono, 48 kHz: what was heard from the prefix's beginning up to ``position``.

    A stream gives both at half precision, as they travel: so a window is the same to the bit wherever it is made.
    """

    position: int
    section: Section | None
    mel: Sound
    sound: Sound


@dataclass(frozen=True)
class Window:
    """What one call made.

    Attributes:
        begin: wire frame of the first sample; at most ``state.position``.
        sound: [window_frames · 960], mono, 48 kHz, full scale ±1.
        mel: [bands, frames], normalised, of the same stretch.
        seconds: of the device, that whoever had it made found it to cost; no part of what it is.
    """

    begin: int
    sound: Sound
    mel: Sound
    seconds: float = field(default=0.0, compare=False)


class Engine:
    """A model, ready to play. Stateless between calls, so any number of streams share one."""

    def __init__(self, checkpoint: Checkpoint, device: torch.device | None = None, steps: int | None = None) -> None:
        """Build the model.

        Args:
            checkpoint: what to play.
            device: where; the GPU if there is one.
            steps: of the sampler; the checkpoint's own number if not given, which the paper's process can't exceed.

        Raises:
            CheckpointError: the tensors do not fit the configuration, or no stream can be made of such windows.
        """
        self.config, self.name, self.digest = checkpoint.config, checkpoint.config.name, checkpoint.digest
        self.device = device or pick_device()
        self.steps = steps or self.config.diffusion.steps
        if self.config.diffusion.schedule == "paper":
            self.steps = min(self.steps, self.config.diffusion.steps)
        mel_config, unet = self.config.mel, self.config.unet
        self.mel = Mel(mel_config)
        load_state(self.mel, checkpoint.part("mel"), "Mel")
        if not (self.mel.deviation > 0).all():
            raise CheckpointError("this checkpoint's Mel has a band that never moves; train it again")
        tensors = checkpoint.part("network")
        need_sizes(unet, tensors)
        self.network = make_network(unet, mel_config.bands).eval().requires_grad_(False)
        load_state(self.network, tensors, "network")
        self.network.to(self.device)
        paper = unet.architecture == "paper"
        vocoder = PaperInversion(self.mel) if paper else GriffinLim(self.mel, shipped_network(mel_config))
        self.vocoder = vocoder.to(self.device)
        self.schedule = make_schedule(self.config.diffusion)
        self.statistics = self._plan_statistics(checkpoint)
        self.bf16 = bf16_is_native(self.device)
        if self.bf16:
            settle(self.network)
        self.window_frames = unet.frames * mel_config.hop * FRAMES_PER_SECOND // mel_config.sample_rate
        #: Mel frames in a wire frame; 0 for a network with neither plan nor prefix, whose windows need no alignment.
        self.mels_a_frame = 0
        if unet.architecture == "patched":
            self.mels_a_frame = FRAME_SAMPLES // mel_config.hop
            whole = mel_config.sample_rate == SAMPLE_RATE and FRAME_SAMPLES % mel_config.hop == 0
            if not whole or unet.patch[1] != COLUMN_FRAMES * self.mels_a_frame:
                raise CheckpointError("this checkpoint's patches do not last 80 ms at 48 kHz; train it again")
        self.overlap = CONTINUED_OVERLAP if self.config.prefix else BLIND_OVERLAP
        self.prefix_frames = self.config.prefix // self.mels_a_frame if self.config.prefix else 0
        self.lead = max(0, self.prefix_frames - self.overlap)
        if self.window_frames <= self.prefix_frames + self.overlap:
            raise CheckpointError("this checkpoint's windows are too short to continue each other; train longer ones")

    def _plan_statistics(self, checkpoint: Checkpoint) -> Sound | None:
        if not self.config.unet.plan_features:
            return None
        statistics = checkpoint.tensors.get("plan.statistics")
        if statistics is None or tuple(statistics.shape) != (len(MOODS) + 1, 2, FEATURES):
            raise CheckpointError("this checkpoint lacks the plan's statistics; train it again")
        # A copy: what is read of a checkpoint may be the file itself, mapped, and the file may be replaced meanwhile.
        return np.array(statistics.float().numpy(), np.float32)

    @property
    def times(self) -> Tensor:
        """The sampler's, from 1 down to 0, [steps + 1]."""
        return warped_times(self.steps, self.config.diffusion.warp).to(self.device)

    @property
    def new_frames(self) -> int:
        """Frames of new sound in a window that continues another."""
        return self.window_frames - self.lead - self.overlap

    def beginning(self, position: int = 0) -> State:
        """The state of a stream that has not sounded yet."""
        return State(position, None, np.zeros((self.config.mel.bands, 0), np.float32), np.zeros(0, np.float32))

    def translated(self, mel: Sound, engine: "Engine") -> Sound | None:
        """What another engine's Mel is in this one's terms.

        Args:
            mel: [bands, frames], normalised by the other's statistics.
            engine: the other.

        Returns:
            The same sound by this engine's statistics; ``None`` if the two don't make the same kind of Mel.
        """
        mine, its = self.mel, engine.mel
        if (mine.config, self.mels_a_frame) != (its.config, engine.mels_a_frame):
            return None
        if mine.config.scaling == "diffwave":  # which has no statistics
            return mel
        shift, scale = (its.mean - mine.mean) / mine.deviation, its.deviation / mine.deviation
        moved: Sound = scale[:, None].cpu().numpy() * mel + shift[:, None].cpu().numpy()
        # A band that hardly moved in what this model learnt would else lie further out than it has ever seen.
        return moved if self.config.limits is None else moved.clip(*self.config.limits)

    def window(self, state: State, section: Section, seed: int, wanted: Wanted = always) -> Window:
        """Make the next window: a pure function of its arguments (and of the checkpoint).

        Args:
            state: what was heard.
            section: what to play from ``state.position`` on.
            seed: of all randomness here.
            wanted: asked before each step; once it says no, the window is dropped.

        Raises:
            CancelledError: it was not wanted any more.
            GenerationError: the model's output is not finite.
        """

        def answered(question: Question) -> Tensor:
            if not wanted():
                raise CancelledError
            return self.answer([question])[0]

        begun = perf_counter()
        made = ask(self.making(state, section, seed), answered)
        return replace(made, seconds=perf_counter() - begun)

    def making(self, state: State, section: Section, seed: int) -> Generator[Question, Tensor, Window]:
        """A window on its way: yields what the network is asked at each step, and is sent its answer.

        Arguments and errors as for :meth:`window`.
        """
        random = torch.Generator().manual_seed(seed)
        begin = state.position - len(state.sound) // FRAME_SAMPLES
        plan = self._plan(state, section, begin)
        # Noise is drawn on the CPU whatever the device, so that a seed means the same music everywhere.
        shape = (1, self.config.mel.bands, self.config.unet.frames)
        source = lambda: torch.randn(shape, generator=random).to(self.device)  # noqa: E731
        sampler: Sampler = ancestral if self.config.unet.architecture == "paper" else dpm_solver_2m
        denoiser = self._denoiser(state, section, begin, plan)
        mel = (yield from denoiser.through(sampler(self.schedule, source, self.times)))[0]
        self._demand(bool(mel.isfinite().all()))
        heard = torch.tensor(state.sound, device=self.device) if len(state.sound) else None
        tuned = () if plan is None else (plan.to(self.device), begin * self.mels_a_frame)
        wave = self.vocoder(mel, random, heard, *tuned)
        if self.config.mel.sample_rate != SAMPLE_RATE:
            wave = torchaudio.functional.resample(wave, self.config.mel.sample_rate, SAMPLE_RATE)
        sound = wave.cpu().numpy()[: self.window_frames * FRAME_SAMPLES]
        self._demand(bool((np.abs(sound) <= LOUDEST).all()))
        return Window(begin, sound, mel.cpu().numpy())

    def _demand(self, sane: bool) -> None:
        if not sane:
            raise GenerationError(f"the model {self.name!r} made infinite values; choose another checkpoint")

    def answer(self, questions: Sequence[Question]) -> list[Tensor]:
        """What windows on their way are sent, all of them by one pass through the network."""
        return answer(self.network, questions, self.bf16)

    def _denoiser(self, state: State, section: Section, begin: int, plan: Tensor | None) -> Denoiser:
        prefix = torch.tensor(state.mel, device=self.device) if state.mel.shape[1] else None
        if prefix is not None and self.config.limits is not None:
            prefix = prefix.clamp(*self.config.limits)  # a state may come from anyone
        return Denoiser(
            self.network,
            self.config,
            self.schedule,
            section.shares((state.position + begin + self.window_frames) // 2),  # in the middle of what is new
            plan,
            prefix,
            self.bf16,
        )

    def _plan(self, state: State, section: Section, begin: int) -> Tensor | None:
        if self.statistics is None:
            return None
        columns = self.config.unet.frames // self.config.unet.patch[1]
        plan = write_plan(section, begin, columns, self.statistics)
        past = (state.position - begin) // COLUMN_FRAMES
        if state.section is not None and past:
            plan[:, :past] = write_plan(state.section, begin, past, self.statistics)
        return torch.from_numpy(plan)


def load_engine(model: str = "bard", device: str | None = None, steps: int | None = None) -> Engine:
    """An engine for a model's name or path.

    Raises:
        CheckpointError: it is missing, damaged or foreign.
    """
    return Engine(load_checkpoint(model), torch.device(device) if device else None, steps)
