import asyncio
from collections.abc import AsyncIterator, Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from bot.backoff import Backoff, Round
from bot.client import Away, Connected, FixedEndpoint, GeneratorClient, Wish
from bot.errors import GeneratorError
from bot.fake import AMPLITUDE, PITCHES, FakeGenerator
from bot.jitter_buffer import LEAD_FRAMES
from generator.moods import Mood
from generator.protocol import AHEAD_FRAMES, SAMPLE_RATE, Controls, MoodLands, Opened, Problem
from tests.bot.conftest import Ear, dice

TAVERN, FIGHT, SAD = Mood("tavern"), Mood("fight"), Mood("sad")


async def until(true: Callable[[], object], seconds: float = 20.0) -> None:
    async with asyncio.timeout(seconds):
        while not true():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


def make(fake: FakeGenerator, ear: Ear, token: str | None = None, stalled_seconds: float = 30.0) -> GeneratorClient:
    return GeneratorClient(
        FixedEndpoint(fake.url, token),
        ear,
        Wish(Controls(TAVERN), 0.5),
        seed=7,
        rng=dice(1),
        stalled_seconds=stalled_seconds,
    )


@pytest.fixture
async def ear() -> Ear:
    return Ear()


@pytest.fixture
async def client(fake: FakeGenerator, ear: Ear) -> AsyncIterator[GeneratorClient]:
    line = make(fake, ear)
    line.start()
    yield line
    await line.close()


def play(client: GeneratorClient, ear: Ear, frames: int) -> None:
    for _ in range(frames):
        ear.buffer.next()
    client.advance(ear.buffer.playhead)


async def test_frames_come_up_to_the_credit_and_no_further(
    client: GeneratorClient, ear: Ear, fake: FakeGenerator
) -> None:
    await until(lambda: ear.buffer.ready == AHEAD_FRAMES)
    await asyncio.sleep(0.1)
    assert ear.frames == list(range(AHEAD_FRAMES))
    play(client, ear, 100)
    await until(lambda: ear.buffer.ready == AHEAD_FRAMES)
    assert ear.frames == list(range(AHEAD_FRAMES + 100))
    assert client.connected
    assert client.model == "sines"
    assert (fake.opens[0].mood, fake.opens[0].seed, fake.opens[0].volume) == (TAVERN, 7, 0.5)
    assert [type(event) for event in ear.events[:3]] == [Opened, MoodLands, Connected]


async def test_a_change_lands_soon_and_the_newest_wins(client: GeneratorClient, ear: Ear) -> None:
    await until(lambda: ear.buffer.ready == AHEAD_FRAMES)
    play(client, ear, 50)
    client.set_mood(Controls(FIGHT))
    client.set_mood(Controls(SAD, 5))
    await until(lambda: MoodLands(SAD, 5, 60) in ear.events)
    await until(lambda: ear.buffer.ready == AHEAD_FRAMES)
    assert not any(isinstance(event, MoodLands) and event.mood == FIGHT for event in ear.events)


async def test_a_blend_and_how_it_is_reached_are_told_and_the_same_again_is_not(
    client: GeneratorClient, ear: Ear, fake: FakeGenerator
) -> None:
    await until(lambda: ear.buffer.ready == AHEAD_FRAMES)
    client.set_mood(Controls(FIGHT, 4, SAD), "slow")
    await until(lambda: MoodLands(FIGHT, 4, 10, SAD) in ear.events)
    client.set_mood(Controls(FIGHT, 4, SAD))
    client.set_volume(0.3)
    client.set_mood(Controls(FIGHT))
    await until(lambda: MoodLands(FIGHT, 3, 10) in ear.events)
    assert [(each.controls, each.transition) for each in fake.changes] == [
        (Controls(FIGHT, 4, SAD), "slow"),
        (Controls(FIGHT), "sudden"),
    ]
    client.set_mood(Controls(SAD, 1, TAVERN))
    fake.break_lines()
    await until(lambda: len(fake.opens) == 2)
    assert fake.opens[1].controls == Controls(SAD, 1, TAVERN)


