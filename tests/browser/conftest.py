"""The browser that the tests of a file share."""

from collections.abc import Iterator

import pytest

from tests.browser.chromium import Chromium, started


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    with started(tmp_path_factory.mktemp("profile")) as browser:
        yield browser
