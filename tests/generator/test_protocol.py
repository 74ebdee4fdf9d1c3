"""The wire: what goes in comes out, and nothing else gets in."""

import json
import math
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from generator.moods import MOODS, Mood
from generator.protocol import (
    FRAME_BYTES,
    MAX_FRAME_INDEX,
    MAX_MESSAGE_BYTES,
    MAX_OPEN_BYTES,
    MAX_SEED,
    MAX_STATE_BYTES,
    TRANSITIONS,
    ClientMessage,
    Controls,
    MoodLands,
    Open,
    Opened,
    Pace,
    Playhead,
    Problem,
    ProtocolError,
    ServerEvent,
    SetMood,
    SetVolume,
    Snapshot,
    decode_client,
    decode_server,
    decode_state,
    encode,
    encode_state,
    pack_frame,
    unpack_frame,
)

FIGHT = Mood("fight")
moods = st.sampled_from(MOODS)
places = st.integers(0, MAX_FRAME_INDEX)
gains = st.floats(0, 1)
intensities = st.integers(1, 5)
lengths = st.floats(0, allow_nan=False, allow_infinity=False)
client_messages = st.one_of(
    st.builds(
        Open,
        mood=moods,
        seed=st.integers(0, MAX_SEED),
        volume=gains,
        intensity=intensities,
        start=places,
        blend=st.none() | moods,
        states=st.booleans(),
        state=st.none() | st.binary(max_size=60).map(encode_state),
    ),
    st.builds(
        SetMood,
        mood=moods,
        playhead=places,
        intensity=intensities,
        blend=st.none() | moods,
        transition=st.sampled_from(TRANSITIONS),
    ),
    st.builds(SetVolume, volume=gains, playhead=places),
    st.builds(Playhead, frame=places),
)
server_events = st.one_of(
    st.builds(Opened, model=st.text(), continues=st.booleans()),
    st.builds(Snapshot, frame=places, state=st.binary(max_size=60).map(encode_state)),
    st.builds(MoodLands, mood=moods, intensity=intensities, frame=places, blend=st.none() | moods),
    st.builds(Pace, audio_seconds=lengths, compute_seconds=lengths),
    st.builds(Problem, code=st.text(), message=st.text(), fatal=st.booleans()),
)
json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | moods,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=10,
)
field_names = st.sampled_from(
    ["mood", "seed", "volume", "intensity", "start", "playhead", "frame", "self", "type", "kind", "blend", "transition"]
)


@given(client_messages)
def test_a_client_message_survives_the_wire(message: ClientMessage) -> None:
    assert decode_client(encode(message)) == message


@given(client_messages)
def test_a_client_message_is_far_shorter_than_the_bound(message: ClientMessage) -> None:
    assert len(encode(message).encode()) < MAX_MESSAGE_BYTES / 8


@given(server_events)
def test_a_server_event_survives_the_wire(event: ServerEvent) -> None:
    text = encode(event)
    assert "\n" not in text
    assert decode_server(text) == event


@given(places, st.binary(min_size=FRAME_BYTES, max_size=FRAME_BYTES))
def test_a_frame_survives_the_wire(place: int, pcm: bytes) -> None:
    assert unpack_frame(pack_frame(place, pcm)) == (place, pcm)


@given(st.binary(max_size=64) | st.binary(min_size=FRAME_BYTES, max_size=FRAME_BYTES + 7))
def test_a_binary_message_of_another_length_is_refused(message: bytes) -> None:
    with pytest.raises(ProtocolError):
        unpack_frame(message)


@given(st.binary(max_size=FRAME_BYTES - 1))
def test_a_frame_of_another_length_is_never_packed(pcm: bytes) -> None:
    with pytest.raises(ProtocolError):
        pack_frame(0, pcm)


def only_protocol_errors(text: str) -> None:
    for decode in (decode_client, decode_server):
        with suppress(ProtocolError):
            decode(text)


@given(st.text())
def test_random_text_raises_nothing_else(text: str) -> None:
    only_protocol_errors(text)


