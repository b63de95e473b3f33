"""What an audit leaves for people and programs: audit.html, one file that opens offline, and audit.json."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from maskwright.audit.findings import Evidence, Finding
from maskwright.audit.run import Audit, severities
from maskwright.data.classes import IGNORE
from maskwright.data.dataset import Dataset, Item
from maskwright.data.places import read_picture
from maskwright.data.sources.common import few
from maskwright.draw import png
from maskwright.errors import DataError
from maskwright.files import write_text
from maskwright.pages import inline, render

SHOWN = 8
"""Cases of a finding with thumbnails; the others are named."""
NAMED = 200
_PER_CASE = 4
_SIDE = 150


@dataclass(frozen=True)
class Thumbnail:
    """A picture and its mask, inline."""

    name: str
    source: str
    """data:image/png;base64,..."""


def document(result: Audit) -> dict[str, object]:
    """audit.json, and what --json prints."""
    return {
        "data": result.data,
        "name": result.name,
        "pictures": result.listed,
        "found": severities(result.findings),
        "findings": [_as_json(finding) for finding in result.findings],
        "classes": list(result.classes),
        "pixels": {count.name: count.pixels.tolist() for count in result.splits},
        "splits": {count.name: count.pictures for count in result.splits},
    }


def _as_json(finding: Finding) -> dict[str, object]:
    mending = finding.mending
    fix = {
        "exclude": list(mending.exclude),
        "values": {str(key): name for key, name in mending.values.items()},
        "classes": list(mending.classes),
    }
    return {
        "id": finding.id,
        "severity": finding.severity,
        "title": finding.title,
        "advice": finding.advice,
        "items": list(finding.ids),
        "evidence": [{"items": list(case.ids), "says": case.says} for case in finding.cases],
        "fix": {key: value for key, value in fix.items() if value},
    }


def fix_text(finding: Finding) -> str:
    """What `--fix` writes for a finding, in words; "" where it writes nothing."""
    if finding.severity == "note" or not finding.mending:
        return ""
    mending, said = finding.mending, []
    if mending.classes:
        said.append(f"classes: [{', '.join(mending.classes)}]")
    if mending.values:
        said.append(f"values: {{{', '.join(f'{key}: {name}' for key, name in mending.values.items())}}}")
    if mending.exclude:
        said.append(f"exclude: [{few(mending.exclude)}]")
    return "; ".join(said)


def write_page(result: Audit, file: Path) -> None:
    """Whole or not at all."""
    write_text(file, page(result))


def page(result: Audit) -> str:
    """One file that opens offline. Everything that comes from files and people is escaped."""
    items = {item.id: item for item in result.dataset.items} if result.dataset else {}
    return render(
        "maskwright.audit",
        "audit.html",
        name=result.name,
        data=result.data,
        listed=result.listed,
        summary=summary(result),
        findings=[
            {
                "finding": finding,
                "fix": fix_text(finding),
                "cases": [
                    {"case": case, "thumbnails": _thumbnails(result, items, case)}
                    for case in finding.cases[:SHOWN]
                ],
                "more": finding.cases[SHOWN : SHOWN + NAMED],
                "rest": max(len(finding.cases) - SHOWN - NAMED, 0),
            }
            for finding in result.findings
        ],
        splits=[{"name": count.name, "pictures": count.pictures} for count in result.splits],
        histogram=_histogram(result),
    )


def summary(result: Audit) -> str:
    """`2 errors, 1 warning and 3 notes about 885 pictures`."""
    found = severities(result.findings)
    if not result.findings:
        return f"Nothing was found in {result.listed:,} pictures"
    errors, warnings, notes = (
        f"{number} {kind}{'' if number == 1 else 's'}" for kind, number in found.items()
    )
    return f"{errors}, {warnings} and {notes} about {result.listed:,} pictures"


def _histogram(result: Audit) -> list[dict[str, object]]:
    """Per class and split the share of the labelled pixels: as text, and as percent of the largest."""
    shares = [count.pixels / max(int(count.pixels.sum()), 1) for count in result.splits]
    largest = max((float(each.max()) for each in shares), default=0.0) or 1.0
    return [
        {
            "name": name,
            "cells": [
                {"text": f"{each[place]:.2%}", "width": round(100 * float(each[place]) / largest, 1)}
                for each in shares
            ],
        }
        for place, name in enumerate(result.classes)
    ]


def _thumbnails(result: Audit, items: dict[str, Item], case: Evidence) -> list[Thumbnail]:
    """Pictures with their masks; without, where they cannot be opened together."""
    drawn = []
    for name in case.ids[:_PER_CASE]:
        with suppress(DataError):
            if result.dataset and name in items:
                picture = _picture(result.dataset, items[name])
            elif name in result.images:
                picture = _small(read_picture(result.images[name], 3))
            else:
                continue
            drawn.append(Thumbnail(name, inline(png(picture))))
    return drawn


def _small(picture: np.ndarray) -> np.ndarray:
    """At most _SIDE high and wide; tiny ones are enlarged by a whole number."""
    image = Image.fromarray(picture)
    image.thumbnail((_SIDE, _SIDE), Image.Resampling.BOX)
    times = max(_SIDE // max(image.size), 1)
    return np.asarray(image).repeat(times, axis=0).repeat(times, axis=1)


def _picture(dataset: Dataset, item: Item) -> np.ndarray:
    """The picture beside itself with its mask laid over. Raises DataError."""
    plain = _small(dataset.image(item, 3))
    if item.mask is None:
        return plain
    mask = dataset.mask(item)
    size = (plain.shape[1], plain.shape[0])
    ids = np.asarray(Image.fromarray(mask).resize(size, Image.Resampling.NEAREST))
    palette = np.zeros((256, 3), np.float32)
    palette[: len(dataset.classes)] = dataset.classes.colours
    palette[IGNORE] = (224, 224, 192)
    painted = np.where((ids == 0)[..., None], plain, 0.45 * plain + 0.55 * palette[ids])
    return np.concatenate([plain, painted.round().astype(np.uint8)], axis=1)


def lines(findings: Sequence[Finding]) -> list[tuple[str, str, str, str, str]]:
    """For a table: severity, id, what, items concerned, what --fix writes."""
    return [
        (each.severity, each.id, each.title, str(len(each.ids) or "–"), fix_text(each) or "–")
        for each in findings
    ]
