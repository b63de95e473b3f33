from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from maskwright.cli.answer import Answer, table
from maskwright.cli.options import Data, SkipBroken
from maskwright.cli.terminal import duration, terminal

if TYPE_CHECKING:
    from rich.console import RenderableType

    from maskwright.data.facts import Facts


def show(
    data: Data,
    augmented: Annotated[
        str | None,
        typer.Option(metavar="RECIPE", help="Draw batches as this recipe augments them (a name or a file)."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="PNG", help="Where the sheet goes; data.png without it.")
    ] = None,
    skip_broken: SkipBroken = False,
) -> Answer:
    """What is in a data set: classes, counts, sizes, shares of the pixels, and a sheet of pictures.

    With --augmented the sheet shows training batches as the network would see them.
    """
    from maskwright.data.dataset import open_dataset
    from maskwright.draw import png
    from maskwright.files import write_bytes

    progress = terminal()
    dataset = open_dataset(data, skip_broken=skip_broken, progress=progress)
    if augmented is not None:
        from maskwright.api import augmented_sheet

        sheet = out or Path("augmented.png")
        picture = augmented_sheet(augmented, dataset, skip_broken=skip_broken, progress=progress)
        write_bytes(sheet, png(picture))
        return Answer({"sheet": sheet}, f"{sheet}: training pictures and masks as {augmented} augments them")
    from maskwright.api import contact_sheet
    from maskwright.data.facts import describe

    sheet = out or Path("data.png")
    facts = describe(dataset)
    write_bytes(sheet, png(contact_sheet(dataset)))
    return Answer(asdict(facts) | {"sheet": sheet}, _text(facts, sheet))


def _text(facts: Facts, sheet: Path) -> RenderableType:
    from rich.console import Group

    low, high, many = facts.smallest, facts.largest, facts.pictures
    return Group(
        f"{facts.name}: {many} pictures, {facts.channels} channel(s), format {facts.format}, "
        f"fingerprint {facts.fingerprint}",
        f"Sizes from {low[0]} x {low[1]} to {high[0]} x {high[1]}, height first",
        table(
            ("split", "pictures>", "with mask>", "groups>"),
            [(split.name, split.pictures, split.masks, split.groups) for split in facts.splits],
        ),
        table(
            ("id>", "class", "share of the pixels>", "pictures with it>"),
            [
                (id, entry.name, f"{entry.share:.2%}", entry.pictures)
                for id, entry in enumerate(facts.classes)
            ],
        ),
        f"{facts.ignored:.2%} of the pixels are ignored",
        *([f"Dense targets: {', '.join(facts.targets)}"] if facts.targets else []),
        *(f"Note: {advice}" for advice in facts.advice),
        f"Pictures with their masks: {sheet}",
    )


def prepare(
    data: Data,
    size: Annotated[
        str, typer.Option(metavar="H,W", help="Height and width that the network gets.")
    ] = "256,256",
    fit: Annotated[str, typer.Option(metavar="NAME", help="resize, letterbox or crop.")] = "resize",
    workers: Annotated[int, typer.Option(metavar="N", help="Decoding threads; 0: one per CPU.")] = 0,
    skip_broken: SkipBroken = False,
) -> Answer:
    """Decode a data set into the cache ahead of training (train does it by itself otherwise)."""
    from maskwright.config import load_recipe
    from maskwright.data.dataset import open_dataset
    from maskwright.data.store import prepare as prepare_store

    begun = time.monotonic()
    recipe = load_recipe(None, {"input.size": size, "input.fit": fit, "train.workers": workers})
    progress = terminal()
    dataset = open_dataset(data, skip_broken=skip_broken, progress=progress)
    store = prepare_store(
        dataset, recipe.input, workers=recipe.train.workers, skip_broken=skip_broken, progress=progress
    )
    took = time.monotonic() - begun
    size_bytes = sum(file.stat().st_size for file in store.folder.iterdir())
    document = {"store": store.folder, "pictures": len(store.ids), "bytes": size_bytes, "seconds": took}
    return Answer(
        document,
        f"{len(store.ids)} pictures, {size_bytes / 2**20:.0f} MiB in {store.folder} ({duration(took)})",
    )
