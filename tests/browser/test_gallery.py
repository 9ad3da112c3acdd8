"""The gallery as a person has it: opened from disk in Chromium, filtered, looked at narrow and
wide, light and dark.

Run by `make test-browser`, which needs Debian's chromium and chromium-driver. It leaves screenshots
to look at.
"""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from cfexp.errors import InputError
from cfexp.evaluation.report.gallery import write_page
from cfexp.evaluation.run_folder import RunFolder
from tests.browser import galleries
from tests.browser.chromium import Chromium

pytestmark = pytest.mark.browser
SCREENSHOTS = Path(__file__).parents[2] / "build" / "gallery_screenshots"
RIGHT, END = "\ue014", "\ue010"  # WebDriver's keys
SHOWN = "document.querySelectorAll('article').length"
FOCUSED = "document.activeElement.dataset.key"
GALLERIES: dict[str, Callable[[Path], Path]] = {
    "large": galleries.large,
    "one": galleries.one,
    "questions": galleries.questions,
    "searches": galleries.searches,
}


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("galleries")
    return {name: write(folder / name) for name, write in GALLERIES.items()}


@pytest.fixture
def large(browser: Chromium, pages: dict[str, Path]) -> Chromium:
    browser.open(pages["large"])
    return browser


def count(browser: Chromium) -> str:
    (text,) = browser.texts("#count")
    return text


def test_a_thousand_cards_open_and_all_of_them_can_be_scrolled_to(large: Chromium) -> None:
    assert count(large) == "1000 of 1000"
    assert large.run(f"return {SHOWN}") < 200  # the others come as the page is scrolled
    milliseconds = large.run("return performance.getEntriesByType('navigation')[0].loadEventEnd")
    print(f"\n1,000 cards: loaded in {milliseconds / 1000:.2f} s")
    while (before := large.run(f"return {SHOWN}")) < 1000:
        large.run("scrollTo(0, document.body.scrollHeight)")
        large.wait_for(f"{SHOWN} > {before}")
    assert (
        large.run("return document.querySelectorAll('article:last-of-type')[0].dataset.key")
        == "999"
    )


def test_the_filters(large: Chromium) -> None:
    for name, value, expected in (
        ("outcome", "not flipped", 334),
        ("text", "the dog", 167),  # of those
        ("text", "THE DOG NUMBER 9", 20),
        ("text", "<nothing>", 0),
    ):
        large.choose(name, value)
        assert count(large) == f"{expected} of 1000"
    assert large.run("return document.getElementById('none').hidden") is False
    large.run("document.querySelector('button[type=reset]').click()")
    large.wait_for("document.getElementById('count').textContent === '1000 of 1000'")
    assert large.run("return document.getElementById('none').hidden") is True
    scores = large.texts("select[name=score] option")
    large.choose("score", str(scores.index("rms change (of 255)")))
    large.choose("order", "-1")
    assert large.texts("article .outcome")[:24] == ["flipped"] * 24
    large.choose("high", "0")
    assert count(large) == "334 of 1000"  # what is not changed
    large.choose("group", "what color is the")
    assert count(large) == "334 of 1000"


def test_the_sliders(large: Chromium) -> None:
    opacity = "return document.querySelector('.blend img + img').style.opacity"
    assert large.run(opacity) == "0.5"
    large.run("document.querySelector('figure input').focus()")
    large.press(RIGHT * 5)
    assert large.run(opacity) == "0.55"
    large.press(END)
    assert large.run(opacity) == "1"
    width = "return document.querySelector('article').offsetWidth"
    narrow = large.run(width)
    large.choose("size", "320")
    assert large.run(width) > narrow


def test_the_keyboard(large: Chromium) -> None:
    large.press("jjj")
    assert large.run(f"return {FOCUSED}") == "2"
    large.press("k")
    assert large.run(f"return {FOCUSED}") == "1"
    large.press("kkk")
    assert large.run(f"return {FOCUSED}") == "0"
    before = large.run(f"return {SHOWN}")
    large.press("j" * (before + 3))  # beyond what was made so far
    assert int(large.run(f"return {FOCUSED}")) == before + 3
    large.run("document.getElementById('filters').elements.text.focus()")
    large.press("jkj")
    assert large.run("return document.activeElement.value") == "jkj"
    assert count(large) == "0 of 1000"


def test_light_and_dark(browser: Chromium, pages: dict[str, Path]) -> None:
    paper = "return getComputedStyle(document.body).backgroundColor"
    for dark in (False, True):
        browser.open(pages["one"], dark=dark)
        first = browser.run(paper)
        browser.run("document.getElementById('theme').click()")
        assert browser.run(paper) != first
        browser.run("document.getElementById('theme').click()")
        assert browser.run(paper) == first


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
@pytest.mark.parametrize("name", GALLERIES)
def test_every_page_fits_says_no_error_and_loads_nothing(
    browser: Chromium, pages: dict[str, Path], name: str, width: int, dark: bool
) -> None:
    browser.open(pages[name], width, height=2400 if width < 600 else 1600, dark=dark)
    browser.wait_for("document.querySelector('article') !== null")
    folded = "document.querySelectorAll('header > details, article details')"
    browser.run(f"for (const each of {folded}) each.open = true")
    browser.run("scrollTo(0, document.body.scrollHeight)")
    browser.wait_for(
        "[...document.images].every(image => image.naturalWidth > 0 || image.loading === 'lazy')"
    )
    browser.run("scrollTo(0, 0)")
    assert browser.run("return document.documentElement.scrollWidth") <= width
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    path = SCREENSHOTS / f"{name}_{width}_{'dark' if dark else 'light'}.png"
    browser.run(
        "for (const each of document.querySelectorAll('header > details')) each.open = false"
    )
    browser.screenshot(path)
    print(f"\n{path}")
    assert browser.run("return window.taken") is None
    assert browser.errors() == []
    assert browser.addresses() == {pages[name].as_uri()}


def test_hostile_text_is_shown_as_it_is(browser: Chromium, pages: dict[str, Path]) -> None:
    browser.open(pages["questions"])
    assert browser.run("return document.querySelector('article b, h1 b, td b')") is None
    assert sorted(browser.texts("article h2")) == sorted(
        (text.strip() and text) or "(empty)" for text in galleries.HOSTILE
    )
    for text in (galleries.SCRIPT, galleries.HEBREW, galleries.LONG, "__proto__"):
        browser.choose("text", text)
        assert text in browser.texts("article h2")
    browser.open(pages["searches"])
    assert len(browser.texts("article")) == len(galleries.HOSTILE)
    regions = browser.texts("select[name=region] option")
    assert galleries.ELEMENT in regions
    assert any("no number" in text for text in browser.texts("dd"))


def test_a_run_without_explanations_or_pictures_has_no_page(
    pages: dict[str, Path], tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="no explanations in"):
        write_page(RunFolder(tmp_path), tmp_path / "page.html")
    run = tmp_path / "run"
    shutil.copytree(pages["one"].parent, run)
    (run / "explanations" / "counterfactual" / "7.png").unlink()
    with pytest.raises(InputError, match=r"7\.png is missing, though the run's records name it"):
        write_page(RunFolder(run), tmp_path / "page.html")
    assert not (tmp_path / "page.html").exists()
