"""What waits for a client: in order, and a snapshot only together with the frames that it tells of."""

from hypothesis import given
from hypothesis import strategies as st

from generator.outbox import Outbox
from generator.protocol import AHEAD_FRAMES

steps = st.lists(
    st.tuples(st.just("window"), st.integers(0, 60), st.integers(0, 40))
    | st.tuples(st.just("take"), st.integers(1, 80), st.just(0))
    | st.tuples(st.just("play"), st.integers(1, 80), st.just(0)),
    max_size=40,
)


@given(steps)
def test_a_snapshot_comes_after_all_its_frames_and_none_outlives_them(script: list[tuple[str, int, int]]) -> None:
    """Windows that reach back or follow, a client that takes and plays: each version of a frame has a name."""
    box, made, end, version = Outbox(0), dict[int, bytes](), 0, 0
    heard, snapshots = dict[int, bytes](), dict[str, dict[int, bytes]]()
    for kind, first, second in script:
        match kind:
            case "window":
                version += 1
                start = max(0, end - first)
                end = start + max(second, 1)
                frames = [f"{version}".encode()] * (end - start)
                made = {place: name for place, name in made.items() if place < start} | dict(
                    zip(range(start, end), frames, strict=True)
                )
                box.drop_from(start)
                box.put_frames(start, frames)
                box.put_snapshot(end, str(version))
                snapshots[str(version)] = dict(made)
            case "play":
                box.playhead = min(box.playhead + first, len(heard))
            case _:
                for _ in range(first):
                    match box.take():
                        case None:
                            break
                        case str() as told:
                            assert heard == snapshots[told]
                        case place, pcm:
                            assert place < box.playhead + AHEAD_FRAMES
                            heard = {at: old for at, old in heard.items() if at < place} | {place: pcm}
    box.playhead = end
    last = None
    while (item := box.take()) is not None:
        last = item
        if isinstance(item, tuple):
            heard = {at: old for at, old in heard.items() if at < item[0]} | {item[0]: item[1]}
    assert heard == made
    assert last is None or last == str(version)


def test_snapshots_of_the_same_frames_do_not_pile_up() -> None:
    box = Outbox(0)
    box.put_frames(0, [b""])
    for number in range(1_000):
        box.drop_from(1)
        box.put_snapshot(1, str(number))
    assert len(box) == 2
    assert [box.take(), box.take(), box.take()] == [(0, b""), "999", None]
