"""One row from training to its folder of clips. Every part is done once, and goes on where it was interrupted."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.paper.rows import ROWS, Row, Scale
from training.loop import Bounds, train
from training.manifest import load_manifest
from training.state import load_state

Say = Callable[[str], None]

VALIDATE_SECONDS = 40.0  #: between two points of the held-out curve


@dataclass(frozen=True)
class Order:
    """What every row shares.

    Attributes:
        prepared: the clips.
        runs: where each row has its folder.
        scale: of the training.
        minutes: of training at most, a row; ``None`` for the scale's epochs.
    """

    prepared: Path
    runs: Path
    scale: Scale
    minutes: float | None = None


def train_row(row: Row, order: Order, say: Say) -> None:
    """Train the run that a row plays, as far as it is not trained yet.

    Raises:
        TrainingError: the data or the folder is unusable, or the loss is no longer finite.
        Interrupted: SIGINT or SIGTERM came; rerun to go on.
    """
    owner = ROWS[row.trained]
    config, folder = order.scale.of(owner), order.runs / owner.name
    bounds = Bounds(seconds=None if order.minutes is None else 60 * order.minutes, epochs=config.epochs)
    clips = sum(track.clips for track in load_manifest(order.prepared).of("train"))
    found = load_state(folder)
    if found is not None and bounds.reached(found[0], max(1, clips // config.batch)):
        return
    say(f"{row.name}: training {config.model.name} ({owner.title})")
    progress = train(config, order.prepared, folder, bounds, say=say, validate_seconds=VALIDATE_SECONDS)
    say(f"{row.name}: {progress.step} steps, {progress.samples} samples, {progress.seconds / 60:.1f} minutes")
