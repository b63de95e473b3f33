"""The browser that tests drive: whichever of the family is on PATH, quiet and without a network."""

from __future__ import annotations

import shutil

import pytest

BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "google-chrome", "chrome", "chromium-browser"))), None
)
QUIET = [
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-sync",
]
MARKS = [
    pytest.mark.slow,
    pytest.mark.ci,
    pytest.mark.skipif(BROWSER is None, reason="there is no chromium, google-chrome or chrome on PATH"),
]
