"""The service, over a real socket, with an engine that costs nothing."""

import asyncio
import gc
import json
import threading
import weakref
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import aiohttp
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from generator.errors import GeneratorError
from generator.moods import Mood
from generator.protocol import (
    AHEAD_FRAMES,
    FRAMES_PER_SECOND,
    MAX_MESSAGE_BYTES,
    ClientMessage,
    MoodLands,
    Open,
    Opened,
    Pace,
    Playhead,
    Problem,
    ServerEvent,
    SetMood,
    SetVolume,
    Snapshot,
    decode_server,
    encode,
    encode_state,
    unpack_frame,
)
from generator.server import bind, make_server
from generator.service import Beside, create_app
from generator.settings import Settings
from tests.generator.fake_engine import WINDOW, FakeEngine, FakeStream, sine

FIGHT, TAVERN, SAD = Mood("fight"), Mood("tavern"), Mood("sad")
Item = ServerEvent | tuple[int, bytes]


def nothing_else(model: str) -> FakeEngine:
    raise GeneratorError(f"{model}: no such model")


@asynccontextmanager
async def serving(
    engine: FakeEngine,
    options: Settings | None = None,
    load: Callable[[str], FakeEngine] = nothing_else,
    beside: Beside | None = None,
    factor: float | None = None,
) -> AsyncIterator[str]:
    """The address of a running service."""
    bound = bind("127.0.0.1", 0)
    ready = asyncio.Event()
    server = make_server(create_app(engine, options or Settings(), "fake", load, beside, factor), ready.set)
    task = asyncio.create_task(server.serve(sockets=[bound]))
    await ready.wait()
    try:
        yield f"127.0.0.1:{bound.getsockname()[1]}"
    finally:
        engine.gate.set()
        server.should_exit = True
        await task


class Client:
    """A table: takes items in order and keeps what it would play."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.frames: dict[int, bytes] = {}
        self.items: list[Item] = []

    async def say(self, *messages: ClientMessage) -> None:
        for message in messages:
            await self.socket.send(encode(message))

    async def take(self) -> Item:
        message = await asyncio.wait_for(self.socket.recv(), 20)
        if isinstance(message, str):
            item: Item = decode_server(message)
        else:
            item = unpack_frame(message)
            self.frames[item[0]] = item[1]
        self.items.append(item)
        return item

    async def until(self, right: Callable[[Item], bool]) -> Item:
        while not right(item := await self.take()):
            pass
        return item

    async def until_event(self, kind: type[ServerEvent]) -> Any:
        return await self.until(lambda item: isinstance(item, kind))

    async def fill(self, playhead: int = 0) -> None:
        """Take all that the credit is good for, up to the last window's pace."""
        last = playhead + AHEAD_FRAMES - 1
        await self.until(lambda item: isinstance(item, tuple) and item[0] == last)
        await self.until_event(Pace)

    async def drain(self, quiet: float = 0.3) -> None:
        """Take all that comes until nothing comes."""
        with suppress(TimeoutError):
            while True:
                async with asyncio.timeout(quiet):
                    await self.take()

    async def close_code(self) -> int | None:
        with suppress(ConnectionClosed):
            while True:
                await self.take()
        return self.socket.close_code


@asynccontextmanager
async def table(address: str, **options: Any) -> AsyncIterator[Client]:
    options = {"max_queue": None, **options}  # a reader that always reads, unless told otherwise
    async with connect(f"ws://{address}/v1/stream", compression=None, close_timeout=0.3, **options) as socket:
        yield Client(socket)


@asynccontextmanager
async def playing(engine: FakeEngine, mood: Mood = TAVERN, start: int = 0) -> AsyncIterator[Client]:
    """A table that has its first frames."""
    async with serving(engine) as address, table(address) as client:
        await client.say(Open(mood, seed=1, start=start))
        yield client


async def eventually(check: Callable[[], bool], seconds: float = 20) -> None:
    async with asyncio.timeout(seconds):
        while not check():  # noqa: ASYNC110 - the worker's thread and the service have no event for us
            await asyncio.sleep(0.01)


async def open_streams(address: str, count: int) -> None:
    """Wait until the service has so many."""
    async with asyncio.timeout(20):
        while (await health(address))["streams"] != count:  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.02)


async def health(address: str) -> Any:
    return json.loads((await fetch(address, "/healthz"))[1])


