"""The listening room's page, in a real browser: who may use it and how, and what it says when something is wrong."""

import json
from collections.abc import Iterator
from pathlib import Path

import axe_playwright_python
import pytest
from playwright.sync_api import Browser, Page

from tests.room.chromium import PHONE, begin, until, until_text, visitor
from tests.room.service import Service

AXE = (Path(axe_playwright_python.__file__).parent / "axe.min.js").read_text(encoding="utf-8")
TOKEN = "a secret/with+odd=characters"


@pytest.fixture(scope="module")
def guarded() -> Iterator[Service]:
    """Wants a token, and plays to one alone."""
    started = Service("--max-streams", "1", token=TOKEN)
    started.start()
    yield started
    started.kill()


def messages(page: Page, kind: str) -> list[dict[str, object]]:
    """What the page sends of one kind, from now on."""
    found: list[dict[str, object]] = []

    def note(text: str | bytes) -> None:
        message = json.loads(text)
        if message["type"] == kind:
            found.append(message)

    page.on("websocket", lambda socket: socket.on("framesent", note))
    return found


def serious(page: Page) -> list[str]:
    """What axe-core finds fault with, and where."""
    page.evaluate(AXE)
    result = page.evaluate("axe.run({resultTypes: ['violations']})")
    return [
        f"{fault['id']}: {node['html']}"
        for fault in result["violations"]
        if fault["impact"] in ("serious", "critical")
        for node in fault["nodes"]
    ]


def test_a_link_to_another_model_says_so(browser: Browser, service: Service) -> None:
    with visitor(browser) as page:
        page.goto(f"{service.address}#seed=1&start=0&origin=0&home=3&mood=sad&intensity=3&model=elsewhere")
        page.get_by_role("button", name="Play").click()
        until_text(page, "#status", "The link is to the model elsewhere; here plays one.")


def test_axe_finds_nothing_serious(browser: Browser, service: Service) -> None:
    with visitor(browser, reduced_motion="reduce") as page:  # colours on their way to others are no contrast to judge
        page.goto(service.address)
        until(page, "!document.querySelector('#models').hidden")
        assert serious(page) == []
        for key in "12345678":  # each mood lends the page its colour
            page.keyboard.press(key)
            until(page, f"document.querySelectorAll('.mood')[{int(key) - 1}].textContent.startsWith(now.textContent)")
        page.get_by_label("Blend with").select_option("town")
        page.get_by_text("Score card").click()
        assert serious(page) == []


def test_every_control_has_a_name_and_the_keyboard_reaches_it(browser: Browser, service: Service) -> None:
    with visitor(browser) as page:
        begin(page, service.address)
        until(page, "!document.querySelector('#link').disabled")
        page.get_by_label("Blend with").select_option("sad")
        wanted = page.locator("button:visible, select:visible, input, summary").count() - 1  # the door is closed
        page.locator("h1").click()
        reached = set()
        for _ in range(2 * wanted):
            page.keyboard.press("Tab")
            reached.add(page.evaluate("document.activeElement.id || document.activeElement.textContent"))
        assert len(reached - {"Bardcast the listening room"}) >= wanted
        named = "each => each.ariaLabel || each.labels?.[0]?.textContent || each.textContent"
        for control in page.get_by_role("button").or_(page.get_by_role("slider")).all():
            assert control.evaluate(named).strip()


def test_a_phone_at_the_table(browser: Browser, service: Service) -> None:
    with visitor(browser, viewport=PHONE, has_touch=True, is_mobile=True) as page:
        page.add_init_script(
            "navigator.wakeLock.request = async () => (window.awake = { released: false, release() {} });"
        )
        page.goto(service.address)
        page.get_by_role("button", name="Mysterious").tap()
        until_text(page, "#now", "Mysterious")
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
        boxes = [pad.bounding_box() for pad in page.locator(".mood").all()]
        assert len({box["x"] for box in boxes if box}) == 2
        assert all(box and box["height"] >= 64 and box["width"] >= 150 for box in boxes)
        assert page.evaluate("window.awake !== undefined")
        assert page.evaluate("navigator.mediaSession.playbackState") == "playing"
        assert page.evaluate("navigator.mediaSession.metadata.title") == "Mysterious"
        manifest = page.context.new_cdp_session(page).send("Page.getAppManifest")
        assert manifest["errors"] == []
        found = page.context.new_cdp_session(page).send("Page.getInstallabilityErrors")["installabilityErrors"]
        assert [fault["errorId"] for fault in found] == ["in-incognito"]  # as all pages of a test are


