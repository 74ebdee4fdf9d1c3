from pathlib import Path

import av
import numpy as np
import pytest

from generator.moods import COLOURS, Mood
from generator.picture import RANGE_DB, draw_spectrogram, log_spectrogram


@pytest.mark.parametrize("hertz", [55.0, 440.0, 5_000.0])
def test_a_sine_is_a_line_at_its_pitch_and_level(hertz: float) -> None:
    tone = (0.5 * np.sin(2 * np.pi * hertz * np.arange(96_000) / 48_000)).astype(np.float32)
    levels, centres = log_spectrogram(tone, 48_000)
    column = levels[:, levels.shape[1] // 2]
    loudest = float(centres[int(column.argmax())])
    assert abs(np.log2(loudest / hertz)) < 1 / 12
    assert float(column.max()) == pytest.approx(-6, abs=3)
    far = np.abs(np.log2(centres / hertz)) > 1.5
    assert float(column[far].max()) < float(column.max()) - RANGE_DB / 2


@pytest.mark.parametrize("samples", [0, 1, 48_000, 48_000 * 40])
def test_any_length_gives_a_picture_of_bounded_width(samples: int) -> None:
    levels, centres = log_spectrogram(np.zeros((samples, 2), np.float32), 48_000)
    assert levels.shape[0] == len(centres)
    assert 1 <= levels.shape[1] <= 1_700
    assert np.isfinite(levels).all()


def test_the_picture_is_a_png_that_shows_the_moods_colours(tmp_path: Path) -> None:
    path = tmp_path / "picture.part"
    noise = np.random.default_rng(1).normal(0, 0.1, (48_000 * 4, 2)).astype(np.float32)
    fight, sad = Mood("fight"), Mood("sad")
    draw_spectrogram(path, noise, 48_000, "title", [(0.0, fight, COLOURS[fight]), (2.0, sad, COLOURS[sad])])
    with av.open(str(path), format="png_pipe") as container:
        image = next(container.decode(video=0)).to_ndarray(format="rgb24")
    for mood in (fight, sad):
        colour = [int(COLOURS[mood][place : place + 2], 16) for place in (1, 3, 5)]
        assert (image == colour).all(axis=2).sum() > 1_000


def test_the_same_sound_gives_the_same_bytes(tmp_path: Path) -> None:
    tone = np.sin(np.arange(48_000) / 20).astype(np.float32)
    for name in ("a", "b"):
        draw_spectrogram(tmp_path / name, tone, 48_000, "title")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
