"""One voice packet: RTP in aead_xchacha20_poly1305_rtpsize, and the Opus in it."""

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import av
import numpy as np
from nacl.bindings import crypto_aead_xchacha20poly1305_ietf_decrypt
from nacl.exceptions import CryptoError
from numpy.typing import NDArray

MODE: Final = "aead_xchacha20_poly1305_rtpsize"
SAMPLE_RATE: Final = 48_000
FRAME_SAMPLES: Final = 960
FRAME_SECONDS: Final = FRAME_SAMPLES / SAMPLE_RATE
SILENCE: Final = b"\xf8\xff\xfe"  #: the Opus frame of silence, of which Discord wants five at each stop

_HEADER: Final = struct.Struct(">BBHII")
_TAG_BYTES: Final = 16
_NONCE_BYTES: Final = 4
_VERSION_AND_TYPE: Final = (0x80, 0x78)


class BadPacket(Exception):  # noqa: N818 - reads as what it is
    """Not RTP of this stream, or not sealed with its key."""


@dataclass(frozen=True, slots=True)
class Packet:
    """A voice packet, opened.

    Attributes:
        arrival: when the kernel had it, on the clock of ``time.monotonic``.
        sequence: 0 to 65535.
        timestamp: in samples at 48 kHz, modulo 2³².
        payload: one Opus packet.
    """

    arrival: float
    sequence: int
    timestamp: int
    payload: bytes


def open_packet(datagram: bytes, *, key: bytes, ssrc: int, arrival: float) -> Packet:
    """The packet in ``datagram``: the 12 bytes of header are the AAD, the last 4 bytes begin the nonce.

    Raises:
        BadPacket: another header, another SSRC, or it does not decrypt.
    """
    if len(datagram) < _HEADER.size + _TAG_BYTES + _NONCE_BYTES:
        raise BadPacket(f"{len(datagram)} bytes are too few")
    version, kind, sequence, timestamp, source = _HEADER.unpack_from(datagram)
    if (version, kind) != _VERSION_AND_TYPE or source != ssrc:
        raise BadPacket(f"header {version:#x} {kind:#x} from SSRC {source}")
    nonce = datagram[-_NONCE_BYTES:].ljust(24, b"\0")
    sealed = datagram[_HEADER.size : -_NONCE_BYTES]
    try:
        payload = crypto_aead_xchacha20poly1305_ietf_decrypt(sealed, datagram[: _HEADER.size], nonce, key)
    except CryptoError as error:
        raise BadPacket("it does not decrypt") from error
    return Packet(arrival, sequence, timestamp, payload)


def decode(payloads: Iterable[bytes]) -> NDArray[np.float32]:
    """The sound of consecutive Opus packets of 20 ms, decoded by libopus.

    Returns:
        Shape (packets, 960, 2), full scale ±1, 48 kHz stereo.
    """
    decoder = av.CodecContext.create("libopus", "r")
    assert isinstance(decoder, av.AudioCodecContext)
    decoder.sample_rate = SAMPLE_RATE
    decoder.layout = "stereo"
    frames = [frame.to_ndarray() for payload in payloads for frame in decoder.decode(av.Packet(payload))]
    if not frames:
        return np.zeros((0, FRAME_SAMPLES, 2), np.float32)
    return np.stack(frames).reshape(-1, FRAME_SAMPLES, 2).astype(np.float32) / np.float32(32_768)
