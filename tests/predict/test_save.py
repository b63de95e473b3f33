"""Many pictures into a folder: broken ones are told, a killed call is gone on with, nothing of others is lost."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from PIL import Image

from maskwright.config import InputConfig, ModelConfig
from maskwright.data.classes import ClassMap
from maskwright.data.image_io import image_size, read_image
from maskwright.errors import DataError, RunError
from maskwright.files import write_bytes
from maskwright.predict import save as save_module
from maskwright.predict.backends import OnnxRuntime
from maskwright.predict.encode import Kind
from maskwright.predict.ensemble import Ensemble
from maskwright.predict.journal import NAME
from maskwright.predict.model_folder import ModelSpec, build_from_spec
from maskwright.predict.pipeline import UNWRITTEN
from maskwright.predict.predictor import Predictor
from maskwright.predict.save import Saved, save_answers
from maskwright.tensors import Picture, Prediction

ALL: tuple[Kind, ...] = get_args(Kind)


def predictor(seed: int = 1, tta: str = "none") -> Predictor:
    spec = ModelSpec(
        model=ModelConfig(name="unet", width=4, depth=2),
        input=InputConfig(size=(32, 48), channels=3),
        classes=("ground", "pet", "sky"),
        colours=((0, 0, 0), (230, 159, 0), (86, 180, 233)),
        mean=(0.5,) * 3,
        deviation=(0.2,) * 3,
    )
    network = build_from_spec(spec)
    for name, value in network.named_parameters():
        if value.ndim > 1:
            torch.nn.init.normal_(
                value, std=0.2, generator=torch.Generator().manual_seed(len(name) + 100 * seed)
            )
    return Predictor(spec, network, torch.device("cpu"), tta)


@dataclass
class Grey:
    """Bright pixels are a pet; counts what it is asked."""

    asked: int = 0
    classes: ClassMap = field(
        default_factory=lambda: ClassMap(("ground", "pet"), ((0, 0, 0), (230, 159, 0)), {0: 0, 1: 1})
    )

    def picture(self, image: object) -> Picture:
        return read_image(Path(str(image)), 1)

    def __call__(self, image: object) -> Prediction:
        self.asked += 1
        bright = np.asarray(image)[..., 0].astype(np.float32) / 255
        return Prediction((bright > 0.5).astype(np.uint8), np.stack([1 - bright, bright]))

    def identity(self) -> str:
        return "grey"

    save = save_answers


def write_photos(folder: Path, count: int, size: tuple[int, int] = (30, 40)) -> Path:
    folder.mkdir(parents=True)
    for number in range(count):
        coarse = np.random.default_rng(number).integers(0, 256, (5, 7, 3), dtype=np.uint8)
        picture = Image.fromarray(coarse).resize(size[::-1], Image.Resampling.BICUBIC)
        picture.save(folder / f"{number:04}.png")
    return folder


def write_jpeg(file: Path) -> None:
    """The same picture beside it."""
    with Image.open(file) as image:
        image.save(file.with_suffix(".jpg"))


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return write_photos(tmp_path / "photos", 6)


def contents(folder: Path) -> dict[str, bytes]:
    """The lines of the journal stand in the order in which pictures were finished: here they are sorted."""
    files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    read = {name: path.read_bytes() for name, path in files.items()}
    return read | {NAME: b"".join(sorted(read[NAME].splitlines(keepends=True)))} if NAME in read else read


def test_all_kinds_hold_the_prediction_of_each_picture_alone(photos: Path, tmp_path: Path) -> None:
    model, out = predictor(), tmp_path / "out"
    results = model.save(out, photos, save=ALL)
    assert [result.input for result in results] == sorted(photos.iterdir())
    for result in results:
        said = model(result.input)
        stem = result.input.stem
        tails = (
            ".png",
            "_plain.png",
            "_colour.png",
            "_overlay.jpg",
            "_probability.npz",
            ".geojson",
            "_rle.json",
        )
        assert result.outputs == tuple(out / f"{stem}{tail}" for tail in tails)
        with Image.open(out / f"{stem}_plain.png") as image:
            np.testing.assert_array_equal(np.asarray(image), said.mask)
        with np.load(out / f"{stem}_probability.npz") as saved:
            np.testing.assert_array_equal(saved["probabilities"], said.probabilities)
    names = {path.name for path in out.iterdir()}
    assert {"annotations.json", "pixels.csv", "objects.csv"} < names
    assert not [name for name in names if name.endswith(".partial")]


def test_files_of_the_call_are_those_of_each_picture_in_order(photos: Path, tmp_path: Path) -> None:
    predictor().save(tmp_path / "out", photos, save=["coco", "statistics"])
    images = json.loads((tmp_path / "out/annotations.json").read_text())["images"]
    assert [image["file_name"] for image in images] == [path.name for path in sorted(photos.iterdir())]
    assert not list((tmp_path / "out").glob("*.png"))


@pytest.mark.slow
@pytest.mark.ci
def test_one_broken_file_of_a_thousand(tmp_path: Path) -> None:
    photos = write_photos(tmp_path / "photos", 1000, (8, 8))
    (photos / "0500.png").write_bytes((photos / "0500.png").read_bytes()[:60])
    results = Grey().save(tmp_path / "out", photos, save=["mask", "statistics"])
    (failed,) = [result for result in results if result.error]
    assert failed == results[500]
    assert "0500.png" in failed.error
    assert len(list((tmp_path / "out").glob("*.png"))) == 999
    assert len((tmp_path / "out/pixels.csv").read_text().splitlines()) == 1 + 2 * 999


def png_of(height: int, width: int) -> bytes:
    """A PNG that claims a size, with a single row of pixels in it."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    pixels = zlib.compress(b"\0" * 100)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (png_of(0, 0), r"bad\.png"),
        (png_of(0, 10), r"bad\.png"),
        (png_of(100_000, 100_000), r"bad\.png claims .*pixels.*; cut it into smaller pictures"),
        (b"", r"bad\.png"),
        (b"GIF89a", r"bad\.png"),
    ],
    ids=["0 x 0", "0 x 10", "100,000 x 100,000", "empty", "cut short"],
)
def test_a_picture_that_is_none_is_one_line_and_the_rest_is_done(
    photos: Path, tmp_path: Path, content: bytes, says: str
) -> None:
    (photos / "bad.png").write_bytes(content)
    results = predictor().save(tmp_path / "out", photos)
    (failed,) = [result for result in results if result.error]
    assert re.search(says, failed.error), failed.error
    assert "\n" not in failed.error
    assert "; " in failed.error
    assert len(list((tmp_path / "out").glob("*.png"))) == 6


