"""As much of MLS (RFC 9420) as a voice gateway needs: it proposes who comes and goes, and takes commits apart."""

import struct
from dataclasses import dataclass
from typing import Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

#: RFC 9420, sections 6 and 12.1: numbers on the wire.
_MLS_1_0: Final = 1
_PUBLIC_MESSAGE: Final = 1
_SENDER_MEMBER: Final = 1
_SENDER_EXTERNAL: Final = 2
_CONTENT_PROPOSAL: Final = 2
_CONTENT_COMMIT: Final = 3
_PROPOSE_ADD: Final = 1
_PROPOSE_REMOVE: Final = 3
_BASIC_CREDENTIAL: Final = 1
_LEAF_OF_COMMIT: Final = 3


def vector(content: bytes) -> bytes:
    """With its length before it (section 2.1.2)."""
    size = len(content)
    if size < 1 << 6:
        return bytes([size]) + content
    return (struct.pack(">H", size | 0x4000) if size < 1 << 14 else struct.pack(">I", size | 0x8000_0000)) + content


class ExternalSender:
    """Who may propose without being a member: the gateway, with a key of ciphersuite 2 (P-256)."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        public = self._key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        #: The credential that all members put into their group (section 12.1.8.1).
        self.package = vector(public) + struct.pack(">H", _BASIC_CREDENTIAL) + vector(b"loopback")

    def add(self, group: int, epoch: int, key_package: bytes) -> bytes:
        """A message: let in whose key package this is."""
        return self._propose(group, epoch, struct.pack(">H", _PROPOSE_ADD) + key_package)

    def remove(self, group: int, epoch: int, leaf: int) -> bytes:
        """A message: who sits on that leaf is to go."""
        return self._propose(group, epoch, struct.pack(">HI", _PROPOSE_REMOVE, leaf))

    def _propose(self, group: int, epoch: int, proposal: bytes) -> bytes:
        """A PublicMessage (section 6.2). An external sender signs without the group's context, which it lacks."""
        framed = (
            struct.pack(">HH", _MLS_1_0, _PUBLIC_MESSAGE)
            + vector(struct.pack(">Q", group))
            + struct.pack(">QBI", epoch, _SENDER_EXTERNAL, 0)  # the first, and only, of the external senders
            + vector(b"")
            + bytes([_CONTENT_PROPOSAL])
            + proposal
        )
        signed = vector(b"MLS 1.0 FramedContentTBS") + vector(framed)  # SignWithLabel (section 5.1.2)
        return framed + vector(self._key.sign(signed, ec.ECDSA(hashes.SHA256())))


@dataclass(frozen=True, slots=True)
class Commit:
    """A member's commit as a gateway sees it, with the welcome that came along."""

    group: int
    epoch: int
    leaf: int
    message: bytes
    welcome: bytes


class _Reader:
    def __init__(self, data: bytes) -> None:
        self.place = 0
        self._data = data

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "big")

    def take(self, size: int) -> bytes:
        if size > len(self._data) - self.place:
            raise ValueError("an MLS message ends too early")
        self.place += size
        return self._data[self.place - size : self.place]

    def vector(self) -> bytes:
        first = self.number(1)
        size = first & 0x3F
        for _ in range((1 << (first >> 6)) - 1):
            size = size << 8 | self.number(1)
        return self.take(size)

    def expect(self, size: int, value: int) -> None:
        if (found := self.number(size)) != value:
            raise ValueError(f"an MLS message has {found} where {value} is due")


def read_commit(data: bytes) -> Commit:
    """What a member sends with opcode 28.

    Raises:
        ValueError: that is no commit in a PublicMessage.
    """
    reader = _Reader(data)
    reader.expect(2, _MLS_1_0)
    reader.expect(2, _PUBLIC_MESSAGE)
    group, epoch = int.from_bytes(reader.vector(), "big"), reader.number(8)
    reader.expect(1, _SENDER_MEMBER)
    leaf = reader.number(4)
    reader.vector()  # authenticated data
    reader.expect(1, _CONTENT_COMMIT)
    reader.vector()  # proposals
    if reader.number(1):
        _skip_path(reader)
    for _ in ("signature", "confirmation tag", "membership tag"):
        reader.vector()
    return Commit(group, epoch, leaf, data[: reader.place], data[reader.place :])


def _skip_path(reader: _Reader) -> None:
    """An UpdatePath (section 7.6): a leaf, and the nodes above it."""
    for _ in ("encryption key", "signature key"):
        reader.vector()
    reader.expect(2, _BASIC_CREDENTIAL)
    reader.vector()
    for _ in ("versions", "ciphersuites", "extensions", "proposals", "credentials"):
        reader.vector()
    reader.expect(1, _LEAF_OF_COMMIT)
    for _ in ("parent hash", "extensions", "signature", "nodes"):
        reader.vector()