async def test_it_resumes_where_the_buffer_ends(client: GeneratorClient, ear: Ear, fake: FakeGenerator) -> None:
    await until(lambda: ear.buffer.ready == AHEAD_FRAMES)
    play(client, ear, 50)
    await until(lambda: ear.buffer.ready == AHEAD_FRAMES)
    fake.break_lines()
    await until(lambda: len(fake.opens) == 2)
    assert fake.opens[1].start == AHEAD_FRAMES + 50
    assert fake.opens[1].mood == TAVERN
    play(client, ear, 100)
    await until(lambda: ear.buffer.ready == AHEAD_FRAMES)
    assert ear.buffer.counts.held == 0
    assert sum(isinstance(event, Away) for event in ear.events) == 1


@pytest.mark.parametrize("wish", [Wish(Controls(FIGHT), 0.5), Wish(Controls(TAVERN), 0.1)], ids=["mood", "volume"])
async def test_a_change_does_not_wait_until_what_an_earlier_stream_sent_was_heard(
    client: GeneratorClient, ear: Ear, fake: FakeGenerator, wish: Wish
) -> None:
    await until(lambda: ear.buffer.ready == AHEAD_FRAMES)
    play(client, ear, 50)
    await until(lambda: ear.buffer.ready == AHEAD_FRAMES)
    fake.break_lines()
    await until(lambda: len(fake.opens) == 2)
    assert fake.opens[1].start == AHEAD_FRAMES + 50
    client.set_mood(wish.controls)
    client.set_volume(wish.volume)
    await until(lambda: len(fake.opens) == 3)
    assert fake.opens[2].start == 50 + LEAD_FRAMES
    assert (fake.opens[2].controls, fake.opens[2].volume) == (wish.controls, wish.volume)
    await until(lambda: client.connected)
    assert sum(isinstance(event, Away) for event in ear.events) == 1  # it was no outage
    client.set_volume(0.2)  # this stream can be changed where the ear is
    await until(lambda: [volume for _, volume in fake.wishes] == [0.2])
    assert len(fake.opens) == 3


async def test_a_volume_that_was_asked_while_away_is_heard_at_once(
    client: GeneratorClient, ear: Ear, fake: FakeGenerator
) -> None:
    await until(lambda: ear.buffer.ready == AHEAD_FRAMES)
    await fake.leave()
    await until(lambda: any(isinstance(event, Away) for event in ear.events))
    client.set_volume(0.1)
    await fake.come()
    await until(lambda: len(fake.opens) == 2)
    assert (fake.opens[1].start, fake.opens[1].volume) == (LEAD_FRAMES, 0.1)


async def test_what_was_asked_while_away_is_what_it_opens_with(
    client: GeneratorClient, ear: Ear, fake: FakeGenerator
) -> None:
    await until(lambda: ear.buffer.ready == AHEAD_FRAMES)
    play(client, ear, 100)
    await fake.leave()
    await until(lambda: any(isinstance(event, Away) for event in ear.events))
    client.set_mood(Controls(FIGHT))
    client.set_mood(Controls(SAD, 2))
    client.set_volume(0.25)
    await fake.come()
    await until(lambda: len(fake.opens) == 2)
    opening = fake.opens[1]
    assert (opening.mood, opening.intensity, opening.volume) == (SAD, 2, 0.25)
    assert 100 < opening.start < 200
    await until(lambda: client.connected)


async def test_a_change_that_a_server_took_to_its_grave_is_made_by_the_next(
    client: GeneratorClient, ear: Ear, fake: FakeGenerator
) -> None:
    await until(lambda: ear.buffer.ready == AHEAD_FRAMES)
    fake.deaf = True
    client.set_mood(Controls(FIGHT))
    await asyncio.sleep(0.1)
    fake.deaf = False
    fake.break_lines()
    await until(lambda: len(fake.opens) == 2)
    assert fake.opens[1].mood == FIGHT
    assert fake.opens[1].start < AHEAD_FRAMES


