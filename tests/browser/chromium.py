"""A page in headless Chromium: what a person does to it, what it asks of the network, and what its
console holds.
"""

import base64
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

FLAGS = (
    *(
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--hide-scrollbars",
    ),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)


class Chromium:
    """A browser with one page."""

    def __init__(self, driver: Any) -> None:
        self.driver = driver

    def open(self, path: Path, width: int = 1280, height: int = 900, dark: bool = False) -> None:
        """Load a file into a window of so many pixels; what was logged of the page before is
        forgotten.
        """
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
        self.driver.get("about:blank")
        for log in ("browser", "performance"):
            self.driver.get_log(log)
        self.driver.get(path.as_uri())

    def run(self, script: str, *arguments: Any) -> Any:
        """What a script `return`s, of such arguments."""
        return self.driver.execute_script(script, *arguments)

    def texts(self, selector: str) -> list[str]:
        """The text of each element."""
        found: list[str] = self.run(
            "return [...document.querySelectorAll(arguments[0])].map(found => found.textContent)",
            selector,
        )
        return found

    def choose(self, name: str, value: str) -> None:
        """Set a field of the form, as typing or choosing does."""
        self.run(
            "const field = document.getElementById('filters').elements[arguments[0]];"
            "field.value = arguments[1];"
            "field.dispatchEvent(new Event('input', { bubbles: true }));",
            *(name, value),
        )

    def press(self, keys: str) -> None:
        """Press keys one after another, wherever the focus is."""
        self.driver.switch_to.active_element.send_keys(keys)

    def wait_for(self, condition: str, seconds: float = 20) -> None:
        """Wait until a JavaScript expression is true."""
        from selenium.webdriver.support.wait import WebDriverWait

        WebDriverWait(self.driver, seconds).until(
            lambda _: self.run(f"return {condition}"), message=condition
        )

    def errors(self) -> list[str]:
        """What the console holds since the page was opened, of warnings and errors."""
        return [
            entry["message"]
            for entry in self.driver.get_log("browser")
            if entry["level"] in ("WARNING", "SEVERE")
        ]

    def addresses(self) -> set[str]:
        """What the page asked for since it was opened, but for what it carries itself (`data:`)."""
        events = (
            json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")
        )
        requests = (
            event["params"] for event in events if event["method"] == "Network.requestWillBeSent"
        )
        return {
            each["request"]["url"]
            for each in requests
            if not each["request"]["url"].startswith("data:")
        }

    def screenshot(self, path: Path) -> None:
        """Write what the window shows as a PNG."""
        taken = self.driver.execute_cdp_cmd("Page.captureScreenshot", {})
        path.write_bytes(base64.b64decode(taken["data"]))


@contextmanager
def started(profile: Path) -> Iterator[Chromium]:
    """A browser that keeps what it keeps in the new folder `profile`, until the block's end."""
    from selenium import webdriver  # late: only `make test-browser` has it
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or "chromium"
    for flag in (*FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
    try:
        yield Chromium(driver)
    finally:
        driver.quit()