@given(json_values)
def test_random_json_raises_nothing_else(value: object) -> None:
    only_protocol_errors(json.dumps(value))


@given(
    st.sampled_from(["open", "mood", "volume", "playhead"]),
    st.dictionaries(field_names, json_values | st.integers(-1, 6), max_size=6),
)
def test_random_fields_raise_nothing_else_and_get_in_only_when_valid(kind: str, fields: dict[str, Any]) -> None:
    text = json.dumps({**fields, "type": kind})
    only_protocol_errors(text)
    try:
        message = decode_client(text)
    except ProtocolError:
        return
    # Whatever was let in is a message that the client could have made by the rules.
    assert decode_client(encode(message)) == message
    for name in ("start", "playhead", "frame", "seed"):
        if hasattr(message, name):
            assert type(getattr(message, name)) is int
            assert getattr(message, name) >= 0
    if isinstance(message, Open | SetVolume):
        assert 0 <= message.volume <= 1


@pytest.mark.parametrize("opening", ["[", '{"a":'])
@pytest.mark.parametrize("room", ["", "mood"])
def test_deep_nesting_raises_nothing_else(opening: str, room: str) -> None:
    closing = "]" if opening == "[" else "}"
    for depth in (10, 500, *range(900, 1010), 1300):
        nest = opening * depth + "1" + closing * depth
        only_protocol_errors('{"type":"mood","playhead":0,"mood":' + nest + "}" if room else nest)


@pytest.mark.parametrize(
    "text",
    [
        '{"type":"volume","playhead":0,"volume":NaN}',
        '{"type":"volume","playhead":0,"volume":Infinity}',
        '{"type":"volume","playhead":0,"volume":true}',
        '{"type":"volume","playhead":0}',
        '{"type":"playhead","frame":-1}',
        '{"type":"playhead","frame":1.0}',
        '{"type":"playhead","frame":true}',
        '{"type":"playhead","frame":' + "9" * 4050 + "}",
        '{"type":"playhead","frame":0,"self":1}',
        '{"type":"playhead","frame":0,"more":1}',
        '{"type":"mood","mood":"Fight","playhead":0}',
        '{"type":"mood","mood":null,"playhead":0}',
        '{"type":"mood","mood":"fight","playhead":0,"blend":"brawl"}',
        '{"type":"mood","mood":"fight","playhead":0,"blend":false}',
        '{"type":"mood","mood":"fight","playhead":0,"transition":"soon"}',
        '{"type":"mood","mood":"fight","playhead":0,"transition":null}',
        '{"type":"open","mood":"fight","seed":0,"blend":"Sad"}',
        '{"type":"open","mood":"fight","seed":4294967296}',
        '{"type":"open","mood":"fight","seed":0,"intensity":6}',
        '{"type":"opened","model":"x"}',
        '{"frame":0}',
        '{"type":["playhead"],"frame":0}',
        " " * MAX_MESSAGE_BYTES + '{"type":"playhead","frame":0}',
        "",
    ],
)
def test_what_breaks_a_rule_is_refused(text: str) -> None:
    with pytest.raises(ProtocolError):
        decode_client(text)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ('{"type":"open","mood":"fight","seed":1}', Controls(FIGHT)),
        ('{"type":"mood","mood":"fight","playhead":9,"intensity":5}', Controls(FIGHT, 5)),
    ],
)
def test_what_a_client_said_before_there_were_blends_still_means_the_same(text: str, meant: Controls) -> None:
    message = decode_client(text)
    assert isinstance(message, Open | SetMood)
    assert message.controls == meant
    assert isinstance(message, Open) or message.transition == "sudden"
    assert decode_server('{"type":"lands","mood":"fight","intensity":3,"frame":9}') == MoodLands(FIGHT, 3, 9)


