"""What a window takes here: a pass through the network with 1, 2, 4, … windows in it, and what finishes each.

``benchmarks.scaling`` is fed with the file. With ``--assume`` nothing is timed: the file says what a GPU would take
that reaches so many TFLOP/s, by the operations that torch counts in the real network, and names itself an assumption.
"""

import argparse
import datetime
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.report import finish, gpu_name, machine, note, parser
from generator import device
from generator.denoiser import Question
from generator.engine import Engine, State, Window, load_engine
from generator.moods import MOODS
from generator.protocol import FRAME_SECONDS, Controls
from generator.section import Section
from generator.stream import Stream

Clock = Callable[[], float]
Figures = dict[str, Any]

#: Assumed of a GPU: below this a pass does not come, however few windows are in it, since Python has to launch some
#: hundred kernels; and so for what finishes a window.
LAUNCH_SECONDS: Final = 0.010
FINISH_LAUNCH_SECONDS: Final = 0.020
SECTION: Final = Section(Controls(MOODS[0]), 0, 0)


def running(engine: Engine) -> State:
    """The state of a stream that plays, so that a window continues something."""
    first = engine.window(engine.beginning(), SECTION, 0)
    position = engine.window_frames - engine.overlap
    mels, samples = engine.mels_a_frame, first.sound.size // engine.window_frames
    since = engine.window_frames - engine.prefix_frames
    mel, sound = first.mel[:, since * mels :], first.sound[since * samples : position * samples]
    return State(position, SECTION, mel, sound) if engine.prefix_frames else engine.beginning(position)


def one_window(engine: Engine, state: State, seed: int, clock: Clock) -> tuple[Question, float]:
    """A window alone: its last question, and the seconds that are not passes through the network."""
    begun = clock()
    steps = engine.making(state, SECTION, seed)
    in_network = 0.0
    question = next(steps)
    while True:
        asked = clock()
        answer = _answer(engine, [question])[0]
        in_network += clock() - asked
        try:
            question = steps.send(answer)
        except StopIteration:
            return question, clock() - begun - in_network


def measure(engine: Engine, most: int, repeats: int, clock: Clock) -> Figures:
    """Times of passes and of finishing, each ``repeats`` times after one that does not count."""
    state = running(engine)
    finishing = []
    for seed in range(repeats + 1):
        question, seconds = one_window(engine, state, seed, clock)
        finishing.append(seconds)
    passes: dict[str, list[float]] = {}
    rows = 1
    while rows <= most:
        taken = []
        for _ in range(repeats + 1):
            begun = clock()
            _answer(engine, [question] * rows)
            taken.append(clock() - begun)
        passes[str(rows)] = taken[1:]
        note(f"{rows} windows in a pass: {min(taken):.4f} to {max(taken[1:]):.4f} s")
        rows *= 2
    return {"step_seconds": passes, "finish_seconds": finishing[1:]}


def splicing(engine: Engine, repeats: int) -> list[float]:
    """CPU seconds around a window, where the stream is held: joining, loudness, stereo, 16 bits."""
    in_window = 0.0

    def make(
        engine: Engine, state: State, section: Section, seed: int, _slack: float = 0, _wanted: object = None
    ) -> Window:
        nonlocal in_window
        begun = time.process_time()
        window = engine.window(state, section, seed)
        in_window = time.process_time() - begun
        return window

    stream, taken = Stream(engine, 0, SECTION.controls, make=make), []
    for _ in range(repeats + 1):
        begun = time.process_time()
        stream.advance()
        taken.append(time.process_time() - begun - in_window)
    return taken[1:]


def count(engine: Engine) -> tuple[float, float]:
    """Floating-point operations of a pass with one window in it, and of what finishes a window."""
    state = running(engine)
    question, _ = one_window(engine, state, 0, time.perf_counter)
    with FlopCounterMode(display=False) as of_pass:
        engine.answer([question])
    with FlopCounterMode(display=False) as of_window:
        engine.window(state, SECTION, 0)
    a_pass = float(of_pass.get_total_flops())
    return a_pass, of_window.get_total_flops() - engine.steps * a_pass


