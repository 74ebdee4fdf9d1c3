"""What crosses the wire between a client and the generator. Torch-free.

One WebSocket (``/v1/stream``) carries one stream. The client sends JSON text: first :class:`Open`, then
:class:`SetMood`, :class:`SetVolume` and :class:`Playhead` at any time. The server sends binary frames
(:func:`pack_frame`) and JSON text events (:class:`Opened`, :class:`MoodLands`, :class:`Bar`, :class:`Snapshot`,
:class:`Pace`, :class:`Problem`).

A client shows the shared token in a header. A web page can't set one on a WebSocket, so it offers two subprotocols,
:data:`SUBPROTOCOL` and :data:`TOKEN_SUBPROTOCOL` followed by the token's UTF-8 bytes in base64url without padding; the
server agrees to the first.

Every frame carries its place in the stream, counted in frames of 20 ms. The server makes frames up to
``AHEAD_FRAMES`` beyond the last :class:`Playhead` and then waits: that is the back-pressure. A frame whose place was
sent before *replaces* the earlier one, if that was not played yet: so a change of mood or volume reaches the
ear without waiting for the buffer to drain, and the splice (already cross-faded by the server) is seamless.
"""

import base64
import binascii
import json
import math
import struct
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar, Final, Literal, TypeVar, get_args

from generator.moods import MOODS, Mood, UnknownMood

