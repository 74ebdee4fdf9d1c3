"""Discord's end-to-end encryption (DAVE) of one connection: how long it is waited for, and what is said then."""

from collections.abc import Callable
from typing import Final

from bot.localisation import Sentence
from bot.voice_connection import TableVoice

WORTH_A_WORD_SECONDS: Final = 10.0
STUCK_SECONDS: Final = 30.0  #: then it is begun anew


class Handshake:
    """Watches until the encryption is ready, at the beginning and whenever the keys are changed.

    What plays meanwhile is not sent (:meth:`TableVoice.send_audio_packet`), so nothing has to be stopped.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._since: float | None = None

    def follow(self, voice: TableVoice) -> Sentence | None:
        """A sentence for the GM if it takes too long."""
        # Alone in a channel there is nobody to agree on keys with.
        listeners = any(user != voice.user.id for user in voice.channel.voice_states)
        if voice.encrypted or not listeners:
            self._since = None
        elif self._since is None:
            self._since = self._clock()
        if self._since is None or self._clock() - self._since < WORTH_A_WORD_SECONDS:
            return None
        return Sentence(
            "Discord's encryption for {channel} is not ready, and without it nobody would hear me, so I wait. "
            "If it stays so, leave the channel and join it again.",
            channel=voice.channel.name,
        )

    @property
    def stuck(self) -> bool:
        """Whether it will hardly come any more."""
        return self._since is not None and self._clock() - self._since > STUCK_SECONDS
