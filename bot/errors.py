"""What can go wrong in the bot. Each message is a sentence for the person who reads it, and says what to do."""


class BotError(Exception):
    """Anything that the bot tells a person instead of raising a traceback at them."""


class SettingsError(BotError):
    """A setting is missing or can't be used."""


class GeneratorError(BotError):
    """The music generator can't be started or reached."""


class VoiceError(BotError):
    """The voice channel can't be joined or played in."""


class DemoError(BotError):
    """The demo can't do what it was asked."""
