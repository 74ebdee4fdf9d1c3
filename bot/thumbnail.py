"""A small picture of what was just heard, for the panel: pitch upwards, time to the right, in the mood's colour.

It is drawn from the packets that were sent, in a thread of its own, and costs neither the event loop nor the player
thread anything: all of it is FFmpeg's and numpy's work, who let go of the interpreter's lock.
"""

from collections.abc import Sequence
from fractions import Fraction
from typing import Final

import av
import numpy as np
from av.audio.codeccontext import AudioCodecContext
from av.video.codeccontext import VideoCodecContext
from numpy.typing import NDArray

from generator.picture import log_spectrogram
from generator.protocol import SAMPLE_RATE

SECONDS: Final = 8.0
WIDTH: Final = 400  #: columns; Discord shows a picture that is no wider than this as it is
_RATE: Final = 16_000  #: Hz: what lies above 8 kHz adds nothing at this size, and a third of the work
_FFT: Final = 2_048  #: 128 ms
_BANDS_PER_OCTAVE: Final = 14
_RANGE_DB: Final = 65.0
_BACKGROUND: Final = (0x10, 0x10, 0x14)
_BRIGHTEST: Final = (0xFF, 0xF4, 0xE0)


def thumbnail(packets: Sequence[bytes], colour: str) -> bytes:
    """A PNG of the packets' spectrogram, always of the same size; what is missing is dark.

    Args:
        packets: the last :data:`SECONDS` of Opus, or fewer.
        colour: of the middle of the scale, as sRGB hex.
    """
    samples = round(SECONDS * _RATE)
    sound = np.zeros(samples, np.float32)
    heard = _decode(packets)[-samples:]
    sound[samples - len(heard) :] = heard
    levels, _ = log_spectrogram(sound, _RATE, fft=_FFT, hop=samples // WIDTH, bands_per_octave=_BANDS_PER_OCTAVE)
    # Of a table that is turned down one should see as much: the scale begins at the loudest.
    brightness = (levels - max(float(levels.max()), -_RANGE_DB)) / _RANGE_DB + 1
    return _png((np.clip(brightness, 0, 1)[::-1] * 255).astype(np.uint8), _palette(colour))


def _decode(packets: Sequence[bytes]) -> NDArray[np.float32]:
    """(samples,): the packets as one voice at ``_RATE``."""
    decoder = av.CodecContext.create("opus", "r")
    assert isinstance(decoder, AudioCodecContext)  # noqa: S101 - tells the type checker what Opus is
    decoder.sample_rate = SAMPLE_RATE
    decoder.layout = "stereo"
    resampler = av.AudioResampler(format="flt", layout="mono", rate=_RATE)
    pieces = [np.zeros(0, np.float32)]
    for packet in packets:
        for frame in decoder.decode(av.Packet(packet)):
            pieces += [part.to_ndarray()[0].astype(np.float32) for part in resampler.resample(frame)]
    return np.concatenate(pieces)


def _palette(colour: str) -> NDArray[np.uint8]:
    """(256, 4): opaque ARGB from the background over ``colour`` to near white."""
    middle = tuple(int(colour[place : place + 2], 16) for place in (1, 3, 5))
    stops = np.array([_BACKGROUND, middle, _BRIGHTEST])
    ramp = np.linspace(0, 1, 256)
    channels = [np.full(256, 255.0)] + [np.interp(ramp, (0, 0.6, 1), stops[:, channel]) for channel in range(3)]
    return np.stack(channels, axis=1).astype(np.uint8)


def _png(image: NDArray[np.uint8], palette: NDArray[np.uint8]) -> bytes:
    """The image (rows, columns) of indices into the palette as a PNG."""
    encoder = av.CodecContext.create("png", "w")
    assert isinstance(encoder, VideoCodecContext)  # noqa: S101 - tells the type checker what PNG is
    encoder.height, encoder.width = image.shape
    encoder.pix_fmt = "pal8"
    encoder.time_base = Fraction(1)
    frame = av.VideoFrame.from_ndarray((np.ascontiguousarray(image), palette), format="pal8")  # type: ignore[arg-type]
    return b"".join(bytes(packet) for packet in (*encoder.encode(frame), *encoder.encode(None)))
