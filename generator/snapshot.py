"""What a stream needs of its past to go on in another process: as bytes, and back. Torch-free.

Safetensors, with the score and the model's name as JSON in its metadata. The bytes come back from a client, so nothing
in them is believed that was not looked at.
"""

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import safetensors
import safetensors.numpy
from numpy.typing import NDArray

from generator.protocol import FRAME_SAMPLES, MAX_FRAME_INDEX, MAX_SEED, MAX_STATE_BYTES, Controls, ProtocolError
from generator.section import Section

#: Frames before the place where a stream goes on whose sound travels to the bit: what is widened, and weighed for
#: loudness, reaches back into it.
SHARP_FRAMES: Final = 5
MAX_FRAMES: Final = 4_096  #: of the past
MAX_POINTS: Final = 1_024  #: of a line
LOUDEST: Final = 100.0  #: far beyond what sound, Mel or level can be

#: What reading bytes that are no state can raise.
UNREADABLE: Final = (safetensors.SafetensorError, KeyError, RecursionError, TypeError, ValueError, struct.error)


@dataclass(frozen=True)
class Past:
    """A stream's past, as of the end of a window.

    Attributes:
        model: digest of the one that made it.
        position: place where new sound begins.
        held: frames after it that are there already, for the next window to take over from.
        seed: the stream's.
        section: what is played from ``position`` on.
        before: what was played up to there.
        mel: [bands, columns], normalised, up to ``position + held``; half precision when it has travelled.
        sound: [samples], at unity gain, up to ``position + held``; but for the last ``SHARP_FRAMES`` before
            ``position`` and all after it, half precision when it has travelled.
        powers: [frames], K-weighted mean squares, up to ``position``.
        levels: [points, 2], places relative to ``position``, and the leveller's gain there, dB.
        gains: [points, 2], likewise of the volume, 0 to 1.
    """

    model: str
    position: int
    held: int
    seed: int
    section: Section
    before: Section
    mel: NDArray[np.float32]
    sound: NDArray[np.float32]
    powers: NDArray[np.float64]
    levels: NDArray[np.float64]
    gains: NDArray[np.float64]

    @property
    def volume(self) -> float:
        """The gain at which it plays, or to which it is on its way."""
        return float(self.gains[-1, 1])


