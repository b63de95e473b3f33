"""What a triage leaves: triage.html, one file that opens offline and writes the decisions down, and triage.json."""

from __future__ import annotations

import json
import math
from collections import Counter

from maskwright.data.classes import colour_text
from maskwright.pages import inline, render
from maskwright.triage.decide import as_yaml, decided
from maskwright.triage.disputes import Region
from maskwright.triage.run import Case, Triage
from maskwright.triage.what_if import WhatIf


def document(found: Triage, changed: WhatIf | None = None) -> dict[str, object]:
    """triage.json, and what --json prints."""
    names = found.dataset.classes.names
    said: dict[str, object] = {
        "name": found.name,
        "labels": len(found.cases),
        "disputed": sum(bool(case.regions) for case in found.cases),
        "broken": list(found.broken),
        "cases": [
            {
                "id": case.id,
                "split": case.split,
                "seen": case.seen,
                "score": round(case.score, 6),
                "regions": [
                    {
                        "box": list(region.box),
                        "pixels": region.pixels,
                        "label": names[region.label],
                        "prediction": names[region.said],
                        "score": round(region.score, 6),
                    }
                    for region in case.regions
                ],
            }
            for case in found.cases
        ],
    }
    if changed is not None:
        said["what_if"] = {
            "run": str(changed.path),
            "dropped": list(changed.dropped),
            **changed.comparison.summary(),
        }
    return said


def notes(found: Triage) -> list[str]:
    """What limits the ranking."""
    said = []
    seen = sum(case.seen for case in found.cases)
    if seen:
        said.append(
            f"{seen:,} of {len(found.cases):,} labels were trained on, and what a network has learnt by heart it does "
            "not dispute. A cross-validation (train --folds 5) judges every label by a model that has not seen it."
        )
    if found.broken:
        said.append(f"{len(found.broken)} pictures could not be read, such as: {found.broken[0]}")
    return said


def words(region: Region, names: tuple[str, ...]) -> str:
    """`background in the label, pet in the prediction: 1,204 pixels`."""
    return f"{names[region.label]} in the label, {names[region.said]} in the prediction: {region.pixels:,} pixels"


def page(found: Triage, changed: WhatIf | None = None) -> str:
    """Everything that comes from files and people is escaped, and nothing runs but our own lines."""
    classes = found.dataset.classes
    whole = decided(found.source, (), {})
    before = {"exclude": whole.pop("exclude", []), "ignore": whole.pop("ignore", {})}
    shown = [case for case in found.cases if case.id in found.exhibits and case.regions]
    splits = Counter(case.split for case in found.cases)
    return render(
        "maskwright.triage",
        "triage.html",
        "triage.js",
        name=found.name,
        data=found.dataset.name,
        chips=[f"{split}: {count:,}" for split, count in splits.items()],
        lead=f"The {len(shown)} most suspicious of {len(found.cases):,} labels, the worst first"
        if shown
        else f"No label of {len(found.cases):,} is disputed",
        notes=notes(found),
        legend=[
            (name, colour_text(colour)) for name, colour in zip(classes.names, classes.colours, strict=True)
        ],
        what_if=None if changed is None else _changed(changed),
        cases=[_shown(found, case) for case in shown],
        keys=as_yaml(whole),
        before=json.dumps(before),
    )


def _changed(changed: WhatIf) -> dict[str, object]:
    found = changed.comparison
    (low, high), (before, after) = found.ci95, found.means
    interval = "too few for an interval" if math.isnan(low) else f"95 % {low:+.3f} to {high:+.3f}"
    return {
        "count": len(changed.dropped),
        "figures": f"{found.metric} {before:.3f} with them, {after:.3f} without: {found.difference:+.3f} ({interval})",
        "sentence": found.sentence,
        "path": changed.path,
    }


def _shown(found: Triage, case: Case) -> dict[str, object]:
    exhibit = found.exhibits[case.id]
    return {
        "id": case.id,
        "split": case.split,
        "seen": case.seen,
        "score": f"{case.score:.3f}",
        "lines": [words(region, found.dataset.classes.names) for region in case.regions],
        "boxes": json.dumps([list(region.box) for region in case.regions]),
        "picture": inline(exhibit.picture),
        "label": inline(exhibit.label),
        "prediction": inline(exhibit.prediction),
    }