SAMPLE_RATE: Final = 48_000  #: Hz, Discord's own
CHANNELS: Final = 2
FRAME_SECONDS: Final = 0.02
FRAME_SAMPLES: Final = 960  #: per channel
FRAME_BYTES: Final = FRAME_SAMPLES * CHANNELS * 2  #: 3,840: interleaved stereo, signed 16 bit, little-endian
FRAMES_PER_SECOND: Final = 50
AHEAD_FRAMES: Final = 8 * FRAMES_PER_SECOND  #: how far past the playhead the server may run
MAX_MESSAGE_BYTES: Final = 4_096  #: of a client's text message
MAX_STATE_BYTES: Final = 512 * 1024  #: of a stream's state, before it is base64
MAX_OPEN_BYTES: Final = MAX_MESSAGE_BYTES + -(-MAX_STATE_BYTES // 3) * 4  #: of a text message that opens a stream
MAX_FRAME_INDEX: Final = 2**48  #: thousands of years
MAX_SEED: Final = 2**32 - 1
INTENSITIES: Final = range(1, 6)  #: 1 is calm, 3 is the mood as it is, 5 is all it has
Transition = Literal["sudden", "slow"]  #: a new scene on the next beat, or one that grows out of the last
TRANSITIONS: Final[tuple[Transition, ...]] = get_args(Transition)
AUTHORIZATION_HEADER: Final = "Authorization"  #: ``Bearer <shared token>``
SUBPROTOCOL: Final = "bardcast"
TOKEN_SUBPROTOCOL: Final = "bardcast.token."  # noqa: S105 - the name of one, not a token

_HEADER: Final = struct.Struct("<Q")


class ProtocolError(ValueError):
    """A message that breaks the protocol; the text is a sentence for the peer."""


@dataclass(frozen=True, slots=True)
class Controls:
    """What the table asks of the music. Equal controls are the same music.

    Attributes:
        mood: one of the eight.
        intensity: 1 to 5.
        blend: a second mood, halfway to which the music lies; a mood blended with itself is that mood: ``None``.
    """

    mood: Mood
    intensity: int = 3
    blend: Mood | None = None

    def __post_init__(self) -> None:
        for each in self.moods:
            if each not in MOODS:
                raise ProtocolError(str(UnknownMood(each)))
        _need_int("intensity", self.intensity, INTENSITIES.start, INTENSITIES.stop - 1)
        if self.blend == self.mood:
            object.__setattr__(self, "blend", None)

    @property
    def moods(self) -> tuple[Mood, ...]:
        """The mood, and the one that is blended in."""
        return (self.mood,) if self.blend is None else (self.mood, self.blend)


@dataclass(frozen=True, slots=True)
class Open:
    """Client: begin a stream. Sent once, first.

    Attributes:
        mood: one of the eight.
        intensity: 1 to 5.
        seed: 0 to 2³² − 1; the same seed and controls give the same music.
        volume: 0 to 1, linear gain.
        start: place of the first frame; a client that reconnects goes on counting where it was.
        blend: a second mood, or ``None``.
        origin: place of the piece's first downbeat, at most ``start``: the score goes on as if it had been played from
            there; ``None`` to begin it at ``start``.
        home: pitch class, 0 to 11, of the piece's home key; drawn from the seed where ``None``.
        beside: whether the model is to play that stands beside the service's own, if one does.
        bars: whether to be told the bars that are played (:class:`Bar`).
        states: whether to be told the stream's states (:class:`Snapshot`).
        state: one of them, in base64, to go on from: ``start`` is its place. The piece is then the state's; mood and
            volume are turned to where it plays others.
    """

    type: ClassVar[str] = "open"
    mood: Mood
    seed: int
    volume: float = 1.0
    intensity: int = 3
    start: int = 0
    blend: Mood | None = None
    origin: int | None = None
    home: int | None = None
    beside: bool = False
    bars: bool = False
    states: bool = False
    state: str | None = None

    def __post_init__(self) -> None:
        _ = self.controls
        _need_int("seed", self.seed, 0, MAX_SEED)
        _need_gain(self.volume)
        _need_int("start", self.start, 0, MAX_FRAME_INDEX)
        if self.origin is not None:
            _need_int("origin", self.origin, 0, self.start)
        if self.home is not None:
            _need_int("home", self.home, 0, 11)
        for name in ("beside", "bars", "states"):
            if type(getattr(self, name)) is not bool:
                raise ProtocolError(f"{name} is true or false")
        if self.state is not None:
            decode_state(self.state)

    @property
    def controls(self) -> Controls:
        """What is asked of the music."""
        return Controls(self.mood, self.intensity, self.blend)


@dataclass(frozen=True, slots=True)
class SetMood:
    """Client: turn to another mood (or intensity), as soon after ``playhead`` as can be.

    Attributes:
        mood: one of the eight.
        playhead: place of the next frame that the client will play.
        intensity: 1 to 5.
        blend: a second mood, or ``None``.
        transition: whether the new mood begins on a beat, or the old one turns into it over some seconds.
    """

    type: ClassVar[str] = "mood"
    mood: Mood
    playhead: int
    intensity: int = 3
    blend: Mood | None = None
    transition: Transition = "sudden"

    def __post_init__(self) -> None:
        _ = self.controls
        _need_int("playhead", self.playhead, 0, MAX_FRAME_INDEX)
        if self.transition not in TRANSITIONS:
            raise ProtocolError(f"transition is one of: {', '.join(TRANSITIONS)}")

    @property
    def controls(self) -> Controls:
        """What is asked of the music."""
        return Controls(self.mood, self.intensity, self.blend)


@dataclass(frozen=True, slots=True)
class SetVolume:
    """Client: change the gain, ramped, as soon after ``playhead`` as can be.

    Attributes:
        volume: 0 to 1, linear gain.
        playhead: place of the next frame that the client will play.
    """

    type: ClassVar[str] = "volume"
    volume: float
    playhead: int

    def __post_init__(self) -> None:
        _need_gain(self.volume)
        _need_int("playhead", self.playhead, 0, MAX_FRAME_INDEX)


@dataclass(frozen=True, slots=True)
class Playhead:
    """Client: ``frame`` is the next that it will play. Grants the server credit to go on."""

    type: ClassVar[str] = "playhead"
    frame: int

    def __post_init__(self) -> None:
        _need_int("frame", self.frame, 0, MAX_FRAME_INDEX)


@dataclass(frozen=True, slots=True)
class Opened:
    """Server: the stream has begun; ``model`` names the checkpoint that plays.

    ``continues`` says that it goes on from the state that it was opened with: to the sample, but for what another
    kind of machine rounds otherwise.
    """

    type: ClassVar[str] = "opened"
    model: str
    continues: bool = False

    def __post_init__(self) -> None:
        _need_type("model", self.model, str)
        _need_type("continues", self.continues, bool)


@dataclass(frozen=True, slots=True)
class MoodLands:
    """Server: the newest :class:`SetMood` (or :class:`Open`) is first heard at ``frame``."""

    type: ClassVar[str] = "lands"
    mood: Mood
    intensity: int
    frame: int
    blend: Mood | None = None

    def __post_init__(self) -> None:
        _ = self.controls
        _need_int("frame", self.frame, 0, MAX_FRAME_INDEX)

    @property
    def controls(self) -> Controls:
        """What lands."""
        return Controls(self.mood, self.intensity, self.blend)


@dataclass(frozen=True, slots=True)
class Bar:
    """Server: what the score says from ``frame`` on, in place of all that was told of ``frame`` and later.

    Sent to clients that asked for it, before the frames that it belongs to.

    Attributes:
        frame: place at which it is first heard.
        downbeat: place of the bar's first beat; before ``frame`` where the bar is joined midway.
        number: of the bar, counted from ``origin``, from 0.
        metre: beats in it.
        tempo: beats a minute.
        key: of the strophe, such as ``D dorian``.
        chord: of the bar, such as ``Gm``.
        mood: that it is composed in.
        intensity: 1 to 5.
        blend: a second mood, or ``None``.
        bridge: whether it leads from that mood to another.
        origin: as in :class:`Open`: with ``home``, the seed and the mood, all that the score depends on.
        home: likewise.
    """

    type: ClassVar[str] = "bar"
    frame: int
    downbeat: int
    number: int
    metre: int
    tempo: float
    key: str
    chord: str
    mood: Mood
    intensity: int
    blend: Mood | None
    bridge: bool
    origin: int
    home: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Server: what another server needs to go on from ``frame`` as this one will.

    Sent to clients that asked for it, after all frames before ``frame``. Void as soon as an earlier frame is replaced.

    Attributes:
        frame: place of the first frame that is not in it.
        state: in base64, for :class:`Open`; the client need not understand it.
    """

    type: ClassVar[str] = "snapshot"
    frame: int
    state: str

    def __post_init__(self) -> None:
        _need_int("frame", self.frame, 0, MAX_FRAME_INDEX)
        decode_state(self.state)


@dataclass(frozen=True, slots=True)
class Pace:
    """Server: the last window's length and cost, both in seconds. Their ratio is the real-time factor."""

    type: ClassVar[str] = "pace"
    audio_seconds: float
    compute_seconds: float

    def __post_init__(self) -> None:
        for name, value in (("audio_seconds", self.audio_seconds), ("compute_seconds", self.compute_seconds)):
            if type(value) not in (int, float) or not 0 <= value < math.inf:
                raise ProtocolError(f"{name} is a number from 0 on")


@dataclass(frozen=True, slots=True)
class Problem:
    """Server: something went wrong. ``message`` is a sentence for a person; ``fatal`` ends the stream."""

    type: ClassVar[str] = "problem"
    code: str
    message: str
    fatal: bool = False

    def __post_init__(self) -> None:
        _need_type("code", self.code, str)
        _need_type("message", self.message, str)
        _need_type("fatal", self.fatal, bool)


ClientMessage = Open | SetMood | SetVolume | Playhead
ServerEvent = Opened | MoodLands | Bar | Snapshot | Pace | Problem

_CLIENT: Final[Mapping[str, type[ClientMessage]]] = {kind.type: kind for kind in (Open, SetMood, SetVolume, Playhead)}
_SERVER: Final[Mapping[str, type[ServerEvent]]] = {
    kind.type: kind for kind in (Opened, MoodLands, Bar, Snapshot, Pace, Problem)
}


def encode(message: ClientMessage | ServerEvent) -> str:
    """The message as one line of JSON."""
    return json.dumps({"type": message.type, **asdict(message)}, separators=(",", ":"))


def decode_client(text: str, most: int = MAX_MESSAGE_BYTES) -> ClientMessage:
    """The client's message in ``text``.

    Args:
        text: one JSON object.
        most: how long it may be: ``MAX_OPEN_BYTES`` where a stream may be opened.

    Raises:
        ProtocolError: it is too long, not JSON, of no known type, or a field is missing, unknown or out of range.
    """
    if len(text) > most:
        raise ProtocolError(f"a message is at most {most} bytes long")
    return _decode(text, _CLIENT)


def decode_server(text: str) -> ServerEvent:
    """The server's event in ``text``.

    Raises:
        ProtocolError: as for :func:`decode_client`.
    """
    return _decode(text, _SERVER)


def encode_state(state: bytes) -> str:
    """A state as it stands in a message."""
    return base64.b64encode(state).decode("ascii")


def decode_state(text: object) -> bytes:
    """The inverse of :func:`encode_state`.

    Raises:
        ProtocolError: it is too long, or no base64.
    """
    try:
        if type(text) is not str or len(text) > MAX_OPEN_BYTES - MAX_MESSAGE_BYTES:
            raise ValueError
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise ProtocolError(f"state is at most {MAX_STATE_BYTES} bytes in base64") from None


def pack_frame(index: int, pcm: bytes) -> bytes:
    """The binary message for one frame: its place as a little-endian u64, then 3,840 bytes of PCM."""
    if len(pcm) != FRAME_BYTES:
        raise ProtocolError(f"a frame is {FRAME_BYTES} bytes of PCM, not {len(pcm)}")
    return _HEADER.pack(index) + pcm


def unpack_frame(message: bytes) -> tuple[int, bytes]:
    """The inverse of :func:`pack_frame`.

    Raises:
        ProtocolError: the message has another length.
    """
    if len(message) != _HEADER.size + FRAME_BYTES:
        raise ProtocolError(f"a frame's message is {_HEADER.size + FRAME_BYTES} bytes, not {len(message)}")
    return _HEADER.unpack_from(message)[0], message[_HEADER.size :]


T = TypeVar("T")


def _decode(text: str, kinds: Mapping[str, type[T]]) -> T:
    try:
        body = json.loads(text)
    except (ValueError, RecursionError):
        raise ProtocolError("a message is one JSON object") from None
    if not isinstance(body, dict):
        raise ProtocolError("a message is one JSON object")
    name = body.pop("type", None)
    kind = kinds.get(name) if isinstance(name, str) else None
    if kind is None:
        raise ProtocolError(f"a message's type is one of: {', '.join(kinds)}")
    known: dict[str, Any] = {field.name: field for field in fields(kind)}  # type: ignore[arg-type]
    if unknown := sorted(set(body) - set(known)):
        raise ProtocolError(f"{name}: no such field: {', '.join(unknown)}")
    try:
        return kind(**body)
    except (TypeError, RecursionError):  # the latter: quoting a value nested as deep as JSON just allows
        raise ProtocolError(f"{name}: needs the fields {', '.join(known)}") from None


def _need_int(name: str, value: object, low: int, high: int) -> None:
    if type(value) is not int or not low <= value <= high:
        raise ProtocolError(f"{name} is a whole number from {low} to {high}")


def _need_type(name: str, value: object, kind: type) -> None:
    if type(value) is not kind:
        raise ProtocolError(f"{name} is {'true or false' if kind is bool else 'a text'}")


def _need_gain(value: object) -> None:
    if type(value) not in (int, float) or not 0 <= value <= 1:  # type: ignore[operator]
        raise ProtocolError("volume is a number from 0 to 1")