def half(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """As they are once they have travelled at half precision."""
    return values.astype(np.float16).astype(np.float32)


def relative(points: list[tuple[int, float]], origin: int, first: int) -> NDArray[np.float64]:
    """The points of a line that have a say from ``first`` on, by their distance from ``origin``: [points, 2]."""
    late = max((at for at, (place, _) in enumerate(points) if place <= first), default=0)
    return np.array([(place - origin, value) for place, value in points[late:]], np.float64).reshape(-1, 2)


def absolute(line: NDArray[np.float64], origin: int) -> list[tuple[int, float]]:
    """The inverse of :func:`relative`."""
    return [(origin + int(place), float(value)) for place, value in line]


def encode_past(past: Past) -> bytes:
    """The past as bytes."""
    sharp = max(0, len(past.sound) - (SHARP_FRAMES + past.held) * FRAME_SAMPLES)
    tensors: dict[str, NDArray[Any]] = {
        "mel": past.mel.astype(np.float16),
        "sound": past.sound[:sharp].astype(np.float16),
        "sharp": past.sound[sharp:].astype(np.float32),
        "powers": past.powers,
        "levels": past.levels,
        "gains": past.gains,
    }
    about = {
        "model": past.model,
        "position": past.position,
        "held": past.held,
        "seed": past.seed,
        "section": _section_to_json(past.section),
        "before": _section_to_json(past.before),
    }
    plain = {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}
    return safetensors.numpy.save(plain, {"past": json.dumps(about)})


def decode_past(data: bytes) -> Past:
    """What :func:`encode_past` made.

    Raises:
        ProtocolError: it is something else, or nothing that a stream can have behind it.
    """
    if len(data) > MAX_STATE_BYTES:
        raise ProtocolError(f"a state is at most {MAX_STATE_BYTES} bytes long")
    try:
        tensors = safetensors.numpy.load(data)
        (length,) = struct.unpack_from("<Q", data)
        about = json.loads(json.loads(data[8 : 8 + length])["__metadata__"]["past"])
        return _past(about, tensors)
    except ProtocolError:
        raise
    except UNREADABLE:
        raise ProtocolError("this is not the state of a stream") from None


def _past(about: Mapping[str, Any], tensors: Mapping[str, NDArray[Any]]) -> Past:
    if set(about) != {"model", "position", "held", "seed", "section", "before"}:
        raise ProtocolError("a state tells model, position, held, seed, section and before, and nothing else")
    if set(tensors) != {"mel", "sound", "sharp", "powers", "levels", "gains"}:
        raise ProtocolError("a state holds mel, sound, sharp, powers, levels and gains, and nothing else")
    if type(about["model"]) is not str:
        raise ProtocolError("a state's model is a text")
    position = _whole("position", about["position"], 0, MAX_FRAME_INDEX)
    held = _whole("held", about["held"], 0, MAX_FRAMES)
    seed = _whole("seed", about["seed"], 0, MAX_SEED)
    _tensor(tensors, "mel", np.float16, 2, -LOUDEST)
    for name, kind in (("sound", np.float16), ("sharp", np.float32)):
        _tensor(tensors, name, kind, 1, -LOUDEST)
        if len(tensors[name]) % FRAME_SAMPLES:
            raise ProtocolError(f"a state's {name} is whole frames")
    sound = np.concatenate([tensors["sound"].astype(np.float32), tensors["sharp"]])
    powers = _tensor(tensors, "powers", np.float64, 1, 0.0)
    if not held <= len(tensors["sharp"]) // FRAME_SAMPLES <= held + SHARP_FRAMES:
        raise ProtocolError("a state's sharp sound is what is held and a little before")
    if not len(sound) // FRAME_SAMPLES - held <= len(powers) <= min(position, MAX_FRAMES):
        raise ProtocolError("a state's powers reach from before its sound up to its position")
    levels = _line("levels", _tensor(tensors, "levels", np.float64, 2, -np.inf), -LOUDEST, LOUDEST)
    gains = _line("gains", _tensor(tensors, "gains", np.float64, 2, -np.inf), 0.0, 1.0)
    if not len(gains):
        raise ProtocolError("a state has a gain")
    section, before = (_section_from_json(about[name], seed, position) for name in ("section", "before"))
    mel = tensors["mel"].astype(np.float32)
    return Past(about["model"], position, held, seed, section, before, mel, sound, powers, levels, gains)


def _whole(name: str, value: object, low: int, high: int) -> int:
    if type(value) is not int or not low <= value <= high:
        raise ProtocolError(f"a state's {name} is a whole number from {low} to {high}")
    return value


def _tensor(
    tensors: Mapping[str, NDArray[Any]], name: str, kind: type[np.floating[Any]], axes: int, least: float
) -> NDArray[Any]:
    tensor = tensors[name]
    if tensor.dtype != kind or tensor.ndim != axes:
        raise ProtocolError(f"a state's {name} has {axes} axes of {np.dtype(kind).name}")
    if not np.isfinite(tensor).all() or (np.isfinite(least) and not ((tensor >= least) & (tensor <= LOUDEST)).all()):
        raise ProtocolError(f"a state's {name} is finite and within reason")
    return tensor


def _line(name: str, points: NDArray[np.float64], low: float, high: float) -> NDArray[np.float64]:
    if points.shape[1] != 2 or len(points) > MAX_POINTS:
        raise ProtocolError(f"a state's {name} are at most {MAX_POINTS} places with a value each")
    places, values = points.T
    orderly = (places == np.floor(places)).all() and (np.diff(places) >= 0).all()
    if not orderly or np.abs(places).max(initial=0) > MAX_FRAME_INDEX:
        raise ProtocolError(f"a state's {name} are at whole places in a row")
    if values.min(initial=low) < low or values.max(initial=high) > high:
        raise ProtocolError(f"a state's {name} are from {low:g} to {high:g}")
    return points


def _section_to_json(section: Section) -> dict[str, Any]:
    """A section, and the bridge to it; their seed is the stream's, and a bridge leads where it stands."""
    controls, bridge = section.controls, section.bridge
    return {
        "mood": controls.mood,
        "intensity": controls.intensity,
        "blend": controls.blend,
        "origin": section.origin,
        "home": section.home,
        "bridge": None if bridge is None else _section_to_json(bridge),
    }


def _section_from_json(body: Mapping[str, Any], seed: int, position: int, toward: Controls | None = None) -> Section:
    if set(body) != {"mood", "intensity", "blend", "origin", "home", "bridge"}:
        raise ProtocolError("a state's section has mood, intensity, blend, origin, home and bridge, and nothing else")
    controls = Controls(body["mood"], body["intensity"], body["blend"])
    home = None if body["home"] is None else _whole("home", body["home"], 0, 11)
    if body["bridge"] is None:
        return Section(controls, seed, _whole("origin", body["origin"], 0, position), home, toward)
    if toward is not None:
        raise ProtocolError("a state's bridge has no bridge to it")
    bridge = _section_from_json(body["bridge"], seed, position, controls)
    end = bridge.origin + bridge.length
    return Section(controls, seed, _whole("origin", body["origin"], end, end), home, bridge=bridge)
