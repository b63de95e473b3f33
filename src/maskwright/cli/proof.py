"""The proof of an exported file as a table for people."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from maskwright.cli.answer import table

if TYPE_CHECKING:
    from rich.console import RenderableType

    from maskwright.predict.passport import Passport, Proof


def proof_text(passport: Passport, path: Path | None, runner: Path | None = None) -> RenderableType:
    """Verdict, table, and what comes next. `path` is None where nothing was written."""
    from rich.console import Group

    from maskwright.export.words import proof_notes

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
        lines += ["", "Next:", f"  maskwright show {path}"]
        if path.suffix.lower() == ".pt2":  # predict opens none: it holds a pickled member
            lines.append(f"  torch.export.load({str(path)!r}).module()      # in Python, after import torch")
        else:
            lines.append(f"  maskwright predict {path} PICTURES --out masks/")
    if runner is not None:
        lines.append(
            f"  python {runner} --model {path} PICTURES --out masks/      # numpy, Pillow and onnxruntime alone"
        )
    return Group(*lines)


def exported_text(path: Path) -> list[RenderableType]:
    """One sentence and the table, where the file is there."""
    if not path.is_file():
        return []
    from maskwright.predict.passport import read_passport

    proof = read_passport(path).proof
    assert proof is not None
    return [f"Exported, and proven on {proof.pictures} validation pictures:", proof_table(proof)]


def proof_table(proof: Proof) -> RenderableType:
    """A row for each backend."""
    from maskwright.export.words import COLUMNS, proof_rows

    return table(COLUMNS, proof_rows(proof))


def _size(path: Path) -> str:
    from maskwright.predict.passport import files_of

    return f"{sum(file.stat().st_size for file in files_of(path)) / 1e6:.1f} MB"
