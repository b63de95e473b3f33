"""Any picture in, a mask of its own size out. All go through `Predictor.__call__`."""

from __future__ import annotations

import glob
import io
import math
import operator
from collections import Counter
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np
import torch
from jaxtyping import Float
from torch import nn

from maskwright.data.classes import ClassMap
from maskwright.data.image_io import ENDINGS, as_picture, read_image, save_mask, to_channels
from maskwright.draw import jpeg, overlay
from maskwright.errors import ConfigError, DataError
from maskwright.files import write_bytes
from maskwright.metrics.calibration import expected_dice
from maskwright.predict.model_folder import ModelSpec, find_model, load_model, preprocess_from_spec
from maskwright.predict.postprocess import decide, probabilities
from maskwright.predict.review import check_review, doubt_file, write_doubts
from maskwright.predict.tta import View, views
from maskwright.progress import SILENT, Progress
from maskwright.tensors import Images, Logits, Picture, Prediction

if TYPE_CHECKING:
    from PIL.Image import Image

Kind = Literal["mask", "overlay", "probability"]
TAILS: dict[Kind, str] = {"mask": ".png", "overlay": "_overlay.jpg", "probability": "_probability.npz"}
"""What is appended to a picture's name. The three file types differ, so no kind can overwrite another."""


def choose_device(name: str) -> torch.device:
    """`auto` takes CUDA, then Apple's MPS, then the CPU. Raises ConfigError for a device that is not here."""
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda", torch.cuda.current_device())
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigError(f"--device {name} is no device", "write auto, cpu, cuda, cuda:1 or mps") from error
    here = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}
    if (device.index or 0) >= here.get(device.type, 0):
        raise ConfigError(f"--device {name} is not on this machine", "use --device auto, or cpu")
    return device


def _exact() -> AbstractContextManager[None]:
    """True float32 (no TF32) and the same algorithm every time, whatever training has switched on."""
    return torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False)


@dataclass(frozen=True)
class Saved:
    """What became of one input of `Predictor.save`."""

    input: Path
    outputs: tuple[Path, ...] = ()
    error: str = ""
    """Why there are no outputs; empty when all went well."""
    expected_dice: float = math.nan
    """Asked for by `review_below`; NaN otherwise."""
    review: Path | None = None
    """The overlay of a doubtful mask."""


class Answers(Protocol):
    """What masks can be saved of: a Predictor, an Ensemble."""

    @property
    def classes(self) -> ClassMap: ...

    def picture(self, image: np.ndarray | Image | str | Path) -> Picture: ...

    def __call__(self, image: np.ndarray | Image | str | Path) -> Prediction: ...


