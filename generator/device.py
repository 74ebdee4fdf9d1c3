"""Where and in which precision to compute: decided by what is there and by a probe, never by a name."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import nn


def pick_device() -> torch.device:
    """The first GPU where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@contextmanager
def precision(device: torch.device, bf16: bool) -> Iterator[None]:
    """Autocast to bfloat16 inside, if asked."""
    with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
        yield


def settle(network: nn.Module) -> None:
    """Hold weights in bfloat16 that autocast would otherwise cast anew at every call; the results are the same bits."""
    for module in network.modules():
        if isinstance(module, (nn.Conv1d, nn.Conv2d, nn.Linear)):
            module.to(torch.bfloat16)


def bf16_pays(work: Callable[[], object], device: torch.device, margin: float = 1.15) -> bool:
    """Whether ``work`` runs at least ``margin`` times faster under bfloat16 autocast.

    CPUs with AVX-512-BF16 or AMX gain two to four times; others lose. One warm-up and the better of two runs each.
    """
    return _seconds(work, device, bf16=False) > margin * _seconds(work, device, bf16=True)


def _seconds(work: Callable[[], object], device: torch.device, bf16: bool) -> float:
    best = float("inf")
    with precision(device, bf16):
        work()
        for _ in range(2):
            begin = time.perf_counter()
            work()
            finish(device)
            best = min(best, time.perf_counter() - begin)
    return best


def finish(device: torch.device) -> None:
    """Wait until the device has done what it was given: a GPU takes orders faster than it carries them out."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def bf16_is_native(device: torch.device) -> bool:
    """Whether the device computes bfloat16 in hardware.

    Playing asks this and not a stop-watch, so that the same seed gives the same bytes on every run.
    """
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported() and torch.cpu._is_avx512_bf16_supported())
