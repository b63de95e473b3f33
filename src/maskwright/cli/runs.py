from __future__ import annotations

from maskwright.cli.answer import Answer, table


def runs() -> Answer:
    """List the runs under runs/ and what they reached."""
    from dataclasses import asdict

    from maskwright.api import list_runs

    found = list_runs()
    columns = ("run", "model", "data", "epochs>", "minutes>", "validation Dice>", "test Dice>")
    listed = [asdict(run) for run in found]
    rows = [tuple((run | {"minutes": f"{run['minutes']:.1f}"}).values()) for run in listed]
    return Answer(
        {"runs": listed}, table(columns, rows) if rows else "No runs here yet; `maskwright demo` makes one."
    )