def test_where_the_pictures_of_a_folder_may_lie(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "all").mkdir()
    photos.rename(tmp_path / "all/deeper")
    with pytest.raises(
        DataError, match=r"all holds no pictures; a glob reaches deeper: '.*all/\*\*/\*\.png'"
    ):
        Grey().save(tmp_path / "out", tmp_path / "all")


@pytest.mark.parametrize("where", ["a file", "below a file", "read-only"])
def test_a_folder_that_cannot_be_written_is_told_before_anything_is_predicted(
    photos: Path, tmp_path: Path, where: str
) -> None:
    out = tmp_path / "out"
    if where == "read-only":
        if os.geteuid() == 0:
            pytest.skip("root may write everywhere")
        out.mkdir(mode=0o500)
    else:
        out.write_text("mine")
        out = out if where == "a file" else out / "deeper"
    model = Grey()
    with pytest.raises(RunError, match=r"out.* cannot be written to: .*; choose another --out"):
        model.save(out, photos)
    assert model.asked == 0


def test_a_full_disk_ends_it_with_one_error_and_no_half_files(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, content: bytes) -> None:
        if path.name == "0003.png":
            raise RunError(f"{path} could not be written: No space left", "free some space")
        write_bytes(path, content)

    monkeypatch.setattr(save_module, "write_bytes", full)
    with pytest.raises(RunError, match="No space left"):
        predictor().save(tmp_path / "out", photos)
    assert not list((tmp_path / "out").glob(".*.partial"))
    monkeypatch.undo()
    assert predictor().save(tmp_path / "whole", photos)
    assert predictor().save(tmp_path / "out", photos)
    assert {**contents(tmp_path / "out"), NAME: b""} == {**contents(tmp_path / "whole"), NAME: b""}


