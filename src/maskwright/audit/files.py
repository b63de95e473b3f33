"""What is wrong with files as such: unreadable, of another size than their mask, turned, dark, or blank."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from maskwright.audit.findings import Evidence, Finding, Mending
from maskwright.audit.looks import Look
from maskwright.data.image_io import FileHeader
from maskwright.data.places import where
from maskwright.data.sources.common import Pair
from maskwright.errors import DataError

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
_DARK = 32
"""Brightest grey level of 255 that a picture of 16 bits may have before its numbers are thought to be of 12 bits."""

Size = tuple[int, int]


def unreadable(pairs: Sequence[Pair], broken: Mapping[str, Sequence[DataError]]) -> Iterator[Finding]:
    """`broken`: id -> what its picture or its mask said when it was decoded to its last pixel."""
    cases = tuple(
        Evidence((pair.id,), "; ".join(error.problem for error in broken[pair.id]))
        for pair in pairs
        if pair.id in broken
    )
    if cases:
        yield Finding(
            "unreadable",
            "error",
            "Items have a file that cannot be read to its last pixel",
            cases,
            "copy the files again from where they came from, or leave the items out",
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
            "Masks are not as large as their picture",
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
        if deep and look.brightest < _DARK and look.darkest != look.brightest:
            dark.append(Evidence((pair.id,), f"its brightest pixel is {look.brightest / 255:.1%} of 16 bits"))
        if isinstance(pair.image, Path) and (said := lies(pair.image, look.header)):
            lying.append(Evidence((pair.id,), said))
        kind = "16 bits" if deep else "grey" if look.header.mode in ("1", "L", "LA") else "colour"
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
            Evidence((name,), f"{kind}; most are of {common}") for kind, _ in rare for name in of_mode[kind]
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
