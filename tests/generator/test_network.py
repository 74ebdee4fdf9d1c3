import hashlib
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from generator.config import ModelConfig
from generator.mood_embedding import NO_MOOD
from generator.moods import MOODS
from generator.network import PatchedUNet, ResidualBlock, TimeAttention, make_network, patchify, unpatchify
from generator.plan import FEATURES
from generator.sinusoid import sinusoidal_embedding
from tests.generator.tiny import TINY, TINY_PAPER, tiny_checkpoint

FRAMES, BANDS, COLUMN = TINY.unet.frames, TINY.mel.bands, TINY.unet.patch[1]


def network() -> nn.Module:
    made = make_network(TINY.unet, BANDS).eval().requires_grad_(False)
    made.load_state_dict(tiny_checkpoint().part("network"))
    return made


NETWORK = network()


def inputs(rows: int = 3) -> dict[str, Tensor]:
    random = torch.Generator().manual_seed(0)
    return {
        "x": torch.randn(rows, BANDS, FRAMES, generator=random),
        "level": torch.rand(rows, generator=random),
        "mood": torch.tensor([0, 5, NO_MOOD])[:rows],
        "plan": torch.rand(rows, FEATURES + 1, FRAMES // COLUMN, generator=random),
        "known": (torch.arange(FRAMES) < 4 * COLUMN).float().expand(rows, -1).clone(),
    }


def other(name: str, value: Tensor) -> Tensor:
    return (value + 1) % (NO_MOOD + 1) if name == "mood" else 1 - value


@pytest.mark.parametrize("name", ["x", "level", "mood", "plan", "known"])
def test_every_input_has_a_say_in_its_own_row_and_in_no_other(name: str) -> None:
    before = inputs()
    changed = {key: value.clone() for key, value in before.items()}
    changed[name][1] = other(name, before[name][1])
    moved = (NETWORK(**changed) - NETWORK(**before)).abs().amax((1, 2))
    assert moved[1] > 1e-3
    assert moved[0] < 1e-5
    assert moved[2] < 1e-5


def test_a_network_that_knows_guidance_begins_deaf_to_it_and_then_hears_it_row_by_row() -> None:
    torch.manual_seed(0)
    made = make_network(replace(TINY.unet, guided=True), BANDS).eval().requires_grad_(False)
    assert isinstance(made, PatchedUNet)
    made.load_state_dict(tiny_checkpoint().part("network"), strict=False)
    weights = torch.tensor([1.0, 2.0, 1.0])
    assert torch.equal(made(**inputs(), guidance=weights), NETWORK(**inputs()))
    assert made.guidance is not None
    torch.nn.init.normal_(made.guidance.weight)
    moved = (made(**inputs(), guidance=weights) - made(**inputs(), guidance=torch.ones(3))).abs().amax((1, 2))
    assert moved[1] > 1e-3
    assert moved[[0, 2]].max() < 1e-5


def test_a_batch_is_its_rows() -> None:
    batch = inputs()
    together = NETWORK(**batch)
    for row in range(3):
        alone = NETWORK(**{key: value[row : row + 1] for key, value in batch.items()})
        assert torch.allclose(alone[0], together[row], atol=1e-4)


def test_the_plan_is_heard_near_its_place_first() -> None:
    """Beyond the reach of convolutions only attention carries a column of the plan, so its own place moves most."""
    before = inputs(1)
    after = {**before, "plan": before["plan"].clone()}
    place = 3
    after["plan"][..., place] += 1
    moved = (NETWORK(**after) - NETWORK(**before)).abs()[0].mean(0).reshape(-1, COLUMN).mean(1)
    assert int(moved.argmax()) in range(place - 2, place + 3)


def test_the_mask_is_read_once_a_column() -> None:
    before = inputs(1)
    partly = {**before, "known": before["known"].clone()}
    partly["known"][:, 4 * COLUMN + 1 : 5 * COLUMN] = 1
    assert torch.equal(NETWORK(**partly), NETWORK(**before))
    partly["known"][:, 4 * COLUMN] = 1
    assert not torch.equal(NETWORK(**partly), NETWORK(**before))


sizes = st.integers(1, 4)


@given(batch=sizes, high=sizes, wide=sizes, rows=sizes, columns=sizes)
def test_patches_go_and_come_back(batch: int, high: int, wide: int, rows: int, columns: int) -> None:
    mel = torch.arange(batch * high * rows * wide * columns).reshape(batch, high * rows, wide * columns)
    cells = patchify(mel, (rows, columns))
    assert cells.shape == (batch, rows * columns, high, wide)
    assert torch.equal(unpatchify(cells, (rows, columns)), mel)
    # A patch holds neighbours, row by row.
    assert torch.equal(cells[0, :, 0, 0].reshape(rows, columns), mel[0, :rows, :columns])


def test_a_fresh_block_adds_the_same_everywhere() -> None:
    block = ResidualBlock(8, 16)
    x, embedding = torch.randn(2, 8, 4, 4), torch.randn(2, 16)
    added = block(x, embedding) - x
    assert block.conv2.bias is not None
    assert torch.allclose(added, block.conv2.bias[None, :, None, None].expand_as(x), atol=1e-5)


def test_fresh_attention_adds_the_same_everywhere() -> None:
    attention = TimeAttention(8)
    x = torch.randn(2, 8, 4, 4)
    assert attention.out.bias is not None
    assert torch.allclose(attention(x) - x, attention.out.bias[None, :, None, None].expand_as(x), atol=1e-5)


def test_a_fresh_network_is_deaf_to_mood_and_level_until_it_learns() -> None:
    fresh, batch = make_network(TINY.unet, BANDS), inputs()
    before = fresh(**batch)
    assert torch.equal(fresh(**{**batch, "mood": other("mood", batch["mood"])}), before)
    assert torch.equal(fresh(**{**batch, "level": 1 - batch["level"]}), before)
    before.square().mean().backward()
    condition = fresh.get_submodule("middle1.condition")
    convolution = fresh.get_submodule("middle1.conv2")
    assert isinstance(condition, nn.Linear)
    assert isinstance(convolution, nn.Conv2d)
    assert convolution.weight.grad is not None
    assert convolution.weight.grad.abs().max() > 0  # and it can


def test_attention_reaches_every_position_from_every_other() -> None:
    attention = TimeAttention(8)
    nn.init.normal_(attention.out.weight)
    x = torch.randn(1, 8, 2, 6, requires_grad=True)
    attention(x)[0, :, 0, 0].sum().backward()
    assert x.grad is not None
    assert (x.grad[0].abs().sum(0) > 0).all()


def test_names_and_shapes_are_part_of_every_checkpoint() -> None:
    with torch.device("meta"):
        state = PatchedUNet(TINY.unet, BANDS).state_dict()
    listing = "\n".join(f"{name} {tuple(value.shape)}" for name, value in sorted(state.items()))
    assert hashlib.sha256(listing.encode()).hexdigest()[:16] == "e1c87a660e1c25e1"


@pytest.mark.parametrize("config", [TINY, TINY_PAPER])
def test_every_weight_learns(config: ModelConfig) -> None:
    made = make_network(config.unet, config.mel.bands)
    made.load_state_dict(tiny_checkpoint(config).part("network"))
    batch = inputs(3)
    made(**batch).square().mean().backward()
    deaf = [name for name, value in made.named_parameters() if value.grad is None or not value.grad.abs().max() > 0]
    assert deaf == []
    assert all(value.grad.isfinite().all() for value in made.parameters() if value.grad is not None)


def test_the_embedding_has_a_row_for_every_mood_and_one_for_any() -> None:
    mood = NETWORK.get_submodule("mood")
    assert isinstance(mood, nn.Embedding)
    assert mood.num_embeddings == len(MOODS) + 1 == NO_MOOD + 1


@given(position=st.floats(0, 1000), size=st.sampled_from([2, 16, 256]))
def test_sines_and_cosines_of_the_same_angles(position: float, size: int) -> None:
    sines, cosines = sinusoidal_embedding(torch.tensor([position]), size)[0].chunk(2)
    assert torch.allclose(sines**2 + cosines**2, torch.ones(size // 2), atol=1e-4)
    assert sines[0].item() == pytest.approx(torch.tensor(position).sin().item(), abs=1e-5)


def test_levels_a_thousandth_apart_are_told_apart() -> None:
    embedded = sinusoidal_embedding(torch.arange(1001.0), 256)
    assert (embedded[1:] - embedded[:-1]).norm(dim=1).min() > 0.5
