import json
from dataclasses import asdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from generator.config import DIFFWAVE_MEL
from training.errors import PresetError
from training.presets import PRESETS, WARM_UP, TrainConfig, find_preset, with_crop, with_widths

PAPER = [name for name in PRESETS if name.startswith("paper")]


@pytest.mark.parametrize(
    ("name", "target", "rate", "weight_decay", "decay"),
    [
        ("paper-noise", "noise", 1e-4, 1e-5, "constant"),
        ("paper-noise-steps", "noise", 1e-3, 1e-4, "step"),
        ("paper-denoise", "clean", 5e-3, 0.0, "constant"),
    ],
)
def test_the_papers_numbers(name: str, target: str, rate: float, weight_decay: float, decay: str) -> None:
    config = find_preset(name)
    model = config.model
    assert model.mel == DIFFWAVE_MEL
    assert (DIFFWAVE_MEL.sample_rate, DIFFWAVE_MEL.n_fft, DIFFWAVE_MEL.hop, DIFFWAVE_MEL.bands) == (
        22_050,
        1024,
        256,
        80,
    )
    assert (model.unet.widths, model.unet.blocks, model.unet.he_initialisation) == ((32, 64, 128), 3, True)
    assert (model.diffusion.schedule, model.diffusion.target, model.diffusion.bound) == ("paper", target, None)
    assert (config.batch, config.learning_rate, config.weight_decay, config.decay) == (16, rate, weight_decay, decay)


def test_paper_denoise_ends_after_three_epochs() -> None:
    assert find_preset("paper-denoise").epochs == 3


@pytest.mark.parametrize("name", PAPER)
def test_the_papers_window_is_its_ten_seconds_and_halves_three_times(name: str) -> None:
    model = find_preset(name).model
    assert 0 <= model.unet.frames - model.mel.frames(10) < 8
    assert model.unet.frames % 8 == 0 == model.mel.bands % 8
    assert (model.prefix, model.unet.plan_features, model.diffusion.guidance) == (0, 0, 1)


@pytest.mark.parametrize("name", ["paper-noise", "paper-denoise"])
def test_beside_the_papers_own_there_is_a_cosine_schedule_and_a_mended_model(name: str) -> None:
    own, cosine, fixed = (find_preset(name + suffix) for suffix in ("", "-cosine", "-fixed"))
    assert own.model.diffusion.target == cosine.model.diffusion.target == fixed.model.diffusion.target
    assert own.model.unet == cosine.model.unet == fixed.model.unet  # the same network
    assert cosine.model.mel == own.model.mel
    assert cosine.model.diffusion.schedule == fixed.model.diffusion.schedule == "cosine"
    assert cosine.model.diffusion.bound is None
    assert fixed.model.mel.scaling == "standard"
    assert (fixed.model.mel.n_fft, fixed.model.mel.hop) == (1024, 256)
    assert fixed.model.diffusion.bound is not None
    assert (own.learning_rate, own.weight_decay) == (fixed.learning_rate, fixed.weight_decay)


def test_a_preset_is_called_as_its_model() -> None:
    assert all(config.model.name == name for name, config in PRESETS.items())


def test_an_unknown_preset_lists_the_known() -> None:
    with pytest.raises(PresetError, match=r"paper-noise-steps.*paper-denoise-fixed") as caught:
        find_preset("papernoise")
    assert caught.value.exit_status == 2


def test_another_scale_says_so_in_name_and_notes() -> None:
    small = with_widths(find_preset("paper-noise"), (8, 16, 32)).model
    assert small.unet.widths == (8, 16, 32)
    assert small.name == "paper-noise-8-16-32"
    assert small.notes["scale"] == "widths 8,16,32 in place of 32,64,128"


def test_the_presets_own_widths_change_nothing() -> None:
    config = find_preset("paper-noise")
    assert with_widths(config, (32, 64, 128)) == config


@pytest.mark.parametrize("widths", [(8, 16), (8, 16, 32, 64), (8, 16, 20), (0, 8, 8)])
def test_impossible_widths_are_refused(widths: tuple[int, ...]) -> None:
    with pytest.raises(PresetError, match="3 multiples of 8"):
        with_widths(find_preset("paper-noise"), widths)


def test_only_the_mended_paper_model_plays_averaged_weights() -> None:
    assert {name for name in PAPER if find_preset(name).ema} == {"paper-noise-fixed", "paper-denoise-fixed"}


def test_a_crop_is_in_the_notes_beside_the_widths() -> None:
    for config in (
        with_crop(with_widths(find_preset("paper-noise"), (8, 16, 32)), 216),
        with_widths(with_crop(find_preset("paper-noise"), 216), (8, 16, 32)),
    ):
        assert (config.crop, config.sample.unet.frames, config.model.unet.frames) == (216, 216, 864)
        assert set(config.model.notes) == {"scale", "crop"}
        assert config.sample.unet.widths == (8, 16, 32)


def test_a_crop_as_long_as_the_window_is_none() -> None:
    config = find_preset("paper-noise")
    assert with_crop(config, 864) == config
    assert config.sample == config.model


@pytest.mark.parametrize("frames", [0, 4, 12, 868, 1024])
def test_impossible_crops_are_refused(frames: int) -> None:
    with pytest.raises(PresetError, match="multiple of 8"):
        with_crop(find_preset("paper-noise"), frames)


def test_the_bard_is_not_cropped() -> None:
    with pytest.raises(PresetError, match="paper's network"):
        with_crop(find_preset("bard"), 216)


@pytest.mark.parametrize("name", PRESETS)
def test_a_run_travels_through_json(name: str) -> None:
    config = with_crop(find_preset(name), 216) if name in PAPER else find_preset(name)
    assert TrainConfig.from_json(json.loads(json.dumps(asdict(config)))) == config


@given(step=st.integers(0, 10**6), epoch=st.integers(1, 5000))
def test_steps_fall_tenfold_every_five_epochs(step: int, epoch: int) -> None:
    rate = find_preset("paper-noise-steps").rate
    assert rate(step + 5 * epoch, epoch) == pytest.approx(0.1 * rate(step, epoch))
    assert rate(0, epoch) == rate(5 * epoch - 1, epoch) == 1e-3


@given(step=st.integers(WARM_UP, 10**6))
def test_the_bards_rate_warms_up_stays_and_falls_with_the_root(step: int) -> None:
    config = find_preset("bard")
    assert config.rate(0, 1) == config.learning_rate / WARM_UP
    assert config.rate(step, 1) <= config.learning_rate
    if step >= config.every:
        assert config.rate(4 * step, 1) == pytest.approx(config.rate(step, 1) / 2)
