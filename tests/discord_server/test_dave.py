"""The loopback's own encryption: whoever is in a call hears the others, and nobody else does."""

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.discord_server.dave import Dave, Person
from tests.discord_server.mls import ExternalSender, read_commit, vector

CHANNEL = 77
FRAME = b"an Opus packet"


@settings(max_examples=12)
@given(moves=st.lists(st.integers(1, 5), min_size=2, max_size=9))
async def test_who_is_there_hears_the_others_and_nobody_else_does(moves: list[int]) -> None:
    """Each move is somebody's who comes or, if there, goes."""
    dave = Dave(bot=0)
    there: set[int] = set()
    gone: list[Person] = []
    for user in moves:
        if user in there:
            gone.append(dave.people[user])
        there ^= {user}
        await dave.person_is_in(user, CHANNEL if user in there else None)
        call = dave.call(CHANNEL)
        assert set(call.members) == (there if len(there) > 1 else set())
        for speaker in call.members:
            frame = dave.people[speaker].say(FRAME)
            assert FRAME not in frame
            assert dave.people[speaker].leaf == call.leaves.index(speaker)
            for listener in there - {speaker}:
                assert dave.people[listener].hear(speaker, frame) == FRAME
            for person in gone:
                assert person.hear(speaker, frame) is None


@given(content=st.binary(max_size=20_000))
def test_vectors_say_how_long_they_are(content: bytes) -> None:
    found = vector(content)
    size = 1 << (found[0] >> 6)
    assert int.from_bytes(found[:size], "big") & ((1 << (8 * size - 2)) - 1) == len(content)
    assert found[size:] == content


def test_a_proposal_is_no_commit() -> None:
    for message in (ExternalSender().remove(CHANNEL, 1, 0), b"", b"\0\1\0\1"):
        try:
            read_commit(message)
        except ValueError:
            continue
        raise AssertionError("it was taken for one")
