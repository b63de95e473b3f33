"""What is wrong with files as such: unreadable, of another size than their mask, turned, dark, or blank."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from maskwright.audit.findings import Evidence, Finding, Mending
from maskwright.audit.looks import Look
from maskwright.data.dataset import Listing
from maskwright.data.fingerprint import recall
from maskwright.data.image_io import DARK, FileHeader, read_dense
from maskwright.data.places import where
from maskwright.data.recognise import TEMPLATES
from maskwright.data.sources import folder
from maskwright.data.sources.common import FaultyError, Pair, closest
from maskwright.errors import DataError
from maskwright.progress import Progress

_ENDINGS = {
    "JPEG": (".jpg", ".jpeg"),
    "MPO": (".jpg", ".jpeg"),
    "PNG": (".png",),
    "BMP": (".bmp",),
    "TIFF": (".tif", ".tiff"),
    "WEBP": (".webp",),
    "GIF": (".gif",),
    "PPM": (".ppm", ".pgm", ".pbm"),
    "JPEG2000": (".jp2",),
}
_KINDS = {"1": "grey", "L": "grey", "LA": "grey", "CMYK": "CMYK"}

Size = tuple[int, int]


FAULTS = {
    "unreadable": "Items have a file that cannot be read",
    "missing-masks": "Pictures have no mask",
    "missing-pictures": "Pictures are listed and not there",
    "duplicate-ids": "Ids are there twice, and only one can be meant",
    "split-overlap": "Ids are in the lists of two splits",
    "size-mismatch": "Masks are not as large as their picture",
    "place-mismatch": "Masks do not lie where their picture lies",
    "targets": "Dense targets are missing, broken or not as large as their picture",
}
"""What keeps items from being listed or opened, in words."""
_AGAIN = "do what is said there, copy the files again from where they came from, or leave the items out"


def faulty(error: FaultyError) -> Finding:
    """What a layout refuses, as a finding."""
    cases = tuple(Evidence((name,), says) for name, says in error.cases.items())
    return Finding(
        error.finding,
        "error",
        FAULTS[error.finding],
        cases,
        _AGAIN if error.finding == "unreadable" else error.hint,
        Mending(exclude=tuple(error.cases)),
    )


def targets(pairs: Sequence[Pair], progress: Progress) -> Iterator[Finding]:
    """Dense targets that cannot be decoded to their last pixel."""
    files = [(pair.id, file) for pair in pairs for file in pair.targets if file is not None]
    facts = recall(
        "decodes as target/1",
        [file for _, file in files],
        lambda file: read_dense(file).size > 0,
        what="Checking targets",
        progress=progress,
    )
    broken = {
        name: str(fact) for (name, _), fact in zip(files, facts, strict=True) if isinstance(fact, DataError)
    }
    if broken:
        yield faulty(FaultyError("targets", "", "save them again, or list the ids under exclude", broken))


def pairing(listing: Listing, told: Sequence[Finding]) -> Iterator[Finding]:
    """Masks without a picture, splits without any, ids that some systems take for one, exclude that names nobody.

    `told`: what was found before, and excluded by the audit itself.
    """
    config, ids = listing.config, [pair.id for pair in listing.pairs]
    unmasked = [pair.id for pair in listing.pairs if pair.mask is None]
    lonely = folder.orphans(listing.root, config) if config.format in TEMPLATES else []
    if lonely:
        yield Finding(
            "masks-without-pictures",
            "warning",
            "Masks have no picture and are not used",
            tuple(Evidence((name,), f"{where(path)}{closest(name, unmasked)}") for name, path in lonely),
            "add the pictures, or give masks the names of theirs",
        )
    filled = {pair.origin for pair in listing.pairs}
    empty = [name for name in config.splits or {} if name not in filled]
    if empty and not any(finding.id == "split-overlap" for finding in told):  # that may be why
        yield Finding(
            "empty-split",
            "warning",
            "Splits hold no picture",
            tuple(Evidence((), f"{name}: nothing in {(config.splits or {})[name]}") for name in empty),
            "fill the list or the folder, or take the split out",
        )
    alike: dict[str, list[str]] = {}
    for name in ids:
        alike.setdefault(folder.alike(name), []).append(name)
    cases = [
        Evidence(tuple(names), " and ".join(map(repr, names))) for names in alike.values() if len(names) > 1
    ]
    if cases:
        yield Finding(
            "ids-alike",
            "warning",
            "Ids differ only by case or by the form of a letter",
            tuple(cases),
            "rename one of them: Windows and macOS take both for the same file, and one is lost when they are copied",
        )
    known = {*ids, *(name for finding in told for name in finding.ids)}
    unknown = [name for name in config.exclude if name not in known]
    if unknown:
        yield Finding(
            "exclude-unknown",
            "note",
            "exclude names what the data do not hold",
            tuple(Evidence((name,), f"is no id{closest(name, ids)}") for name in unknown),
            "take it out of exclude, or mend its spelling",
        )


def unreadable(pairs: Sequence[Pair], broken: Mapping[str, Sequence[DataError]]) -> Iterator[Finding]:
    """`broken`: id -> what its picture or its mask said when it was decoded to its last pixel."""
    cases = tuple(
        Evidence((pair.id,), ". ".join(str(error) for error in broken[pair.id]))
        for pair in pairs
        if pair.id in broken
    )
    if cases:
        yield Finding(
            "unreadable",
            "error",
            FAULTS["unreadable"],
            cases,
            _AGAIN,
            Mending(exclude=tuple(broken)),
        )


def sizes(
    pairs: Sequence[Pair], looks: Mapping[str, Look], masks: Mapping[str, tuple[Size, FileHeader | None]]
) -> Iterator[Finding]:
    """Masks that are not as large as their picture; those that fit the picture before EXIF turned it are told apart."""
    differing, sideways, turned = [], [], []
    for pair in pairs:
        if pair.id not in looks or pair.id not in masks:
            continue
        look, (size, mask_header) = looks[pair.id], masks[pair.id]
        orientation = look.header.orientation if look.header else 1
        mask_turn = mask_header.orientation if mask_header else 1
        says = (
            f"the mask is {size[0]} x {size[1]} and the picture {look.height} x {look.width} (height x width)"
        )
        if size != (look.height, look.width):
            if look.header and orientation > 1 and size == (look.header.height, look.header.width):
                sideways.append(
                    Evidence((pair.id,), f"{says}; EXIF orientation {orientation} turns the picture only")
                )
            else:
                differing.append(Evidence((pair.id,), says))
        elif orientation != mask_turn:
            turned.append(
                Evidence(
                    (pair.id,), f"EXIF orientation {orientation} of the picture, {mask_turn} of the mask"
                )
            )
    if differing:
        yield Finding(
            "size-mismatch",
            "error",
            FAULTS["size-mismatch"],
            tuple(differing),
            "export the masks at the size of the pictures: resizing them would guess where borders lie",
            Mending(exclude=_ids(differing)),
        )
    if sideways:
        yield Finding(
            "exif-mismatch",
            "error",
            "Masks fit their picture only before EXIF turns it",
            tuple(sideways),
            "turn the masks as EXIF turns the pictures, or save the pictures without their EXIF orientation",
            Mending(exclude=_ids(sideways)),
        )
    if turned:
        yield Finding(
            "exif-turned",
            "warning",
            "Pictures are turned or mirrored by EXIF and their masks are not",
            tuple(turned),
            "look whether the masks lie on their objects; if not, turn the masks or take the orientation out",
        )


def stored(pairs: Sequence[Pair], looks: Mapping[str, Look]) -> Iterator[Finding]:
    """Endings that lie, pictures of 12 bits in 16, blank pictures, grey among colours."""
    lying, dark, blank, modes = [], [], [], Counter[str]()
    of_mode: dict[str, list[str]] = {}
    for pair in pairs:
        look = looks.get(pair.id)
        if look is None:
            continue
        if look.darkest == look.brightest:
            blank.append(Evidence((pair.id,), f"every pixel is {look.darkest}"))
        if look.header is None:
            continue
        deep = look.header.mode.startswith("I")
        if deep and look.brightest < DARK and look.darkest != look.brightest:
            dark.append(Evidence((pair.id,), f"its brightest pixel is {look.brightest / 255:.1%} of 16 bits"))
        if isinstance(pair.image, Path) and (said := lies(pair.image, look.header)):
            lying.append(Evidence((pair.id,), said))
        kind = "16 bits" if deep else _KINDS.get(look.header.mode, "colour")
        modes[kind] += 1
        of_mode.setdefault(kind, []).append(pair.id)
    if blank:
        yield Finding(
            "blank-picture",
            "warning",
            "Pictures show nothing: all their pixels are the same",
            tuple(blank),
            "leave them out, or find out what became of them",
            Mending(exclude=_ids(blank)),
        )
    if dark:
        yield Finding(
            "dark-16-bit",
            "warning",
            "Pictures of 16 bits use hardly any of their range and become almost black",
            tuple(dark),
            "stretch them to the full range of 16 bits, or save them with 8 bits",
        )
    if lying:
        yield Finding(
            "wrong-ending",
            "note",
            "Pictures are of another format than their ending says",
            tuple(lying),
            "they are read all the same; other programs may refuse them",
        )
    if len(modes) > 1:
        (common, _), *rare = modes.most_common()
        cases = tuple(
            Evidence((name,), f"{kind}; most are {common}") for kind, _ in rare for name in of_mode[kind]
        )
        yield Finding(
            "mixed-bands",
            "note",
            "Pictures are stored in another way than most",
            cases,
            "they are brought to the same channels; see that grey pictures are not of another camera",
        )


def lies(path: Path, header: FileHeader) -> str:
    """What an ending says wrongly; "" where it is right or unknown."""
    expected = _ENDINGS.get(header.format)
    if expected is None or path.suffix.lower() in expected:
        return ""
    return f"{where(path)} is {header.format}"


def _ids(cases: Sequence[Evidence]) -> tuple[str, ...]:
    return tuple(name for case in cases for name in case.ids)
