"""What can be written of a prediction: for each kind of output a name's tail, and the bytes of the file."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Sequence
from typing import Literal, get_args

import numpy as np
from PIL import Image

from maskwright.config import suggest
from maskwright.data.classes import ClassMap
from maskwright.data.image_io import mask_png
from maskwright.data.rle import compressed
from maskwright.draw import jpeg, overlay, png
from maskwright.errors import ConfigError
from maskwright.predict.outlines import Outline, Ring, outlines
from maskwright.tensors import Picture, Prediction

Kind = Literal["mask", "plain", "colour", "overlay", "probability", "polygons", "rle", "coco", "statistics"]
TAILS: dict[Kind, str] = {
    "mask": ".png",
    "plain": "_plain.png",
    "colour": "_colour.png",
    "overlay": "_overlay.jpg",
    "probability": "_probability.npz",
    "polygons": ".geojson",
    "rle": "_rle.json",
}
"""What is appended to a picture's name. They all differ, so no kind overwrites another of the same picture. The other
kinds are written once for all pictures (`whole.FILES`)."""

RASTER_TAILS: dict[Kind, str] = {
    "mask": ".tif",
    "plain": "_plain.tif",
    "colour": "_colour.tif",
    "probability": "_probability.tif",
    "overlay": "_overlay.jpg",
    "polygons": ".geojson",
}
"""Of a raster, of which `statistics` are made as well. Not made: run lengths (`rle`, `coco`), which go down whole
columns, while a raster comes in rows; `polygons` has its objects."""

LONGEST = 65_500
"""Side of a JPEG; of a longer picture every other row and column is shown."""

Encode = Callable[[Picture, Prediction, ClassMap], bytes]


def check_kinds(save: Sequence[str]) -> None:
    """Raises ConfigError for a kind that there is not, and for none."""
    known = list(get_args(Kind))
    if unknown := [kind for kind in save if kind not in known]:
        raise ConfigError(f"--save {','.join(unknown)} is not known", suggest(unknown[0], known))
    if not save:
        raise ConfigError("--save names nothing", f"choose from {', '.join(known)}")


def _mask(picture: Picture, said: Prediction, classes: ClassMap) -> bytes:
    return mask_png(said.mask, classes)


def _plain(picture: Picture, said: Prediction, classes: ClassMap) -> bytes:
    """A grey PNG: the pixel value is the class id, nearly black to the eye."""
    content = io.BytesIO()
    Image.fromarray(said.mask).save(content, format="PNG")
    return content.getvalue()


def _colour(picture: Picture, said: Prediction, classes: ClassMap) -> bytes:
    """An RGB PNG of the classes' colours."""
    return png(np.array(classes.colours, np.uint8)[said.mask])


def _overlay(picture: Picture, said: Prediction, classes: ClassMap) -> bytes:
    step = -(-max(said.mask.shape) // LONGEST)
    return jpeg(overlay(picture, said.mask, classes)[::step, ::step])


def _probability(picture: Picture, said: Prediction, classes: ClassMap) -> bytes:
    content = io.BytesIO()
    np.savez_compressed(
        content,
        probabilities=said.probabilities,
        classes=np.array(classes.names),
        temperature=said.temperature,
    )
    return content.getvalue()


def _polygons(picture: Picture, said: Prediction, classes: ClassMap) -> bytes:
    """GeoJSON (RFC 7946) in pixels, y down: a feature for each object of each class but 0, with its holes."""
    features = [
        {
            "type": "Feature",
            "geometry": _geometry(outline),
            "properties": {"class": classes.names[k], "id": k, "area": outline.area},
        }
        for k in range(1, len(classes))
        for outline in outlines(np.equal(said.mask, k))
    ]
    height, width = said.mask.shape
    return _json({"type": "FeatureCollection", "height": height, "width": width, "features": features})


def _geometry(outline: Outline) -> dict[str, object]:
    polygons = [[_closed(ring) for ring in polygon] for polygon in outline.polygons]
    if len(polygons) == 1:
        return {"type": "Polygon", "coordinates": polygons[0]}
    return {"type": "MultiPolygon", "coordinates": polygons}


def _closed(ring: Ring) -> Ring:
    return [*ring, ring[0]]


def _rle(picture: Picture, said: Prediction, classes: ClassMap) -> bytes:
    """For each class but 0 that occurs: its mask as COCO's compressed run lengths."""
    size = list(said.mask.shape)
    segments = [
        {"class": name, "id": k, "size": size, "counts": compressed(np.equal(said.mask, k))}
        for k, name in enumerate(classes.names)
        if k and (said.mask == k).any()
    ]
    return _json({"height": size[0], "width": size[1], "segments": segments})


def _json(content: object) -> bytes:
    return json.dumps(content, separators=(",", ":"), ensure_ascii=False).encode()


ENCODE: dict[Kind, Encode] = {
    "mask": _mask,
    "plain": _plain,
    "colour": _colour,
    "overlay": _overlay,
    "probability": _probability,
    "polygons": _polygons,
    "rle": _rle,
}
