from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from maskwright.cli.answer import Answer, table
from maskwright.cli.options import Device, RunName
from maskwright.cli.terminal import terminal

if TYPE_CHECKING:
    from rich.console import Group

    from maskwright.replay import Verification


def verify(
    run: RunName,
    steps: Annotated[int, typer.Option(metavar="N", min=1, help="Do so many first steps again.")] = 8,
    data: Annotated[
        str | None, typer.Option(metavar="DATA", help="Where the data lie now; as in the run without it.")
    ] = None,
    device: Device = "auto",
    threads: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="CPU threads; as many as the run had without it.")
    ] = None,
) -> Answer:
    """Do the first steps of a run again and compare with its receipt.

    Says that the weights have the same bits; or that they are equal within tolerance, and what adds in another order;
    or where they part, and why: the recipe, the data (which pictures), a library, the device. The run is not touched.
    Exit code 1 where they part."""
    from maskwright.api import Run

    found = Run.open(run).verify(steps, data=data, device=device, threads=threads, progress=terminal())
    return Answer(_document(found), _text(found), code=int(found.verdict == "diverged"))


def _document(found: Verification) -> dict[str, object]:
    first = found.first
    return {
        "run": found.run,
        "verdict": found.verdict,
        "sentence": found.sentence,
        "steps": found.steps,
        "tolerance": found.tolerance,
        "first": None
        if first is None
        else {"step": first.step, "side": first.side, "tensors": list(first.differing)},
        "checks": [
            {
                "step": check.step,
                "exact": check.exact,
                "loss_then": check.loss_then,
                "loss_now": check.loss_now,
                "differing": len(check.differing),
                "drift": check.drift,
            }
            for check in found.checks
        ],
        "reasons": list(found.reasons),
        "notes": list(found.notes),
    }


def _text(found: Verification) -> Group:
    from rich.console import Group

    said = {True: "same bits", False: ""}
    rows = [
        (
            check.step,
            check.loss_then,
            check.loss_now,
            said[check.exact] or f"{len(check.differing)} tensors differ",
            f"{check.drift:.1e}" if check.differing else "",
        )
        for check in found.checks
    ]
    return Group(
        table(("after step>", "loss then>", "loss now>", "weights", "apart>"), rows),
        found.sentence,
        *(f"Reason: {reason}" for reason in found.reasons),
        *(f"Note: {note}" for note in found.notes),
    )