async def ask(address: str, body: str | bytes | AsyncIterator[bytes], **headers: str) -> tuple[int, str]:
    """Ask for another model."""
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"http://{address}/v1/model", data=body, headers=headers) as answer,
    ):
        return answer.status, await answer.text()


async def fetch(address: str, path: str, **headers: str) -> tuple[int, str]:
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://{address}{path}", headers=headers) as answer,
    ):
        return answer.status, await answer.text()


# Order


async def test_a_stream_opens_and_begins_where_it_was_told_to() -> None:
    async with playing(FakeEngine(), start=700) as client:
        assert await client.take() == Opened("fake")
        assert await client.take() == MoodLands(TAVERN, 3, 700)
        assert await client.take() == (700, sine(TAVERN))


async def test_frames_come_in_order_without_a_hole_and_every_window_tells_its_pace() -> None:
    async with playing(FakeEngine()) as client:
        await client.fill()
        places = [item[0] for item in client.items if isinstance(item, tuple)]
        assert places == list(range(AHEAD_FRAMES))
        paces = [item for item in client.items if isinstance(item, Pace)]
        assert len(paces) == AHEAD_FRAMES // WINDOW
        assert {pace.audio_seconds for pace in paces} == {1.0}


async def test_windows_are_never_made_on_the_event_loop() -> None:
    engine = FakeEngine()
    async with playing(engine) as client:
        await client.until_event(Pace)
        assert engine.threads
        assert all(name.startswith("windows") for name in engine.threads)


# Credit


async def test_the_server_never_runs_further_ahead_than_it_may() -> None:
    # Steps that are no multiple of the window: the last window reaches beyond the credit, and its rest must wait.
    engine = FakeEngine()
    async with playing(engine, start=3) as client:
        await client.drain()
        playhead = 3
        for step in (1, 7, 30, 60):
            playhead += step
            await client.say(Playhead(playhead))
            await client.until(lambda item: isinstance(item, tuple) and item[0] == playhead + AHEAD_FRAMES - 1)  # noqa: B023
            await client.drain(0.1)
            assert max(client.frames) == playhead + AHEAD_FRAMES - 1
        made = sum(call.startswith("advance") for call in engine.calls) * WINDOW
        assert made < 98 + AHEAD_FRAMES + WINDOW


async def test_a_playhead_beyond_what_was_sent_earns_no_more_than_what_was_sent() -> None:
    async with playing(FakeEngine()) as client:
        await client.fill()
        await client.say(Playhead(10**9))
        await client.drain()
        assert max(client.frames) == 2 * AHEAD_FRAMES - 1


async def test_a_reader_that_stops_stops_the_engine() -> None:
    engine = FakeEngine()
    async with serving(engine) as address, table(address, max_queue=1) as client:
        await client.say(Open(TAVERN, seed=1))
        await client.take()
        for playhead in range(0, 40_000, 200):  # credit for far more than the sockets' buffers hold
            await client.say(Playhead(playhead))
            await asyncio.sleep(0.002)
        made = -1
        while made != len(engine.calls):
            made = len(engine.calls)
            await asyncio.sleep(0.2)
        assert made * WINDOW < 5_000
        await client.drain()
        await client.say(Playhead(max(client.frames)))
        await client.drain()  # and reading again sets it going again
        assert len(engine.calls) > made
        assert sorted(client.frames) == list(range(len(client.frames)))


async def test_wishes_without_end_from_a_reader_that_stopped_stop_the_engine() -> None:
    engine = FakeEngine()
    async with serving(engine) as address, table(address, max_queue=1) as client:
        await client.say(Open(TAVERN, seed=1))
        await client.take()
        for number in range(1_500):
            await client.say(SetMood((FIGHT, SAD)[number % 2], 0))
            await asyncio.sleep(0.001)
        assert 10 < len(engine.calls) < 700


# Changes


async def test_a_mood_change_is_told_before_its_frames_which_replace_what_was_sent() -> None:
    async with playing(FakeEngine()) as client:
        await client.fill()
        await client.say(Playhead(100), SetMood(FIGHT, 100, intensity=5))
        landing = await client.until_event(MoodLands)
        assert (landing.mood, landing.intensity) == (FIGHT, 5)
        assert 100 <= landing.frame <= 200
        first = await client.take()
        assert first == (landing.frame, sine(FIGHT))
        await client.drain()
        assert max(client.frames) == 100 + AHEAD_FRAMES - 1
        for place, pcm in client.frames.items():
            assert pcm == sine(TAVERN if place < landing.frame else FIGHT)


