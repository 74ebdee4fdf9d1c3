"""What can go wrong while training, as sentences for the person at the terminal."""

from typing import ClassVar


class TrainingError(Exception):
    """Something that the user can mend; the text is a sentence that says what to do.

    Attributes:
        exit_status: what the command exits with.
    """

    exit_status: ClassVar[int] = 1


class SourceError(TrainingError):
    """The folder of music is not what ``prepare`` can work with."""

    exit_status = 2


class DecodeError(TrainingError):
    """One recording that can't be decoded."""

    exit_status = 3


class CorpusError(TrainingError):
    """The corpus can't be fetched, or not all of it."""


class StorageError(TrainingError):
    """The place that is written to is full, read-only or in use."""


class ManifestError(TrainingError):
    """A folder that does not hold prepared clips, or holds damaged ones."""


class PresetError(TrainingError):
    """There is no such preset, or it can't be had at that scale."""

    exit_status = 2


class RunError(TrainingError):
    """A run's folder can't be gone on with, or the run went wrong."""


class EvaluationError(TrainingError):
    """What should be judged can't be, or there is nothing to judge it by."""

    exit_status = 2


class Interrupted(BaseException):
    """SIGINT or SIGTERM came; raised in the main thread, where the work is put down cleanly.

    A ``BaseException`` as ``KeyboardInterrupt`` is, so that no ``except Exception`` takes it for a broken file.
    """

    def __init__(self, signal_number: int) -> None:
        self.exit_status = 128 + signal_number
        super().__init__("interrupted; run the same command again, which goes on from what is finished")
