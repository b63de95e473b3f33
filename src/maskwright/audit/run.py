"""A data set in, its findings out: what `open_dataset` would refuse is listed here, and the rest is looked at."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml
from jaxtyping import Int64

from maskwright.audit import files, masks, shapes, splits
from maskwright.audit.findings import Evidence, Finding, Mending, joined, mended, ranked
from maskwright.audit.looks import FEATURES, Look, look_at
from maskwright.audit.masks import MaskLook, look_at_masks
from maskwright.audit.outliers import FAR, oddest, strangeness
from maskwright.audit.twins import find_twins
from maskwright.data.classes import class_map
from maskwright.data.dataset import (
    Dataset,
    Item,
    Listing,
    build_dataset,
    list_dataset,
    written_keys,
)
from maskwright.data.sources.common import SPLITS, DataConfig, FaultyError, Pair, Place, few
from maskwright.data.truths import MaskFacts, all_facts, coloured_values, with_classes
from maskwright.errors import ConfigError, DataError, UserError
from maskwright.files import write_text
from maskwright.progress import SILENT, Progress

_CLASS_SHARE = 0.005
"""Share of all mask pixels from which a value is taken for a class, where nothing else says what the classes are."""


_UNLISTED = (
    "missing-masks",
    "duplicate-ids",
    "split-overlap",
    "size-mismatch",
    "place-mismatch",
    "unreadable",
)
"""Findings whose items may be missing from the listing, although there is a picture."""
_SHUT = ("unreadable", "size-mismatch", "exif-mismatch", "coloured-masks")
"""Findings whose items cannot be opened."""


@dataclass(frozen=True)
class SplitCount:
    name: str
    pictures: int
    pixels: Int64[np.ndarray, " K"]
    """Per class; ignored ones and those of unknown value are left out."""


@dataclass(frozen=True)
class Audit:
    """What was found."""

    data: str
    name: str
    listed: int
    """Pictures that the data set lists; those that can be opened are in `splits`."""
    classes: tuple[str, ...]
    splits: tuple[SplitCount, ...]
    findings: tuple[Finding, ...]
    """Ranked."""
    source: Mapping[str, object]
    """The resolved dataset.yaml with its classes and values, before anything is mended."""
    dataset: Dataset | None
    """What can be opened, with unknown values ignored: for pictures of the evidence. None where nothing can be."""
    images: Mapping[str, Place]
    """Id -> picture of all that is listed, for evidence that cannot be opened with its mask."""


def audit(data: str | Path, progress: Progress = SILENT) -> Audit:
    """All findings about a data set; nothing of it is changed.

    Every picture and mask is decoded once to its last pixel, and remembered. Raises ConfigError and DataError only
    where no layout is recognised.
    """
    listing, findings = _listed(data)
    config, skipped = listing.config, set(listing.config.exclude)
    pairs = [pair for pair in listing.pairs if pair.id not in skipped]
    findings += files.pairing(listing, findings)

    looks, mask_looks, broken = _look(pairs, progress)
    findings += files.unreadable(pairs, broken)
    sound = [pair for pair in pairs if pair.id not in broken]
    counted = all_facts(sound, coloured_values(config), progress)
    facts = {name: fact for name, fact in counted.items() if fact is not None}
    headers = {name: look.header for name, look in mask_looks.items()}
    sized = {name: ((fact.height, fact.width), headers.get(name)) for name, fact in facts.items()}
    findings += files.sizes(sound, looks, sized)
    findings += files.stored(sound, looks)
    findings += files.targets(sound, progress)
    findings += shapes.outside(sound, facts, progress)

    if not _left(sound, findings):
        return _audit(data, listing, findings, config, None)
    told, guesses = _with_classes(config, sound, facts)
    findings += guesses
    if told is None:
        return _audit(data, listing, findings, config, None)
    formats = {name: header.format for name, header in headers.items() if header is not None}
    known = class_map(told.classes or (), told.values)
    findings += masks.unknown_values(sound, facts, known, formats)
    findings += masks.ignored_objects(sound, facts, known, formats)
    findings += masks.jpeg(sound, formats, {name for finding in findings for name in finding.ids})
    findings += masks.depths(sound, mask_looks)

    if not _left(sound, findings):
        return _audit(data, listing, findings, told, None)
    dataset, targets = _opened(told, listing.root, findings, progress)
    findings += targets
    if dataset is not None:
        findings += _between(dataset, looks, mask_looks, progress)
    return _audit(data, listing, findings, told, dataset)


def _audit(
    data: str | Path,
    listing: Listing,
    findings: Sequence[Finding],
    config: DataConfig,
    dataset: Dataset | None,
) -> Audit:
    root, found = listing.root, joined(findings)
    known = {pair.id for pair in listing.pairs} - set(listing.config.exclude)
    missing = {name for each in found if each.id in _UNLISTED for name in each.ids if name not in known}
    path = config.path if config.path.startswith("synthetic:") else str(root)
    return Audit(
        data=str(data),
        name=dataset.name if dataset else root.name,
        listed=len(known) + len(missing),
        classes=dataset.classes.names if dataset else config.classes or (),
        splits=_counts(dataset) if dataset else (),
        findings=ranked(found),
        source=written_keys(config.model_copy(update={"path": path})),
        dataset=dataset,
        images={pair.id: pair.image for pair in listing.pairs},
    )


def write_mended(result: Audit, file: Path) -> list[str]:
    """A new dataset.yaml with what errors and warnings propose; returns the ids of the findings that it mends.

    Raises ConfigError where the file is there already: nothing of the user's is overwritten.
    """
    refuse_existing(file)
    applied = [each for each in result.findings if each.mending and each.severity != "note"]
    text = yaml.safe_dump(mended(result.source, result.findings), sort_keys=False, allow_unicode=True)
    head = f"# {result.name} without {', '.join(each.id for each in applied) or 'changes'}\n"
    write_text(file, head + text)
    return [each.id for each in applied]


def refuse_existing(file: Path) -> None:
    """Raises ConfigError."""
    if file.exists():
        raise ConfigError(f"{file} is there already", "name a new file: what you have is never changed")


def _listed(data: str | Path) -> tuple[Listing, list[Finding]]:
    """The pairs that can be listed, and why others cannot: one kind of fault after the other is left out."""
    excluded, found = list[str](), list[Finding]()
    while True:
        try:
            return list_dataset(data, excluded), found
        except FaultyError as error:
            if set(error.cases) <= set(excluded):
                raise
            excluded += error.cases
            found.append(files.faulty(error))


def _look(
    pairs: Sequence[Pair], progress: Progress
) -> tuple[dict[str, Look], dict[str, MaskLook], dict[str, list[DataError]]]:
    """By id: pictures, masks, and what is broken."""
    broken: dict[str, list[DataError]] = {}
    looks, mask_looks = dict[str, Look](), dict[str, MaskLook]()
    for pair, look in zip(pairs, look_at([pair.image for pair in pairs], progress), strict=True):
        if isinstance(look, DataError):
            broken.setdefault(pair.id, []).append(look)
        else:
            looks[pair.id] = look
    masked = {pair.id: pair.mask for pair in pairs if pair.mask is not None}
    found = look_at_masks(list(masked.values()), progress)
    for name, place in masked.items():
        seen = found[place]
        if isinstance(seen, DataError):
            broken.setdefault(name, []).append(seen)
        else:
            mask_looks[name] = seen
    return looks, mask_looks, broken


def _left(pairs: Sequence[Pair], findings: Sequence[Finding]) -> bool:
    """Whether anything can be opened."""
    shut = {name for finding in findings if finding.id in _SHUT for name in finding.ids}
    return any(pair.id not in shut for pair in pairs)


def _with_classes(
    config: DataConfig, pairs: Sequence[Pair], facts: Mapping[str, MaskFacts]
) -> tuple[DataConfig | None, list[Finding]]:
    """Classes and values, guessed from what is common in the masks where they are not said and do not follow.

    None where no mask can be read.
    """
    try:
        told = with_classes(config, [facts.get(pair.id) for pair in pairs], pairs)
        return _from_zero(told, facts)
    except DataError as error:
        problem = error
    shares: Counter[int] = Counter()
    coloured = any(fact.colours for fact in facts.values())
    for fact in facts.values():
        if fact.colours == coloured:
            shares.update(dict(zip(fact.codes, fact.counts, strict=True)))
    if not shares:
        return None, [_shut(problem)]
    common = sorted(code for code, count in shares.items() if count >= _CLASS_SHARE * shares.total())
    names = config.classes
    if names is None or len(names) != len(common):
        names = ("background", "object") if len(common) == 2 else tuple(f"class_{code}" for code in common)
    keys = [f"#{code:06x}" if coloured else code for code in common]
    values = dict(zip(keys, names, strict=True))
    finding = Finding(
        "classes-not-clear",
        "error",
        problem.problem,
        (Evidence((), f"common values: {', '.join(f'{key} ({name})' for key, name in values.items())}"),),
        f"{problem.hint}. The audit goes on with these as classes; give them their names",
        Mending(values=values, classes=names),
    )
    return config.model_copy(update={"classes": names, "values": values}), [finding]


def _from_zero(config: DataConfig, facts: Mapping[str, MaskFacts]) -> tuple[DataConfig, list[Finding]]:
    """With values one higher, where masks count the classes from 1 and dataset.yaml from 0."""
    names = config.classes or ()
    plain = {key: name for key, name in (config.values or {}).items() if name != "ignore"}
    found = {code for fact in facts.values() for code in fact.codes} - {255}
    if plain != dict(enumerate(names)) or found != set(range(1, len(names) + 1)):
        return config, []
    values: dict[int | str, str] = {**dict(enumerate(names, 1)), 255: "ignore"}
    meant = ", ".join(f"{key} ({name})" for key, name in enumerate(names, 1))
    finding = Finding(
        "off-by-one",
        "error",
        f"Masks hold 1 to {len(names)}, and the classes are numbered from 0",
        tuple(
            Evidence((name,), f"holds {few([str(code) for code in fact.codes], 8)}")
            for name, fact in facts.items()
        ),
        f"say what each number means. The audit goes on with {meant}",
        Mending(values=values, classes=names),
    )
    return config.model_copy(update={"values": values}), [finding]


def _shut(error: UserError) -> Finding:
    return Finding(
        "not-opened",
        "error",
        "The data cannot be opened",
        (Evidence((), error.problem),),
        error.hint or "mend it",
    )


def _opened(
    config: DataConfig, root: Path, findings: Sequence[Finding], progress: Progress
) -> tuple[Dataset | None, list[Finding]]:
    """The data set without what cannot be opened; unknown values are ignored. Faulty targets are left out."""
    exclude = [
        *config.exclude,
        *(name for finding in findings if finding.id in _SHUT for name in finding.ids),
    ]
    values = {"*": "ignore"} | dict(config.values or {})
    keys = written_keys(config.model_copy(update={"values": values, "exclude": tuple(exclude)}))
    found = list[Finding]()
    try:
        while config.targets:
            try:
                build_dataset({**keys, "exclude": exclude}, root, progress)
                break
            except FaultyError as error:
                found.append(files.faulty(error))
                exclude += error.cases
            except UserError:  # the next line says whether it is the targets
                break
        return build_dataset({**keys, "targets": None}, root, progress), found
    except UserError as error:
        return None, [*found, _shut(error)]


def _between(
    dataset: Dataset, looks: Mapping[str, Look], mask_looks: Mapping[str, MaskLook], progress: Progress
) -> list[Finding]:
    """What only shows when pictures are compared."""
    items = dataset.items
    names = dataset.classes.names
    pixels = {item.id: dataset.pixels[item.id] for item in items if item.id in dataset.pixels}
    smalls = np.stack([looks[item.id].small for item in items])
    twins = find_twins(smalls, [looks[item.id].digest for item in items], progress)
    found = [*splits.twins_between(items, twins, grouped=dataset.grouped)]
    if dataset.grouped:
        found += splits.torn_groups(items)
    twin_of = splits.sets_of_twins(items, twins)
    found += masks.constant(pixels, names)
    found += masks.repeated([(item.id, item.split) for item in items], mask_looks, pixels, twin_of)
    labelled = {item.split for item in items if item.id in pixels}
    shares = {name: dataset.class_pixels(name) for name in SPLITS[:3] if name in labelled}
    found += splits.missing_classes(names, shares)
    features = {item.id: looks[item.id].features for item in items}
    found += splits.drift(items, features, pixels, names)
    return found + _outliers(items, features)


def _outliers(items: Sequence[Item], features: Mapping[str, np.ndarray]) -> list[Finding]:
    rows = np.stack([features[item.id] for item in items])
    far = strangeness(rows)
    reasons = oddest(rows)
    order = [int(row) for row in np.argsort(-far) if far[row] > FAR]
    if not order:
        return []
    cases = tuple(
        Evidence(
            (items[row].id,),
            f"{items[row].split}: distance {far[row]:.1f}; most of all its {FEATURES[reasons[row][0]]} "
            f"({reasons[row][1]:+.1f} deviations)",
        )
        for row in order
    )
    return [
        Finding(
            "outliers",
            "warning",
            "Pictures are unlike the others",
            cases,
            "look at them: leave out (exclude in dataset.yaml) what does not belong; rare pictures that belong are "
            "worth the most",
        )
    ]


def _counts(dataset: Dataset) -> tuple[SplitCount, ...]:
    present = Counter(item.split for item in dataset.items)
    return tuple(
        SplitCount(name, present[name], dataset.class_pixels(name)) for name in SPLITS if present[name]
    )


def severities(findings: Collection[Finding]) -> dict[str, int]:
    """How many findings there are of each severity."""
    counted = Counter(each.severity for each in findings)
    return {"error": counted["error"], "warning": counted["warning"], "note": counted["note"]}
