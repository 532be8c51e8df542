"Chromium, driven by selenium, for tests of pages; skipped where it is not at hand."
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import pytest


@contextmanager
def chromium(flags: str, logs: bool = False) -> Iterator:
    "A browser with such flags; `logs`: it keeps what pages print and fetch."
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed (pip install selenium)")
    from selenium.webdriver.chrome.service import Service
    binary = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    driver = shutil.which("chromedriver")
    if not (binary and driver):
        pytest.skip("no Chromium with chromedriver here (apt-get install chromium chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for flag in flags.split(): options.add_argument(flag)
    if logs: options.set_capability("goog:loggingPrefs", dict(browser="ALL", performance="ALL"))
    chrome = webdriver.Chrome(options=options, service=Service(driver))
    try: yield chrome
    finally: chrome.quit()
