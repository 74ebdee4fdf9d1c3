from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.room_page import draw
from generator.moods import COLOURS, Mood


@pytest.mark.slow
def test_the_pictures_show_the_moods_that_were_heard(tmp_path: Path) -> None:
    desk, phone = draw(tmp_path)
    for path, moods in ((desk, ("tavern", "fight")), (phone, ("festival",))):
        pixels = np.asarray(Image.open(path).convert("RGB")).astype(int)
        heard = pixels[len(pixels) // 6 : len(pixels) // 3].reshape(-1, 3)
        for mood in moods:
            colour = np.array([int(COLOURS[Mood(mood)][at : at + 2], 16) for at in (1, 3, 5)])
            assert (np.abs(heard - colour).max(axis=1) < 60).mean() > 0.01
