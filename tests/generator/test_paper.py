import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from generator.config import (
    PAPER_DENOISE_FIXED,
    PAPER_NOISE,
    PAPER_NOISE_FIXED,
    PAPER_UNET,
    ModelConfig,
    UNetConfig,
)
from generator.denoiser import Denoiser
from generator.diffusion import make_schedule
from generator.moods import MOODS
from generator.network import make_network
from generator.paper import DownBlock, PaperUNet, ResidualLayer, UpBlock
from generator.sampling import Sampler, ancestral, dpm_solver_2m, solve, uniform_times
from generator.sinusoid import sinusoidal_embedding

torch.set_num_threads(1)  # two would only wait for each other over so small a network

SMALL = UNetConfig("paper", (8, 16, 24), 3, (1, 1), 16, frames=32)


@pytest.fixture(scope="module")
def network() -> PaperUNet:
    torch.manual_seed(0)
    made = make_network(SMALL, 16)
    assert isinstance(made, PaperUNet)
    return made


def inputs(bands: int = 16, frames: int = 32, batch: int = 2) -> tuple[Tensor, Tensor, Tensor]:
    random = torch.Generator().manual_seed(0)
    return torch.randn(batch, bands, frames, generator=random), torch.full((batch,), 0.5), torch.arange(batch)


@settings(max_examples=12)
@given(rows=st.integers(1, 4), columns=st.integers(1, 6))
def test_what_goes_in_comes_out_as_large(network: PaperUNet, rows: int, columns: int) -> None:
    x, t, mood = inputs(8 * rows, 8 * columns)
    with torch.no_grad():
        assert network(x, t, mood).shape == x.shape


def test_three_down_blocks_and_three_up_blocks_of_three_layers(network: PaperUNet) -> None:
    assert len(network.downs) == len(network.ups) == 3
    for block in (*network.downs, *network.ups):
        assert isinstance(block, DownBlock | UpBlock)
        assert [type(layer) for layer in block.layers] == [ResidualLayer] * 3
    assert (network.fatten.in_channels, network.thin.out_channels) == (1, 1)
    assert [down.shrink.stride for down in network.downs if isinstance(down, DownBlock)] == [(2, 2)] * 3


def test_a_residual_layer_is_norm_conv_relu_conv_with_a_skip(network: PaperUNet) -> None:
    layer = network.downs[0].get_submodule("layers.0")
    assert isinstance(layer, ResidualLayer)
    order: list[str] = []
    hooks = [
        child.register_forward_hook(lambda _m, _i, _o, name=name: order.append(name))
        for name, child in layer.named_children()
    ]
    x, embedding = torch.randn(1, 8, 4, 4), torch.randn(1, 16)
    with torch.no_grad():
        entered = x + layer.condition(embedding)[:, :, None, None]
        expected = entered + layer.conv2(layer.conv1(layer.norm(entered)).clamp(min=0))
        order.clear()
        torch.testing.assert_close(layer(x, embedding), expected)
    assert order == ["condition", "norm", "conv1", "conv2"]
    for hook in hooks:
        hook.remove()


def test_the_norm_is_group_normalisation_whatever_the_layout() -> None:
    norm = PaperUNet(SMALL).get_submodule("downs.0.layers.0.norm")
    plain = nn.GroupNorm(8, 8)
    with torch.no_grad():
        for layer in (norm, plain):
            assert isinstance(layer, nn.GroupNorm)
            layer.weight.copy_(torch.linspace(0.5, 1.5, 8))
            layer.bias.copy_(torch.linspace(-1, 1, 8))
        x = torch.randn(2, 8, 4, 6).contiguous(memory_format=torch.channels_last)
        torch.testing.assert_close(norm(x), plain(x))
        assert norm(x).is_contiguous(memory_format=torch.channels_last)


def test_skips_join_equal_sizes(network: PaperUNet) -> None:
    """Each up block's output meets the input of the down block's stride of the same size."""
    skips: list[torch.Size] = []
    grown: list[torch.Size] = []
    hooks = [d.register_forward_hook(lambda _m, _i, out: skips.append(out[1].shape)) for d in network.downs]
    hooks += [
        u.get_submodule("norm").register_forward_hook(lambda _m, _i, out: grown.append(out.shape)) for u in network.ups
    ]
    with torch.no_grad():
        network(*inputs())
    for hook in hooks:
        hook.remove()
    assert skips == [(2, 8, 16, 32), (2, 16, 8, 16), (2, 24, 4, 8)]
    assert grown == skips[::-1]


