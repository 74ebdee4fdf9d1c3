"""Windows made elsewhere: whoever is asked may die, hang or be slow, and the window comes all the same, once."""

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from generator.engine import GenerationError, Window
from generator.moods import MOODS
from generator.protocol import Controls
from generator.remote import LostError, Order, Remote
from generator.stream import URGENT, Stream
from tests.generator.tiny import tiny_engine

MOOD = Controls(MOODS[0])
PATIENCE = 0.05


async def made(order: Order) -> Window:
    return tiny_engine().window(order.state, order.section, order.seed)


async def lost(_: Order) -> Window:
    raise LostError("killed")


async def hung(_: Order) -> Window:
    await asyncio.Event().wait()
    raise AssertionError


async def broken(_: Order) -> Window:
    raise GenerationError("broken")


class Samplers:
    """Answer one after the other, each as it is told; the last goes on answering."""

    def __init__(self, *answers: Callable[[Order], Awaitable[Window]]) -> None:
        self.answers = list(answers)
        self.orders: list[Order] = []
        self.cancelled = 0
        self.asked = asyncio.Event()

    async def ask(self, order: Order) -> Window:
        self.orders.append(order)
        self.asked.set()
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        try:
            return await answer(order)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise


def stream_of(samplers: Samplers) -> Stream:
    remote = Remote(samplers.ask, lambda _: tiny_engine(), asyncio.get_running_loop(), PATIENCE)
    return remote.player("tiny").stream(0, MOOD)


async def on_a_thread(stream: Stream, slack: float = URGENT) -> tuple[bytes, ...]:
    with ThreadPoolExecutor(1) as thread:
        chunk = await asyncio.get_running_loop().run_in_executor(thread, stream.advance, slack)
    return chunk.frames


async def test_music_from_elsewhere_is_the_same() -> None:
    here = Stream(tiny_engine(), 0, MOOD)
    samplers = Samplers(made)
    elsewhere = stream_of(samplers)
    for _ in range(3):
        assert await on_a_thread(elsewhere, 2.0) == here.advance().frames
    assert {order.model for order in samplers.orders} == {"tiny"}
    assert all(1.5 < order.slack <= 2.0 for order in samplers.orders)


async def test_who_is_lost_is_not_missed() -> None:
    samplers = Samplers(lost, lost, made)
    assert await on_a_thread(stream_of(samplers)) == Stream(tiny_engine(), 0, MOOD).advance().frames
    first, *others = samplers.orders
    for other in others:
        assert other.slack < first.slack  # it has waited already
        assert other.state is first.state
        assert replace(other, state=first.state, slack=0.0) == replace(first, slack=0.0)


async def test_another_is_asked_beside_one_that_hangs_and_is_taken_off_it() -> None:
    samplers = Samplers(hung, made)
    assert await on_a_thread(stream_of(samplers)) == Stream(tiny_engine(), 0, MOOD).advance().frames
    await asyncio.sleep(0)
    assert (len(samplers.orders), samplers.cancelled) == (2, 1)


async def test_who_is_only_slow_is_not_asked_over_and_over() -> None:
    async def slow(order: Order) -> Window:
        await asyncio.sleep(10 * PATIENCE)
        return await made(order)

    samplers = Samplers(slow)
    await on_a_thread(stream_of(samplers))
    assert len(samplers.orders) <= 4  # after 0, 1, 3 and 7 of its patience


async def test_what_the_model_makes_of_it_is_not_tried_again() -> None:
    samplers = Samplers(broken)
    with pytest.raises(GenerationError):
        await on_a_thread(stream_of(samplers))
    assert len(samplers.orders) == 1


async def test_what_nobody_wants_any_more_is_taken_back() -> None:
    samplers = Samplers(hung)
    stream = stream_of(samplers)
    making = asyncio.create_task(on_a_thread(stream))
    await samplers.asked.wait()
    stream.close()
    with pytest.raises(asyncio.CancelledError):
        await making
    assert samplers.cancelled == len(samplers.orders)
