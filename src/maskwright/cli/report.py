from __future__ import annotations

from maskwright.cli.answer import Answer
from maskwright.cli.options import RunName


def report(run: RunName) -> Answer:
    """Rebuild the report of a run.

    It is one HTML file and opens offline."""
    from maskwright.api import Run

    page = Run.open(run).report()
    return Answer({"report": page}, str(page))
