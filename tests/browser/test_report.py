"""The report in Chromium: narrow and wide, light and dark, on paper, with hostile text.

Run by `make test-browser`, as the galleries are. It leaves screenshots to look at.
"""

import base64
from pathlib import Path

import pytest

from cfexp.evaluation.report.reliance import report_of, write_report
from cfexp.evaluation.run_folder import RunFolder
from tests.browser import galleries
from tests.browser.chromium import Chromium
from tests.evaluation.street_runs import write_streets

pytestmark = pytest.mark.browser
SCREENSHOTS = Path(__file__).parents[2] / "build" / "report_screenshots"
PAGES = ("biased", "unbiased", "questions", "searches")


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("reports")
    write_streets(folder / "biased", biased=True)
    write_streets(folder / "unbiased", biased=False)
    galleries.questions(folder / "questions")
    galleries.searches(folder / "searches")
    for name in PAGES:
        title = galleries.SCRIPT if name in ("questions", "searches") else name
        write_report(
            report_of(RunFolder(folder / name)), folder / name / "report.html", title=title
        )
    return {name: folder / name / "report.html" for name in PAGES}


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
@pytest.mark.parametrize("name", PAGES)
def test_every_page_fits_says_no_error_and_loads_nothing(
    browser: Chromium, pages: dict[str, Path], name: str, width: int, dark: bool
) -> None:
    browser.open(pages[name], width, height=2600, dark=dark)
    browser.wait_for("[...document.images].every(image => image.naturalWidth > 0)")
    assert browser.run("return document.documentElement.scrollWidth") <= width
    browser.run("for (const each of document.querySelectorAll('details')) each.open = true")
    assert browser.run("return document.documentElement.scrollWidth") <= width
    browser.run("for (const each of document.querySelectorAll('details')) each.open = false")
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    path = SCREENSHOTS / f"{name}_{width}_{'dark' if dark else 'light'}.png"
    browser.screenshot(path)
    print(f"\n{path}")
    assert browser.run("return window.taken") is None
    assert browser.errors() == []
    assert browser.addresses() == {pages[name].as_uri()}


def test_the_verdict(browser: Chromium, pages: dict[str, Path]) -> None:
    browser.open(pages["biased"])
    (verdict,) = browser.texts(".verdict")
    assert verdict.startswith("Suspected first: building. 75.0 % of explanations go")
    browser.open(pages["unbiased"])
    (verdict,) = browser.texts(".verdict")
    assert verdict.startswith("No shortcut is suspected.")


def test_on_paper_it_is_light_and_every_test_is_there(
    browser: Chromium, pages: dict[str, Path]
) -> None:
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    browser.open(pages["biased"], width=794, height=1800, dark=True)
    browser.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    paper = browser.run("return getComputedStyle(document.body).backgroundColor")
    assert paper == "rgb(255, 255, 255)"
    assert (
        browser.run("return document.documentElement.scrollWidth") <= 794
    )  # A4 at 96 dots an inch
    tables = "[...document.querySelectorAll('.wide')]"
    assert browser.run(f"return {tables}.every(each => each.scrollWidth <= each.clientWidth)")
    assert browser.run("return document.querySelector('details table').offsetHeight > 0")
    browser.screenshot(SCREENSHOTS / "biased_paper.png")
    printed = browser.driver.execute_cdp_cmd("Page.printToPDF", {"printBackground": True})
    path = SCREENSHOTS / "biased.pdf"
    path.write_bytes(base64.b64decode(printed["data"]))
    print(f"\n{path}")
    assert path.read_bytes().startswith(b"%PDF")
