"""The proof of an exported file as a table for people."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from maskwright.cli.answer import table

if TYPE_CHECKING:
    from rich.console import RenderableType

    from maskwright.predict.passport import Passport, Proof, Row


def proof_text(passport: Passport, path: Path | None, runner: Path | None = None) -> RenderableType:
    """Verdict, table, and what comes next. `path` is None where nothing was written."""
    from rich.console import Group

    proof = passport.proof
    assert proof is not None
    lines: list[RenderableType] = []
    if path is None:
        lines.append(f"Nothing was written: the file would not be {passport.run} as it was evaluated.")
    else:
        lines.append(f"{path} is {passport.run} as it was evaluated ({passport.precision}, {_size(path)}).")
    lines += [proof_table(proof), *proof_notes(passport, proof)]
    for row in proof.rows:
        lines += [f"{row.backend}: {fault}" for fault in row.faults]
    if path is None:
        lines.append("Try another --precision or --format; `maskwright predict` works with the run itself.")
    else:
        lines += [
            "",
            "Next:",
            f"  maskwright show {path}",
            f"  maskwright predict {path} PICTURES --out masks/",
        ]
    if runner is not None:
        lines.append(f"  python {runner} PICTURES --out masks/      # numpy, Pillow and onnxruntime alone")
    return Group(*lines)


def proof_table(proof: Proof) -> RenderableType:
    """A row for each backend."""
    columns = (
        "backend",
        "bits",
        "logits off by >",
        "pixels flipped >",
        "Dice >",
        "change (95 %) >",
        "ms a picture >",
        "times as fast >",
        "verdict",
    )
    base = proof.reference.seconds[0]
    rows = [
        (
            row.backend,
            row.precision,
            _short(row.logits),
            "0" if not row.flipped else f"{row.flipped:,} ({row.share:.4%})",
            row.dice,
            "" if row is proof.reference else _change(row),
            f"{1e3 * row.seconds[0]:.0f} ({1e3 * row.seconds[1]:.0f} to {1e3 * row.seconds[2]:.0f})",
            "" if row is proof.reference or not row.seconds[0] else f"{base / row.seconds[0]:.1f}",
            "the model" if row is proof.reference else "not the same" if row.faults else "the same",
        )
        for row in (proof.reference, *proof.rows)
    ]
    return table(columns, rows)


def proof_notes(passport: Passport, proof: Proof) -> list[str]:
    """Where the figures come from, in lines."""
    limit = proof.tolerance
    sizes = ", ".join(f"{n} of {height} x {width}" for n, height, width in proof.shapes)
    lines = [
        f"{proof.pictures} pictures of {proof.data} ({proof.split}) at their own size, and batches of {sizes}.",
        f"Allowed: {limit.flipped:.2%} of pixels, {limit.dice:g} of Dice, {limit.probability:g} of a probability.",
        f"Contract {proof.contract}, {proof.date}, {proof.cpu}, {proof.threads} threads.",
    ]
    if passport.tta != "none":
        looks = {"flips": 2, "scales": 6}.get(passport.tta, 1)
        lines.append(
            f"The file looks {looks} times at a picture, as the recipe does (input.tta: {passport.tta}); "
            "--tta none looks once."
        )
    if passport.kept:
        lines.append(f"Left in fp32: {', '.join(passport.kept)}.")
    return lines


def _change(row: Row) -> str:
    if row.change is None:
        return "–"
    if row.change_ci95 is None:
        return _signed(row.change)
    low, high = row.change_ci95
    return f"{_signed(row.change)} ({_signed(low)} to {_signed(high)})"


def _signed(number: float) -> str:
    return "0" if number == 0 else f"{number:+.4f}" if abs(number) >= 5e-5 else f"{number:+.0e}"


def _short(number: float | None) -> str:
    return "–" if number is None else "0" if number == 0 else f"{number:.1g}"


def _size(path: Path) -> str:
    from maskwright.predict.passport import files_of

    return f"{sum(file.stat().st_size for file in files_of(path)) / 1e6:.1f} MB"
