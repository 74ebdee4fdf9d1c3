"""What the GM is told of a trouble: each thing once, until there is music again."""

from collections.abc import Callable

from bot.localisation import Sentence


class Notices:
    """Sentences that are not repeated."""

    def __init__(self, tell: Callable[[Sentence], None]) -> None:
        """None was told yet; ``tell`` is called with each that is new."""
        self._tell = tell
        self._told: set[str] = set()

    def once(self, sentence: Sentence | None) -> None:
        """Tell it, if there is one and it was not told yet."""
        if sentence is not None and sentence.text not in self._told:
            self._told.add(sentence.text)
            self._tell(sentence)

    def forget(self) -> None:
        """The trouble is over; whatever comes is new."""
        self._told.clear()
