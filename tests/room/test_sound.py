"""What is heard of the listening room, in a real browser: recorded where it reaches the loudspeaker."""

import wave
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Browser, Page

from generator.protocol import SAMPLE_RATE
from tests.room.chromium import (
    begin,
    from_first_sound,
    heard,
    longest_gap,
    mood_at,
    now,
    turned_at,
    until,
    until_text,
    visitor,
)
from tests.room.service import Service

GAP = 0.02  #: seconds: what the ear forgives
CHANGE = 2.0


def wait(page: Page, seconds: float) -> None:
    """Until so much more was heard."""
    until(page, f"window.ear.samples > {(now(page) + seconds) * SAMPLE_RATE}", seconds + 15)


def test_one_press_and_the_mood_has_changed_within_two_seconds_without_a_gap(
    browser: Browser, service: Service
) -> None:
    with visitor(browser, ear=True) as page:
        begin(page, service.address)
        wait(page, 2)
        asked = now(page)
        page.get_by_role("button", name="Fight").click()
        wait(page, CHANGE + 0.5)
        sound = heard(page)
        assert mood_at(sound, asked) == "tavern"
        assert turned_at(sound, "fight", asked) - asked < CHANGE
        assert longest_gap(sound) < GAP
        assert page.locator("#now").text_content() == "Fight"
        assert page.get_by_role("button", name="Fight").get_attribute("aria-pressed") == "true"


def test_a_service_that_is_killed_and_started_again_is_not_missed(browser: Browser, service: Service) -> None:
    with visitor(browser, ear=True) as page:
        begin(page, service.address)
        wait(page, 1)
        service.kill()
        until_text(page, "#status", "comes back by itself")
        wait(page, 9)  # more than lies ready: what was heard is extended
        page.keyboard.press("6")
        service.start()
        page.evaluate("window.dispatchEvent(new Event('online'))")  # a network that is back is not waited for
        until_text(page, "#now", "Sad")
        wait(page, 1)
        sound = heard(page)
        assert longest_gap(sound) < GAP
        assert mood_at(sound, len(sound) / SAMPLE_RATE - 0.2) == "sad"
        assert page.locator("#status").text_content() == ""


def test_a_pause_is_silence_and_the_music_goes_on_where_it_was(browser: Browser, service: Service) -> None:
    with visitor(browser, ear=True) as page:
        begin(page, service.address)
        wait(page, 1)
        page.get_by_role("button", name="Tavern").click()  # which does not keep the space bar for itself
        page.keyboard.press(" ")
        until_text(page, "#pause", "Play")
        page.wait_for_timeout(600)
        paused = now(page)
        page.wait_for_timeout(600)
        assert now(page) == paused  # nothing is computed
        page.keyboard.press(" ")
        wait(page, 1)
        sound = heard(page)
        assert mood_at(sound, now(page) - 0.4) == "tavern"
        around = np.abs(sound[int((paused - 0.5) * SAMPLE_RATE) :][:SAMPLE_RATE])
        blocks = around.reshape(-1, SAMPLE_RATE // 100).max(axis=1)
        assert blocks.min() < 0.01  # it was faded to silence,
        assert np.abs(np.diff(blocks)).max() < 0.05  # and neither cut off nor begun with a click


def test_volume_is_heard_at_once_and_remembered(browser: Browser, service: Service) -> None:
    with visitor(browser, ear=True) as page:
        begin(page, service.address)
        wait(page, 0.8)
        before = np.abs(heard(page)[-4800:]).max()
        page.get_by_role("slider", name="Volume").fill("40")
        wait(page, 0.6)
        assert np.abs(heard(page)[-4800:]).max() == pytest.approx(before * (40 / 80) ** 2, rel=0.05)
        page.reload()
        assert page.get_by_role("slider", name="Volume").input_value() == "40"


def test_blend_and_intensity_reach_the_music(browser: Browser, service: Service) -> None:
    with visitor(browser, ear=True) as page:
        begin(page, service.address)
        page.get_by_label("Blend with").select_option("fight")
        until_text(page, "#now", "Tavern and Fight")
        width = page.locator("#pad").evaluate("pad => pad.clientWidth")
        page.locator("#pad").click(position={"x": width - 3, "y": 3})  # all of the second mood, and all that it has
        until(page, "document.querySelector('#now').textContent === 'Fight'")
        assert page.get_by_role("slider", name="Intensity").input_value() == "5"
        page.get_by_role("slider", name="Blend").press("ArrowLeft")
        until_text(page, "#now", "Tavern and Fight")


def test_what_is_kept_is_what_was_heard(browser: Browser, service: Service, tmp_path: Path) -> None:
    with visitor(browser, ear=True) as page:
        begin(page, service.address)
        wait(page, 2)
        with page.expect_download() as download:
            page.keyboard.press("k")
        path = tmp_path / download.value.suggested_filename
        download.value.save_as(path)
        assert path.name.startswith("bardcast-tavern-")
        with wave.open(str(path)) as file:
            assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (SAMPLE_RATE, 2, 2)
            kept = np.frombuffer(file.readframes(file.getnframes()), "<i2")[::2].astype(np.float32) / 32_768
        sound = from_first_sound(heard(page)) / 0.8**2
        length = min(len(sound), len(kept)) - SAMPLE_RATE
        assert length > SAMPLE_RATE / 2
        lag = max(range(4_800), key=lambda shift: float(kept[shift + 48_000 :][:9_600] @ sound[48_000:][:9_600]))
        assert np.abs(kept[lag + 48_000 :][:9_600] - sound[48_000:][:9_600]).max() < 0.01


def test_the_other_model_takes_over_in_the_same_piece_without_a_gap(browser: Browser, service: Service) -> None:
    with visitor(browser, ear=True) as page:
        opened: list[str] = []
        page.on(
            "websocket",
            lambda socket: socket.on(
                "framesent", lambda text: opened.append(str(text)) if '"open"' in str(text) else None
            ),
        )
        begin(page, service.address)
        wait(page, 1)
        page.get_by_role("button", name="B other").click()
        assert page.locator("#side-b").get_attribute("aria-pressed") == "true"
        wait(page, 2)
        assert longest_gap(heard(page)) < GAP
        first, second = opened
        assert '"beside":false' in first
        assert '"beside":true' in second
        assert '"origin":0' in second
        page.get_by_label("Blind").check()  # a stream of its own, whichever it is: none would tell that nothing changed
        until(page, "document.querySelector('#status').textContent === ''")
        wait(page, 2)
        assert len(opened) == 3
        page.get_by_role("button", name="Link this moment").click()
        assert "seed=" in page.url
        assert "model=" not in page.url  # which would tell, too
        assert page.locator("#side-a").inner_text() == "A ?"
        assert page.locator("#side-b").inner_text() == "B ?"
        page.get_by_label("Blind").uncheck()
        assert {page.locator(f"#side-{side}").inner_text()[2:] for side in "ab"} == {"one", "other"}
