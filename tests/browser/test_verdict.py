"""The page of verdicts in Chromium: judged by keys, reloaded, corrected, and saved as a file.

Run by `make test-browser`, as the galleries are. It leaves screenshots to look at.
"""

from pathlib import Path

import pytest

from cfexp.run.verdicts import read_verdicts
from tests.browser import galleries
from tests.browser.chromium import Chromium

pytestmark = pytest.mark.browser
SCREENSHOTS = Path(__file__).parents[2] / "build" / "verdict_screenshots"
LEFT, RIGHT = "\ue012", "\ue014"  # WebDriver's keys
CLASSES = ('stop, "now"', galleries.ELEMENT)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return galleries.verdicts(tmp_path_factory.mktemp("verdicts") / "run")


def opened(browser: Chromium, page: Path) -> None:
    browser.open(page)
    browser.run("localStorage.clear()")
    browser.open(page)


def said(browser: Chromium) -> tuple[str, str]:
    (count,), (which,) = browser.texts("#count"), browser.texts("#which")
    return count, which


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_it_fits_says_no_error_and_loads_nothing(
    browser: Chromium, page: Path, width: int, dark: bool
) -> None:
    browser.open(page, width, dark=dark)
    browser.wait_for("[...document.images].every(image => image.naturalWidth > 0)")
    assert browser.run("return document.documentElement.scrollWidth") <= width
    browser.press("1")
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    path = SCREENSHOTS / f"verdict_{width}_{'dark' if dark else 'light'}.png"
    browser.screenshot(path)
    print(f"\n{path}")
    assert browser.run("return window.taken") is None
    assert browser.errors() == []
    assert browser.addresses() == {page.as_uri()}


def test_keys_judge_and_go_back_and_a_reload_goes_on(browser: Chromium, page: Path) -> None:
    opened(browser, page)
    assert said(browser) == ("0 of 6 judged", "1 of 6: image 1, key 1")  # key 0 turned nothing
    browser.press("120")
    assert said(browser) == ("3 of 6 judged", "4 of 6: image 4, key 4")
    browser.press(LEFT)
    pressed = "[...document.querySelectorAll('[aria-pressed=true]')].map(each => each.value)"
    assert browser.run(f"return {pressed}") == ["unusable"]
    browser.press("2")  # corrected
    assert said(browser) == ("3 of 6 judged", "4 of 6: image 4, key 4")
    browser.press(RIGHT)
    assert said(browser)[1] == "5 of 6: image 5, key 5"
    browser.open(page)  # as after a crash
    assert said(browser) == ("3 of 6 judged", "4 of 6: image 4, key 4")
    browser.press("101")
    assert browser.run("return document.getElementById('done').hidden") is False
    browser.press("x7")  # other keys say nothing
    assert said(browser)[0] == "6 of 6 judged"


def test_the_file_is_what_repair_takes(browser: Chromium, page: Path, tmp_path: Path) -> None:
    opened(browser, page)
    browser.press("120")
    browser.driver.execute_cdp_cmd(
        "Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(tmp_path)}
    )
    browser.press("s")
    path = tmp_path / "verdicts.csv"
    browser.driver.set_script_timeout(20)
    for _ in range(100):
        if path.is_file() and path.stat().st_size:
            break
        browser.driver.execute_async_script("setTimeout(arguments[0], 100)")
    assert read_verdicts(path, CLASSES) == {1: 0, 2: 1}
    assert browser.errors() == []
