"""Pictures for people: overlays, sheets of tiles, curves. Everything returns pixels or bytes."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, UInt8
from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo

from maskwright.data.classes import ClassMap
from maskwright.data.image_io import to_channels
from maskwright.tensors import IGNORE, Batch, Mask, Picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from maskwright.metrics.calibration import Calibration, Foresight

Colour = tuple[int, int, int]

PAPER, INK, FAINT = (255, 255, 255), (31, 35, 40), (101, 109, 118)
MISSED, INVENTED = (224, 36, 74), (38, 110, 255)
"""Red and blue on grey stay apart for the colour-blind."""

TILE = 224
"""Width of a tile of a sheet in pixels."""
GAP = 12
CAPTION = 36
"""Height of a caption and of the space below it."""


def overlay(
    picture: Picture, mask: Mask, classes: ClassMap, *, opacity: float = 0.45
) -> UInt8[np.ndarray, "H W 3"]:
    """The picture with its classes in their colours, and a white line where classes meet.

    A black class, usually the background, leaves the picture as it is; IGNORE is hatched grey.
    """
    colours, shown = _colours_of(mask, classes)
    tinted = _blend(to_channels(picture, 3), colours, np.where(shown, opacity, 0.0)[..., None])
    return _blend(tinted, np.full(3, 255), np.where(_outlines(mask) & shown, 0.85, 0.0)[..., None])


def errors(picture: Picture, truth: Mask, prediction: Mask, classes: ClassMap) -> UInt8[np.ndarray, "H W 3"]:
    """The picture in pale grey, wrong pixels in colour: of two classes, missed red and invented blue.

    With more classes every wrong pixel is red. Pixels whose truth is IGNORE are never wrong.
    """
    grey = to_channels(to_channels(picture, 1), 3)
    pale = 128 + grey * 0.45
    wrong = (truth != prediction) & (truth != IGNORE)
    invented = wrong & (truth == 0) & (len(classes) == 2)
    colours = np.where(invented[..., None], INVENTED, MISSED)
    weight = np.where(wrong, 0.85, 0.0)[..., None]
    return _blend(pale, colours, weight)


def _blend(below: np.ndarray, above: np.ndarray, weight: np.ndarray) -> UInt8[np.ndarray, "H W 3"]:
    blended: np.ndarray = np.rint(below * (1 - weight) + above * weight)
    return blended.astype(np.uint8)


def _colours_of(mask: Mask, classes: ClassMap) -> tuple[UInt8[np.ndarray, "H W 3"], Bool[np.ndarray, "H W"]]:
    """Colour of each pixel, and whether it is painted at all."""
    table = np.zeros((256, 3), np.uint8)
    table[: len(classes)] = classes.colours
    colours = table[mask]
    unknown = np.equal(mask, IGNORE)
    diagonal = np.add.outer(np.arange(mask.shape[0]), np.arange(mask.shape[1]))[unknown]
    colours[unknown] = np.where(diagonal // _line(mask.shape, share=60) % 2, 190, 90)[:, None]
    return colours, colours.max(axis=2) > 0


def _outlines(mask: Mask) -> Bool[np.ndarray, "H W"]:
    """Pixels within a line's width of another class."""
    near = np.zeros(mask.shape, bool)
    for reach in range(1, _line(mask.shape, share=250) + 1):
        down, right = mask[reach:] != mask[:-reach], mask[:, reach:] != mask[:, :-reach]
        near[reach:] |= down
        near[:-reach] |= down
        near[:, reach:] |= right
        near[:, :-reach] |= right
    return near


def _line(shape: tuple[int, ...], *, share: int) -> int:
    return max(1, round(min(shape) / share))