def test_the_token_is_asked_for_and_travels_in_no_address(browser: Browser, guarded: Service) -> None:
    with visitor(browser) as page:
        addresses: list[str] = []
        page.on("request", lambda request: addresses.append(request.url))
        page.on("websocket", lambda socket: addresses.append(socket.url))
        page.goto(guarded.address)
        until_text(page, "#door-why", "wants its token")
        assert serious(page) == []
        page.get_by_role("textbox", name="Token").fill("wrong")
        page.get_by_role("button", name="Come in").click()
        until_text(page, "#door-why", "refuses that token")
        page.get_by_role("textbox", name="Token").fill(TOKEN)
        page.get_by_role("button", name="Come in").click()
        until(page, "!document.querySelector('#door').open")
        page.keyboard.press("2")
        until_text(page, "#now", "Festival")
        assert any(address.startswith("ws") for address in addresses)
        with visitor(browser) as second:
            second.goto(guarded.address)
            second.get_by_role("textbox", name="Token").fill(TOKEN)
            second.get_by_role("button", name="Come in").click()
            until(second, "!document.querySelector('#door').open")
            second.keyboard.press("2")
            until_text(second, "#status", "All 1 streams are taken: stop the music at another table")
        until_text(page, "#status", "")
    guarded.kill()
    guarded.start()
    told = " ".join([*addresses, guarded.log])
    assert "secret" not in told
    assert "bardcast.token" not in told


def test_a_link_replays_a_moment_by_seed_and_state(browser: Browser, service: Service) -> None:
    with visitor(browser) as page:
        opened = messages(page, "open")
        begin(page, service.address)
        page.keyboard.press("6")
        until(page, "document.querySelector('#now').textContent === 'Sad'")
        page.get_by_role("button", name="Link this moment").click()
        until(page, "location.hash.includes('seed=')")
        link = page.evaluate("location.href")
        chord = page.locator("#chord").text_content()
        key = page.locator("#key").text_content()
    with visitor(browser) as page:
        again = messages(page, "open")
        page.goto(link)
        page.get_by_role("button", name="Play").click()
        until(page, "document.querySelector('#now').textContent === 'Sad'")
        assert again[0]["seed"] == opened[0]["seed"]
        assert again[0]["mood"] == "sad"
        start, origin = again[0]["start"], again[0]["origin"]
        assert isinstance(start, int)
        assert isinstance(origin, int)
        assert start >= origin > 0
        assert page.locator("#chord").text_content() == chord
        assert page.locator("#key").text_content() == key


def test_a_link_that_was_cut_off_is_no_link(browser: Browser, service: Service) -> None:
    whole = "#seed=1&start=300&origin=100&home=3&mood=sad&intensity=3"
    read = "async fragment => (await import('/room/moment.js')).fromFragment(fragment)"
    with visitor(browser) as page:
        page.goto(service.address)
        assert page.evaluate(read, whole)["start"] == 300
        for cut in ("#", "#seed=1", whole.replace("100", "301"), whole.replace("sad", "<b>"), whole + "&blend=gloom"):
            assert page.evaluate(read, cut) is None


def test_what_a_browser_lacks_is_a_sentence(browser: Browser, service: Service) -> None:
    with visitor(browser) as page:
        page.add_init_script("delete window.AudioWorkletNode")
        page.goto(service.address)
        page.keyboard.press("1")
        until_text(page, "#status", "too old for the listening room")
    with visitor(browser) as page:
        page.add_init_script("Object.defineProperty(window, 'isSecureContext', { value: false })")
        page.goto(service.address)
        page.keyboard.press("1")
        until_text(page, "#status", "open the page as https://")


def test_where_motion_is_unwelcome_nothing_moves_but_the_place(browser: Browser, service: Service) -> None:
    with visitor(browser, reduced_motion="reduce") as page:
        begin(page, service.address)
        page.evaluate("document.querySelector('.mood').classList.add('turning')")  # which elsewhere blinks
        assert page.evaluate("document.getAnimations().length") == 0
        column = "[...document.querySelector('#picture').getContext('2d').getImageData(2, 40, 1, 200).data].join()"
        page.wait_for_timeout(500)  # it is drawn
        before = page.evaluate(column)
        page.wait_for_timeout(300)
        assert page.evaluate(column) == before  # what is drawn stays where it is
