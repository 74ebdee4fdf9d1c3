"""How many are let in."""

from generator.capacity import SHARE, Capacity
from generator.metrics import Metrics


def let_in(capacity: Capacity) -> int:
    while capacity.claim() is None:
        assert capacity.open < 1_000
    return capacity.open


def test_as_many_as_music_is_made_for_and_no_more() -> None:
    assert let_in(Capacity(None, Metrics(), factor=10)) == int(10 * SHARE)
    assert let_in(Capacity(3, Metrics(), factor=10)) == 3
    assert let_in(Capacity(50, Metrics(), factor=10)) == int(10 * SHARE)


def test_the_sentence_says_which_bound_was_met_and_what_to_do() -> None:
    by_choice, by_machine = Capacity(0, Metrics(), factor=10), Capacity(None, Metrics(), factor=1.5)
    assert "--max-streams" in str(by_choice.claim())
    assert by_machine.claim() is None  # one is always let in: a machine that is too slow is heard to be
    assert str(by_machine.claim()).startswith("this machine makes music 1.5 times as fast as it is heard, and 1 listen")


def test_what_is_measured_counts_and_a_hiccup_does_not() -> None:
    capacity = Capacity(None, Metrics(), factor=100)
    for _ in range(40):
        capacity.measure(4.0, 0.5)
    capacity.measure(4.0, 60.0)
    assert capacity.factor == 8
    assert let_in(capacity) == int(8 * SHARE)
    for _ in range(40):
        capacity.measure(4.0, 2.0)
    assert capacity.claim() is not None  # nobody is sent away, but nobody is let in before there is room
    for _ in range(capacity.open):
        capacity.release()
    assert let_in(capacity) == 1


def test_metrics_tell_who_listens_and_who_was_turned_away() -> None:
    metrics = Metrics()
    capacity = Capacity(2, metrics)
    let_in(capacity)
    page = metrics.page().decode()
    assert "bardcast_streams_open 2.0" in page
    assert 'bardcast_refused_total{reason="full"} 1.0' in page


def test_more_devices_carry_more_and_one_that_is_lost_carries_less() -> None:
    devices = [3.0]
    capacity = Capacity(None, Metrics(), factor=10, devices=lambda: devices[0])
    assert let_in(capacity) == int(3 * 10 * SHARE)
    devices[0] = 0.5
    for _ in range(capacity.open):
        capacity.release()
    assert let_in(capacity) == int(0.5 * 10 * SHARE)
