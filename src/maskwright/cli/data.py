from __future__ import annotations

import shlex
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from maskwright.cli.answer import Answer, Stopped, table
from maskwright.cli.options import Data, Device, SkipBroken, Threads, Tta
from maskwright.cli.terminal import terminal
from maskwright.progress import duration

if TYPE_CHECKING:
    from rich.console import RenderableType

    from maskwright.data.facts import Facts
    from maskwright.triage.what_if import WhatIf


SHEET, AUDIT, TRIAGE, PAGE = (
    "maskwright data show",
    "maskwright audit",
    "maskwright triage",
    "· maskwright</title>",
)
"""Told in a sheet, a .json and a page, so that they are known again as ours."""


def show(
    data: Data,
    augmented: Annotated[
        str | None,
        typer.Option(metavar="RECIPE", help="Draw batches as this recipe augments them (a name or a file)."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="PNG", help="Where the sheet goes; data.png without it.")
    ] = None,
    save: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Write the dataset.yaml that is proposed for a folder without one."
        ),
    ] = None,
    skip_broken: SkipBroken = False,
) -> Answer:
    """What is in a data set: classes, counts, sizes, shares of the pixels, and a sheet of pictures.

    Of a folder without dataset.yaml it says how it is read and why, and exits with 1 where it is not read before the
    proposed dataset.yaml is saved. With --augmented the sheet shows training batches as the network would see them.
    """
    from maskwright.files import check_ours

    sheet = out or Path("data.png" if augmented is None else "augmented.png")
    check_ours(sheet, SHEET)  # before a minute of work
    if save is not None or (augmented is None and not skip_broken and _is_bare(data)):
        return _recognised(data, save, sheet)
    from maskwright.data.dataset import open_dataset
    from maskwright.draw import png
    from maskwright.files import write_bytes

    progress = terminal()
    dataset = open_dataset(data, skip_broken=skip_broken, progress=progress)
    if augmented is not None:
        from maskwright.api import augmented_sheet

        picture = augmented_sheet(augmented, dataset, skip_broken=skip_broken, progress=progress)
        write_bytes(sheet, png(picture, SHEET))
        return Answer({"sheet": sheet}, f"{sheet}: training pictures and masks as {augmented} augments them")
    from maskwright.api import contact_sheet
    from maskwright.data.facts import describe

    facts = describe(dataset)
    write_bytes(sheet, png(contact_sheet(dataset), SHEET))
    return Answer(asdict(facts) | {"sheet": sheet}, _text(facts, sheet))


def _is_bare(data: str) -> bool:
    return Path(data).is_dir() and not (Path(data) / "dataset.yaml").is_file()


def _recognised(data: str, save: Path | None, sheet: Path) -> Answer:
    """A bare folder: the proposal and its reasons, then what is in it where it can be read."""
    from rich.console import Group

    from maskwright.api import contact_sheet
    from maskwright.data.dataset import open_dataset
    from maskwright.data.facts import describe
    from maskwright.data.recognise import propose
    from maskwright.draw import png
    from maskwright.errors import ConfigError, UserError
    from maskwright.files import write_bytes, write_text

    if save is not None and save.exists():
        raise ConfigError(f"{save} is there already", "name another file; nothing is written over")
    if not _is_bare(data):
        raise ConfigError(f"{data} is no folder without dataset.yaml", "--save is for the proposal of one")
    progress = terminal()
    found = propose(Path(data), progress)
    if save is not None:
        write_text(save, found.to_yaml(save))
    document = {
        "proposal": found.keys,
        "reasons": found.reasons,
        "pairs": found.pairs,
        "left_over": found.left_over,
        "problem": found.problem,
        "saved": save,
    }
    lines = [*found.reasons, *(f"Left over: {line}" for line in found.left_over)]
    try:
        dataset = found.dataset if save is not None else open_dataset(data, progress=progress)
        problem = found.problem
    except UserError as error:
        dataset, problem = None, str(error)
    if dataset is None:
        advice = f"maskwright data show {data} --save {Path(data) / 'dataset.yaml'}"
        unread = "" if found.dataset is not None else " (cannot be read yet)"
        lines += [
            f"Not read as it stands: {problem}",
            *([f"What is wrong, item by item: maskwright data audit {data}"] if unread else []),
            f"Saved: {save}{unread}" if save else f"Proposed{unread}, save it with {advice}:",
            found.to_yaml(save or Path(data) / "dataset.yaml"),
        ]
        return Answer(document | {"problem": problem}, Group(*lines), code=1)
    facts = describe(dataset)
    write_bytes(sheet, png(contact_sheet(dataset), SHEET))
    told = Group(*lines, f"As dataset.yaml: {save or '--save FILE writes it'}", _text(facts, sheet))
    return Answer(document | asdict(facts) | {"sheet": sheet}, told)


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


