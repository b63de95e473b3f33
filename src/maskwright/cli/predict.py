from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from maskwright.cli.answer import Answer, Stopped
from maskwright.cli.options import Device, Threads, Tta
from maskwright.cli.terminal import terminal
from maskwright.cli.tiles import read_tile, tile_lines, tile_values

if TYPE_CHECKING:
    from maskwright.predict.clean import Cleaned
    from maskwright.predict.tiled import Tiled


def predict(
    run: Annotated[
        str,
        typer.Argument(
            metavar="RUN_OR_MODEL[+...]",
            help="A run folder, its name, a model folder, or hf:user/name[@revision]; several with + are averaged.",
        ),
    ],
    inputs: Annotated[list[str], typer.Argument(metavar="INPUT...", help="Pictures, folders or globs.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where the masks go.")],
    save: Annotated[
        str,
        typer.Option(
            metavar="KINDS",
            help="Several with commas. For each picture: mask (palette PNG), plain (grey PNG), colour (RGB PNG), "
            "overlay, probability, polygons (GeoJSON), rle. For all together: coco (annotations.json), statistics "
            "(pixels.csv, objects.csv).",
        ),
    ] = "mask",
    review_below: Annotated[
        float | None,
        typer.Option(
            metavar="DICE",
            help="Overlays of masks whose expected Dice (no truth needed) is below go into DIR/review, worst first.",
        ),
    ] = None,
    clean: Annotated[
        bool,
        typer.Option("--clean", help="Without specks and small holes, as `maskwright clean RUN` chose it."),
    ] = False,
    tile: Annotated[
        str | None,
        typer.Option(
            metavar="H,W",
            help="Look at tiles of so many pixels that overlap, not at whole pictures. What is too large for one look, "
            "or what the model was trained on tiles of, is cut without it.",
        ),
    ] = None,
    check_seams: Annotated[
        bool,
        typer.Option(
            "--check-seams", help="Also look at the whole picture, and tell how far tiles are from it."
        ),
    ] = False,
    tta: Tta = None,
    device: Device = "auto",
    threads: Threads = None,
) -> Answer:
    """Write a mask for every picture.

    Masks have the picture's own size and are palette PNGs, of a GeoTIFF a GeoTIFF: the pixel value is the class id.
    Pictures may be of any size: large ones are looked at in tiles, and a GeoTIFF is never wholly in memory. Files that
    cannot be read are listed at the end, with exit code 1; the rest is done. Stopped or killed, the same command goes
    on where it was.
    """
    from rich.console import Group

    from maskwright.predict.encode import Kind, check_kinds
    from maskwright.predict.ensemble import load_predictor
    from maskwright.predict.predictor import Predictor, use_threads
    from maskwright.predict.tiled import Tiled
    from maskwright.predict.whole import FILES

    kinds = cast(list[Kind], [kind.strip() for kind in save.split(",")])
    check_kinds(kinds)  # before the network is read
    with use_threads(threads):
        side = read_tile(tile)
        predictor = load_predictor(run, device, tta, threads)
        tiled = Tiled(predictor, side, check_seams)
        saver = _cleaned(tiled, run) if clean else tiled
        try:
            results = saver.save(out, *inputs, save=kinds, review_below=review_below, progress=terminal())
        except KeyboardInterrupt:
            raise Stopped("stopped; the same command goes on where it was") from None
    failed = [result for result in results if result.error]
    doubts = sorted((result for result in results if result.review), key=lambda result: result.expected_dice)
    lines = [f"{len(results) - len(failed)} of {len(results)} pictures done, in {out}"]
    tables = [out / name for kind in kinds for name in FILES.get(kind, ())]
    if tables:
        lines.append(f"Of all of them: {', '.join(table.name for table in tables)}")
    if review_below is not None:
        lines.append(f"{len(doubts)} of {len(results)} pictures need a look, worst first in {out / 'review'}")
    if review_below is not None and isinstance(predictor, Predictor) and predictor.temperature == 1:
        lines.append("Note: this model has no temperature yet; `maskwright calibrate RUN` fits one")
    lines += tile_lines(results, check=check_seams)
    if any(result.outputs and out.resolve() == result.input.resolve().parent for result in results):
        lines.append(
            f"Note: in {out} masks lie beside pictures now; a data set of that folder would take them for pictures"
        )
    text = Group(*lines, *(f"failed: {result.error}" for result in failed))
    document = {
        "out": out,
        "done": [
            {"input": result.input, "outputs": result.outputs, "expected_dice": result.expected_dice}
            | tile_values(result)
            for result in results
            if not result.error
        ],
        "files": tables,
        "failed": [{"input": result.input, "error": result.error} for result in failed],
        "review": [
            {"input": result.input, "expected_dice": result.expected_dice, "overlay": result.review}
            for result in doubts
        ],
    }
    return Answer(document, text, code=1 if failed else 0)


def _cleaned(tiled: Tiled, run: str) -> Cleaned:
    from maskwright.predict.clean import cleaned  # brings a library that plain masks do not need

    return cleaned(tiled, run)