async def test_a_server_that_falls_silent_is_left(fake: FakeGenerator, ear: Ear) -> None:
    client = make(fake, ear, stalled_seconds=0.2)
    client.start()
    try:
        await until(lambda: ear.buffer.ready == AHEAD_FRAMES)
        await asyncio.sleep(0.5)
        assert fake.lines == 1, "it has sent all that it may: that is no stall"
        fake.stalled = True
        play(client, ear, 50)
        await until(lambda: len(fake.opens) >= 2)
        assert any(isinstance(event, Away) and "nothing for" in event.reason for event in ear.events)
    finally:
        await client.close()


async def test_what_nobody_foresaw_is_a_line_that_broke(
    client: GeneratorClient, ear: Ear, fake: FakeGenerator, monkeypatch: pytest.MonkeyPatch
) -> None:
    await until(lambda: ear.buffer.ready == AHEAD_FRAMES)
    with monkeypatch.context() as patch:
        patch.setattr("bot.client.unpack_frame", lambda _: 1 / 0)
        play(client, ear, 50)
        await until(lambda: any(isinstance(event, Away) for event in ear.events))
    await until(lambda: client.connected)
    assert "does not understand" in next(event.reason for event in ear.events if isinstance(event, Away))


@pytest.mark.parametrize(("token", "refused"), [("right", False), ("wrong", True), (None, True)])
async def test_the_token(token: str | None, refused: bool) -> None:
    async with FakeGenerator(token="right") as fake:
        ear = Ear()
        client = make(fake, ear, token)
        client.start()
        try:
            await until(lambda: len(ear.events) >= 2)
        finally:
            await client.close()
    problems = [event for event in ear.events if isinstance(event, Problem)]
    assert bool(problems) is refused
    if refused:
        assert problems[0].fatal
        assert "BARDCAST_TOKEN" in problems[0].message


async def test_a_fatal_problem_is_told_and_not_hammered(fake: FakeGenerator, ear: Ear) -> None:
    fake.problem = Problem("full", "all streams are taken", fatal=True)
    client = make(fake, ear)
    client.start()
    try:
        await until(lambda: Away("all streams are taken") in ear.events)
        await asyncio.sleep(0.7)
        assert len(fake.opens) == 1
    finally:
        await client.close()


async def test_an_endpoint_that_is_not_there_yet_is_asked_again(fake: FakeGenerator, ear: Ear) -> None:
    class Late:
        token = None
        calls = 0

        async def urls(self) -> tuple[str, ...]:
            self.calls += 1
            if self.calls < 3:
                raise GeneratorError("still starting")
            return (fake.url,)

    client = GeneratorClient(Late(), ear, Wish(Controls(SAD), 1.0), seed=1, rng=dice(2))
    client.start()
    try:
        await until(lambda: client.connected)
        assert ear.events[:2] == [Away("still starting")] * 2
    finally:
        await client.close()


# Going on from a state


def heard(ear: Ear, client: GeneratorClient, frames: int) -> NDArray[np.int16]:
    """What is played next."""
    sound = np.concatenate([ear.buffer.next() for _ in range(frames)])
    client.advance(ear.buffer.playhead)
    return sound


def pure(sound: NDArray[np.int16], mood: Mood) -> bool:
    """Whether it is one sine, without a seam anywhere: each sample follows from the two before."""
    mono = sound[:, 0].astype(float)
    turn = 2 * np.cos(2 * np.pi * PITCHES[mood] / SAMPLE_RATE)
    return bool(np.abs(mono[2:] - turn * mono[1:-1] + mono[:-2]).max() < 3)