class Predictor:
    """A trained network with its input and output sides.

    Every picture goes through alone, in float32: its mask depends neither on its neighbours nor on who asks.
    """

    def __init__(
        self, spec: ModelSpec, network: nn.Module, device: torch.device, tta: str | None = None
    ) -> None:
        self.spec = spec
        self.device = device
        self.tta = spec.input.tta if tta is None else tta
        self.views = views(self.tta)
        self.network = network.float().eval().to(device)
        self.preprocess = preprocess_from_spec(spec).to(device)
        self.classes = ClassMap(spec.classes, spec.colours, {id: id for id in range(len(spec.classes))})
        self.channels = spec.channels
        self.temperature = spec.temperature

    @classmethod
    def load(cls, path_or_run: str | Path, device: str = "auto", tta: str | None = None) -> Predictor:
        """From a model folder, a run folder, a run's name, or `hf:user/name[@revision]` on a hub (see `hub.fetch`).

        tta: None is what the recipe said (`input.tta`). `none` looks once; `flips` averages the probabilities with
        those of the mirrored picture; `scales` does so at 0.75, 1 and 1.25 of the network's input size: six times the
        work. Raises RunError, or ConfigError (device, tta).
        """
        chosen = choose_device(device)
        if tta is not None:
            views(tta)  # a typo is told before the weights are read
        spec, network = load_model(find_model(path_or_run))
        return cls(spec, network, chosen, tta)

    @torch.inference_mode()
    def __call__(self, image: np.ndarray | Image | str | Path) -> Prediction:
        """The mask of one picture, at its own size (H W of the input, after EXIF rotation of a file).

        An array is HWC or HW, uint8. Grey, alpha and colour are converted to what the network wants.
        Raises DataError for what is no picture.
        """
        images = self._pixels(image)
        looks = (probabilities(self._look(images, view)) for view in self.views)
        shares = reduce(operator.add, looks) / len(self.views)
        mask = decide(shares, self.spec.threshold)
        return Prediction(mask[0].cpu().numpy(), shares[0].cpu().numpy(), self.temperature)

    @torch.inference_mode()
    def logits(self, image: np.ndarray | Image | str | Path) -> Float[np.ndarray, "k H W"]:
        """What the network says of the picture as it is, at its own size; one channel for a sigmoid."""
        logits: np.ndarray = self._look(self._pixels(image), View())[0].cpu().numpy()
        return logits

    def _pixels(self, image: np.ndarray | Image | str | Path) -> Images:
        picture = np.require(self.picture(image), requirements=["C", "W"])
        return torch.from_numpy(picture).to(self.device).permute(2, 0, 1)[None].float().div(255)  # 1 C H W

    def _look(self, images: Images, view: View) -> Logits:
        """Logits at the pictures' own size, of one view."""
        height, width = images.shape[2:]
        preprocess = self.preprocess
        if view.scale != 1:
            preprocess = view.preprocess(self.spec, (height, width)).to(self.device)
        with _exact():
            logits = view.turn(self.network(view.turn(preprocess(images))).float())
        return preprocess.restore(logits, (height, width))

    def picture(self, image: np.ndarray | Image | str | Path) -> Picture:
        """Decode or convert to uint8 HWC with the network's channels. Raises DataError."""
        return to_picture(image, self.channels)

    def save(
        self: Answers,
        out: str | Path,
        *inputs: str | Path,
        save: Sequence[Kind] = ("mask",),
        review_below: float | None = None,
        progress: Progress = SILENT,
    ) -> list[Saved]:
        """Predict files, folders and globs into the folder `out`; one entry per picture, in order.

        A folder stands for the pictures directly in it; `photos/**/*.jpg` reaches deeper, and the sub-folders
        appear in `out` again. For `a.jpg`: `mask` writes `a.png`, a palette PNG whose pixel values are the
        class ids; `overlay` writes `a_overlay.jpg`; `probability` writes `a_probability.npz` with
        `probabilities` (K H W, float32, those the mask was decided from), `classes` and `temperature`. Where `a.png`
        is an input as well, the masks are `a.jpg.png` and `a.png.png`.

        review_below: an overlay of every picture whose expected Dice (in [0, 1], see `expected_dice`; without truth,
        from the calibrated probabilities) is below it goes into `out/review`, named so that the worst come first;
        `review.csv` there lists all pictures.

        A picture that cannot be read is an entry with `error`, and the rest is done. Raises DataError, before
        anything is predicted, for an input that is not there or would be overwritten, and when `out/review` is not
        empty; ConfigError for a `review_below` outside [0, 1]; RunError when a result cannot be written.
        """
        unknown = [kind for kind in save if kind not in TAILS]
        if unknown or not save:
            raise ConfigError(f"--save {','.join(unknown)} is not known", f"choose from {', '.join(TAILS)}")
        jobs = plan(Path(out), inputs, save)
        review = Path(out) / "review"
        if review_below is not None:
            check_review(review, review_below, [path for _, targets in jobs for path in targets.values()])
        results: list[Saved] = []
        with progress.task("Predicting", len(jobs)) as advance:
            for source, targets in jobs:
                try:
                    picture = self.picture(source)
                except DataError as error:
                    results.append(Saved(source, error=str(error)))
                    advance(1)
                    continue
                prediction = self(picture)
                if "mask" in targets:
                    save_mask(targets["mask"], prediction.mask, self.classes)
                dice, doubt = math.nan, None
                if review_below is not None:
                    dice = expected_dice(prediction.calibrated, prediction.mask)
                    doubt = doubt_file(review, dice, source) if dice < review_below else None
                for path in filter(None, (targets.get("overlay"), doubt)):
                    write_bytes(path, jpeg(overlay(picture, prediction.mask, self.classes)))
                if "probability" in targets:
                    write_bytes(targets["probability"], _npz(prediction, self.classes))
                results.append(Saved(source, tuple(targets.values()), expected_dice=dice, review=doubt))
                advance(1)
        if review_below is not None:
            write_doubts(review, [(result.expected_dice, result.input, result.review) for result in results])
        return results


