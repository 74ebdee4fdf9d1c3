"""``python -m generator`` whose cluster computes next to nothing: tones, one a mood, in windows of five seconds."""

import sys
from collections.abc import Generator, Sequence
from dataclasses import replace
from typing import Any

import torch
from ray import serve
from ray.serve.handle import DeploymentHandle
from torch import Tensor

from generator import cluster, cluster_up
from generator.__main__ import main
from generator.checkpoint import load_checkpoint
from generator.denoiser import Question
from generator.engine import Engine, State, Window
from generator.section import Section
from tests.generator.tiny import CPU, tiny_engine
from tests.generator.tone_engine import ToneEngine


class LightEngine(ToneEngine):
    """A tone in one step; the model's file only gives it its name."""

    def __init__(self, model: str) -> None:
        super().__init__()
        self.name, self.device, self.mel = load_checkpoint(model).config.name, CPU, tiny_engine().mel
        self.window_frames = 256
        self.config = replace(self.config, name=self.name)

    def making(self, state: State, section: Section, seed: int) -> Generator[Question, Tensor, Window]:
        empty = torch.zeros(1, 0)
        yield Question(empty, torch.zeros(1), empty, empty, empty, empty)
        window = self.window(state, section, seed)
        self.calls.clear()
        return window

    def answer(self, questions: Sequence[Question]) -> list[Tensor]:
        return [question.level for question in questions]


def load(model: str, device: str | None = None) -> Engine:
    return LightEngine(model)


class Sampler(cluster.Sampler):
    """One that imports this module, where it runs."""


class Ingress(cluster.Ingress):
    """One that imports this module, where it runs."""

    async def __init__(self, samplers: DeploymentHandle[Any], plan: cluster.Plan) -> None:  # type: ignore[misc]
        await super().__init__(samplers, plan)


def application(plan: cluster.Plan) -> serve.Application:
    return cluster.application(plan)


cluster.load = load
cluster.Sampler, cluster.Ingress = Sampler, Ingress  # type: ignore[misc]

if __name__ == "__main__":
    cluster_up.IMPORT_PATH = "tests.generator.light_cluster:application"  # type: ignore[misc]
    sys.exit(main())