def cut_short(out: Path, done: int, *, torn: bytes = b"") -> None:
    """What a kill leaves after `done` pictures: no more lines, files of the next, a partial file, no tables."""
    lines = (out / NAME).read_bytes().splitlines(keepends=True)
    head = [line for line in lines[:3] if b'"stamp"' not in line]
    (out / NAME).write_bytes(b"".join(lines[: len(head) + done]) + torn)
    for name in ("annotations.json", "pixels.csv", "objects.csv", "review/review.csv"):
        (out / name).unlink(missing_ok=True)
    stems = sorted({path.name[:4] for path in out.glob("00*.*")})
    for stem in stems[done + 1 :]:
        for path in out.glob(f"{stem}*"):
            path.unlink()
        for path in (out / "review").glob(f"*_{stem}.jpg"):
            path.unlink()
    (out / f".{stems[done]}.png.0123abcd.partial").write_bytes(b"half")


@pytest.mark.parametrize("done", [0, 1, 4, 6])
@pytest.mark.parametrize("torn", [b"", b'{"name":"0005.png","sta'])
def test_resumed_equals_uninterrupted(photos: Path, tmp_path: Path, done: int, torn: bytes) -> None:
    model, out = predictor(), tmp_path / "out"
    first = model.save(out, photos, save=ALL, review_below=1.0)
    expected = contents(out)
    shutil.copytree(out, tmp_path / "killed")
    cut_short(tmp_path / "killed", min(done, 5), torn=torn)
    again = model.save(tmp_path / "killed", photos, save=ALL, review_below=1.0)
    assert {**contents(tmp_path / "killed"), NAME: b""} == {**expected, NAME: b""}
    assert [result.expected_dice for result in again] == [result.expected_dice for result in first]
    assert [result.review and result.review.name for result in again] == [
        result.review and result.review.name for result in first
    ]


def test_only_what_is_missing_is_predicted(photos: Path, tmp_path: Path) -> None:
    def asked(change: Callable[[], object] = lambda: None, **options: object) -> int:
        change()
        model = Grey()
        results = model.save(tmp_path / "out", photos, **options)  # type: ignore[arg-type]
        assert not [result for result in results if result.error]
        return model.asked

    assert asked() == 6
    assert asked() == 0
    assert asked((tmp_path / "out/0002.png").unlink) == 1
    assert asked(lambda: shutil.copy(photos / "0001.png", photos / "0003.png")) == 1
    assert asked(lambda: shutil.copy(photos / "0001.png", photos / "more.png")) == 1
    assert asked(save=["overlay"]) == 7
    assert asked(save=["mask", "overlay"]) == 0
    assert asked(save=["statistics"]) == 7
    assert asked(review_below=0.9) == 7
    assert asked(save=["mask", "overlay", "coco"], review_below=0.9) == 0
    assert asked() == 0


