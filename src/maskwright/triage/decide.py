"""What was decided about labels, as a new dataset.yaml: pictures dropped, regions ignored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

import yaml

from maskwright.audit.run import refuse_existing
from maskwright.data.sources.common import Box
from maskwright.files import write_text
from maskwright.triage.run import Triage


def decided(
    source: Mapping[str, object], drop: Sequence[str], ignore: Mapping[str, Sequence[Box]]
) -> dict[str, object]:
    """The keys of a dataset.yaml with more under `exclude` and `ignore`; what is dropped needs no boxes."""
    keys = {key: value for key, value in source.items() if key not in ("exclude", "ignore", "fingerprint")}
    exclude = dict.fromkeys([*cast(Sequence[str], source.get("exclude") or ()), *drop])
    boxes = {
        name: [list(box) for box in kept]
        for name, kept in cast(Mapping[str, Sequence[Box]], source.get("ignore") or {}).items()
    }
    for name, more in ignore.items():
        boxes[name] = boxes.get(name, []) + [
            list(box) for box in more if list(box) not in boxes.get(name, [])
        ]
    boxes = {name: kept for name, kept in boxes.items() if name not in exclude}
    if exclude:
        keys["exclude"] = list(exclude)
    if boxes:
        keys["ignore"] = boxes
    return keys


def as_yaml(keys: Mapping[str, object]) -> str:
    """A box on a line of its own, as people write it."""
    return yaml.safe_dump(keys, sort_keys=False, allow_unicode=True, default_flow_style=None, width=110)


def write_decided(found: Triage, file: Path, *, drop: int = 0, ignore: int = 0) -> None:
    """A new dataset.yaml without the worst `drop` labels, and without the disputed regions of the worst `ignore`.

    Raises ConfigError where the file is there already, or where not so many labels are disputed.
    """
    refuse_existing(file)
    dropped = [case.id for case in found.worst(drop)]
    boxes = {case.id: [region.box for region in case.regions] for case in found.worst(ignore)}
    text = as_yaml(decided(found.source, dropped, boxes))
    head = f"# {found.name}: the worst {drop} labels dropped, regions of the worst {ignore} ignored\n"
    write_text(file, head + text)
