"""What can go wrong in the bot. Each message is a sentence for the person who reads it, and says what to do."""

from bot.localisation import Sentence


class BotError(Exception):
    """Anything that the bot tells a person instead of raising a traceback at them.

    ``str()`` of it is English, for the terminal and the log; :attr:`sentence` can be shown in any language.
    """

    def __init__(self, text: str, /, **facts: object) -> None:
        """An error whose message is ``Sentence(text, **facts)``; a text without facts is taken as it is."""
        self.sentence = Sentence(text, **facts)
        super().__init__(str(self.sentence))


class SettingsError(BotError):
    """A setting is missing or can't be used."""


class GeneratorError(BotError):
    """The music generator can't be started or reached."""


class VoiceError(BotError):
    """The voice channel can't be joined or played in."""


class DemoError(BotError):
    """The demo can't do what it was asked."""


class NothingPlays(BotError):  # noqa: N818 - reads as the sentence that it carries
    """There is no music that this could change."""

    def __init__(self) -> None:
        super().__init__("Nothing plays here. Choose a mood with /mood.")
