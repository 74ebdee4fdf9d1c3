"""What can go wrong in the generator, as sentences for the person at the terminal. Torch-free."""

from typing import ClassVar


class GeneratorError(Exception):
    """Something that the user can mend; the text is a sentence that says what to do.

    Attributes:
        status: what the command exits with.
    """

    status: ClassVar[int] = 1