async def test_the_newest_of_several_moods_wins() -> None:
    engine = FakeEngine(free_windows=8)
    async with playing(engine) as client:
        await client.fill()
        await client.say(SetMood(FIGHT, 0))
        await eventually(lambda: engine.calls[-1] == "change fight")
        await client.say(SetMood(SAD, 0), SetMood(Mood("epic"), 0), SetMood(Mood("town"), 0))
        await asyncio.sleep(0.1)
        engine.gate.set()
        await client.until(lambda item: isinstance(item, MoodLands) and item.mood == "town")
        assert [call for call in engine.calls if call.startswith("change")] == ["change fight", "change town"]


async def test_the_mood_that_plays_already_costs_nothing_and_is_answered() -> None:
    engine = FakeEngine()
    async with playing(engine) as client:
        await client.fill()
        done = len(engine.calls)
        await client.say(SetMood(TAVERN, 0))
        assert await client.take() == MoodLands(TAVERN, 3, 0)
        assert len(engine.calls) == done


async def test_a_window_can_wait_for_as_long_as_the_buffer_lasts_less_two_seconds() -> None:
    """So whoever runs low goes before whoever has plenty; a first window, like a change, is waited for already."""
    engine = FakeEngine()
    async with playing(engine) as client:
        await client.fill()
        assert engine.slacks[0] < 0
        ahead = [WINDOW * number / FRAMES_PER_SECOND for number in range(1, AHEAD_FRAMES // WINDOW)]
        assert engine.slacks[1:] == pytest.approx([max(0.0, seconds - 2) for seconds in ahead])
        await client.say(Playhead(AHEAD_FRAMES - WINDOW // 2))
        await client.drain()
        assert engine.slacks[len(ahead) + 1] == 0


async def test_a_change_does_not_wait_for_the_window_that_it_makes_worthless() -> None:
    engine = FakeEngine(free_windows=AHEAD_FRAMES // WINDOW)
    async with playing(engine) as client:
        await client.fill()
        done = len(engine.calls)
        await client.say(Playhead(WINDOW))
        await eventually(lambda: len(engine.calls) == done + 1)
        await client.say(SetMood(TAVERN, WINDOW))  # what plays already makes nothing worthless
        await asyncio.sleep(0.1)
        assert len(engine.calls) == done + 1
        engine.free_windows += 1  # the change's own
        await client.say(SetMood(FIGHT, WINDOW))
        assert (await client.until_event(MoodLands)).mood == FIGHT
        assert engine.calls[done : done + 2] == ["advance tavern", "change fight"]


async def test_a_blend_and_a_slow_transition_reach_the_stream_and_are_answered() -> None:
    engine = FakeEngine()
    async with playing(engine) as client:
        await client.fill()
        await client.say(SetMood(FIGHT, 0, 4, SAD, "slow"))
        landing = await client.until_event(MoodLands)
        assert (landing.mood, landing.intensity, landing.blend) == (FIGHT, 4, SAD)
        assert [call for call in engine.calls if not call.startswith("advance")] == ["turn fight sad"]
        await client.say(SetMood(FIGHT, 0, 4, SAD, "slow"))
        assert await client.until_event(MoodLands) == landing
        assert [call for call in engine.calls if not call.startswith("advance")] == ["turn fight sad"]
        await client.say(SetMood(FIGHT, 0, 4, SAD))  # who can't wait asks for it at once, and need not ask twice
        await client.until_event(MoodLands)
        await client.say(SetMood(FIGHT, 0, 4, SAD))
        await client.drain()
        assert [call for call in engine.calls if not call.startswith("advance")][1:] == ["change fight sad"]


async def test_the_newest_volume_wins_and_replaces_what_was_sent() -> None:
    engine = FakeEngine(free_windows=8)
    async with playing(engine) as client:
        await client.fill()
        await client.say(SetVolume(0.9, 20))
        await eventually(lambda: engine.calls[-1] == "volume 0.9")
        await client.say(SetVolume(0.1, 20), SetVolume(0.5, 20))
        await asyncio.sleep(0.1)
        engine.gate.set()
        await client.drain()
        assert "volume 0.1" not in engine.calls
        assert client.frames[20] == sine(TAVERN)
        assert client.frames[300] == sine(TAVERN, 0.5)
        assert max(client.frames) == 20 + AHEAD_FRAMES - 1


async def test_between_two_reports_the_ear_is_taken_to_move_on() -> None:
    engine = FakeEngine(free_windows=8)
    async with playing(engine) as client:
        await client.fill()
        await client.say(Playhead(1), Playhead(10))
        await client.say(SetMood(FIGHT, 10))
        await eventually(lambda: "change fight" in engine.calls)
        await asyncio.sleep(0.3)
        engine.gate.set()
        landing = await client.until(lambda item: isinstance(item, MoodLands) and item.mood == FIGHT)
        assert isinstance(landing, MoodLands)
        assert landing.frame >= 10 + 15 + FakeStream.margin


async def test_a_change_never_reaches_back_before_the_stream() -> None:
    async with playing(FakeEngine(), start=700) as client:
        await client.until_event(Pace)
        await client.say(SetMood(FIGHT, 650))  # reconnected, and still playing what the last stream sent
        landing = await client.until(lambda item: isinstance(item, MoodLands) and item.mood == FIGHT)
        assert isinstance(landing, MoodLands)
        assert landing.frame >= 700
        await client.until_event(Pace)
        assert min(client.frames) == 700


# States


async def test_whoever_asks_is_told_states_each_after_its_frames_and_nobody_else() -> None:
    async with playing(FakeEngine()) as client:
        await client.fill()
        assert not any(isinstance(item, Snapshot) for item in client.items)
    async with serving(FakeEngine()) as address, table(address) as client:
        await client.say(Open(TAVERN, 1, states=True))
        await client.fill()
        await client.drain()
        await client.say(SetMood(FIGHT, 0), SetVolume(0.5, 20))
        await client.drain()
        await client.say(Playhead(WINDOW))
        await client.drain()
        end = 0
        for item in client.items:
            if isinstance(item, Snapshot):
                assert item.frame == end
            elif isinstance(item, tuple):
                end = item[0] + 1
        frames = [item.frame for item in client.items if isinstance(item, Snapshot)]
        assert frames[: AHEAD_FRAMES // WINDOW] == list(range(WINDOW, AHEAD_FRAMES + 1, WINDOW))
        assert frames[-1] > AHEAD_FRAMES


async def state_at(address: str, opening: Open) -> Snapshot:
    """What a table is told last that has taken all that it may."""
    async with table(address) as client:
        await client.say(opening)
        await client.fill()
        await client.drain()
        return [item for item in client.items if isinstance(item, Snapshot)][-1]


@pytest.mark.parametrize("model", ["fake", "another"])
async def test_a_stream_goes_on_from_a_state_at_another_service(model: str) -> None:
    async with serving(FakeEngine()) as one, serving(FakeEngine(model)) as two:
        told = await state_at(one, Open(TAVERN, 1, 0.5, states=True))
        async with table(two) as client:
            await client.say(Open(TAVERN, 7, 0.5, start=told.frame, state=told.state))
            assert await client.take() == Opened(model, model == "fake")
            assert await client.take() == MoodLands(TAVERN, 3, told.frame)
            assert await client.take() == (told.frame, sine(TAVERN, 0.5))


async def test_what_is_asked_beside_a_state_is_turned_to() -> None:
    async with serving(FakeEngine()) as address:
        told = await state_at(address, Open(TAVERN, 1, 0.5, states=True))
        async with table(address) as client:
            await client.say(Open(SAD, 1, 0.25, start=told.frame, state=told.state))
            await client.until(lambda item: isinstance(item, MoodLands) and item.mood == SAD)
            await client.drain()
            assert client.frames[max(client.frames)] == sine(SAD, 0.25)


@pytest.mark.parametrize("fault", ["no state", "another place"])
async def test_a_state_that_cannot_be_used_is_told_and_the_music_begins_anew(fault: str) -> None:
    async with serving(FakeEngine()) as address, table(address) as client:
        told = await state_at(address, Open(TAVERN, 1, states=True))
        state = told.state if fault == "another place" else encode_state(b"?")
        await client.say(Open(TAVERN, 1, start=told.frame + 1, state=state))
        problem = await client.until_event(Problem)
        assert (problem.code, problem.fatal) == ("state", False)
        assert await client.until_event(Opened) == Opened("fake")
        assert await client.until(lambda item: isinstance(item, tuple)) == (told.frame + 1, sine(TAVERN))
        assert 'bardcast_problems_total{code="state"} 1.0' in (await fetch(address, "/metrics"))[1]


# Another model


def other(model: str) -> FakeEngine:
    """Half as loud."""
    if model == "bad":
        raise GeneratorError("bad: damaged; train it again")
    return FakeEngine(model, level=0.5)


async def test_another_model_plays_on_in_streams_that_are_open_and_in_new_ones() -> None:
    async with serving(FakeEngine(), load=other) as address, table(address) as client:
        await client.say(Open(TAVERN, seed=1))
        await client.fill()
        assert await ask(address, '{"model": "models/new.safetensors"}') == (200, '{"model":"models/new.safetensors"}')
        assert (await health(address))["model"] == "models/new.safetensors"
        await client.say(Playhead(100))
        await client.fill(100)
        places = [item[0] for item in client.items if isinstance(item, tuple)]
        assert places == list(range(100 + AHEAD_FRAMES))
        for place, pcm in client.frames.items():
            assert pcm == sine(TAVERN, 1.0 if place < AHEAD_FRAMES else 0.5)
        async with table(address) as late:
            await late.say(Open(SAD, seed=1))
            assert await late.take() == Opened("models/new.safetensors")
        assert 'bardcast_models_total{result="taken"} 1.0' in (await fetch(address, "/metrics"))[1]


async def test_a_model_that_is_refused_changes_nothing() -> None:
    async with serving(FakeEngine(), load=other) as address, table(address) as client:
        await client.say(Open(TAVERN, seed=1))
        await client.fill()
        status, sentence = await ask(address, '{"model": "bad"}')
        assert (status, sentence) == (422, "bad: damaged; train it again; fake plays on\n")
        assert (await health(address))["model"] == "fake"
        await client.say(Playhead(100))
        await client.fill(100)
        assert set(client.frames.values()) == {sine(TAVERN)}
        assert 'bardcast_models_total{result="refused"} 1.0' in (await fetch(address, "/metrics"))[1]


async def test_while_a_model_is_loaded_the_streams_play_on_and_the_next_wish_waits() -> None:
    gate, begun = threading.Event(), list[str]()

    def slow(model: str) -> FakeEngine:
        begun.append(model)
        assert gate.wait(20)
        return other(model)

    async with serving(FakeEngine(), load=slow) as address, table(address) as client:
        await client.say(Open(TAVERN, seed=1))
        await client.fill()
        wishes = [asyncio.create_task(ask(address, json.dumps({"model": model}))) for model in ("one", "two")]
        await eventually(lambda: len(begun) == 1)
        for playhead in (100, 200):
            await client.say(Playhead(playhead))
            await client.fill(playhead)
        assert (await health(address))["model"] == "fake"
        assert set(client.frames.values()) == {sine(TAVERN)}
        assert len(begun) == 1
        gate.set()
        answers = [json.loads(text)["model"] for _, text in await asyncio.gather(*wishes)]
        assert sorted(answers) == sorted(begun) == ["one", "two"]
        assert (await health(address))["model"] == begun[-1]


async def test_a_model_that_never_loads_does_not_keep_the_service_from_ending(caplog: pytest.LogCaptureFixture) -> None:
    gate, begun = threading.Event(), threading.Event()

    def hang(model: str) -> FakeEngine:
        begun.set()
        assert gate.wait(20)
        return other(model)

    async with serving(FakeEngine(), load=hang) as address:
        wish = asyncio.create_task(ask(address, '{"model": "x"}'))
        await eventually(begun.is_set)
        ending = asyncio.get_running_loop().time()
    assert asyncio.get_running_loop().time() - ending < 6
    gate.set()
    with suppress(aiohttp.ClientError):  # the line may be cut before the answer is through
        assert (await wish)[0] == 503
    assert "Traceback" not in caplog.text


@pytest.mark.parametrize(
    "body",
    [
        "",
        "no json",
        "[]",
        "{}",
        '"bard"',
        '{"model": ""}',
        '{"model": 7}',
        '{"model": null}',
        '{"model": "a\\u0000b"}',
        '{"model": "\\ud800"}',
        '{"model": "bard", "steps": 3}',
        "[" * 4_000,
        b"\xff\xfe{",
    ],
)
async def test_a_request_that_names_no_model_is_told_how(body: str | bytes) -> None:
    async with serving(FakeEngine(), load=other) as address:
        status, sentence = await ask(address, body)
        assert status == 400
        assert '{"model": "NAME or PATH"}' in sentence
        assert (await ask(address, '{"model": "next"}'))[0] == 200


async def test_a_request_without_end_is_cut_short() -> None:
    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b" " * 1_000

    async with serving(FakeEngine(), load=other) as address:
        assert (await ask(address, '{"model": "' + "x" * MAX_MESSAGE_BYTES + '"}'))[0] == 413
        with suppress(aiohttp.ClientError):  # the door may close before the answer is read
            assert (await ask(address, endless()))[0] == 413
        assert (await ask(address, '{"model": "next"}'))[0] == 200


async def test_a_request_that_does_not_come_whole_is_not_waited_for() -> None:
    async with serving(FakeEngine(), Settings(open_seconds=0.1), other) as address:
        host, port = address.split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"POST /v1/model HTTP/1.1\r\nHost: localhost\r\nContent-Length: 20\r\n\r\n{")
        assert b" 408 " in await asyncio.wait_for(reader.readline(), 20)
        writer.close()
        assert (await health(address))["model"] == "fake"


async def test_only_who_may_come_in_chooses_the_model() -> None:
    wish = '{"model": "next"}'
    async with serving(FakeEngine(), Settings(token="secret"), other) as address:
        assert (await ask(address, wish))[0] == 401
        assert (await ask(address, wish, Authorization="Bearer wrong"))[0] == 401
        assert (await ask(address, wish, Authorization="Bearer secret", Origin="http://a.example"))[0] == 403
        assert (await ask(address, wish, Authorization="Bearer secret"))[0] == 200
    async with serving(FakeEngine(), load=other) as address:
        assert (await ask(address, wish, Origin="http://evil.example"))[0] == 403
        assert (await health(address))["model"] == "fake"
        assert (await fetch(address, "/v1/model"))[0] == 405


# Bad messages


@pytest.mark.parametrize(
    "first", ["", "{}", "no json", encode(Playhead(0)), b"\x00" * 8, '{"type":"open","mood":"brawl","seed":1}']
)
async def test_a_first_message_that_opens_nothing_ends_the_connection(first: str | bytes) -> None:
    async with serving(FakeEngine()) as address, table(address) as client:
        await client.socket.send(first)
        problem = await client.take()
        assert isinstance(problem, Problem)
        assert problem.fatal
        assert await client.close_code() == 1008


async def test_a_client_that_never_opens_is_let_go() -> None:
    async with serving(FakeEngine(), Settings(open_seconds=0.1)) as address, table(address) as client:
        problem = await client.take()
        assert isinstance(problem, Problem)
        assert await client.close_code() == 1008


@pytest.mark.parametrize(
    "message",
    ["", "{}", b"", b"\xff" * 4_000, encode(Open(TAVERN, 1)), " " * (MAX_MESSAGE_BYTES + 1), '{"type":"playhead"}'],
)
async def test_a_bad_message_gets_a_sentence_and_the_music_plays_on(message: str | bytes) -> None:
    async with playing(FakeEngine()) as client:
        await client.fill()
        await client.socket.send(message)
        problem = await client.take()
        assert isinstance(problem, Problem)
        assert not problem.fatal
        assert problem.message
        await client.say(Playhead(50))
        await client.until(lambda item: isinstance(item, tuple) and item[0] == 49 + AHEAD_FRAMES)


async def test_a_problem_does_not_wait_behind_frames_that_have_no_credit() -> None:
    async with playing(FakeEngine()) as client:
        await client.fill()
        await client.say(Playhead(1))
        await client.drain()  # the last window's rest waits for credit
        await client.socket.send("?")
        assert isinstance(await client.take(), Problem)


async def test_a_huge_message_is_shown_the_door_and_the_next_client_is_served() -> None:
    async with serving(FakeEngine()) as address:
        async with table(address) as client:
            await client.say(Open(TAVERN, 1))
            await client.socket.send("x" * 1_000_000)
            assert await client.close_code() == 1009
        async with table(address) as client:
            await client.say(Open(TAVERN, 1))
            assert isinstance(await client.take(), Opened)


async def test_a_hundred_bad_messages_are_enough() -> None:
    async with playing(FakeEngine()) as client:
        for _ in range(100):
            await client.socket.send("?")
        assert await client.close_code() == 1008
        problems = [item for item in client.items if isinstance(item, Problem)]
        assert len(problems) <= 100
        assert problems[-1].fatal


garbage = st.lists(
    st.text(max_size=200)
    | st.binary(max_size=200)
    | st.builds(
        lambda kind, rest: json.dumps({"type": kind, **rest}),
        st.sampled_from(["open", "mood", "volume", "playhead"]),
        st.dictionaries(
            st.sampled_from(["mood", "playhead", "volume", "frame", "seed"]),
            st.integers() | st.floats() | st.sampled_from(["fight", "sad"]),
        ),
    ),
    min_size=1,
    max_size=8,
)


async def test_no_garbage_ends_the_process_or_harms_another_table() -> None:
    engine = FakeEngine()
    async with serving(engine) as address, table(address) as bystander:
        await bystander.say(Open(TAVERN, 1))
        await bystander.fill()
        loop = asyncio.get_running_loop()

        async def throw(messages: list[str | bytes]) -> None:
            async with table(address) as client:
                await client.say(Open(SAD, 1))
                with suppress(ConnectionClosed):
                    for message in messages:
                        await client.socket.send(message)
                    await client.take()

        @settings(max_examples=40, suppress_health_check=list(HealthCheck))
        @given(garbage)
        def attack(messages: list[str | bytes]) -> None:
            asyncio.run_coroutine_threadsafe(throw(messages), loop).result(20)

        await asyncio.to_thread(attack)
        await bystander.say(Playhead(50))
        await bystander.until(lambda item: isinstance(item, tuple) and item[0] == 49 + AHEAD_FRAMES)
        await open_streams(address, 1)


# Faults


async def test_an_engine_fault_ends_its_stream_only(caplog: pytest.LogCaptureFixture) -> None:
    engine = FakeEngine(broken=frozenset({"fight"}))
    async with serving(engine) as address, table(address) as well, table(address) as ill:
        for client in (well, ill):
            await client.say(Open(TAVERN, 1))
            await client.fill()
        await ill.say(SetMood(FIGHT, 0))
        problem = await ill.until_event(Problem)
        assert problem.fatal
        assert "Traceback" not in problem.message
        assert "not a number" not in problem.message
        assert "not a number" in caplog.text  # the admin reads it
        assert await ill.close_code() == 1011
        await well.say(Playhead(50))
        await well.until(lambda item: isinstance(item, tuple) and item[0] == 49 + AHEAD_FRAMES)
        assert 'bardcast_problems_total{code="engine"} 1.0' in (await fetch(address, "/metrics"))[1]


async def test_a_client_that_goes_frees_its_stream_and_the_window_that_it_waited_for() -> None:
    engine = FakeEngine(free_windows=AHEAD_FRAMES // WINDOW)
    streams: list[weakref.ref[FakeStream]] = []
    make = engine.stream

    def stream(*args: Any, **kwargs: Any) -> FakeStream:
        made = make(*args, **kwargs)
        streams.append(weakref.ref(made))
        return made

    engine.stream = stream  # type: ignore[method-assign]
    async with serving(engine) as address, table(address) as stays:
        await stays.say(Open(TAVERN, 1))
        await stays.fill()
        await stays.say(Playhead(WINDOW))
        await eventually(lambda: len(engine.calls) == AHEAD_FRAMES // WINDOW + 1)  # the worker is held
        async with table(address) as goes:
            await goes.say(Open(SAD, 2))
            await goes.take()
            await open_streams(address, 2)
        await open_streams(address, 1)
        assert engine.closed == 1
        engine.gate.set()
        await stays.drain()
        async with table(address) as goes:
            await goes.say(Open(SAD, 2))
            await goes.until_event(Pace)

        def freed() -> bool:
            gc.collect()
            return [ref() is None for ref in streams] == [False, True, True]

        await eventually(freed)


async def test_a_client_that_neither_speaks_nor_takes_is_let_go() -> None:
    engine = FakeEngine()
    async with serving(engine, Settings(idle_seconds=0.4)) as address, table(address, max_queue=1) as client:
        await client.say(Open(TAVERN, 1))
        for playhead in range(0, 20_000, 200):  # credit enough to fill the socket's buffers
            await client.say(Playhead(playhead))
            await asyncio.sleep(0.005)
        await open_streams(address, 1)
        await open_streams(address, 0)


async def test_a_quiet_client_that_takes_what_it_may_is_kept() -> None:
    async with serving(FakeEngine(), Settings(idle_seconds=0.2)) as address, table(address) as client:
        await client.say(Open(TAVERN, 1))
        await client.drain()
        await asyncio.sleep(0.8)
        await client.say(Playhead(1))
        await client.until(lambda item: isinstance(item, tuple) and item[0] == AHEAD_FRAMES)


async def test_a_shutdown_tells_the_clients_to_come_back() -> None:
    async with serving(FakeEngine()) as address:
        client = Client(await connect(f"ws://{address}/v1/stream", compression=None))
        await client.say(Open(TAVERN, 1))
        await client.fill()
        leaving = asyncio.create_task(client.close_code())
    assert await leaving == 1012


# Who may come in


async def test_one_table_too_many_is_told_so() -> None:
    async with serving(FakeEngine(), Settings(max_streams=1)) as address:
        async with table(address) as first:
            await first.say(Open(TAVERN, 1))
            await first.until_event(Pace)
            async with table(address) as second:
                await second.say(Open(TAVERN, 1))
                problem = await second.take()
                assert isinstance(problem, Problem)
                assert (problem.code, problem.fatal) == ("full", True)
                assert await second.close_code() == 1013
        async with asyncio.timeout(20):  # the first has gone, and there is room again
            while True:
                async with table(address) as third:
                    await third.say(Open(TAVERN, 1))
                    if isinstance(await third.take(), Opened):
                        break


@pytest.mark.parametrize("header", [None, "Bearer wrong", "Bearer ", "Basic secret", "secret", "Bearer sécret"])
async def test_a_stranger_is_turned_away_before_the_handshake(header: str | None) -> None:
    headers = {} if header is None else {"Authorization": header}
    async with serving(FakeEngine(), Settings(token="secret")) as address:
        with pytest.raises(InvalidStatus) as refusal:
            async with table(address, additional_headers=headers):
                pass
        assert refusal.value.response.status_code == 401
        assert (await fetch(address, "/metrics", **headers))[0] == 401
        assert (await fetch(address, "/healthz"))[0] == 200


async def test_a_friend_is_let_in() -> None:
    headers = {"Authorization": "Bearer secret"}
    async with serving(FakeEngine(), Settings(token="secret")) as address:
        async with table(address, additional_headers=headers) as client:
            await client.say(Open(TAVERN, 1))
            assert isinstance(await client.take(), Opened)
        assert (await fetch(address, "/metrics", **headers))[0] == 200


async def test_a_web_page_is_not_let_in_even_on_loopback() -> None:
    async with serving(FakeEngine()) as address:
        with pytest.raises(InvalidStatus) as refusal:
            async with table(address, origin="http://evil.example"):
                pass
        assert refusal.value.response.status_code == 403


# What the admin sees


async def test_health_and_metrics_tell_what_happened() -> None:
    async with serving(FakeEngine()) as address:
        assert await health(address) == {"status": "ok", "model": "fake", "streams": 0}
        async with aiohttp.ClientSession() as session, session.head(f"http://{address}/healthz") as answer:
            assert answer.status == 200
        before = (await fetch(address, "/metrics"))[1].splitlines()
        assert {
            'bardcast_problems_total{code="engine"} 0.0',
            'bardcast_refused_total{reason="full"} 0.0',
            'bardcast_windows_total{kind="change"} 0.0',
            'bardcast_models_total{result="refused"} 0.0',
        } <= set(before)
        async with table(address) as client:
            await client.say(Open(TAVERN, 1))
            await client.fill()
            await client.socket.send("?")
            await client.until_event(Problem)
            assert (await health(address))["streams"] == 1
            page = (await fetch(address, "/metrics"))[1]
        numbers = dict(line.rsplit(" ", 1) for line in page.splitlines() if not line.startswith("#"))
        assert float(numbers["bardcast_streams_open"]) == 1
        assert float(numbers["bardcast_frames_sent_total"]) == AHEAD_FRAMES
        assert float(numbers["bardcast_window_seconds_count"]) == AHEAD_FRAMES / WINDOW
        assert float(numbers['bardcast_windows_total{kind="first"}']) == 1
        assert float(numbers["bardcast_audio_seconds_total"]) == AHEAD_FRAMES * 0.02
        assert float(numbers["bardcast_real_time_factor"]) > 1
        assert float(numbers['bardcast_problems_total{code="malformed"}']) == 1