def plan(
    out: Path, inputs: Sequence[str | Path], save: Sequence[Kind]
) -> list[tuple[Path, dict[Kind, Path]]]:
    """Every picture that `inputs` name, once, with the files to write. Raises DataError."""
    sources = {path.resolve(): (path, name) for given in inputs for path, name in _find(given)}
    # Casefold: on many disks A.png and a.png are one file.
    stems = Counter(str(name.with_suffix("")).casefold() for _, name in sources.values())
    jobs: list[tuple[Path, dict[Kind, Path]]] = []
    taken: dict[str, Path] = {}
    for path, name in sources.values():
        base = name if stems[str(name.with_suffix("")).casefold()] > 1 else name.with_suffix("")
        targets = {kind: out / base.with_name(base.name + TAILS[kind]) for kind in save}
        for target in targets.values():
            if target.resolve() in sources:
                raise DataError(f"{target} is a picture and would be overwritten", "choose another --out")
            other = taken.setdefault(str(target).casefold(), path)
            if other != path:
                raise DataError(
                    f"{other} and {path} would both be written to {target}", "predict them separately"
                )
        jobs.append((path, targets))
    return jobs


def _find(given: str | Path) -> list[tuple[Path, Path]]:
    """(picture, name to keep below the output folder) of a file, a folder or a glob. Raises DataError."""
    path = Path(given)
    if path.is_file():
        return [(path, Path(path.name))]
    if path.is_dir():
        inside = sorted(entry for entry in path.iterdir() if entry.suffix.lower() in ENDINGS)
        pictures = [(entry, Path(entry.name)) for entry in inside if not entry.name.startswith(".")]
        if not pictures:
            raise DataError(f"{path} holds no pictures", f"a glob reaches deeper: '{path}/**/*.jpg'")
        return pictures
    if glob.has_magic(str(given)):
        fixed = Path(*_before_magic(path))
        found = sorted(Path(match) for match in glob.glob(str(given), recursive=True))
        pictures = [(match, match.relative_to(fixed)) for match in found if match.is_file()]
        if pictures:
            return pictures
        raise DataError(
            f"nothing matches {given}", "quote the pattern, and mind that ** must stand between slashes"
        )
    raise DataError(f"there is no file {path}", "give files, folders or quoted globs")


def _before_magic(pattern: Path) -> list[str]:
    """The leading parts of a glob that are plain folders."""
    parts: list[str] = []
    for part in pattern.parts[:-1]:
        if glob.has_magic(part):
            break
        parts.append(part)
    return parts


def to_picture(image: np.ndarray | Image | str | Path, channels: int) -> Picture:
    """Decode or convert to uint8 HWC with 1, 3 or 4 channels. Raises DataError."""
    if isinstance(image, str | Path):
        return read_image(Path(image), channels)
    picture = as_picture(image if isinstance(image, np.ndarray) else _from_pillow(image))
    if not picture.size:
        raise DataError(f"a picture of shape {picture.shape} has no pixels", "give H x W x C with H, W >= 1")
    return to_channels(picture, channels)


def _from_pillow(image: Image) -> np.ndarray:
    """An opened picture of 8 bits, upright: HW or HWC uint8. Raises DataError for deeper ones."""
    from PIL import ImageOps

    upright = ImageOps.exif_transpose(image)
    if upright.mode in ("F", "I") or upright.mode.startswith("I;"):
        raise DataError(
            f"a picture of mode {upright.mode} has more than 8 bits", "give its file, or a uint8 array"
        )
    if upright.mode not in ("L", "LA", "RGB", "RGBA"):
        transparent = upright.has_transparency_data
        upright = upright.convert("L" if upright.mode == "1" else "RGBA" if transparent else "RGB")
    return np.asarray(upright)


def _npz(prediction: Prediction, classes: ClassMap) -> bytes:
    content = io.BytesIO()
    np.savez_compressed(
        content,
        probabilities=prediction.probabilities,
        classes=np.array(classes.names),
        temperature=prediction.temperature,
    )
    return content.getvalue()
