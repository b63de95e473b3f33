"""What `predict` says about pictures that were looked at in tiles."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from maskwright.errors import ConfigError

if TYPE_CHECKING:
    from maskwright.predict.look import Seams
    from maskwright.predict.save import Saved

MOST_NOTES = 3


def read_tile(text: str | None) -> tuple[int, int] | None:
    """`512,768` or `512`: height and width. Raises ConfigError."""
    if text is None:
        return None
    try:
        sides = [int(side) for side in text.split(",")]
    except ValueError:
        sides = []
    if len(sides) not in (1, 2) or min(sides) < 1:
        raise ConfigError(f"--tile {text} is no size", "write height,width such as --tile 512,512")
    return sides[0], sides[-1]


def tile_lines(results: Sequence[Saved], *, check: bool) -> Iterator[str]:
    """Notes, each once, with the first picture that it holds for; and the worst seam."""
    first: dict[str, Saved] = {}
    for result in results:
        for note in result.notes:
            first.setdefault(note, result)
    for note, result in [*first.items()][:MOST_NOTES]:
        yield f"Note: {result.input.name}: {note}"
    if len(first) > MOST_NOTES:
        yield f"Note: {len(first) - MOST_NOTES} more such notes, of pictures of other sizes, are in --json"
    if check:
        yield _seam_line([(result, result.seams) for result in results if result.seams is not None])


def _seam_line(found: Sequence[tuple[Saved, Seams]]) -> str:
    if not found:
        return "Seams: no picture was cut now that can be looked at whole, so there is nothing to compare"
    result, worst = max(found, key=lambda each: each[1].difference)
    changed, pixels = (sum(getattr(seams, name) for _, seams in found) for name in ("changed", "pixels"))
    return (
        f"Seams: tiles and one look differ by {worst.difference:.2g} of probability at most ({result.input.name}, row "
        f"{worst.row}, column {worst.column}); {100 * changed / pixels:.4g} % of the pixels have another class "
        f"({len(found)} checked)"
    )


def tile_values(result: Saved) -> dict[str, Any]:
    """For --json."""
    seams = result.seams
    return {
        "notes": result.notes,
        "seams": None if seams is None else {**asdict(seams), "share": seams.share},
    }
