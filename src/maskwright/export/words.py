"""A proof in words: rows and lines for the terminal and for the report."""

from __future__ import annotations

from maskwright.export.gate import ALONE
from maskwright.predict.passport import Passport, Proof, Row

COLUMNS = (
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
"""Of `proof_rows`; those that end in `>` are numbers."""
LOOKS = {"none": 1, "flips": 2, "scales": 6}


def proof_rows(proof: Proof) -> list[tuple[str, ...]]:
    """PyTorch, then every backend."""
    base = proof.reference.seconds[0]
    return [
        (
            row.backend,
            row.precision,
            "–" if row.logits is None else f"{row.logits:.1g}",
            f"{row.flipped:,} ({row.share:.4%})" if row.flipped else "0",
            "–" if row.dice is None else f"{row.dice:.4f}",
            "" if row is proof.reference else _change(row),
            "{:.0f} ({:.0f} to {:.0f})".format(*(1e3 * seconds for seconds in row.seconds)),
            "" if row is proof.reference or not row.seconds[0] else f"{base / row.seconds[0]:.1f}",
            "the model" if row is proof.reference else "not the same" if row.faults else "the same",
        )
        for row in (proof.reference, *proof.rows)
    ]


def proof_notes(passport: Passport, proof: Proof) -> list[str]:
    """Where the figures come from and what they may be, in lines."""
    limit = proof.tolerance
    allowed = [f"{limit.flipped:.2%} of pixels", f"{limit.dice:g} of Dice"]
    if any(row.worst is not None for row in proof.rows):  # earlier versions did not look at single batches
        allowed[0] += f" and {ALONE * limit.flipped:.2%} of any one batch"
    if limit.probability < 1:
        allowed.append(f"{limit.probability:g} of a probability")
    sizes = ", ".join(f"{n} of {height} x {width}" for n, height, width in proof.shapes)
    threads = "1 thread" if proof.threads == 1 else f"{proof.threads} threads"
    lines = [
        f"{proof.pictures} pictures of {proof.data} ({proof.split}) at their own size, and batches of {sizes}.",
        f"Allowed: {', '.join(allowed)}.",
        f"Contract {proof.contract}, {proof.date}, {proof.cpu}, {threads}.",
    ]
    if passport.tta != "none":
        lines.append(
            f"The file looks {LOOKS[passport.tta]} times at a picture, as the run was evaluated "
            f"(input.tta: {passport.tta}); --tta none looks once."
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
