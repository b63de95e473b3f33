"""Any picture in, a mask of its own size out. All go through `Predictor.__call__`."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from maskwright.data.classes import ClassMap
from maskwright.data.image_io import as_picture, read_image, to_channels
from maskwright.data.levels import window_told
from maskwright.data.part import Part
from maskwright.data.sources import tiff_stack
from maskwright.errors import ConfigError, DataError
from maskwright.predict.model_folder import ModelSpec, find_model, load_model, preprocess_from_spec
from maskwright.predict.postprocess import decide, probabilities
from maskwright.predict.reach import WHOLE, Context, measure_context
from maskwright.predict.save import save_answers
from maskwright.predict.tta import View, views
from maskwright.tensors import Images, Logits, Picture, Prediction

if TYPE_CHECKING:
    from PIL.Image import Image


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


@contextmanager
def use_threads(count: int | None) -> Iterator[None]:
    """Torch works with `count` CPU threads within; None leaves them as they are. Raises ConfigError for less than 1."""
    if count is not None and count < 1:
        raise ConfigError(f"{count} threads cannot work", "use 1 or more, or None for all cores")
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _exact() -> AbstractContextManager[None]:
    """True float32 (no TF32) and the same algorithm every time, whatever training has switched on."""
    return torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False)


def context_of(spec: ModelSpec, tta: str, network: nn.Module) -> Context:
    """How far an answer depends on the picture, in pixels of the network's input. Takes seconds.

    `normalise: image` and looks at several scales take the whole picture into account. The network's weights do not
    matter.
    """
    if spec.input.normalise == "image" or any(view.scale != 1 for view in views(tta)):
        return WHOLE
    return measure_context(network, spec.channels)


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
        self.threshold = spec.threshold

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

    @cached_property
    def context(self) -> Context:
        """See `context_of`; measured when it is first asked for."""
        return context_of(self.spec, self.tta, self.network)

    @torch.inference_mode()
    def __call__(self, image: np.ndarray | Image | str | Path) -> Prediction:
        """The mask of one picture, at its own size (H W of the input, after EXIF rotation of a file).

        An array is HWC or HW, uint8. Grey, alpha and colour are converted to what the network wants.
        Raises DataError for what is no picture.
        """
        return self.with_logits(image)[0]

    @torch.inference_mode()
    def with_logits(
        self, image: np.ndarray | Image | str | Path
    ) -> tuple[Prediction, Float[np.ndarray, "k H W"]]:
        """As a call, and the network's logits of the picture as it is, at its own size; one channel for a sigmoid."""
        picture = np.require(self.picture(image), requirements=["C", "W"])
        pixels = torch.from_numpy(picture).to(self.device)
        images = pixels.permute(2, 0, 1)[None].float().div(255)  # 1 C H W
        total: Tensor | None = None
        for view in self.views:
            logits = self._look(images, view)
            shares = probabilities(logits)
            total = shares if total is None else total + shares
            if view == View():
                plain = logits
        assert total is not None
        shares = total / len(self.views)
        mask = decide(shares, self.spec.threshold)
        said = Prediction(mask[0].cpu().numpy(), shares[0].cpu().numpy(), self.temperature)
        return said, plain[0].cpu().numpy()

    def _look(self, images: Images, view: View) -> Logits:
        """Logits at the pictures' own size, of one view."""
        height, width = images.shape[2:]
        preprocess = self.preprocess
        if view.scale != 1:
            preprocess = view.preprocess(self.spec, (height, width)).to(self.device)
        with _exact():
            logits = view.turn(self.network(view.turn(preprocess(images))).float())
        return preprocess.restore(logits, (height, width))

    def picture(self, image: np.ndarray | Image | str | Path | Part) -> Picture:
        """Decode or convert to uint8 HWC with the network's channels. Raises DataError."""
        return to_picture(image, self.spec)

    def identity(self) -> str:
        """A digest of the weights and of all that the spec says, and the test-time augmentation."""
        digest = hashlib.sha256(self.spec.model_dump_json().encode())
        for name, tensor in sorted(self.network.state_dict().items()):
            digest.update(name.encode())
            digest.update(np.ascontiguousarray(tensor.cpu().numpy()).tobytes())
        return f"{digest.hexdigest()[:16]} {self.tta}"

    save = save_answers


def to_picture(image: np.ndarray | Image | str | Path | Part, spec: ModelSpec) -> Picture:
    """Decode or convert to uint8 HWC with the network's channels; a page of a stack in the grey levels of those that it
    was trained on. Raises DataError."""
    channels = spec.channels
    if isinstance(image, Part):
        levels = window_told(spec.seen.window if spec.seen else None)
        return to_channels(as_picture(tiff_stack.raw(replace(image, told=levels))), channels)
    if isinstance(image, str | Path):
        return read_image(Path(image), channels)
    picture = as_picture(image if isinstance(image, np.ndarray) else _from_pillow(image))
    if not picture.size:
        raise DataError(f"a picture of shape {picture.shape} has no pixels", "give H x W x C with H, W >= 1")
    return to_channels(picture, channels)


def _from_pillow(image: Image) -> np.ndarray:
    """An opened picture of 8 bits, upright: HW or HWC uint8. Raises DataError for deeper ones, and for what is none."""
    from PIL import Image, ImageOps

    if not isinstance(image, Image.Image):
        raise DataError(
            f"{type(image).__name__} is no picture",
            "give one path, one array or one opened picture at a time",
        )
    upright = ImageOps.exif_transpose(image)
    if upright.mode in ("F", "I") or upright.mode.startswith("I;"):
        raise DataError(
            f"a picture of mode {upright.mode} has more than 8 bits", "give its file, or a uint8 array"
        )
    if upright.mode not in ("L", "LA", "RGB", "RGBA"):
        transparent = upright.has_transparency_data
        upright = upright.convert("L" if upright.mode == "1" else "RGBA" if transparent else "RGB")
    return np.asarray(upright)