def test_another_model_begins_anew(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    predictor(1).save(out, photos, save=ALL)
    predictor(2).save(out, photos, save=ALL)
    predictor(2).save(tmp_path / "alone", photos, save=ALL)
    assert {**contents(out), NAME: b""} == {**contents(tmp_path / "alone"), NAME: b""}


def test_who_answers_is_told_apart() -> None:
    one, other, twice = predictor(1), predictor(2), predictor(1, "flips")
    assert one.identity() == predictor(1).identity()
    both = Ensemble({"a": one, "b": other})
    calibrated = Predictor(
        one.spec.model_copy(update={"temperature": 2.0}), one.network, torch.device("cpu"), "none"
    )
    assert len({each.identity() for each in (one, other, twice, both, calibrated)}) == 5


def test_files_of_a_call_that_are_not_ours_are_left_alone(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "annotations.json").write_text("the truth")
    with pytest.raises(
        DataError, match=r"annotations\.json is there already, and was not predicted; choose another"
    ):
        predictor().save(out, photos, save=["coco"])
    assert [path.name for path in out.iterdir()] == ["annotations.json"]
    predictor().save(out, photos, save=["statistics"])


def test_a_mask_that_somebody_drew_is_not_replaced(tmp_path: Path) -> None:
    """Beside its photograph, where --out is the folder of the photographs."""
    photos = write_photos(tmp_path / "photos", 2)
    for name in ("0000", "0001"):
        write_jpeg(photos / f"{name}.png")
        (photos / f"{name}.png").write_bytes(f"drawn {name}".encode())
    with pytest.raises(DataError, match=r"0000\.png is there already \(and 1 more\), and was not predicted"):
        predictor().save(photos, f"{photos}/*.jpg")
    assert (photos / "0001.png").read_bytes() == b"drawn 0001"
    assert not (photos / NAME).exists()


def test_pictures_of_one_name_do_not_replace_each_other(tmp_path: Path) -> None:
    """Not even of one size and time; a picture that was moved takes its place."""
    model, days = Grey(), [tmp_path / "day1", tmp_path / "day2"]
    for day, shade in zip(days, (0, 255), strict=True):
        day.mkdir()
        Image.fromarray(np.full((6, 7), shade, np.uint8)).save(day / "x.bmp")
        os.utime(day / "x.bmp", ns=(1, 1))
    model.save(tmp_path / "out", days[0])
    with pytest.raises(DataError, match=r"holds what .*day1.x\.bmp gave; .*day2.x\.bmp would replace it"):
        model.save(tmp_path / "out", days[1])
    model.save(tmp_path / "out", days[1], save=["plain"])
    assert np.asarray(Image.open(tmp_path / "out/x_plain.png")).all()
    shutil.rmtree(days[0])
    model.save(tmp_path / "out", days[1])
    assert np.asarray(Image.open(tmp_path / "out/x.png")).all()
    assert model.asked == 3


@pytest.mark.parametrize("where", ["photos", "photos/out"])
def test_what_was_written_is_no_picture_of_the_next_call(where: str, tmp_path: Path) -> None:
    photos = write_photos(tmp_path / "photos", 2)
    for number in range(2):
        write_jpeg(photos / f"{number:04}.png")
        (photos / f"{number:04}.png").unlink()
    seen = []
    for _ in range(3):
        model = Grey()
        results = model.save(
            tmp_path / where, f"{photos}/**/*.*g", save=["mask", "overlay"], review_below=1.0
        )
        seen.append(
            [(saved.input.name, [path.name for path in saved.outputs], model.asked) for saved in results]
        )
    assert [name for name, _, _ in seen[0]] == ["0000.jpg", "0001.jpg"]
    assert seen[1] == seen[2] == [(name, made, 0) for name, made, _ in seen[0]]


def test_a_picture_is_noted_as_soon_as_it_is_written(photos: Path, tmp_path: Path) -> None:
    """Not only when the next one is done: that may be a raster, and take hours."""

    class Slow(Grey):
        def __call__(self, image: object) -> Prediction:
            if self.asked == 1:
                end = time.monotonic() + 60
                while not lines_of(tmp_path / "out" / NAME):
                    assert time.monotonic() < end, "it waits for the next one"
                    time.sleep(0.01)
                raise KeyboardInterrupt
            return super().__call__(image)

    with pytest.raises(KeyboardInterrupt):
        Slow().save(tmp_path / "out", photos)
    model = Grey()
    model.save(tmp_path / "out", photos)
    assert model.asked == 5


def test_a_picture_longer_than_a_jpeg_can_be(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((2, 70_000), np.uint8)).save(tmp_path / "scan.png")
    (saved,) = Grey().save(tmp_path / "out", tmp_path / "scan.png", save=["mask", "overlay"])
    assert saved.error == ""
    assert [image_size(path) for path in saved.outputs] == [(2, 70_000), (1, 35_000)]


def test_memory_that_runs_out_costs_one_picture(photos: Path, tmp_path: Path) -> None:
    class Small(Grey):
        def __call__(self, image: object) -> Prediction:
            if self.asked == 1:
                self.asked += 1
                raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 TB")
            return super().__call__(image)

    results = Small().save(tmp_path / "out", photos)
    assert [bool(saved.error) for saved in results] == [False, True, False, False, False, False]
    assert "0001.png needs more memory than there is; cut it with --tile" in results[1].error


def hungry() -> OnnxRuntime:
    """A graph that asks for H W 2^40 bytes, more than any address reaches."""
    from onnx import TensorProto, helper

    factor = helper.make_node("Constant", [], ["factor"], value_ints=[1, 1 << 20, 1 << 20, 1])
    nodes = [
        factor,
        helper.make_node("Shape", ["images"], ["shape"]),
        helper.make_node("Mul", ["shape", "factor"], ["large"]),
        helper.make_node("ConstantOfShape", ["large"], ["mask"]),
    ]
    images, mask = (
        helper.make_tensor_value_info(name, kind, ["N", "H", "W", "C"])
        for name, kind in (("images", TensorProto.UINT8), ("mask", TensorProto.FLOAT))
    )
    graph = helper.make_graph(nodes, "hungry", [images], [mask])
    opset = helper.make_opsetid("", 17)
    return OnnxRuntime.of_graph(helper.make_model(graph, opset_imports=[opset], ir_version=8), 1)


@pytest.mark.parametrize("where", ["picture", "answer"])
def test_memory_that_runs_out_in_an_exported_file_costs_one_picture(
    where: str, photos: Path, tmp_path: Path
) -> None:
    backend = hungry()

    class Small(Grey):
        def picture(self, image: object) -> Picture:
            if where == "picture" and str(image).endswith("0001.png"):
                raise MemoryError
            return super().picture(image)

        def __call__(self, image: object) -> Prediction:
            if where == "answer" and self.asked == 1:
                self.asked += 1
                backend(np.asarray(image)[None], ("mask",))
            return super().__call__(image)

    with pytest.raises(RunError, match="too little memory for pictures of 1 x 30 x 40 x 1 with the graph"):
        backend(np.zeros((1, 30, 40, 1), np.uint8), ("mask",))
    results = Small().save(tmp_path / "out", photos)
    assert [bool(saved.error) for saved in results] == [False, True, False, False, False, False]
    assert "0001.png needs more memory than there is; cut it with --tile" in results[1].error


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_a_name_that_is_not_utf_8(tmp_path: Path) -> None:
    folder = tmp_path / "old"
    folder.mkdir()
    Image.fromarray(np.full((5, 6), 200, np.uint8)).save(folder / "a.png")
    os.rename(folder / "a.png", os.fsencode(folder) + b"/caf\xe9.png")
    (saved,) = Grey().save(tmp_path / "out", folder, save=["mask", "statistics", "coco"], review_below=1.0)
    assert saved.error == ""
    assert "caf\\udce9.png,pet" in (tmp_path / "out/pixels.csv").read_text(encoding="utf-8")
    assert "caf\\udce9.png" in (tmp_path / "out/review/review.csv").read_text(encoding="utf-8")


def test_a_folder_of_an_earlier_version_is_gone_on_with(photos: Path, tmp_path: Path) -> None:
    """Its lines do not say where a picture lay, and called the files of the whole call otherwise."""
    out = tmp_path / "out"
    Grey().save(out, photos, save=["mask", "statistics"])
    whole = contents(out)
    lines = [json.loads(line) for line in (out / NAME).read_text().splitlines()]
    old = [
        {"whole": ["pixels.csv", "objects.csv"]}
        if "ours" in line
        else {name: value for name, value in line.items() if name != "source"}
        for line in lines
    ]
    (out / NAME).write_text("".join(f"{json.dumps(line)}\n" for line in old))
    model = Grey()
    model.save(out, photos, save=["mask", "statistics"])
    assert model.asked == 6
    assert {**contents(out), NAME: b""} == {**whole, NAME: b""}


def test_a_source_that_changed_leaves_no_stale_doubt_when_nobody_asks(photos: Path, tmp_path: Path) -> None:
    model, out = predictor(), tmp_path / "out"
    model.save(out, photos, review_below=1.0)
    shutil.copy(photos / "0001.png", photos / "0000.png")
    model.save(out, photos)
    results = model.save(out, photos, review_below=1.0)
    overlays = {path.name for path in (out / "review").glob("*.jpg")}
    assert overlays == {result.review.name for result in results if result.review}


def test_a_source_that_changed_leaves_no_stale_doubt(photos: Path, tmp_path: Path) -> None:
    model, out = predictor(), tmp_path / "out"
    model.save(out, photos, review_below=1.0)
    shutil.copy(photos / "0001.png", photos / "0000.png")
    results = model.save(out, photos, review_below=1.0)
    overlays = {path.name for path in (out / "review").glob("*.jpg")}
    assert overlays == {result.review.name for result in results if result.review}


def test_two_pictures_of_one_name_are_told_apart_in_tables(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        write_photos(tmp_path / folder, 1)
    with pytest.raises(DataError, match=r"would both be written to 0000\.png"):
        predictor().save(tmp_path / "out", tmp_path / "one", tmp_path / "two", save=["statistics"])


def test_two_processes_share_a_folder(photos: Path, tmp_path: Path) -> None:
    """Each adds lines while the other does; what either has done, a third need not do."""
    half = [sorted(photos.iterdir())[:3], sorted(photos.iterdir())[3:]]

    class Meanwhile(Grey):
        def __call__(self, image: object) -> Prediction:
            if self.asked == 1:
                Grey().save(tmp_path / "out", *half[1], save=["mask", "statistics"])
            return super().__call__(image)

    Meanwhile().save(tmp_path / "out", *half[0], save=["mask", "statistics"])
    model = Grey()
    model.save(tmp_path / "out", photos, save=["mask", "statistics"])
    assert model.asked == 0
    Grey().save(tmp_path / "whole", photos, save=["mask", "statistics"])
    assert {**contents(tmp_path / "out"), NAME: b""} == {**contents(tmp_path / "whole"), NAME: b""}


def test_entries_are_in_the_order_of_the_inputs(photos: Path, tmp_path: Path) -> None:
    """Done ones and new ones alike."""
    model = Grey()
    model.save(tmp_path / "out", photos / "0001.png", photos / "0004.png")
    results: list[Saved] = model.save(tmp_path / "out", photos)
    assert [result.input.name for result in results] == [f"{number:04}.png" for number in range(6)]
    assert model.asked == 6


WORKER = """
import sys
from pathlib import Path
from tests.predict.test_save import ALL, Grey

class Halting(Grey):
    def __call__(self, image):
        if self.asked == int(sys.argv[3]):
            print("half", flush=True)
            sys.stdin.read()
        return super().__call__(image)

Halting().save(Path(sys.argv[1]), Path(sys.argv[2]), save=ALL, review_below=0.95)
print("done", flush=True)
"""


def lines_of(journal: Path) -> int:
    """Pictures that are done."""
    return journal.read_bytes().count(b'"stamp"') if journal.exists() else 0


@pytest.mark.slow
@pytest.mark.ci
def test_killed_again_and_again_it_ends_with_the_same_files(tmp_path: Path) -> None:
    photos = write_photos(tmp_path / "photos", 120)
    Grey().save(tmp_path / "whole", photos, save=ALL, review_below=0.95)
    root = Path(__file__).resolve().parents[2]
    command = [sys.executable, "-c", WORKER, str(tmp_path / "out"), str(photos)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(root), *sys.path])}
    done, journal = 0, tmp_path / "out" / NAME
    for turn in (20, 21):
        with subprocess.Popen(
            [*command, str(turn)], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "half\n"
            process.send_signal(signal.SIGKILL)
        assert done + turn - UNWRITTEN <= lines_of(journal) <= done + turn, "a kill costs a few pictures"
        done = lines_of(journal)
    last = subprocess.run([*command, "-1"], env=environment, capture_output=True, text=True)
    assert last.stdout == "done\n", last.stderr
    assert {**contents(tmp_path / "out"), NAME: b""} == {**contents(tmp_path / "whole"), NAME: b""}


def test_ctrl_c_leaves_no_half_files(photos: Path, tmp_path: Path) -> None:
    class Stopped(Grey):
        def __call__(self, image: object) -> Prediction:
            if self.asked == 3:
                raise KeyboardInterrupt
            return super().__call__(image)

    with pytest.raises(KeyboardInterrupt):
        Stopped().save(tmp_path / "out", photos)
    assert not list((tmp_path / "out").glob(".*.partial"))
    for path in (tmp_path / "out").glob("*.png"):
        assert read_image(path, 1).shape == (30, 40, 1)
    Grey().save(tmp_path / "out", photos)
    Grey().save(tmp_path / "whole", photos)
    assert {**contents(tmp_path / "out"), NAME: b""} == {**contents(tmp_path / "whole"), NAME: b""}