@pytest.mark.parametrize("forgetful", [False, True])
async def test_music_goes_on_from_the_last_state_without_a_seam(
    client: GeneratorClient, ear: Ear, fake: FakeGenerator, forgetful: bool
) -> None:
    await until(lambda: ear.buffer.ready == AHEAD_FRAMES)
    heard(ear, client, 50)  # it fades in
    sound = [heard(ear, client, 20)]
    await until(lambda: ear.buffer.ready == AHEAD_FRAMES)
    fake.forgetful = forgetful
    fake.break_lines()
    await until(lambda: len(fake.opens) == 2)
    assert fake.opens[1].start == AHEAD_FRAMES + 50, "and what had come beyond that comes again"
    assert fake.opens[1].state is not None
    for _ in range(8):
        await until(lambda: ear.buffer.ready == AHEAD_FRAMES)
        sound.append(heard(ear, client, 100))
    assert pure(np.concatenate(sound), TAVERN) is not forgetful
    assert (ear.buffer.counts.held, ear.buffer.counts.late) == (0, 0)


async def test_a_state_serves_after_all_that_had_come_was_heard(
    client: GeneratorClient, ear: Ear, fake: FakeGenerator
) -> None:
    await until(lambda: ear.buffer.ready == AHEAD_FRAMES)
    heard(ear, client, 70)
    await until(lambda: ear.buffer.ready == AHEAD_FRAMES)
    await fake.leave()
    heard(ear, client, AHEAD_FRAMES + 30)
    assert ear.buffer.holding
    await fake.come()
    await until(lambda: len(fake.opens) == 2)
    assert fake.opens[1].start == AHEAD_FRAMES + 50
    await until(lambda: ear.buffer.ready == AHEAD_FRAMES)
    assert ear.buffer.playhead == AHEAD_FRAMES + 70
    assert ear.buffer.counts.late == 0
    heard(ear, client, 30)
    assert pure(heard(ear, client, 100), TAVERN)


async def test_a_state_of_music_that_was_replaced_is_not_gone_on_from(
    client: GeneratorClient, ear: Ear, fake: FakeGenerator
) -> None:
    await until(lambda: ear.buffer.ready == AHEAD_FRAMES)
    play(client, ear, 20)
    await until(lambda: ear.buffer.ready == AHEAD_FRAMES)
    fake.stalled = True
    client.set_mood(Controls(FIGHT))
    await until(lambda: any(isinstance(event, MoodLands) and event.mood == FIGHT for event in ear.events))
    client.set_volume(0.1)
    await until(lambda: [volume for _, volume in fake.wishes] == [0.1])
    fake.stalled = False
    await until(lambda: ear.frames.count(AHEAD_FRAMES + 19) == 2)
    fake.break_lines()
    await until(lambda: len(fake.opens) == 2)
    await until(lambda: ear.buffer.ready == AHEAD_FRAMES)
    assert fake.opens[1].start == AHEAD_FRAMES
    heard(ear, client, 60)
    sound = heard(ear, client, 100)
    assert pure(sound, FIGHT)
    assert np.abs(sound).max() == pytest.approx(0.1 * AMPLITUDE, rel=0.01)


