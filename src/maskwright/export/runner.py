"""A script beside an exported model that makes masks where maskwright is not installed."""

from __future__ import annotations

from pathlib import Path

from maskwright.errors import RunError
from maskwright.files import write_text

RUNNER = "run.py"
MARK = "Written by `maskwright export --runner`."
"""What tells a script of ours, also of an older version, from one of the user's."""


def write_runner(model_file: Path) -> Path:
    """Write `run.py` beside the exported file and return its path. Raises RunError over a run.py that is not ours."""
    beside = check_runner(model_file)
    write_text(beside, Path(__file__).with_name(RUNNER).read_text(encoding="utf-8"))
    return beside


def check_runner(model_file: Path) -> Path:
    """Where `run.py` goes. Raises RunError where one lies there that is not ours."""
    beside = model_file.with_name(RUNNER)
    if beside.exists() and MARK not in _text(beside):
        raise RunError(
            f"{beside} was not written by maskwright and stays as it is",
            "export into another folder: --out FILE",
        )
    return beside


def _text(path: Path) -> str:
    """As much as is needed to know it; nothing of what is no text."""
    try:
        with open(path, encoding="utf-8") as file:
            return file.read(1 << 16)
    except (OSError, UnicodeDecodeError):
        return ""
