"""PCM frames to Opus packets, by the libopus that PyAV's wheel carries: discord.py needs none of its own."""

from typing import Final

import av
import numpy as np
from av.audio.codeccontext import AudioCodecContext

from bot.jitter_buffer import Frame
from generator.protocol import FRAME_SAMPLES, SAMPLE_RATE

SILENCE: Final = b"\xf8\xff\xfe"  #: one 20 ms packet of it
_MIN_BITRATE: Final = 16_000
_MAX_BITRATE: Final = 384_000  #: the most that Discord grants any channel
#: Below it Opus may take music for speech and code it so (tried with a buzz under formants: up to 48 kbit/s).
_MUSIC_BITRATE: Final = 64_000


class OpusEncoder:
    """Stateful: a packet leans on those before it."""

    def __init__(self, bitrate: int) -> None:
        """An encoder for music at ``bitrate`` bits a second, the channel's own."""
        self.bitrate = bitrate
        kept = max(_MIN_BITRATE, min(_MAX_BITRATE, bitrate))
        context = av.CodecContext.create("libopus", "w")
        assert isinstance(context, AudioCodecContext)  # noqa: S101 - tells the type checker what libopus is
        context.sample_rate = SAMPLE_RATE
        context.layout = "stereo"
        context.format = "s16"
        context.bit_rate = kept
        # FFmpeg has no option for Opus' signal type. What "music" does is to keep out the speech codec, and so does
        # the low-delay application, which has none.
        application = "audio" if kept >= _MUSIC_BITRATE else "lowdelay"
        context.options = {"application": application, "frame_duration": "20", "vbr": "on"}
        context.open()
        self._context = context
        self._pts = 0

    def encode(self, frame: Frame) -> bytes:
        """The packet for 20 ms."""
        interleaved = np.ascontiguousarray(frame).reshape(1, -1)
        audio = av.AudioFrame.from_ndarray(interleaved, format="s16", layout="stereo")
        audio.sample_rate = SAMPLE_RATE
        audio.pts = self._pts
        self._pts += FRAME_SAMPLES
        # An encoder of 20 ms frames that is given 20 ms returns one packet, from the first call on.
        (packet,) = self._context.encode(audio)
        return bytes(packet)
