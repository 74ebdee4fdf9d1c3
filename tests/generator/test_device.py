import time

import pytest
import torch

from generator.device import bf16_is_native, bf16_pays, pick_device, precision

CPU = torch.device("cpu")


def test_a_gpu_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert pick_device().type == "cpu"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert pick_device().type == "cuda"


@pytest.mark.parametrize(("bf16", "expected"), [(True, torch.bfloat16), (False, torch.float32)])
def test_precision_holds_inside_and_ends_outside(bf16: bool, expected: torch.dtype) -> None:
    a = torch.ones(4, 4)
    with precision(CPU, bf16):
        assert (a @ a).dtype == expected
    assert (a @ a).dtype == torch.float32


@pytest.mark.parametrize(("fast", "slow", "pays"), [(1, 3, True), (2, 2, False), (3, 1, False), (20, 21, False)])
def test_bf16_pays_by_the_clock(fast: int, slow: int, pays: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0

    def work() -> None:
        nonlocal now
        now += fast if torch.is_autocast_enabled("cpu") else slow

    monkeypatch.setattr(time, "perf_counter", lambda: now)
    assert bf16_pays(work, CPU) is pays


def test_a_cold_start_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    now, calls = 0.0, 0

    def work() -> None:
        nonlocal now, calls
        calls += 1
        now += 100 if calls in (1, 4) else 1  # the first call of either precision

    monkeypatch.setattr(time, "perf_counter", lambda: now)
    assert not bf16_pays(work, CPU)


def test_asking_for_native_bf16_has_a_steady_answer() -> None:
    assert isinstance(bf16_is_native(CPU), bool)
    assert bf16_is_native(CPU) == bf16_is_native(CPU)