def assume(operations: tuple[float, float], tera: float, most: int) -> Figures:
    """What a GPU takes that reaches ``tera`` TFLOP/s, by its operations or by the launches, whichever is longer."""
    a_pass, finishing = (each / (tera * 1e12) for each in operations)
    rows = [2**power for power in range(most.bit_length()) if 2**power <= most]
    return {
        "step_seconds": {str(each): [max(LAUNCH_SECONDS, each * a_pass)] for each in rows},
        "finish_seconds": [max(FINISH_LAUNCH_SECONDS, finishing)],
    }


def main(arguments: list[str] | None = None) -> None:
    """Measure, or assume."""
    options = _parse(arguments)
    gpu = None if options.assume else gpu_name(options.device)
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    engine = load_engine(options.model, "cpu" if options.assume else options.device)
    operations, state = count(engine), running(engine)
    window = engine.window(state, SECTION, 0)
    if options.assume:
        name = f"assumed: a GPU at {options.assume:g} TFLOP/s"
        figures = assume(operations, options.assume, options.most)
    else:
        threads = torch.get_num_threads()
        name = "measured: " + (gpu or f"{threads} thread{'s' * (threads > 1)} of {machine(None)['cpu']}")
        if options.cpu_time and (gpu or threads > 1):
            raise SystemExit("--cpu-time tells how long one thread took: add --threads 1 --device cpu")
        name += ", by CPU time" * options.cpu_time
        clock = time.process_time if options.cpu_time else time.perf_counter
        figures = measure(engine, options.most, options.repeats, clock)
    figures |= {
        "name": name,
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "beside": options.beside,
        "steps": engine.steps,
        "new_seconds": engine.new_frames * FRAME_SECONDS,
        "pass_operations": operations[0],
        "finish_operations": operations[1],
        "splice_cpu_seconds": splicing(engine, options.repeats),
        "state_bytes": state.mel.nbytes + state.sound.nbytes,
        "window_bytes": window.mel.nbytes + window.sound.nbytes,
    }
    rows = [
        (name, f"{figures['new_seconds']:.2f} s of music a window, {engine.steps} passes each"),
        ("operations", f"{operations[0] / 1e9:.1f} G a pass and window, {operations[1] / 1e9:.1f} G to finish it"),
        *((f"a pass with {each}", _words(taken)) for each, taken in figures["step_seconds"].items()),
        ("to finish a window", _words(figures["finish_seconds"])),
        ("around it, of the CPU", _words(figures["splice_cpu_seconds"])),
        ("to a worker and back", f"{figures['state_bytes'] / 1e3:.0f} kB, {figures['window_bytes'] / 1e3:.0f} kB"),
    ]
    finish("Window times", options, rows, figures)


def _answer(engine: Engine, questions: Sequence[Question]) -> list[Tensor]:
    answers = engine.answer(questions)
    device.finish(engine.device)
    return answers


def _words(seconds: Sequence[float]) -> str:
    middle = sorted(seconds)[len(seconds) // 2]
    return f"{1000 * middle:.1f} ms (from {1000 * min(seconds):.1f} to {1000 * max(seconds):.1f})"


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    made = parser(str(__doc__).splitlines()[0])
    made.add_argument("--most", type=int, default=8, help="windows in a pass at most")
    made.add_argument("--repeats", type=int, default=20, help="how often each is timed, after one that warms up")
    made.add_argument("--threads", type=int, help="CPU threads; if not given, one a core")
    made.add_argument("--device", choices=("cpu", "cuda"), help="if not given, the GPU where there is one")
    made.add_argument("--assume", type=float, metavar="TFLOPS", help="time nothing: a GPU that reaches so many")
    made.add_argument("--cpu-time", action="store_true", help="of one thread, where the machine does other things too")
    made.add_argument("--beside", default="nothing else", metavar="WORDS", help="what the machine did meanwhile")
    return made.parse_args(arguments)


if __name__ == "__main__":
    main()
