import json
from dataclasses import fields, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from generator.config import (
    BARD,
    BARD_MEL,
    DIFFWAVE_MEL,
    PAPER_NOISE,
    PAPER_NOISE_FIXED,
    ConfigError,
    MelConfig,
    ModelConfig,
)
from generator.plan import FEATURES


@pytest.mark.parametrize("config", [BARD, PAPER_NOISE, replace(BARD, notes={"scale": "half"})])
def test_travels_through_json(config: ModelConfig) -> None:
    back = ModelConfig.from_json(json.loads(json.dumps(config.to_json())))
    assert back == config
    assert back.notes == config.notes


def test_a_file_of_before_has_one_residual_for_all_bands() -> None:
    body = BARD.to_json()
    for value, knots in ((0.12, (0.12,)), (0.0, ()), ([0.2, 0.1], (0.2, 0.1))):
        body["diffusion"]["residual"] = value
        assert ModelConfig.from_json(body).diffusion.residual == knots


def test_the_papers_mel_is_diffwaves() -> None:
    assert MelConfig(22_050, 1024, 256, 80, 20.0, 11_025.0, "diffwave") == DIFFWAVE_MEL


def test_the_default_models_mel_fits_the_wire() -> None:
    assert BARD_MEL.frames_per_second == 100
    assert BARD_MEL.frames(5.12) == BARD.unet.frames
    assert BARD.unet.plan_features == FEATURES


def places(body: dict[str, Any]) -> list[tuple[str, ...]]:
    """Every field of a configuration, as the way to it; notes are free text."""
    return [
        way
        for key, value in body.items()
        if key != "notes"
        for way in ([(key, *rest) for rest in places(value)] if isinstance(value, dict) else [(key,)])
    ]


WAYS = places(BARD.to_json())
#: Of the wrong type or beyond every bound, whatever the field.
JUNK = st.one_of(
    st.sampled_from([float("nan"), float("inf"), -1, 2**40, [], {}, "", "other", [[]], True]),
    st.dictionaries(st.text(), st.integers(), min_size=1),
)


@given(way=st.sampled_from(WAYS), junk=JUNK)
def test_junk_in_any_field_is_a_config_error(way: tuple[str, ...], junk: object) -> None:
    if way == ("name",) and isinstance(junk, str):
        return
    if way == ("diffusion", "residual") and junk == []:
        return  # none is one of its values
    if way in {("unet", "he_initialisation"), ("unet", "guided")} and junk is True:
        return
    if way in {("diffusion", "bound"), ("diffusion", "guidance")} and junk in (-1, 2**40):
        return  # a number is a number
    body = BARD.to_json()
    spot = body
    for key in way[:-1]:
        spot = spot[key]
    spot[way[-1]] = junk
    with pytest.raises(ConfigError):
        ModelConfig.from_json(body)


@given(st.sampled_from([(), *WAYS]))
def test_a_field_that_lacks_is_a_config_error(way: tuple[str, ...]) -> None:
    body = BARD.to_json()
    spot = body
    for key in way[:-1]:
        spot = spot[key]
    if way:
        del spot[way[-1]]
    else:
        body["mel"]["colour"] = "red"
    later = {("diffusion", name) for name in ("guidance", "reading", "power", "zero_terminal", "residual", "warp")}
    defaults = {("unet", "he_initialisation"), ("unet", "guided"), *later}
    if way in defaults:
        own = {("diffusion", name) for name in ("guidance", "residual", "warp")}  # where BARD's is not the default
        assert (ModelConfig.from_json(body) == BARD) == (way not in own)
    else:
        with pytest.raises(ConfigError):
            ModelConfig.from_json(body)


@pytest.mark.parametrize("name", ["evil\n2026 INFO root: fake", "\x1b[31mred", 101 * "a"])
def test_a_name_is_one_that_can_be_logged(name: str) -> None:
    with pytest.raises(ConfigError, match="one line, up to 100 letters"):
        replace(BARD, name=name)


@pytest.mark.parametrize("body", [[], "text", 5, None, {}, {"unet": "text"}, {"unet": {"widths": 1, "patch": "ab"}}])
def test_what_is_no_configuration_at_all_is_a_config_error(body: Any) -> None:
    with pytest.raises(ConfigError):
        ModelConfig.from_json(body)


@pytest.mark.parametrize(
    ("part", "change"),
    [
        ("mel", {"bands": 126}),
        ("mel", {"hop": 4096}),
        ("mel", {"f_max": 24_001.0}),
        ("unet", {"frames": 520}),
        ("unet", {"widths": (100, 192)}),
        ("unet", {"widths": ()}),
        ("unet", {"embedding": 255}),
        ("unet", {"plan_features": 0}),
        ("unet", {"architecture": "paper"}),
        ("diffusion", {"bound": 0.0}),
        ("diffusion", {"steps": 0}),
        ("diffusion", {"warp": 0.0}),
        ("diffusion", {"residual": (-0.1,)}),
        ("diffusion", {"residual": (0.1, 1.1)}),
        ("diffusion", {"target": "noise"}),  # which has no residual
    ],
)
def test_a_network_that_could_not_run_is_never_configured(part: str, change: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        replace(BARD, **{part: replace(getattr(BARD, part), **change)})


@pytest.mark.parametrize("prefix", [-8, 4, 512, 8.0])
def test_a_prefix_is_whole_patches_and_shorter_than_the_window(prefix: int) -> None:
    with pytest.raises(ConfigError):
        replace(BARD, prefix=prefix)


@pytest.mark.parametrize(
    "change",
    [
        {"reading": "other"},
        {"power": 0.0},
        {"power": float("nan")},
        {"zero_terminal": 1},
        {"zero_terminal": True, "steps": 1},
        {"warp": 1.6},
        {"schedule": "cosine", "power": 2.0},
        {"schedule": "cosine", "reading": "cumulative"},
        {"schedule": "cosine", "zero_terminal": True},
    ],
)
def test_a_schedule_that_there_is_not_is_never_configured(change: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        replace(PAPER_NOISE, diffusion=replace(PAPER_NOISE.diffusion, **change))


def test_a_clean_mel_is_kept_within_the_bound_and_within_the_range_that_it_has_by_definition() -> None:
    def limits(config: ModelConfig, bound: float | None) -> tuple[float, float] | None:
        return replace(config, diffusion=replace(config.diffusion, bound=bound)).limits

    assert limits(PAPER_NOISE, None) is None
    assert limits(PAPER_NOISE, 5.0) == (0, 1)
    assert limits(PAPER_NOISE, 0.5) == (0, 0.5)
    assert limits(PAPER_NOISE_FIXED, 5.0) == (-5, 5)


def test_the_papers_network_knows_no_prefix() -> None:
    with pytest.raises(ConfigError):
        replace(PAPER_NOISE, prefix=8)


def test_every_field_is_saved() -> None:
    assert set(BARD.to_json()) == {field.name for field in fields(ModelConfig)}