def convert(
    data: Data,
    to: Annotated[str, typer.Option(metavar="FORMAT", help="folder, coco, voc or npz.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="A new or empty folder.")],
    skip_broken: SkipBroken = False,
) -> Answer:
    """Write a data set in another layout, with a dataset.yaml that keeps its ids, splits, groups and classes."""
    from maskwright.data.convert import convert as write
    from maskwright.data.dataset import open_dataset

    progress = terminal()
    done = write(open_dataset(data, skip_broken=skip_broken, progress=progress), to, out, progress)
    lost = "".join(f"\nNot kept: {line}" for line in done.lost)
    return Answer(asdict(done), f"{done.pictures} pictures as {done.form} in {done.folder}{lost}")


def audit(
    data: Data,
    out: Annotated[
        Path, typer.Option(metavar="DIR", help="Where audit.html and audit.json go; audit/ without it.")
    ] = Path("audit"),
    fix: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Write a new dataset.yaml that is rid of what can be mended there."
        ),
    ] = None,
) -> Answer:
    """Find what is wrong with a data set: files, masks, twins, splits, outliers. Exit code 1 when there are errors.

    Nothing of yours is changed; --fix writes a new file, and refuses one that is there already. What an earlier audit
    wrote is replaced."""
    import json

    from maskwright.audit.page import document, lines, summary, write_page
    from maskwright.audit.run import audit as audit_data
    from maskwright.audit.run import refuse_existing, severities, write_mended
    from maskwright.cli.answer import plain
    from maskwright.files import check_ours, write_text

    if fix is not None:
        refuse_existing(fix)  # before a minute of work
    check_ours(out / "audit.html", PAGE)
    check_ours(out / "audit.json", AUDIT)
    result = audit_data(data, terminal())
    found = document(result)
    write_text(out / "audit.json", json.dumps(plain({"by": AUDIT, **found}), indent=2) + "\n")
    write_page(result, out / "audit.html")
    parts: list[RenderableType] = [f"{result.name}: {summary(result)}"]
    if result.findings:
        parts.append(table(("severity", "finding", "what", "items>", "--fix writes"), lines(result.findings)))
    if fix is not None:
        mends = write_mended(result, fix)
        parts.append(f"{fix}: {', '.join(mends) if mends else 'nothing to mend, the data set as it is'}")
    parts.append(f"Look at: {out / 'audit.html'}")
    from rich.console import Group

    shown = found | {"page": out / "audit.html", "fixed": fix}
    return Answer(shown, Group(*parts), 1 if severities(result.findings)["error"] else 0)


