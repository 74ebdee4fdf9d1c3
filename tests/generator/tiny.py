"""A patched model of a few thousand weights, made in code: windows of 1.28 s in some milliseconds."""

from dataclasses import replace
from functools import cache

import numpy as np
import torch
from torch import Tensor

from generator.checkpoint import Checkpoint
from generator.config import DIFFWAVE_MEL, DiffusionConfig, MelConfig, ModelConfig, UNetConfig
from generator.engine import Engine
from generator.mel import Mel
from generator.moods import MOODS
from generator.network import make_network
from generator.plan import BRIGHTNESS, FEATURES, LOUDNESS, ONSET
from generator.vocoder import GriffinLim

CPU = torch.device("cpu")
torch.set_num_threads(1)  # so small a network only loses by waiting for a second core that has other things to do

TINY = ModelConfig(
    name="tiny",
    mel=MelConfig(48_000, 1024, 480, 16, 20.0, 16_000.0, "standard"),
    unet=UNetConfig("patched", (8, 16), 1, (4, 8), 16, frames=128, plan_features=FEATURES),
    diffusion=DiffusionConfig("cosine", "clean", steps=2, bound=5.0, guidance=1.5),
    prefix=32,
)
#: The paper's kind: a sample rate and hop that share nothing with the wire's frames, no plan, no prefix.
TINY_PAPER = ModelConfig(
    name="tiny-paper",
    mel=replace(DIFFWAVE_MEL, bands=16),
    unet=UNetConfig("paper", (8, 8), 1, (1, 1), 16, frames=128),
    diffusion=DiffusionConfig("paper", "clean", steps=4, bound=None),
    prefix=0,
)


def tiny_checkpoint(config: ModelConfig = TINY, seed: int = 0) -> Checkpoint:
    """Random weights everywhere, so that every condition has a say: a fresh network begins deaf to most."""
    random = torch.Generator().manual_seed(seed)
    tensors: dict[str, Tensor] = {}
    for name, value in make_network(config.unet, config.mel.bands).state_dict().items():
        fan_in = max(1, value[0].numel())
        tensors[f"network.{name}"] = torch.randn(value.shape, generator=random) / fan_in**0.5
    if config.unet.architecture == "paper":  # around the middle of DiffWave's scale from 0 to 1
        tensors["network.thin.weight"] *= 0.05
        tensors["network.thin.bias"].fill_(0.5)
    mel = Mel(config.mel)
    mel.mean.fill_(-7.5)  # a level that is heard well and stays clear of the limiter
    tensors |= {f"mel.{name}": value for name, value in mel.state_dict().items()}
    if config.unet.plan_features:
        tensors["plan.statistics"] = plan_statistics()
    return Checkpoint(config, tensors)


def plan_statistics() -> Tensor:
    """Means and deviations such as recordings have, other ones for each mood."""
    statistics = np.zeros((len(MOODS) + 1, 2, FEATURES), np.float32)
    statistics[:, 1] = 0.4
    statistics[:, 0, ONSET] = 0.3
    statistics[:, 0, LOUDNESS] = np.linspace(-0.5, 0.5, len(MOODS) + 1)
    statistics[:, 0, BRIGHTNESS] = np.linspace(0.2, -0.2, len(MOODS) + 1)
    return torch.from_numpy(statistics)


@cache
def tiny_engine(config: ModelConfig = TINY) -> Engine:
    """An engine of :func:`tiny_checkpoint` on the CPU, made once."""
    engine = Engine(tiny_checkpoint(config), CPU)
    engine.vocoder = GriffinLim(engine.mel, iterations=4)
    return engine
