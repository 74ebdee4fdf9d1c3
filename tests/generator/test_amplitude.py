from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from generator import amplitude as module
from generator.amplitude import AmplitudeConfig, AmplitudeNet, load_network, save_network, shipped_network
from generator.checkpoint import CheckpointError, save_checkpoint
from generator.config import BARD_MEL, DIFFWAVE_MEL, ConfigError
from generator.mel import Mel
from generator.vocoder import GriffinLim
from tests.generator.tiny import TINY, tiny_checkpoint

SMALL = AmplitudeConfig(TINY.mel, width=8, blocks=2, expansion=2, notes={"made": "in a test"})
FILTERS = Mel(TINY.mel).filters


def network(seed: int = 0) -> AmplitudeNet:
    """Random weights everywhere."""
    random = torch.Generator().manual_seed(seed)
    made = AmplitudeNet(SMALL).eval().requires_grad_(False)
    for weight in made.parameters():
        weight.copy_(torch.randn(weight.shape, generator=random) / 4)
    return made


def log_mel(frames: int = 40) -> Tensor:
    """Of a falling spectrum, as music has it: [1, frames, bands]."""
    amplitude = torch.rand(1, frames, len(FILTERS), generator=torch.Generator().manual_seed(1))
    return (amplitude * torch.linspace(3, -3, len(FILTERS)).exp() @ FILTERS).log()


def test_untrained_it_is_the_mel_drawn_out() -> None:
    wanted = log_mel()
    made = AmplitudeNet(SMALL)(wanted)
    assert made.shape == (1, 40, len(FILTERS))
    assert ((made @ FILTERS).log() - wanted).abs().mean() < 0.05


def test_bins_that_no_band_covers_sound_too() -> None:
    made = AmplitudeNet(SMALL)
    assert made.outside.any()
    assert (made(log_mel())[..., made.outside == 1] > 0).all()


def test_a_mel_that_is_a_straight_line_is_drawn_out_to_that_line() -> None:
    places = torch.arange(len(FILTERS))
    centre = (FILTERS * places[:, None]).sum(0) / FILTERS.sum(0)
    assert torch.allclose(centre @ module._drawn_out(FILTERS), places.clamp(centre[0], centre[-1]), atol=1e-3)


def test_whatever_it_has_learnt_the_mel_is_that_which_was_asked_for() -> None:
    wanted, made = log_mel(), network()
    assert ((made(wanted) @ FILTERS).log() - wanted).abs().mean() < 0.1


def test_only_frames_within_its_context_have_a_say() -> None:
    one = log_mel()
    other = one.clone()
    other[:, 20] += 1
    moved = (network()(one) - network()(other)).abs().amax((0, 2)) > 0
    context = SMALL.context
    assert moved[20]
    assert not moved[: 20 - context].any()
    assert not moved[20 + context + 1 :].any()


@pytest.mark.parametrize("value", [-50.0, -9.2, 0.0, 12.0])
def test_any_mel_has_finite_amplitudes(value: float) -> None:
    made = network()(torch.full((1, 8, TINY.mel.bands), value))
    assert made.isfinite().all()
    assert made.min() >= 0


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    before = network()
    before.mean.fill_(-6.78901)
    save_network(tmp_path / "v.safetensors", before)
    after = load_network(tmp_path / "v.safetensors")
    assert after.config == SMALL
    assert torch.equal(after.mean, before.mean)
    assert torch.allclose(after(log_mel()), before(log_mel()), rtol=0.1)
    assert not any(weight.requires_grad for weight in after.parameters())


def test_what_is_no_vocoder_is_said_to_be_none(tmp_path: Path) -> None:
    path = tmp_path / "v.safetensors"
    with pytest.raises(CheckpointError, match="no such"):
        load_network(path)
    save_checkpoint(path, tiny_checkpoint())
    with pytest.raises(CheckpointError, match="bardcast-vocoder-1"):
        load_network(path)
    save_network(path, network())
    whole = path.read_bytes()
    for place in range(len(whole) // 2, len(whole), len(whole) // 20):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(CheckpointError, match="not what was written"):
            load_network(path)
    other = network()
    other.config = replace(SMALL, width=16)  # not what its weights are
    save_network(path, other)
    with pytest.raises(CheckpointError, match="does not fit"):
        load_network(path)
    still = network()
    still.deviation.zero_()
    save_network(path, still)
    with pytest.raises(CheckpointError, match="never moves"):
        load_network(path)


@pytest.mark.parametrize(
    "change",
    [{"width": 0}, {"blocks": 2.0}, {"expansion": 2**21}, {"mel": DIFFWAVE_MEL}],
    ids=lambda change: str(*change),
)
def test_impossible_sizes_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        replace(SMALL, **change)


def test_the_one_that_ships_serves_the_default_models_mel_and_no_other() -> None:
    made = shipped_network(BARD_MEL)
    assert made is not None
    assert 2e6 < sum(weight.numel() for weight in made.parameters()) < 3.5e6
    assert shipped_network(TINY.mel) is None
    assert (Path(str(module.__file__)).parent / "weights" / module.SHIPPED).stat().st_size < 8e6


def test_models_with_other_statistics_are_served_alike() -> None:
    plain, own = Mel(TINY.mel), Mel(TINY.mel)
    own.mean.fill_(-5.0)
    own.deviation.fill_(1.7)
    wave = torch.sin(torch.arange(9600) / 20)
    one, other = (GriffinLim(mel, network()).amplitudes(mel(wave)) for mel in (plain, own))
    assert torch.allclose(one, other, rtol=0.05, atol=1e-3)
