"""What is wrong with masks: values that mean nothing, JPEG, blurred edges, odd storage, empty and repeated ones."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from jaxtyping import Int64
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter, minimum_filter

from maskwright.audit.findings import Evidence, Finding, Mending
from maskwright.data.classes import IGNORE, ClassMap, code_of, codes_of
from maskwright.data.fingerprint import recall
from maskwright.data.image_io import FileHeader, file_header
from maskwright.data.places import array_of, read_raw, row_digests
from maskwright.data.sources.common import Frame, Pair, Place, few
from maskwright.data.truths import MaskFacts
from maskwright.errors import DataError
from maskwright.progress import SILENT, Progress

_LOOKED_AT = 40
"""Masks with unknown values that are searched for blurred edges: all were exported by the same program."""
_AT_EDGES = 0.95
"""Share of the pixels of unknown value that lie at edges between known ones, from which the edges are blurred."""
_BLENDS = 3
"""Different unknown values that blurred edges leave at least; fewer are forgotten classes."""
_WINDOW = 9
"""Side of the window in which two classes meet: a blurred edge is at most 8 pixels wide."""
_UNUSUAL = 0.02
"""Share of the masks up to which those of one class all over are thought to be forgotten."""


@dataclass(frozen=True)
class MaskLook:
    """How a mask is stored, and a digest of its raw values."""

    header: FileHeader | None
    digest: str


def look_at_masks(places: Sequence[Place], progress: Progress = SILENT) -> dict[Place, MaskLook | DataError]:
    """A DataError where a mask cannot be decoded to its last pixel."""
    paths = [place for place in places if not isinstance(place, Frame)]
    facts = recall("mask look/1", paths, _look, what="Looking at masks", progress=progress)
    found: dict[Place, MaskLook | DataError] = {}
    for path, fact in zip(paths, facts, strict=True):
        if isinstance(fact, DataError):
            found[path] = fact
        else:
            header, digest = cast(tuple[dict[str, Any] | None, str], fact)
            found[path] = MaskLook(None if header is None else FileHeader(**header), digest)
    frames = [place for place in places if isinstance(place, Frame)]
    rows = {array: row_digests(*array) for array in {array_of(frame) for frame in frames}}
    return found | {frame: MaskLook(None, rows[array_of(frame)][frame.row]) for frame in frames}


def _look(place: Place) -> object:
    raw = read_raw(place, False)
    content = f"{raw.shape} {raw.dtype}".encode() + np.ascontiguousarray(raw).tobytes()
    header = file_header(place) if isinstance(place, Path) else None
    return header and asdict(header), hashlib.sha256(content).hexdigest()[:16]


def unknown_values(
    pairs: Sequence[Pair], facts: Mapping[str, MaskFacts], classes: ClassMap, formats: Mapping[str, str]
) -> Iterator[Finding]:
    """Values that no class has. JPEG and blurred edges explain most of them, and are told apart.

    `classes` knows only what dataset.yaml (or the layout) says; `formats`: id -> format of the mask's file.
    """
    listed = {code_of(key) for key in classes.values}
    strangers: dict[str, Evidence] = {}
    values: Counter[int] = Counter()
    colours = []
    for pair in pairs:
        fact = facts.get(pair.id)
        if fact is None:
            continue
        if fact.colours and not classes.coloured:
            shown = few([f"#{code:06x}" for code in fact.codes], 4)
            colours.append(Evidence((pair.id,), f"holds colours: {shown}"))
            continue
        unlisted = {
            code: count for code, count in zip(fact.codes, fact.counts, strict=True) if code not in listed
        }
        if unlisted and classes.other is None:
            values.update(unlisted)
            share = sum(unlisted.values()) / (fact.height * fact.width)
            shown = ", ".join(
                _shown(code, classes) for code in sorted(unlisted, key=lambda code: -unlisted[code])[:4]
            )
            more = f" and {len(unlisted) - 4} more" if len(unlisted) > 4 else ""
            strangers[pair.id] = Evidence(
                (pair.id,), f"{share:.2%} of its pixels have unknown values: {shown}{more}"
            )
    if colours:
        yield Finding(
            "coloured-masks",
            "error",
            "Masks hold colours where the classes are numbers",
            tuple(colours),
            'list the colours in dataset.yaml, values: {"#rrggbb": CLASS}, if all masks have them; otherwise export '
            "these again",
            # without all of them nothing would be left
            Mending(exclude=tuple(case.ids[0] for case in colours) if len(colours) < len(facts) else ()),
        )
    blurred = len(values) >= _BLENDS and _blurred(
        [pair for pair in pairs if pair.id in strangers], classes, listed
    )
    by_cause: dict[str, list[Evidence]] = {"jpeg-masks": [], "anti-aliased-masks": [], "unknown-values": []}
    for name, case in strangers.items():
        jpeg = formats.get(name) in ("JPEG", "MPO")
        cause = "jpeg-masks" if jpeg else "anti-aliased-masks" if blurred else "unknown-values"
        by_cause[cause].append(case)
    worst = [code for code, _ in values.most_common(8)]
    told = {
        "jpeg-masks": (
            "are JPEG, which has blurred their values",
            "export them as PNG: what JPEG has mixed up at the borders is lost. Until then such pixels are ignored",
        ),
        "anti-aliased-masks": (
            "have blurred edges: between two classes lie values in between, which mean neither",
            "export them without anti-aliasing, resize masks by nearest neighbour. Until then such pixels are ignored",
        ),
        "unknown-values": (
            "hold values that dataset.yaml does not know",
            "give each value its class or ignore it",
        ),
    }
    for cause, cases in by_cause.items():
        if cases:
            keys: dict[int | str, str] = {"*": "ignore"}
            if cause == "unknown-values" and len(values) <= len(worst):
                keys = {_key(code, classes): "ignore" for code in sorted(worst)}
            title, advice = told[cause]
            yield Finding(cause, "error", f"Masks {title}", tuple(cases), advice, Mending(values=keys))


def ignored_objects(
    pairs: Sequence[Pair], facts: Mapping[str, MaskFacts], classes: ClassMap, formats: Mapping[str, str]
) -> Iterator[Finding]:
    """Masks of 0 and 255 where 255 is "ignore": written by a program to which 255 is the object."""
    if classes.values.get(255) != IGNORE or classes.values.get(0) != 0:
        return
    cases = tuple(
        Evidence(
            (pair.id,), f"{fact.counts[1] / sum(fact.counts):.1%} are 255, which is ignored, the rest is 0"
        )
        for pair in pairs
        if (fact := facts.get(pair.id)) is not None
        and list(fact.codes) == [0, 255]
        and (pair.id in formats or isinstance(pair.mask, Frame))
    )
    if cases:
        yield Finding(
            "object-ignored",
            "error" if len(cases) == len(facts) else "warning",
            f"Masks hold nothing but {classes.names[0]} and 255, which is ignored",
            cases,
            "if 255 is the object there, save it with the number of its class; where all masks are so, say "
            f"values: {{0: {classes.names[0]}, 255: {classes.names[-1]}}}",
        )


def _key(code: int, classes: ClassMap) -> int | str:
    return f"#{code:06x}" if classes.coloured else code


def _shown(code: int, classes: ClassMap) -> str:
    return str(_key(code, classes))


def _blurred(pairs: Sequence[Pair], classes: ClassMap, listed: Collection[int]) -> bool:
    """Whether unknown values lie only where two known ones meet, between them."""
    shares = []
    for pair in pairs[:: max(len(pairs) // _LOOKED_AT, 1)][:_LOOKED_AT]:
        assert pair.mask is not None
        codes, _ = codes_of(read_raw(pair.mask, classes.coloured), classes.coloured)
        shares.append(edge_share(codes, listed))
    return bool(shares) and float(np.mean(shares)) >= _AT_EDGES


def edge_share(codes: NDArray[np.generic], listed: Collection[int]) -> float:
    """Share of the unlisted pixels of a mask with at least two listed values in the window around them."""
    ordered = np.array(sorted(listed), np.int64)
    places = np.searchsorted(ordered, codes).clip(0, len(ordered) - 1)
    known = ordered[places] == codes
    low = minimum_filter(np.where(known, places, len(ordered)), _WINDOW, mode="nearest")
    high = maximum_filter(np.where(known, places, -1), _WINDOW, mode="nearest")
    unknown = ~known
    return float((low < high)[unknown].mean()) if unknown.any() else 0.0


def jpeg(pairs: Sequence[Pair], formats: Mapping[str, str], told: Collection[str]) -> Iterator[Finding]:
    """JPEG masks whose values are sound so far; those in `told` have a finding already."""
    cases = tuple(
        Evidence((pair.id,), "its mask is JPEG")
        for pair in pairs
        if formats.get(pair.id) in ("JPEG", "MPO") and pair.id not in told
    )
    if cases:
        yield Finding(
            "jpeg-masks-clean",
            "warning",
            "Masks are JPEG, although their values are still sound",
            cases,
            "export them as PNG: the next time they are saved, JPEG may change their values",
        )


def depths(pairs: Sequence[Pair], looks: Mapping[str, MaskLook]) -> Iterator[Finding]:
    """Masks that are stored in another way than most of them: bits, palette, channels."""
    modes = {
        pair.id: look.header.mode
        for pair in pairs
        if (look := looks.get(pair.id)) is not None and look.header is not None
    }
    if len(set(modes.values())) < 2:
        return
    common = Counter(modes.values()).most_common(1)[0][0]
    cases = tuple(
        Evidence((name,), f"{_mode(mode)}; most are {_mode(common)}")
        for name, mode in modes.items()
        if mode != common
    )
    yield Finding(
        "mask-bit-depth",
        "warning",
        "Masks are stored in another way than most",
        cases,
        "see that the same number means the same class in both kinds: palettes, 16 bits and colours are exported by "
        "different programs",
    )


def _mode(mode: str) -> str:
    names = {
        "1": "1 bit",
        "L": "8 bits",
        "P": "a palette",
        "RGB": "colour",
        "RGBA": "colour with alpha",
        "LA": "8 bits with alpha",
        "F": "floating point",
    }
    return names.get(mode, "16 or 32 bits" if mode.startswith("I") else mode)


def constant(pixels: Mapping[str, Int64[np.ndarray, " K"]], names: Sequence[str]) -> Iterator[Finding]:
    """Masks of one class only, and masks in which nothing is labelled. `pixels`: id -> pixels per class."""
    empty, whole, nothing = list[Evidence](), list[Evidence](), list[Evidence]()
    for name, counts in pixels.items():
        present = counts.nonzero()[0]
        if not len(present):
            nothing.append(Evidence((name,), "all its pixels are ignored"))
        elif len(present) == 1 and len(names) > 1:
            case = Evidence((name,), f"all that is labelled is {names[present[0]]}")
            (empty if present[0] == 0 else whole).append(case)
    if nothing:
        yield Finding(
            "nothing-labelled",
            "warning",
            "Masks are ignored in every pixel",
            tuple(nothing),
            "label them or leave them out: they cost time and teach nothing",
            Mending(exclude=tuple(case.ids[0] for case in nothing)),
        )
    if whole:
        yield Finding(
            "constant-mask",
            "warning" if len(whole) <= _UNUSUAL * len(pixels) + 1 else "note",
            "Masks are of one class all over",
            tuple(whole),
            "look at them: objects that fill a picture are rare, forgotten masks are not",
        )
    if empty:
        yield Finding(
            "only-background",
            "note",
            f"Masks are {names[0]} all over",
            tuple(empty),
            "right where there is nothing to be found; look whether objects were forgotten",
        )


def repeated(
    items: Sequence[tuple[str, str]],
    looks: Mapping[str, MaskLook],
    pixels: Mapping[str, Int64[np.ndarray, " K"]],
    twin_of: Mapping[str, int],
) -> Iterator[Finding]:
    """The same mask, with at least two classes, on pictures that are not the same.

    `items`: (id, split); `twin_of`: id -> number of its set of twins.
    """
    by_digest: dict[str, list[tuple[str, str]]] = {}
    for name, split in items:
        counts = pixels.get(name)
        if name in looks and counts is not None and (counts > 0).sum() > 1:
            by_digest.setdefault(looks[name].digest, []).append((name, split))
    cases, trained = [], []
    for members in by_digest.values():
        if len(members) > 1 and len({twin_of.get(name, name) for name, _ in members}) > 1:
            cases.append(
                Evidence(tuple(name for name, _ in members), f"{len(members)} pictures have this mask")
            )
            trained += [name for name, split in members if split in ("train", "validation")]
    if cases:
        yield Finding(
            "repeated-mask",
            "warning",
            "Pictures share their mask with a different picture",
            tuple(sorted(cases, key=lambda case: -len(case.ids))),
            "at most one of them can be right: label them again, or leave them out",
            Mending(exclude=tuple(trained)),
        )
