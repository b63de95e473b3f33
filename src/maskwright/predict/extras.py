"""Packages that come with `maskwright[serve]` and may be missing."""

from __future__ import annotations

import importlib
from typing import Any

from maskwright.errors import RunError


def imported(package: str) -> Any:
    """The module. Raises RunError where it is not installed."""
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise RunError(f"{package} is not installed", 'pip install "maskwright[serve]"') from error