def sheet(
    tiles: Sequence[Picture],
    captions: Sequence[str],
    *,
    columns: int = 4,
    title: str = "",
    legend: Sequence[tuple[str, Colour]] = (),
) -> Image.Image:
    """Tiles of any size in a grid, each above its caption; a title on top, the legend below."""
    columns = max(1, min(columns, len(tiles)))
    title_font, font = ImageFont.load_default(20), ImageFont.load_default(14)
    width = GAP + columns * (TILE + GAP)
    wrapped = _wrap([(name, font.getlength(name)) for name, _ in legend], width - 2 * GAP)
    pictures = [scaled(tile, (TILE, TILE)) for tile in tiles]
    rows = [pictures[start : start + columns] for start in range(0, len(pictures), columns)]
    heights = [max(picture.height for picture in row) for row in rows]
    top = GAP + (36 if title else 0)
    bottom = top + sum(heights) + CAPTION * len(rows)
    page = Image.new("RGB", (width, bottom + 24 * len(wrapped) + (GAP if wrapped else 0)), PAPER)
    draw = ImageDraw.Draw(page)
    draw.text((GAP, GAP + 10), title, INK, title_font, anchor="lm")
    texts = iter(captions)
    for row, height in zip(rows, heights, strict=True):
        for column, picture in enumerate(row):
            left = GAP + column * (TILE + GAP)
            page.paste(picture, (left + (TILE - picture.width) // 2, top + (height - picture.height) // 2))
            caption = _shortened(next(texts), font, TILE)
            draw.text((left + TILE // 2, top + height + 13), caption, FAINT, font, anchor="mm")
        top += height + CAPTION
    colours = dict(legend)
    for line, names in enumerate(wrapped):
        left, middle = GAP, bottom + 24 * line + 12
        for name, length in names:
            draw.rounded_rectangle((left, middle - 6, left + 12, middle + 6), 3, colours[name], FAINT)
            draw.text((left + 19, middle), name, INK, font, anchor="lm")
            left += round(length) + SWATCH
    return page


SWATCH = 40
"""What an entry of the legend takes beside its name."""


def _wrap(words: Sequence[tuple[str, float]], width: float) -> list[list[tuple[str, float]]]:
    lines: list[list[tuple[str, float]]] = []
    room = 0.0
    for word, length in words:
        if not lines or length + SWATCH > room:
            lines.append([])
            room = width
        lines[-1].append((word, length))
        room -= length + SWATCH
    return lines


def _shortened(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> str:
    """The text with its middle left out where it is too long: names differ at their ends."""
    text = " ".join(text.split())
    kept = len(text)
    short = text
    while kept > 1 and font.getlength(short) > width:
        kept -= 1
        short = f"{text[: (kept + 1) // 2].rstrip()}…{text[len(text) - kept // 2 :].lstrip()}"
    return short


def scaled(picture: Picture, box: tuple[int, int]) -> Image.Image:
    """The picture, as large as (height, width) allows with its aspect kept; RGB."""
    image = Image.fromarray(to_channels(picture, 3))
    ratio = min(box[0] / image.height, box[1] / image.width)
    size = max(1, round(image.width * ratio)), max(1, round(image.height * ratio))
    # Enlarged pixels stay pixels: a small picture should look as coarse as the network sees it.
    return image.resize(size, Image.Resampling.NEAREST if ratio >= 2 else Image.Resampling.LANCZOS)


def class_legend(classes: ClassMap) -> list[tuple[str, Colour]]:
    """Names and colours for `sheet`."""
    return list(zip(classes.names, classes.colours, strict=True))


def batch_sheet(batch: Batch, classes: ClassMap, *, title: str = "As the network sees them") -> Image.Image:
    """Pictures of a batch in [0, 1], each beside its labels; of two mixed truths the one that weighs more."""
    target = batch.target
    labels_BHW = target.labels
    shares = np.ones(len(labels_BHW))
    if target.others is not None and target.weight is not None:
        shares = target.weight.float().cpu().numpy()
        labels_BHW = labels_BHW.where((target.weight >= 0.5).view(-1, 1, 1), target.others)
    pictures_BHWC = (batch.images.float().clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
    masks_BHW = labels_BHW.cpu().numpy().astype(np.uint8)
    tiles, captions = [], []
    for number, (picture, mask, share) in enumerate(zip(pictures_BHWC, masks_BHW, shares, strict=True)):
        mixed = f", mixed {max(share, 1 - share):.0%} : {min(share, 1 - share):.0%}" if 0 < share < 1 else ""
        tiles += [picture, overlay(picture, mask, classes)]
        captions += [f"{number + 1}{mixed}", "labels"]
    return sheet(tiles, captions, title=title, legend=class_legend(classes))


def predictions_sheet(
    pictures: Sequence[Picture],
    truths: Sequence[Mask],
    predictions: Sequence[Mask],
    classes: ClassMap,
    names: Sequence[str] = (),
    *,
    title: str = "",
) -> Image.Image:
    """A row per picture: the picture, its truth, the prediction, and where they differ."""
    tiles, captions = [], []
    names = names or [f"picture {number + 1}" for number in range(len(pictures))]
    for picture, truth, prediction, name in zip(pictures, truths, predictions, names, strict=True):
        tiles += [
            picture,
            overlay(picture, truth, classes),
            overlay(picture, prediction, classes),
            errors(picture, truth, prediction, classes),
        ]
        judged = truth != IGNORE
        wrong = (truth != prediction)[judged].mean() if judged.any() else 0.0
        captions += [name, "truth", "prediction", f"{wrong:.1%} of the pixels wrong"]
    kinds = [("missed", MISSED), ("invented", INVENTED)] if len(classes) == 2 else [("wrong", MISSED)]
    return sheet(tiles, captions, title=title, legend=[*class_legend(classes), *kinds])


def png(picture: Picture | Image.Image, software: str = "") -> bytes:
    """`software`: said in the file, in front of the pixels."""
    told = PngInfo()
    if software:
        told.add_text("Software", software)
    return _encoded(picture, "PNG", pnginfo=told)


def jpeg(picture: Picture | Image.Image, quality: int = 90) -> bytes:
    """Without colour subsampling, which would smear thin outlines."""
    return _encoded(picture, "JPEG", quality=quality, subsampling=0)


def _encoded(picture: Picture | Image.Image, kind: str, **options: Any) -> bytes:
    content = io.BytesIO()
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(to_channels(picture, 3))
    image.save(content, kind, **options)
    return content.getvalue()


Panel = tuple[str, tuple[tuple[str, str], ...]]
"""Title, and its lines as (column of metrics.csv, name)."""

LOSS: Panel = ("Loss", (("train_loss", "training"), ("val_loss", "validation")))
SCORE: Panel = ("Validation score", (("val_dice_image", "Dice per image"), ("val_miou", "mean IoU")))
RATE: Panel = ("Learning rate", (("learning_rate", "learning rate"),))


def curves(
    rows: Sequence[Mapping[str, float]],
    panels: Sequence[Panel] = (LOSS, SCORE),
    *,
    dark: bool = False,
    svg: bool = False,
    best: int = 0,
) -> bytes:
    """Lines over epochs from the rows of metrics.csv, panels side by side: PNG, or SVG on a clear ground.

    The epoch `best` is marked; 0 marks none.
    """
    drawn = [partial(_draw_panel, rows=rows, panel=panel, dark=dark, best=best) for panel in panels]
    return _plots(drawn, dark=dark, svg=svg)


def reliability_plot(found: Calibration, *, dark: bool = False, svg: bool = False) -> bytes:
    """Accuracy over confidence, a point per bin, with and without the temperature, and the share of the pixels in
    each bin; on the dashed line a probability means what it says. PNG, or SVG on a clear ground.
    """
    return _plots([partial(_draw_reliability, found=found, dark=dark)], dark=dark, svg=svg)


def risk_coverage_plot(found: Foresight, *, dark: bool = False, svg: bool = False) -> bytes:
    """1 - Dice of the pictures that are kept, over their share; those of the highest expected Dice are kept longest.
    PNG, or SVG on a clear ground.
    """
    return _plots([partial(_draw_risk, found=found, dark=dark)], dark=dark, svg=svg)


def _plots(panels: Sequence[Callable[[Axes], None]], *, dark: bool, svg: bool) -> bytes:
    """Panels side by side."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    # Text stays text in the SVG, and equal rows give equal bytes.
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "maskwright", "font.family": "sans-serif"}):
        # An SVG fills a column of a page, where larger figures would have smaller letters.
        size = (4.0 * len(panels), 2.8) if svg else (5.2 * len(panels), 3.2)
        figure = Figure(figsize=size, dpi=150, layout="constrained")
        figure.patch.set_alpha(0.0 if svg else 1.0)
        figure.patch.set_facecolor("#0d1117" if dark else "white")
        for axes, draw in zip(np.atleast_1d(figure.subplots(1, len(panels))), panels, strict=True):
            draw(axes)
        content = io.BytesIO()
        figure.savefig(content, format="svg" if svg else "png", metadata={"Date": None} if svg else None)
    return content.getvalue()


def _draw_panel(
    axes: Axes, *, rows: Sequence[Mapping[str, float]], panel: Panel, dark: bool, best: int
) -> None:
    from matplotlib.ticker import MaxNLocator

    title, lines = panel
    epochs = [row["epoch"] for row in rows]
    for (column, name), colour in zip(lines, _lines(dark), strict=False):
        values = [row.get(column, float("nan")) for row in rows]
        axes.plot(
            epochs, values, color=colour, linewidth=1.8, marker="o" if len(rows) < 30 else "", markersize=3
        )
        axes.plot([], [], color=colour, linewidth=1.8, label=name)
    if best:
        axes.axvline(best, color=_ink(dark), linewidth=1, linestyle=(0, (2, 3)))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))
    _dress(axes, title, "epoch", dark=dark)


def _draw_reliability(axes: Axes, *, found: Calibration, dark: bool) -> None:
    now, then = _lines(dark)
    curve, tempered = found.reliability, found.temperature != 1
    total = max(sum(curve.pixels), 1.0)
    first = next((low for low, pixels in zip(curve.low, curve.pixels, strict=True) if pixels), 0.0)
    axes.plot([0, 1], [0, 1], color=_ink(dark), linewidth=1, linestyle=(0, (4, 3)), zorder=1)
    for low, high, pixels in zip(curve.low, curve.high, curve.pixels, strict=True):
        bar = axes.bar(low, pixels / total, high - low, align="edge", color=now, alpha=0.16, linewidth=0)
    bar.set_label("share of the pixels")
    if tempered:
        before = found.reliability_before
        axes.plot(before.confidence, before.accuracy, color=then, linewidth=1.4, marker="o", markersize=3)
        axes.plot([], [], color=then, linewidth=1.4, label="without the temperature")
    axes.plot(curve.confidence, curve.accuracy, color=now, linewidth=1.8, marker="o", markersize=4)
    name = f"with the temperature {found.temperature:.2f}" if tempered else "accuracy"
    axes.plot([], [], color=now, linewidth=1.8, label=name)
    axes.set_xlim(first, 1)
    axes.set_ylim(0, 1.02)
    was = f", was {found.ece_before:.3f}" if tempered else ""
    _dress(axes, f"Reliability: ECE {found.ece:.3f}{was}", "confidence", "accuracy", dark=dark)


def _draw_risk(axes: Axes, *, found: Foresight, dark: bool) -> None:
    by_dice, _ = _lines(dark)
    axes.axhline(
        found.aurc_random, color=_ink(dark), linewidth=1, linestyle=(0, (4, 3)), label="in any order"
    )
    axes.plot(found.coverage, found.risk, color=by_dice, linewidth=1.8, label="highest expected Dice first")
    axes.set_xlim(0, 1)
    axes.set_ylim(bottom=0)
    title = f"Risk and coverage: area {found.aurc:.3f}, at best {found.aurc_best:.3f}"
    _dress(axes, title, "share of the pictures kept", "1 - Dice of these", dark=dark)


def _lines(dark: bool) -> tuple[str, str]:
    """Blue and orange."""
    return ("#4493f8", "#e8833a") if dark else ("#0969da", "#d1601f")


def _ink(dark: bool) -> str:
    return "#9198a1" if dark else "#59636e"


def _dress(axes: Axes, title: str, x: str, y: str = "", *, dark: bool) -> None:
    """Title, labels, grid and legend as everywhere."""
    ink = _ink(dark)
    axes.set_title(title, color=ink, fontsize=11, loc="left")
    axes.set_xlabel(x, color=ink, fontsize=9)
    axes.set_ylabel(y, color=ink, fontsize=9)
    axes.grid(axis="y", color=ink, alpha=0.2, linewidth=0.8)
    axes.tick_params(colors=ink, labelsize=9, length=0)
    axes.patch.set_alpha(0)
    for side in axes.spines:
        axes.spines[side].set_visible(side == "bottom")
    axes.spines["bottom"].set_color(ink)
    if len(axes.get_legend_handles_labels()[1]) > 1:
        axes.legend(frameon=False, fontsize=9, labelcolor=ink)
