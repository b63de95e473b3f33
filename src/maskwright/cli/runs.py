from __future__ import annotations

from maskwright.cli.answer import Answer, table


def runs() -> Answer:
    """List the runs under runs/ and what they reached."""
    from dataclasses import asdict, astuple

    from maskwright.api import list_runs

    found = list_runs()
    columns = ("run", "model", "data", "epochs>", "minutes>", "validation Dice>", "test Dice>")
    text = table(columns, map(astuple, found)) if found else "No runs here yet; `maskwright demo` makes one."
    return Answer({"runs": [asdict(run) for run in found]}, text)
