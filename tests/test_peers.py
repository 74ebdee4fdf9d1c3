"""The peers are measured rightly: the fastest form is found, and what is reckoned is called so."""

from collections.abc import Iterator

import pytest
import torch
from torch import nn

from benchmarks import architectures, peers
from benchmarks.architectures import AUDIO_DIFFUSION, ENCODEC, RIFFUSION, RIFFUSION_DECODER, T5_BASE, Part, Peer

CPU = torch.device("cpu")


class Clock:
    """Seconds that only work lets pass."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def part(clock: Clock, times: int, *, images: bool = False) -> Part:
    """One that takes 3 s a time, 1 s less in bfloat16 and 1 s less with channels last."""
    module = nn.Conv2d(2, 2, 3)

    def work() -> None:
        clock.now += 3
        clock.now -= module.weight.dtype == torch.bfloat16
        clock.now -= not module.weight.is_contiguous()

    return Part("UNet", module, work, times, work, images)


@pytest.mark.parametrize(
    ("images", "form", "seconds"), [(False, "bfloat16", 20), (True, "bfloat16, channels last", 10)]
)
def test_the_fastest_form_is_measured_and_the_rest_reckoned(images: bool, form: str, seconds: float) -> None:
    clock = Clock()
    found = peers.Meter(CPU, 2, clock).part(part(clock, 10, images=images))
    assert found == peers.Cost(form, timed=2, times=10, seconds=seconds)


def test_a_peer_costs_what_its_parts_cost() -> None:
    clock = Clock()
    peer = Peer("painter", "torch", 10, 5.0, (part(clock, 10), part(clock, 1)))
    found = peers.Meter(CPU, 50, clock).peer(peer)
    assert found.parameters == 2 * (2 * 2 * 9 + 2)
    assert found.library.startswith("torch ")
    assert found.factor == pytest.approx(5 / found.compute_seconds)


def test_the_table_is_ordered_and_says_what_was_reckoned() -> None:
    slow = peers.Result("slow", 860_000_000, "lib 1", 50, 5.0, 100.0, {"UNet": peers.Cost("float32", 5, 50, 100.0)})
    fast = peers.Result("fast", 8_000_000, "lib 2", 8, 10.0, 2.0, {"all": peers.Cost("float32", 3, 3, 2.0)})
    rows = peers.table([slow, fast])
    assert [name for name, _ in rows[1:3]] == ["fast", "slow"]
    assert rows[1][1].split() == ["8.0", "M", "lib", "2", "8", "10.00", "s", "2.00", "s", "5"]
    said = dict(rows)
    assert "reckoned from 5 of 50 steps" in said["slow: UNet"]
    assert "reckoned" not in said["fast: all"]


def test_missing_libraries_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(architectures, "find_spec", lambda name: None if name == "diffusers" else name)
    with pytest.raises(SystemExit, match=r"diffusers: run pip install -e \"\.\[peers\]\""):
        peers.main([])


@pytest.fixture
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # so little work is only slowed down by a second
    yield
    torch.set_num_threads(threads)


@pytest.mark.slow  # importing the libraries takes longer than the work
@pytest.mark.usefixtures("one_thread")
def test_peers_can_be_built_and_play() -> None:
    for library in architectures.LIBRARIES:
        pytest.importorskip(library)
    codec = {"num_filters": 4, "codebook_size": 64, "codebook_dim": 8, "hidden_size": 8, "target_bandwidths": [1.2]}
    text = {"vocab_size": 64, "d_model": 16, "d_kv": 8, "d_ff": 16, "num_layers": 1, "num_heads": 2}
    decoder = {
        "vocab_size": 64, "hidden_size": 32, "ffn_dim": 64, "num_hidden_layers": 1, "num_attention_heads": 2
    }  # fmt: skip
    narrow = {"block_out_channels": (32,) * 4}
    small = [
        architectures.musicgen(CPU, 0.1, decoder, {**T5_BASE, **text}, {**ENCODEC, **codec}),
        architectures.riffusion(
            CPU, {**RIFFUSION, **narrow, "sample_size": 8, "cross_attention_dim": 8}, {**RIFFUSION_DECODER, **narrow}
        ),
        architectures.audio_diffusion(CPU, {**AUDIO_DIFFUSION, "sample_size": 64, "block_out_channels": (32,) * 6}),
    ]
    for peer in small:
        found = peers.Meter(CPU, 1).peer(peer)
        assert found.compute_seconds > 0
        assert found.parameters > 10_000
    assert small[0].steps == 8  # 5 frames, and the last of four codebooks lags by 3
    assert small[0].seconds == pytest.approx(0.1)