def triage(
    run: Annotated[
        str,
        typer.Argument(
            metavar="RUN",
            help="A run, or better a cross-validation (train --folds), or its name under runs/.",
        ),
    ],
    out: Annotated[
        Path, typer.Option(metavar="DIR", help="Where triage.html and triage.json go; triage/ without it.")
    ] = Path("triage"),
    what_if: Annotated[
        int | None,
        typer.Option(
            "--what-if",
            metavar="N",
            min=1,
            help="Train again without the worst N labels of train and validation, and say what it changes.",
        ),
    ] = None,
    fix: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write a new dataset.yaml, as --drop and --ignore say."),
    ] = None,
    drop: Annotated[
        int, typer.Option(metavar="N", min=0, help="With --fix: leave the worst N labels out.")
    ] = 0,
    ignore: Annotated[
        int, typer.Option(metavar="N", min=0, help="With --fix: ignore the disputed regions of the worst N.")
    ] = 0,
    tta: Tta = None,
    device: Device = "auto",
    threads: Threads = None,
) -> Answer:
    """Find labels that are probably wrong: those that a model which has not seen them disputes, the worst first.

    triage.html shows them beside the prediction and saves a dataset.yaml with what you decide: keep, ignore the region,
    drop. Labels that a model was trained on hide their errors: a cross-validation is the better judge. Nothing of yours
    is changed."""
    import json

    from rich.console import Group

    from maskwright.audit.run import refuse_existing
    from maskwright.cli.answer import plain
    from maskwright.errors import ConfigError
    from maskwright.files import check_ours, write_text
    from maskwright.predict.predictor import use_threads
    from maskwright.triage.decide import write_decided
    from maskwright.triage.judges import panel
    from maskwright.triage.page import document, notes, page, words
    from maskwright.triage.run import triage as judge
    from maskwright.triage.what_if import what_if as try_without

    if (drop or ignore) and fix is None:
        raise ConfigError("--drop and --ignore need a file to write", "add --fix FILE")
    if fix is not None:
        refuse_existing(fix)
    check_ours(out / "triage.html", PAGE)
    check_ours(out / "triage.json", TRIAGE)
    progress, judges = terminal(), panel(run, device=device, tta=tta)
    judges.check_count(max(what_if or 0, drop, ignore))
    with use_threads(threads):
        found = judge(judges, progress)
    if fix is not None:
        write_decided(found, fix, drop=drop, ignore=ignore)

    def write(changed: WhatIf | None) -> dict[str, object]:
        said = document(found, changed)
        write_text(out / "triage.json", json.dumps(plain({"by": TRIAGE, **said}), indent=2) + "\n")
        write_text(out / "triage.html", page(found, changed))
        return said

    said, changed = write(None), None
    if what_if is not None:
        without = [case.id for case in found.worst(what_if)]
        try:
            changed = try_without(judges, without, device=device, threads=threads, progress=progress)
        except KeyboardInterrupt:
            raise Stopped(f"stopped; the same command goes on where it was, {out} has the ranking") from None
        said = write(changed)
    names = found.dataset.classes.names
    rows = [
        (
            place + 1,
            case.id,
            case.split + (" (seen)" if case.seen else ""),
            case.score,
            words(case.regions[0], names),
        )
        for place, case in enumerate(found.cases[:10])
        if case.regions
    ]
    return Answer(
        said | {"page": out / "triage.html", "fixed": fix},
        Group(
            table(("", "label", "split", "score>", "worst region"), rows),
            *(f"Note: {note}" for note in notes(found)),
            *([changed.comparison.sentence] if changed else []),
            *([f"{fix}: labels dropped: {drop}, labels with regions ignored: {ignore}"] if fix else []),
            f"Look at: {out / 'triage.html'}",
        ),
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


def pull(
    name: Annotated[
        str | None,
        typer.Argument(metavar="[NAME]", help="Which public data set; without it they are listed."),
    ] = None,
    to: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where it goes; data/NAME without it.")
    ] = None,
    mirror: Annotated[
        str | None,
        typer.Option(metavar="URL", help="A folder that holds the files under their official names."),
    ] = None,
) -> Answer:
    """Fetch a public data set: resumed after a cut, verified, unpacked, with its licence.

    Stopped or killed, the same command goes on where it was. Proxies of the environment (https_proxy) are used.
    """
    from maskwright.data.download import address, find_set, pulled
    from maskwright.data.download import pull as pull_set
    from maskwright.data.public import SETS

    if name is None:
        rows = [(key, f"{one.size / 1e6:.0f}", one.title, one.licence) for key, one in SETS.items()]
        listed = {
            key: {"title": one.title, "bytes": one.size, "licence": one.licence} for key, one in SETS.items()
        }
        return Answer({"sets": listed}, table(("name", "MB>", "what", "licence"), rows))
    wanted, target, progress = find_set(name), to or Path("data") / name, terminal()
    there = pulled(target) == name
    if not there:
        progress.say(
            f"{wanted.title}\nLicence: {wanted.licence}\nCite: {wanted.citation}\nPage: {wanted.page}"
        )
        if wanted.note:
            progress.say(f"Note: {wanted.note}")
        for archive in wanted.archives:
            progress.say(f"From {address(archive, mirror)}, {archive.size / 1e6:.0f} MB")
    begun = time.monotonic()
    try:
        pull_set(name, target, mirror=mirror, progress=progress)
    except KeyboardInterrupt:
        raise Stopped("stopped; the same command goes on where it was") from None
    took = time.monotonic() - begun
    following = f"maskwright data show {shlex.quote(str(target))}"
    document = {
        "name": name,
        "folder": target,
        "licence": wanted.licence,
        "citation": wanted.citation,
        "seconds": took,
        "next": following,
    }
    done = f"{name} was in {target} already" if there else f"{name} is in {target} ({duration(took)})"
    return Answer(document, f"{done}\nNext: {following}")