async def test_a_state_that_a_server_chokes_on_is_not_offered_twice(
    client: GeneratorClient, ear: Ear, fake: FakeGenerator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bot.client.FATAL_BACKOFF_SECONDS", 0.0)
    await until(lambda: ear.buffer.ready == AHEAD_FRAMES)
    fake.problem = Problem("engine", "the music engine failed", fatal=True)
    fake.break_lines()
    await until(lambda: len(fake.opens) == 2)
    fake.problem = None
    await until(lambda: len(fake.opens) == 3)
    assert [opening.state is not None for opening in fake.opens] == [False, True, False]


# Several addresses


async def several(ear: Ear, seed: int, *urls: str) -> GeneratorClient:
    line = GeneratorClient(FixedEndpoint(urls), ear, Wish(Controls(TAVERN), 0.5), seed=seed, rng=dice(1))
    line.start()
    return line


async def test_the_next_address_goes_on_with_the_music_at_once_and_is_stuck_to(fake: FakeGenerator, ear: Ear) -> None:
    async with FakeGenerator() as other:
        client = await several(ear, 4, fake.url, other.url)
        try:
            await until(lambda: ear.buffer.ready == AHEAD_FRAMES)
            assert (len(fake.opens), len(other.opens)) == (1, 0)
            heard(ear, client, 50)
            await until(lambda: ear.buffer.ready == AHEAD_FRAMES)
            await fake.leave()
            await until(lambda: len(other.opens) == 1, 0.2)  # sooner than any back-off
            assert other.opens[0].state is not None
            await fake.come()
            sound = [heard(ear, client, 100)]
            for _ in range(5):
                await until(lambda: ear.buffer.ready == AHEAD_FRAMES)
                sound.append(heard(ear, client, 100))
            assert pure(np.concatenate(sound), TAVERN)
            assert (len(fake.opens), len(other.opens)) == (1, 1)
        finally:
            await client.close()


async def test_tables_are_spread_over_the_addresses_and_a_full_one_sends_them_on(fake: FakeGenerator) -> None:
    async with FakeGenerator() as other:
        for seed in range(2):
            client = await several(Ear(), seed, fake.url, other.url)
            await until(lambda: client.connected)  # noqa: B023
            await client.close()
        assert (len(fake.opens), len(other.opens)) == (1, 1)
        other.problem = Problem("full", "all streams are taken", fatal=True)
        client = await several(Ear(), 1, fake.url, other.url)
        await until(lambda: client.connected, 0.3)
        assert (len(fake.opens), len(other.opens)) == (2, 2)
        await client.close()


async def test_where_all_addresses_fail_they_are_not_hammered(fake: FakeGenerator, ear: Ear) -> None:
    async with FakeGenerator() as other:
        for each in (fake, other):
            each.problem = Problem("full", "all streams are taken", fatal=True)
        client = await several(ear, 0, fake.url, other.url)
        await until(lambda: len(other.opens) == 1)
        await asyncio.sleep(0.5)
        assert (len(fake.opens), len(other.opens)) == (1, 1)
        await client.close()


@given(st.lists(st.integers(1, 5), min_size=1), st.integers(0, 2**32))
def test_a_round_ends_when_all_addresses_have_failed_in_a_row(sizes: list[int], seed: int) -> None:
    addresses = [str(number) for number in range(sizes[0])]
    tried = Round(seed)
    for _ in sizes:
        picked = []
        while True:
            picked.append(tried.pick(addresses))
            if not tried.fail():
                break
        assert sorted(picked) == addresses
        assert tried.pick(addresses) == picked[0]
    tried.fail()
    assert tried.pick(addresses) == addresses[(seed + 1) % len(addresses)]


async def test_closing_leaves_nothing_behind(fake: FakeGenerator, ear: Ear) -> None:
    before = asyncio.all_tasks()
    client = make(fake, ear)
    client.start()
    await until(lambda: client.connected)
    await client.close()
    await until(lambda: fake.lines == 0)
    await until(lambda: asyncio.all_tasks() <= before | {asyncio.current_task()})


@given(st.integers(0, 2**32), st.integers(1, 80))
def test_backoff_grows_is_jittered_and_bounded(seed: int, attempts: int) -> None:
    backoff = Backoff(dice(seed), first=0.25, most=10.0)
    waits = [backoff.next() for _ in range(attempts)]
    assert all(0.125 <= wait <= 10 for wait in waits)
    assert all(wait <= 0.25 * 2**place for place, wait in enumerate(waits))
    backoff.reset()
    assert backoff.next() <= 0.25
    assert backoff.next(5.0) == 5.0
