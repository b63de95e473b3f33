"""Masks from an exported model. Needs numpy, Pillow, onnxruntime and the .onnx file beside it, nothing else.

    python run.py photos/ cat.jpg --out masks --save mask,overlay

Written by `maskwright export --runner`. Pictures are decoded here as maskwright decodes them; resizing, normalising
and deciding happen inside the model. So the masks are the same. SPDX-License-Identifier: Apache-2.0
"""

from __future__ import annotations

import io
import json
import sys
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".gif", ".ppm", ".pgm", ".jp2")
FORMATS = ("JPEG", "PNG", "BMP", "TIFF", "WEBP", "GIF", "PPM", "JPEG2000")
TAILS = {"mask": ".png", "overlay": "_overlay.jpg", "probability": "_probability.npz"}
PLAIN = {m: m for m in ("L", "LA", "RGB", "RGBA")} | {"1": "L", "La": "LA", "PA": "RGBA", "RGBa": "RGBA"}
Image.MAX_IMAGE_PIXELS = LARGEST = 200_000_000


def read(path: Path, channels: int) -> np.ndarray:
    """H x W x channels, uint8, turned as the EXIF orientation says. 16 bits become 8 by division by 257."""
    with Image.open(path, formats=FORMATS) as image:
        if image.width * image.height > LARGEST:
            raise ValueError(f"it has over {LARGEST:,} pixels")
        if (tag := getattr(image, "tag_v2", {})).get(284) == 2 and 16 in tag[258] and "raw" in image.tile[0]:
            raise ValueError("save its channels interleaved")  # Pillow misreads planes of 16 bits
        if image.format == "TIFF" and getattr(image, "n_frames", 1) > 1:
            print(f"note: of {path} the first page; maskwright predict takes all", file=sys.stderr)
        ImageOps.exif_transpose(image, in_place=True)  # decodes it
        if image.mode.startswith(("I", "F")):
            deep = np.asarray(image, np.float64)
            if image.mode == "F" or deep.min() < 0 or deep.max() > 65535:
                raise ValueError("its numbers are no levels of grey: save it with 8 or 16 bits")
            return to_channels(((deep + 128) // 257).astype(np.uint8)[..., None], channels)
        clear = image.mode == "P" and "transparency" in image.info
        pixels = np.array(image.convert(PLAIN.get(image.mode, "RGBA" if clear else "RGB")))
        return to_channels(pixels.reshape(image.height, image.width, -1), channels)


def to_channels(pixels: np.ndarray, channels: int) -> np.ndarray:
    """Grey (1), grey and alpha (2), RGB (3) or RGBA (4) -> 1, 3 or 4 channels; grey is ITU-R 601-2 luma."""
    colour, alpha = (pixels[..., :-1], pixels[..., -1:]) if pixels.shape[2] in (2, 4) else (pixels, None)
    if channels == 1 and colour.shape[2] == 3:
        luma = colour.astype(np.uint32) @ np.array([19595, 38470, 7471], np.uint32)
        return np.asarray((luma + 0x8000) >> 16, np.uint8)[..., None]
    if channels > 1 and colour.shape[2] == 1:
        colour = np.repeat(colour, 3, axis=2)
    alpha = np.full_like(colour[..., :1], 255) if alpha is None else alpha
    return colour if channels < 4 else np.concatenate([colour, alpha], axis=2)


def save(files: dict[str, Path], picture: np.ndarray, answers: dict[str, np.ndarray], spec: Any) -> None:
    """Write what was asked for, each file whole or not at all. Raises FileExistsError: another one is there."""
    palette = np.zeros((256, 3), np.uint8)
    palette[: len(spec["classes"])], palette[255] = spec["colours"], (224, 224, 192)  # as maskwright's own
    for kind, target in files.items():
        file = io.BytesIO()
        if kind == "mask":  # a palette PNG: the pixel value is the class id
            image = Image.fromarray(answers["mask"][0])
            image.putpalette(palette.tobytes())
            image.save(file, "PNG")
        elif kind == "overlay":  # black classes, usually the background, leave the picture as it is
            colours = palette[answers["mask"][0]]
            opacity = 0.45 * colours.any(axis=2, keepdims=True)
            blended = np.rint(to_channels(picture, 3) * (1 - opacity) + colours * opacity)
            Image.fromarray(blended.astype(np.uint8)).save(file, "JPEG", quality=90, subsampling=0)
        else:  # with the temperature T: p^(1/T), over its sum over the classes, is calibrated
            facts = {"classes": np.array(spec["classes"]), "temperature": spec["temperature"]}
            np.savez_compressed(file, probabilities=answers["probabilities"][0], **facts)
        if target.exists() and target.read_bytes() != file.getvalue():
            raise FileExistsError(f"{target} is there and says otherwise: choose another --out")
        beside = target.with_name(f".{target.name}.partial")
        beside.write_bytes(file.getvalue())
        beside.replace(target)


def plan(inputs: list[str], out: Path, kinds: list[str]) -> dict[Path, dict[str, Path]]:
    """Which files to write for which picture. Raises ValueError where one would be overwritten."""
    if not set(kinds) <= set(TAILS):
        raise ValueError(f"--save {','.join(kinds)}: choose from {', '.join(TAILS)}")
    found: dict[Path, Path] = {}  # by where it really lies, so that each is done once
    for given in map(Path, inputs):
        inside = [path for path in sorted(given.glob("[!.]*")) if path.suffix.lower() in ENDINGS]
        if given.is_dir() and not inside:
            raise ValueError(f"{given} holds no pictures")
        found.update({path.resolve(): path for path in (inside if given.is_dir() else [given])})
    jobs = {path: {kind: out / (path.stem + TAILS[kind]) for kind in kinds} for path in found.values()}
    targets = [target for files in jobs.values() for target in files.values()]
    names = Counter(str(path.resolve()).casefold() for path in [*found, *targets])  # A.png may be a.png
    if again := [target for target in targets if names[str(target.resolve()).casefold()] > 1]:
        raise ValueError(f"{again[0]} is an input, or would be written twice: choose another --out")
    return jobs


def open_model(file: Path | None, threads: int) -> tuple[Any, Any]:
    """The model, and what it says about itself. Raises ValueError, or what onnxruntime raises."""
    beside = list(Path(__file__).parent.glob("*.onnx"))
    if file is None and len(beside) != 1:
        raise ValueError(f"{len(beside)} .onnx files lie beside run.py: say which with --model FILE.onnx")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = threads, 3  # 0: all cores; 3: errors only
    model = onnxruntime.InferenceSession(file or beside[0], options, ["CPUExecutionProvider"])  # as proven
    about = json.loads(model.get_modelmeta().custom_metadata_map.get("maskwright", "{}"))
    if about.get("format") != 1:
        raise ValueError(f"{file or beside[0]} was not exported by maskwright, or by another version of it")
    return model, about["spec"]


def main() -> int:
    parser = ArgumentParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("inputs", nargs="+", metavar="INPUT", help="pictures, or folders of pictures")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where the masks go")
    parser.add_argument("--model", type=Path, metavar="FILE.onnx", help="without it the one beside run.py")
    parser.add_argument("--threads", type=int, default=0, metavar="N", help="CPU threads; else all cores")
    parser.add_argument("--save", default="mask", metavar="KINDS", help="mask,overlay,probability")
    args = parser.parse_args()
    try:
        jobs = plan(args.inputs, args.out, kinds := args.save.split(","))
        model, spec = open_model(args.model, args.threads)
        args.out.mkdir(parents=True, exist_ok=True)
    except Exception as error:  # those of onnxruntime have no class in common
        parser.error(" ".join(str(error).split()))
    wanted = ["mask"] * (kinds != ["probability"]) + ["probabilities"] * ("probability" in kinds)
    seen, failed = spec.get("seen") or {}, []
    for path, files in jobs.items():
        try:
            picture = read(path, model.get_inputs()[0].shape[3])
            answers = dict(zip(wanted, model.run(wanted, {"images": picture[None]}), strict=True))
            save(files, picture, answers, spec)
            if seen.get("tiles") and np.greater(picture.shape[:2], seen["size"]).any():
                print(f"note: {path} was looked at whole; maskwright predict cuts it", file=sys.stderr)
        except Exception as error:  # a broken file may raise anything; the rest is done all the same
            failed.append(f"failed: {path}: {' '.join(str(error).split()) or type(error).__name__}")
    print(f"{len(jobs) - len(failed)} of {len(jobs)} pictures done, in {args.out}", *failed, sep="\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