def test_time_and_mood_enter_every_layer(network: PaperUNet) -> None:
    layers = [module for module in network.modules() if isinstance(module, ResidualLayer)]
    assert len(layers) == 18
    network.zero_grad()
    network(*inputs()).square().sum().backward()
    assert all(layer.condition.weight.grad is not None and layer.condition.weight.grad.any() for layer in layers)
    assert network.mood.weight.grad is not None
    used = network.mood.weight.grad.abs().sum(1) > 0
    assert used.tolist() == [True, True] + [False] * (len(MOODS) - 1)  # moods 0 and 1 were asked for, and no others


def test_mood_and_time_change_the_answer(network: PaperUNet) -> None:
    x, t, mood = inputs()
    with torch.no_grad():
        here = network(x, t, mood)
        assert not torch.allclose(here, network(x, t, mood + 1))
        assert not torch.allclose(here, network(x, t + 0.1, mood))


def test_time_is_a_sinusoid_and_not_learnt(network: PaperUNet) -> None:
    embedded = sinusoidal_embedding(torch.tensor([0.0, 7.0]), 16)
    torch.testing.assert_close(embedded[0], torch.cat([torch.zeros(8), torch.ones(8)]))
    assert embedded[1, 0] == pytest.approx(math.sin(7), abs=1e-6)
    torch.testing.assert_close(embedded.square().sum(1), torch.tensor([8.0, 8.0]))
    assert not [name for name, _ in network.named_parameters() if "time" in name or "level" in name]


def test_every_convolution_begins_as_he_says() -> None:
    torch.manual_seed(0)
    network = PaperUNet(PAPER_UNET)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            fan_in = module.in_channels * 9
            entries = module.weight.numel()
            assert module.weight.std().item() == pytest.approx(math.sqrt(2 / fan_in), rel=5 / math.sqrt(entries))
            assert module.bias is not None
            assert not module.bias.any()


def test_without_he_initialisation_the_weights_are_smaller() -> None:
    torch.manual_seed(0)
    plain = PaperUNet(UNetConfig("paper", (8, 8, 8), 1, (1, 1), 16, frames=32, he_initialisation=False))
    assert plain.thin.weight.std().item() < 0.8 * math.sqrt(2 / 72)


def test_a_fresh_network_answers_at_a_sane_scale() -> None:
    torch.manual_seed(0)
    network = PaperUNet(SMALL)
    with torch.no_grad():
        out = network(*inputs())
    assert out.isfinite().all()
    assert 0.1 < out.std() < 30


class Scaled(nn.Module):
    """A network whose answers are too large by a factor, as training gone wrong makes them."""

    def __init__(self, network: nn.Module, factor: float) -> None:
        super().__init__()
        self.network, self.factor = network, factor

    def forward(self, *arguments: Tensor) -> Tensor:
        answer: Tensor = self.factor * self.network(*arguments)
        return answer


def sample(network: nn.Module, model: ModelConfig, sampler: Sampler) -> Tensor:
    config = replace(model, mel=replace(model.mel, bands=16), unet=SMALL)
    schedule = make_schedule(config.diffusion)
    random = torch.Generator().manual_seed(0)
    denoiser = Denoiser(network, config, schedule, mood=0)
    steps = sampler(schedule, lambda: torch.randn(1, 16, 32, generator=random), uniform_times(config.diffusion.steps))
    return solve(steps, denoiser)


@pytest.mark.parametrize("sampler", [ancestral, dpm_solver_2m])
@pytest.mark.parametrize("model", [PAPER_NOISE_FIXED, PAPER_DENOISE_FIXED])
@pytest.mark.parametrize("factor", [1.0, 1e6])
def test_the_mended_model_is_never_infinite_and_never_blank(
    network: PaperUNet, model: ModelConfig, sampler: Sampler, factor: float
) -> None:
    """Not even untrained, nor with answers a million times too large."""
    made = sample(Scaled(network, factor), model, sampler)
    bound = model.diffusion.bound
    assert bound is not None
    assert made.isfinite().all()
    assert made.abs().max() <= bound + 1e-4
    assert made.std() > 0.1


def test_the_papers_own_becomes_infinite(network: PaperUNet) -> None:
    """Each step divides by √α_t, in all by 1 / √ᾱ_T ≈ 10⁸: an ε that is a little wrong is multiplied by that."""
    assert sample(network, PAPER_NOISE, ancestral).abs().max() > 1e4