@given(moods, st.none() | moods, intensities)
def test_equal_controls_are_equal_music(mood: Mood, blend: Mood | None, intensity: int) -> None:
    """A mood blended with itself is the mood, wherever it is said."""
    controls = Controls(mood, intensity, blend)
    assert (controls == Controls(mood, intensity)) is (blend in (None, mood))
    assert controls.moods == ((mood,) if blend in (None, mood) else (mood, blend))
    for message in (Open(mood, 1, 1.0, intensity, 0, blend), SetMood(mood, 0, intensity, blend)):
        assert message.controls == controls
    assert MoodLands(mood, intensity, 0, blend).controls == controls


def test_an_unknown_mood_is_answered_with_the_eight() -> None:
    with pytest.raises(ProtocolError, match=", ".join(MOODS)):
        decode_client('{"type":"open","mood":"brawl","seed":1}')


def test_no_message_can_be_built_with_a_value_that_is_not_a_number() -> None:
    with pytest.raises(ProtocolError):
        SetVolume(math.nan, 0)


@given(st.text(max_size=50))
def test_a_refusal_is_a_sentence_that_can_be_sent(mood: str) -> None:
    with pytest.raises(ProtocolError) as refusal:
        decode_client(json.dumps({"type": "mood", "playhead": 0, "mood": "~" + mood}))
    assert decode_server(encode(Problem("malformed", str(refusal.value)))) == Problem("malformed", str(refusal.value))


@pytest.mark.parametrize(
    "field", ['"origin":9', '"origin":-1', '"origin":true', '"home":12', '"home":"C"', '"beside":1', '"bars":null']
)
def test_a_piece_begins_no_later_than_its_stream_and_has_a_home_of_twelve(field: str) -> None:
    body = f'{{"type":"open","mood":"sad","seed":1,"start":8,{field}}}'
    with pytest.raises(ProtocolError):
        decode_client(body)
    decode_client('{"type":"open","mood":"sad","seed":1,"start":8,"origin":8,"home":11,"beside":true,"bars":false}')


def test_only_what_may_open_a_stream_may_be_as_long_as_a_state() -> None:
    opening = encode(Open(FIGHT, 1, state=encode_state(bytes(MAX_STATE_BYTES))))
    assert MAX_STATE_BYTES < len(opening) < MAX_OPEN_BYTES
    message = decode_client(opening, MAX_OPEN_BYTES)
    assert isinstance(message, Open)
    assert decode_state(message.state) == bytes(MAX_STATE_BYTES)
    with pytest.raises(ProtocolError, match=f"at most {MAX_MESSAGE_BYTES} bytes"):
        decode_client(opening)


@pytest.mark.parametrize("state", ["-", "====", "AA", "ä", 7, ["AAAA"], "A" * (4 * MAX_STATE_BYTES // 3 + 400)])
def test_a_state_is_base64_of_some_length(state: object) -> None:
    text = json.dumps({"type": "open", "mood": "sad", "seed": 1, "state": state})
    with pytest.raises(ProtocolError, match="state is at most"):
        decode_client(text, 2 * MAX_OPEN_BYTES)


@pytest.mark.parametrize(
    "text",
    [
        '{"type":"snapshot","frame":"x","state":"AAAA"}',
        '{"type":"snapshot","frame":-1,"state":"AAAA"}',
        '{"type":"snapshot","frame":5,"state":"?"}',
        '{"type":"problem","code":["x"],"message":"m"}',
        '{"type":"problem","code":"x","message":3}',
        '{"type":"problem","code":"x","message":"m","fatal":"yes"}',
        '{"type":"lands","mood":["x"],"intensity":3,"frame":0}',
        '{"type":"lands","mood":"sad","intensity":3,"frame":"0"}',
        '{"type":"pace","audio_seconds":"a","compute_seconds":1}',
        '{"type":"pace","audio_seconds":1,"compute_seconds":-1}',
        '{"type":"pace","audio_seconds":1,"compute_seconds":NaN}',
        '{"type":"opened","model":null}',
    ],
)
def test_a_server_that_talks_nonsense_is_refused(text: str) -> None:
    with pytest.raises(ProtocolError):
        decode_server(text)
