"""The vocoder's figures mean what they say."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from benchmarks import vocoder
from benchmarks.vocoder import RESOLUTIONS, by_librosa, measure, spectral_convergence, stft_distance
from generator.amplitude import shipped_network
from generator.config import BARD_MEL
from generator.mel import Mel
from generator.vocoder import GriffinLim
from tests.training.small_run import prepare_small

MEL = Mel(BARD_MEL)
EVERY = pytest.mark.parametrize("resolution", RESOLUTIONS, ids=lambda resolution: str(resolution[0]))


def music(seed: int = 0) -> Tensor:
    """Half a second of three notes with overtones, and a stroke."""
    random = torch.Generator().manual_seed(seed)
    time = torch.arange(50 * BARD_MEL.hop) / BARD_MEL.sample_rate
    wave = 0.2 * torch.randn(len(time), generator=random) * (-40 * (time - 0.2).abs()).exp()
    for pitch in (220.0, 277.2, 329.6):
        wave += sum(0.05 / k * torch.sin(2 * torch.pi * pitch * k * time + k) for k in range(1, 12))
    return wave


@EVERY
def test_convergence_is_0_for_the_same_and_1_for_silence(resolution: tuple[int, int, int]) -> None:
    wave = music()
    assert spectral_convergence(wave, wave, *resolution) == 0
    assert spectral_convergence(wave, 0 * wave, *resolution) == pytest.approx(1, abs=0.01)
    assert spectral_convergence(wave, 0.5 * wave, *resolution) == pytest.approx(0.5, abs=0.01)


def test_distance_grows_with_the_damage_and_does_not_mind_phases() -> None:
    wave = music()
    noise = torch.randn(len(wave), generator=torch.Generator().manual_seed(1))
    distances = [stft_distance(wave, wave + level * noise) for level in (0.0, 0.001, 0.01, 0.1)]
    assert distances[0] == 0
    assert distances == sorted(distances)
    assert stft_distance(wave, -wave) == pytest.approx(0, abs=1e-6)


def test_all_inversions_are_measured_on_the_same_music() -> None:
    calls: list[str] = []

    def logged(name: str, wave: Tensor) -> vocoder.Inversion:
        def invert(log_mel: Tensor, random: torch.Generator) -> Tensor:
            calls.append(name)
            assert random.initial_seed() in (7, 8)
            return wave

        return invert

    waves = [music(0), music(1)]
    found = measure({"silence": logged("silence", 0 * waves[0]), "first": logged("first", waves[0])}, waves, MEL, 7)
    assert calls == ["silence"] * 3 + ["first"] * 3  # the first time of each is not counted
    assert found["silence"]["spectral_convergence"] == pytest.approx(1, abs=0.01)
    assert 0 < found["first"]["spectral_convergence"] < 0.5  # 0 for the one, not for the other
    assert found["first"]["real_time_factor"] > 1


def test_librosas_inversion_is_as_loud_as_the_sound() -> None:
    wave = music()
    made = by_librosa(MEL, MEL(wave), torch.Generator().manual_seed(0))
    assert made.shape == wave.shape
    assert (made.std() / wave.std()).item() == pytest.approx(1, abs=0.15)


def test_the_network_that_ships_is_nearer_than_the_filter_bank() -> None:
    compared = {"bank": GriffinLim(MEL), "network": GriffinLim(MEL, shipped_network(BARD_MEL))}
    found = measure(compared, [music(seed) for seed in range(3)], MEL, 0)
    assert found["network"]["stft_distance"] < found["bank"]["stft_distance"]


def test_a_folder_that_holds_nothing_out_is_said_to(tmp_path: Path) -> None:
    prepared = prepare_small(tmp_path / "prepared", sides=("train",))
    with pytest.raises(SystemExit, match="no recording is held out to measure on"):
        vocoder.main(["--prepared", str(prepared)])
