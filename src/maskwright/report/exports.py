"""The exported files of a run and their proofs, ready for the page."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from maskwright.errors import RunError
from maskwright.export.words import COLUMNS, proof_notes, proof_rows
from maskwright.predict.formats import SUFFIXES
from maskwright.predict.passport import digest_of, files_of, read_passport


@dataclass(frozen=True)
class ExportedFile:
    """A file in the run's export folder, in words."""

    name: str
    facts: str
    columns: tuple[tuple[str, bool], ...]
    """Heading, and whether it is a number."""
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...]


def exported_files(folder: Path) -> list[ExportedFile]:
    """Those in `folder` that carry a proof which holds; the others are not spoken of."""
    found = []
    for path in sorted(path for path in folder.glob("*") if path.suffix in SUFFIXES):
        try:
            passport = read_passport(path)
            proof = passport.proof
            if proof is None or not proof.passed or digest_of(path) != passport.digest:
                continue
            size = sum(file.stat().st_size for file in files_of(path)) / 1e6
        except (RunError, OSError):
            continue
        found.append(
            ExportedFile(
                name=path.name,
                facts=f"{passport.precision}, {size:.1f} MB, SHA-256 {passport.digest[:12]}",
                columns=tuple((column.removesuffix(" >"), column.endswith(">")) for column in COLUMNS),
                rows=tuple(proof_rows(proof)),
                notes=tuple(proof_notes(passport, proof)),
            )
        )
    return found
