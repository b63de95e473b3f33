"""Any picture in, a mask of its own size out; files, folders and globs; nothing of the user's is overwritten."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from maskwright.config import InputConfig, ModelConfig
from maskwright.data.image_io import image_size, read_image
from maskwright.errors import ConfigError, DataError, RunError
from maskwright.predict.model_folder import ModelSpec, build_from_spec, save_model
from maskwright.predict.predictor import Predictor, choose_device, use_threads

COLOURS = ((0, 0, 0), (230, 159, 0), (86, 180, 233))


def predictor(fit: str = "resize", classes: int = 3, channels: int = 3, threshold: float = 0.5) -> Predictor:
    """A network with random weights whose answer differs from place to place."""
    spec = ModelSpec(
        model=ModelConfig(name="unet", width=4, depth=2),
        input=InputConfig(size=(32, 48), fit=fit, channels=channels),  # type: ignore[arg-type]
        classes=tuple(f"class {number}" for number in range(classes)),
        colours=COLOURS[:classes],
        mean=(0.5,) * channels,
        deviation=(0.2,) * channels,
        threshold=threshold,
    )
    torch.manual_seed(1)
    network = build_from_spec_randomly(spec)
    return Predictor(spec, network, torch.device("cpu"))


def build_from_spec_randomly(spec: ModelSpec) -> torch.nn.Module:
    network = build_from_spec(spec)
    for name, value in network.named_parameters():
        if value.ndim > 1:
            torch.nn.init.normal_(value, std=0.2, generator=torch.Generator().manual_seed(len(name)))
    return network


def photo(height: int, width: int, seed: int = 0, channels: int = 3) -> np.ndarray:
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 7, channels), dtype=np.uint8)
    return np.stack(
        [
            np.asarray(Image.fromarray(coarse[..., band]).resize((width, height), Image.Resampling.BICUBIC))
            for band in range(channels)
        ],
        axis=-1,
    )


@pytest.mark.parametrize("fit", ["resize", "letterbox", "crop"])
@pytest.mark.parametrize("size", [(1, 1), (7, 300), (300, 7), (32, 48), (61, 83)])
def test_the_mask_has_the_size_of_the_picture(size: tuple[int, int], fit: str) -> None:
    prediction = predictor(fit)(photo(*size))
    assert prediction.mask.shape == size
    assert prediction.mask.dtype == np.uint8
    assert prediction.probabilities.shape == (3, *size)
    assert prediction.probabilities.dtype == np.float32
    np.testing.assert_allclose(prediction.probabilities.sum(0), 1, atol=1e-5)
    np.testing.assert_array_equal(prediction.mask, prediction.probabilities.argmax(0))


def test_two_classes_and_the_threshold() -> None:
    usual, bold = predictor(classes=2), predictor(classes=2, threshold=0.2)
    first, second = usual(photo(40, 50)), bold(photo(40, 50))
    assert first.probabilities.shape == (2, 40, 50)
    np.testing.assert_array_equal(first.probabilities, second.probabilities)
    np.testing.assert_array_equal(first.mask, first.probabilities[1] > 0.5)
    np.testing.assert_array_equal(second.mask, second.probabilities[1] > 0.2)
    assert first.mask.sum() != second.mask.sum()


def test_a_picture_alone_and_after_others_gives_the_same_bits() -> None:
    model = predictor()
    alone = model(photo(40, 50, seed=1)).probabilities
    model(photo(90, 20, seed=2))
    np.testing.assert_array_equal(model(photo(40, 50, seed=1)).probabilities, alone)


def test_the_mask_is_about_the_picture() -> None:
    """A mirrored picture has another mask, and the mask is not flat: otherwise the tests here prove little."""
    model = predictor()
    picture = photo(40, 50)
    assert len(np.unique(model(picture).mask)) > 1
    assert not np.array_equal(model(picture).mask, model(picture[:, ::-1]).mask)


def test_hwc_and_hw_files_and_pillow_are_one_picture(tmp_path: Path) -> None:
    grey = photo(30, 40, channels=1)
    model = predictor()
    expected = model(np.repeat(grey, 3, axis=2)).probabilities
    Image.fromarray(grey[..., 0]).save(tmp_path / "grey.png")
    for image in (
        grey,
        grey[..., 0],
        tmp_path / "grey.png",
        str(tmp_path / "grey.png"),
        Image.fromarray(grey[..., 0]),
    ):
        np.testing.assert_array_equal(model(image).probabilities, expected)


def test_alpha_is_dropped_and_a_grey_network_takes_colour() -> None:
    colour = photo(30, 40)
    opaque = np.dstack([colour, np.full((30, 40), 77, np.uint8)])
    np.testing.assert_array_equal(predictor()(opaque).probabilities, predictor()(colour).probabilities)
    assert predictor(channels=1)(colour).mask.shape == (30, 40)


@pytest.mark.parametrize("mode", ["1", "P", "LA", "CMYK"])
def test_pillow_modes(mode: str) -> None:
    assert predictor()(Image.fromarray(photo(30, 40)).convert(mode)).mask.shape == (30, 40)


def test_an_exif_rotation_turns_the_picture_before_it_is_seen(tmp_path: Path) -> None:
    picture = photo(30, 40)
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera lay on its side: turn by 90 degrees clockwise
    Image.fromarray(picture).save(tmp_path / "turned.png", exif=exif)
    upright = np.rot90(picture, -1)
    model = predictor()
    np.testing.assert_array_equal(model(tmp_path / "turned.png").probabilities, model(upright).probabilities)
    with Image.open(tmp_path / "turned.png") as opened:
        np.testing.assert_array_equal(model(opened).probabilities, model(upright).probabilities)
    model.save(tmp_path / "out", tmp_path / "turned.png")
    assert image_size(tmp_path / "out" / "turned.png") == (40, 30)


@pytest.mark.parametrize(
    "array", [np.zeros((4, 4, 3)), np.zeros((0, 4, 3), np.uint8), np.zeros((2, 4, 4, 3), np.uint8)]
)
def test_what_is_no_picture_is_refused(array: np.ndarray) -> None:
    with pytest.raises(DataError, match="picture"):
        predictor()(array)


def test_saved_masks_hold_the_class_ids_and_show_the_colours(tmp_path: Path) -> None:
    model = predictor()
    Image.fromarray(photo(61, 83)).save(tmp_path / "a.png")
    (result,) = model.save(tmp_path / "out", tmp_path / "a.png", save=("mask", "overlay", "probability"))
    assert result.outputs == tuple(
        tmp_path / "out" / n for n in ("a.png", "a_overlay.jpg", "a_probability.npz")
    )
    prediction = model(tmp_path / "a.png")
    with Image.open(tmp_path / "out" / "a.png") as mask:
        assert mask.mode == "P"
        np.testing.assert_array_equal(np.asarray(mask), prediction.mask)
        np.testing.assert_array_equal(np.asarray(mask.convert("RGB")), np.array(COLOURS)[prediction.mask])
    with np.load(tmp_path / "out" / "a_probability.npz") as saved:
        np.testing.assert_array_equal(saved["probabilities"], prediction.probabilities)
        assert saved["classes"].tolist() == list(model.classes.names)
    assert read_image(tmp_path / "out" / "a_overlay.jpg", 3).shape == (61, 83, 3)


def test_a_broken_file_is_told_at_the_end_and_the_rest_is_done(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    content = io.BytesIO()
    Image.fromarray(photo(60, 60)).save(content, "JPEG")
    (photos / "a.jpg").write_bytes(content.getvalue())
    (photos / "b.jpg").write_bytes(content.getvalue()[:300])
    (photos / "c.jpg").write_text("no picture")
    (photos / "d.jpg").write_bytes(content.getvalue())
    (photos / "notes.txt").write_text("not even called one")
    (photos / ".hidden.jpg").write_text("of the system")
    results = predictor().save(tmp_path / "out", photos)
    assert [(result.input.name, bool(result.error)) for result in results] == [
        ("a.jpg", False),
        ("b.jpg", True),
        ("c.jpg", True),
        ("d.jpg", False),
    ]
    assert "b.jpg" in results[1].error
    assert "\n" not in results[1].error
    assert sorted(path.name for path in (tmp_path / "out").glob("[!.]*")) == ["a.png", "d.png"]


def test_globs_keep_the_folders_below_them(tmp_path: Path) -> None:
    for name in ("one/a.png", "two/a.png", "two/deep/b.png"):
        (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(photo(9, 9)).save(tmp_path / "photos" / name)
    out = tmp_path / "out"
    predictor().save(out, f"{tmp_path}/photos/**/*.png")
    assert sorted(str(path.relative_to(out)) for path in out.rglob("*.png")) == [
        "one/a.png",
        "two/a.png",
        "two/deep/b.png",
    ]


def test_equal_names_do_not_overwrite_each_other(tmp_path: Path) -> None:
    for name in ("a.jpg", "a.png", "b.jpg"):
        Image.fromarray(photo(9, 9)).save(tmp_path / name)
    results = predictor().save(tmp_path / "out", tmp_path)
    assert [result.outputs[0].name for result in results] == ["a.jpg.png", "a.png.png", "b.png"]
    again = predictor().save(tmp_path / "out2", tmp_path / "a.jpg", tmp_path / "a.jpg", tmp_path)
    assert len(again) == 3


def test_two_folders_with_the_same_name_in_them_are_refused(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        Image.fromarray(photo(9, 9)).save(tmp_path / folder / "a.png")
    with pytest.raises(DataError, match="would both be written"):
        predictor().save(tmp_path / "out", tmp_path / "one", tmp_path / "two")
    assert not (tmp_path / "out").exists()


def test_an_input_is_never_overwritten(tmp_path: Path) -> None:
    Image.fromarray(photo(9, 9)).save(tmp_path / "a.png")
    before = (tmp_path / "a.png").read_bytes()
    with pytest.raises(DataError, match=r"a\.png is a picture and would be overwritten"):
        predictor().save(tmp_path, tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes() == before


@pytest.mark.parametrize("name", ["nothing.jpg", "empty", "*.webp"])
def test_inputs_that_are_not_there(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError):
        predictor().save(tmp_path / "out", tmp_path / name)


def test_an_unknown_kind_of_output(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="polygon is not known; did you mean polygons"):
        predictor().save(tmp_path / "out", tmp_path, save=("mask", "polygon"))  # type: ignore[arg-type]


def test_loading_from_a_run_gives_the_same_bits(tmp_path: Path) -> None:
    model = predictor()
    save_model(tmp_path / "run" / "model", model.spec, model.network.state_dict())
    loaded = Predictor.load(tmp_path / "run", device="cpu")
    np.testing.assert_array_equal(loaded(photo(40, 50)).probabilities, model(photo(40, 50)).probabilities)
    assert (loaded.channels, loaded.classes.names) == (3, model.classes.names)
    with pytest.raises(RunError):
        Predictor.load(tmp_path)


@pytest.mark.parametrize("image", [["a.jpg"], b"a.jpg", None, torch.zeros(3, 4, 4)])
def test_other_things_are_no_picture(image: Any) -> None:
    with pytest.raises(DataError, match="is no picture; give one path, one array or one opened picture"):
        predictor()(image)


@pytest.mark.parametrize("count", [0, -3])
def test_threads_that_cannot_work(count: int) -> None:
    with pytest.raises(ConfigError, match=f"^{count} threads cannot work"), use_threads(count):
        pass


def test_devices_that_are_not_here() -> None:
    assert choose_device("cpu").type == "cpu"
    assert choose_device("auto").type in {"cpu", "cuda", "mps"}
    for name in ("gpu", "cuda:99", "xla", "cpu:1"):
        with pytest.raises(ConfigError, match=name):
            choose_device(name)
