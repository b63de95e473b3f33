"""`run.py` beside an exported model: it decodes, decides and writes as maskwright does, and needs none of it."""

from __future__ import annotations

import ast
import importlib.util
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from PIL import Image

from maskwright.data.arrays import LARGEST
from maskwright.data.classes import ClassMap
from maskwright.data.image_io import ENDINGS, read_image, save_mask
from maskwright.errors import DataError, RunError
from maskwright.export.runner import write_runner
from maskwright.predict.encode import TAILS
from maskwright.predict.inputs import plan

onnx = pytest.importorskip("onnx", reason="needs the extra `serve`")
pytest.importorskip("onnxruntime", reason="needs the extra `serve`")

ROOT = Path(__file__).resolve().parents[2]
SPEC = {
    "classes": ["background", "bright", "brighter"],
    "colours": [[0, 0, 0], [230, 159, 0], [86, 180, 233]],
    "threshold": 0.5,
    "temperature": 1.25,
}
CLASSES = ClassMap(("background", "bright", "brighter"), ((0, 0, 0), (230, 159, 0), (86, 180, 233)), {})


def runner_module(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("run", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def write_stand_in(path: Path, channels: int = 3) -> None:
    """A model with the ports of ours: class 1 where the mean over the channels is above 85, class 2 above 170.

    `probabilities` are thirds of that mean / 255.
    """
    from onnx import TensorProto, helper, numpy_helper

    def constant(name: str, value: Any, kind: type) -> Any:
        return numpy_helper.from_array(np.array(value, kind), name)

    node = helper.make_node
    nodes = [
        node("Cast", ["images"], ["floats"], to=TensorProto.FLOAT),
        node("ReduceMean", ["floats", "last"], ["grey"], keepdims=0),
        node("Greater", ["grey", "low"], ["bright"]),
        node("Greater", ["grey", "high"], ["brighter"]),
        node("Cast", ["bright"], ["one"], to=TensorProto.UINT8),
        node("Cast", ["brighter"], ["two"], to=TensorProto.UINT8),
        node("Add", ["one", "two"], ["mask"]),
        node("Unsqueeze", ["grey", "first"], ["plane"]),
        node("Concat", ["plane", "plane", "plane"], ["logits"], axis=1),
        node("Div", ["logits", "top"], ["probabilities"]),
        node("Identity", ["probabilities"], ["calibrated"]),
    ]
    constants = [
        constant("last", [3], np.int64),
        constant("first", [1], np.int64),
        constant("low", 85, np.float32),
        constant("high", 170, np.float32),
        constant("top", 765, np.float32),
    ]
    planes = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 3, "H", "W"]) for name in FLOATS]
    graph = helper.make_graph(
        nodes,
        "stand-in",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, ["N", "H", "W", channels])],
        [helper.make_tensor_value_info("mask", TensorProto.UINT8, ["N", "H", "W"]), *planes],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    helper.set_model_props(
        model, {"maskwright": json.dumps({"format": 1, "spec": SPEC, "precision": "fp32"})}
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, path)


FLOATS = ("probabilities", "calibrated", "logits")


@pytest.fixture(scope="module")
def runner(tmp_path_factory: pytest.TempPathFactory) -> ModuleType:
    return runner_module(write_runner(tmp_path_factory.mktemp("runner") / "model.onnx"))


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with model.onnx and run.py, far away from any maskwright."""
    folder = tmp_path_factory.mktemp("exported")
    write_stand_in(folder / "model.onnx")
    write_runner(folder / "model.onnx")
    return folder


def run(
    exported: Path, *words: str | Path, python: str | Path = sys.executable
) -> subprocess.CompletedProcess[str]:
    """`python run.py ...`, isolated from the packages' environment variables and the folder it is called from."""
    command = [str(python), "-I", str(exported / "run.py"), *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def pixels(*shape: int) -> np.ndarray:
    """Noise on a slope, so that neither a turn nor a lost channel goes unseen; JPEG cannot flatten it."""
    generator = np.random.default_rng(len(shape))
    slope = np.linspace(0, 160, shape[1])[None, :, None] if len(shape) == 3 else np.linspace(0, 160, shape[1])
    made: np.ndarray = (slope + generator.integers(0, 95, shape)).astype(np.uint8)
    return made


def zoo(folder: Path) -> list[Path]:
    """Pictures of every kind that `read_image` knows, as other programs write them."""
    grey, colour, both = pixels(21, 34), pixels(21, 34, 3), pixels(21, 34, 4)
    deep = (grey.astype(np.uint16) << 8) + 77
    made: list[tuple[str, Image.Image, dict[str, Any]]] = [
        ("l.png", Image.fromarray(grey), {}),
        ("la.png", Image.fromarray(np.stack([grey, 255 - grey], axis=2)), {}),
        ("rgb.png", Image.fromarray(colour), {}),
        ("rgb-key.png", Image.fromarray(colour), {"transparency": (1, 2, 3)}),
        ("rgba.png", Image.fromarray(both), {}),
        ("rgba.webp", Image.fromarray(both), {"lossless": True}),
        ("lossy.webp", Image.fromarray(colour), {"quality": 70}),
        ("p.png", Image.fromarray(colour).quantize(16), {}),
        ("p-clear.png", Image.fromarray(colour).quantize(16), {"transparency": 3}),
        ("p-alphas.png", Image.fromarray(colour).quantize(8), {"transparency": bytes(range(0, 256, 32))}),
        ("p.gif", Image.fromarray(colour).quantize(16), {}),
        ("p-clear.gif", Image.fromarray(colour).quantize(16), {"transparency": 5}),
        ("one.png", Image.fromarray(grey > 128), {}),
        ("one.tif", Image.fromarray(grey > 128), {"compression": "group4"}),
        ("deep.png", Image.fromarray(deep), {}),
        ("deep.tif", Image.fromarray(deep), {}),
        ("deep.pgm", Image.fromarray(deep), {}),
        ("deeper.tif", Image.fromarray(deep.astype(np.int32)), {}),
        ("l.jpg", Image.fromarray(grey), {"quality": 80}),
        ("rgb.jpg", Image.fromarray(colour), {"quality": 80}),
        ("cmyk.jpg", Image.fromarray(colour).convert("CMYK"), {"quality": 90}),
        ("cmyk.tif", Image.fromarray(colour).convert("CMYK"), {}),
        ("ycbcr.tif", Image.fromarray(colour).convert("YCbCr"), {}),
        ("lab.tif", Image.fromarray(colour).convert("LAB"), {}),
        ("rgba.tif", Image.fromarray(both), {"compression": "tiff_lzw"}),
        ("p.tif", Image.fromarray(colour).quantize(16), {}),
        ("p.bmp", Image.fromarray(colour).quantize(16), {}),
        ("rgb.ppm", Image.fromarray(colour), {}),
        ("rgb.jp2", Image.fromarray(colour), {}),
    ]
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        for ending in ("jpg", "png", "webp", "tif"):
            made.append((f"turn{orientation}.{ending}", Image.fromarray(colour), {"exif": exif}))
    for name, image, options in made:
        image.save(folder / name, **options)
    return [folder / name for name, _, _ in made]


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_pictures_are_decoded_as_maskwright_decodes_them(
    channels: int, runner: ModuleType, tmp_path: Path
) -> None:
    paths = zoo(tmp_path)
    modes = set()
    for path in paths:
        ours, theirs = read_image(path, channels), runner.read(path, channels)
        assert theirs.dtype == np.uint8, path
        np.testing.assert_array_equal(theirs, ours, err_msg=path.name)
        with Image.open(path) as image:
            modes.add(image.mode)
    assert {"1", "L", "LA", "P", "RGB", "RGBA", "I;16", "I", "CMYK", "LAB"} <= modes
    upright = {runner.read(tmp_path / f"turn{orientation}.png", 3).tobytes() for orientation in range(1, 9)}
    assert len(upright) == 8


@pytest.mark.parametrize("mode", ["La", "PA", "RGBa", "HSV", "I;16B", "F"])
def test_modes_that_no_file_here_has(mode: str, runner: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    via = {"La": "LA", "PA": "P", "RGBa": "RGBA", "I;16B": "I;16", "F": "L"}.get(mode, "RGB")
    picture = (
        Image.fromarray(pixels(5, 6, 4)).convert("L" if via == "I;16" else via).convert(via).convert(mode)
    )

    def opened(*_: object, **__: object) -> Image.Image:
        return picture.copy()

    monkeypatch.setattr(Image, "open", opened)
    for channels in (1, 3, 4):
        if mode == "F":
            with pytest.raises(ValueError, match="8 or 16 bits"):
                runner.read(Path(__file__), channels)
            with pytest.raises(DataError, match="8 or 16 bits"):
                read_image(Path(__file__), channels)
        else:
            ours = read_image(Path(__file__), channels)
            np.testing.assert_array_equal(runner.read(Path(__file__), channels), ours)


def test_it_is_short_needs_three_packages_and_knows_what_maskwright_knows(runner: ModuleType) -> None:
    text = Path(str(runner.__file__)).read_text(encoding="utf-8")
    assert len(text.splitlines()) < 150
    tops = {
        name.partition(".")[0]
        for node in ast.walk(ast.parse(text))
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    assert tops - set(sys.stdlib_module_names) == {"numpy", "onnxruntime", "PIL"}
    assert (runner.ENDINGS, runner.LARGEST) == (ENDINGS, LARGEST)
    assert {kind: TAILS[kind] for kind in runner.TAILS} == runner.TAILS


def check_all_of_it(exported: Path, folder: Path, python: str | Path) -> None:
    """Masks of the zoo by `run.py` equal those that maskwright writes for the same class ids, to the byte."""
    photos, out = folder / "photos", folder / "masks"
    photos.mkdir()
    paths = [path.rename(path.with_name(f"{path.suffix[1:]}-{path.name}")) for path in zoo(photos)]
    (photos / "broken.jpg").write_bytes(paths[0].read_bytes()[:80])
    (photos / "notes.txt").write_text("no picture")
    done = run(exported, photos, "--out", out, "--save", "mask,overlay,probability", python=python)
    assert done.returncode == 1, done.stderr
    first, *rest = done.stdout.splitlines()
    assert first == f"{len(paths)} of {len(paths) + 1} pictures done, in {out}"
    assert [line.partition(": ")[2].partition(":")[0] for line in rest] == [str(photos / "broken.jpg")]
    assert len(list(out.iterdir())) == 3 * len(paths)
    for path in paths:
        picture = read_image(path, 3)
        grey = picture.astype(np.float64).mean(axis=2)
        mask = ((grey > 85).astype(np.uint8) + (grey > 170)).astype(np.uint8)
        save_mask(folder / "expected.png", mask, CLASSES)
        written = out / f"{path.stem}.png"
        with Image.open(written) as ours, Image.open(folder / "expected.png") as theirs:
            assert (ours.mode, ours.getpalette()) == (theirs.mode, theirs.getpalette())
            np.testing.assert_array_equal(np.array(ours), np.array(theirs), err_msg=path.name)
        if python == sys.executable:  # another Pillow may pack the same pixels another way
            assert written.read_bytes() == (folder / "expected.png").read_bytes()
        with np.load(out / f"{path.stem}_probability.npz") as found:
            np.testing.assert_allclose(found["probabilities"][0], grey / 765, atol=1e-6)
            assert (found["classes"].tolist(), float(found["temperature"])) == (SPEC["classes"], 1.25)
        with Image.open(out / f"{path.stem}_overlay.jpg") as drawn:
            assert drawn.size == (picture.shape[1], picture.shape[0])


def test_an_overlay_is_055_picture_and_045_colour(exported: Path, tmp_path: Path) -> None:
    halves = np.repeat([40, 100], 32).astype(np.uint8)[None].repeat(64, axis=0)
    Image.fromarray(halves).save(tmp_path / "a.png")
    done = run(
        exported, tmp_path / "a.png", "--out", tmp_path / "masks", "--save", "overlay", "--threads", "1"
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert [path.name for path in (tmp_path / "masks").iterdir()] == ["a_overlay.jpg"]
    with Image.open(tmp_path / "masks" / "a_overlay.jpg") as drawn:
        found = np.asarray(drawn).astype(int)
    np.testing.assert_allclose(found[32, 8], [40, 40, 40], atol=2)  # class 0 is black: left alone
    np.testing.assert_allclose(found[32, 56], [55 + 103.5, 55 + 71.55, 55], atol=2)  # class 1: 230, 159, 0


def test_it_makes_the_masks_and_lists_what_is_broken(exported: Path, tmp_path: Path) -> None:
    check_all_of_it(exported, tmp_path, sys.executable)


def find_uv() -> str | None:
    """As the Makefile does: the one on the PATH, or that in .uv/."""
    return shutil.which("uv") or shutil.which(str(ROOT / ".uv" / "bin" / "uv"))


@pytest.mark.slow
@pytest.mark.ci
def test_numpy_pillow_and_onnxruntime_are_enough(exported: Path, tmp_path: Path) -> None:
    uv = find_uv()
    if uv is None:
        pytest.skip("there is no uv to make a bare environment with")
    python = tmp_path / "bare" / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    commands = (
        ["venv", "--quiet", "--python", sys.executable, str(tmp_path / "bare")],
        f"pip install --quiet --python {python} -c {ROOT / 'constraints.txt'} numpy pillow onnxruntime".split(),
    )
    for command in commands:
        made = subprocess.run([uv, *command], capture_output=True, text=True, check=False)
        if made.returncode:
            pytest.skip(f"a bare environment could not be made: {made.stderr.strip().splitlines()[-1]}")
    listed = subprocess.run(
        [str(python), "-I", "-c", "import maskwright"], capture_output=True, text=True, check=False
    )
    assert "No module named 'maskwright'" in listed.stderr
    check_all_of_it(exported, tmp_path, python)


@pytest.mark.slow
def test_an_exported_network_gives_the_bytes_that_predict_writes(tmp_path: Path) -> None:
    import torch

    from maskwright.config import InputConfig, ModelConfig
    from maskwright.export.graph import save_onnx, to_onnx, trace
    from maskwright.export.whole import Whole
    from maskwright.predict.model_folder import ModelSpec, build_from_spec
    from maskwright.predict.passport import Passport
    from maskwright.predict.predictor import Predictor

    spec = ModelSpec(
        model=ModelConfig(name="unet", width=4, depth=2),
        input=InputConfig(size=(32, 48), channels=3),
        mean=(0.4, 0.5, 0.6),
        deviation=(0.2, 0.2, 0.3),
        classes=CLASSES.names,
        colours=CLASSES.colours,
    )
    torch.manual_seed(0)
    predictor = Predictor(spec, build_from_spec(spec), torch.device("cpu"))
    graph = to_onnx(trace(Whole(spec, predictor.network, predictor.tta).eval()))
    save_onnx(graph, Passport(run="zoo", spec=spec), tmp_path / "model.onnx")
    write_runner(tmp_path / "model.onnx")
    (tmp_path / "photos").mkdir()
    paths = [
        path.rename(path.with_name(f"{path.suffix[1:]}-{path.name}")) for path in zoo(tmp_path / "photos")
    ]
    done = run(tmp_path, tmp_path / "photos", "--out", tmp_path / "theirs", "--threads", "1")
    assert (done.returncode, done.stderr) == (0, "")
    predictor.save(tmp_path / "ours", *paths)
    ours = {path.name: path.read_bytes() for path in (tmp_path / "ours").glob("[!.]*")}
    theirs = {path.name: path.read_bytes() for path in (tmp_path / "theirs").glob("[!.]*")}
    assert len(ours) == len(paths)
    flipped = [name for name in ours if ours[name] != theirs[name]]
    assert len(flipped) <= 1  # a pixel on the edge between two classes may fall to the other side


def test_files_are_named_as_predict_names_them(runner: ModuleType, tmp_path: Path) -> None:
    for name in ("a.png", "b.JPG", ".hidden.png", "notes.txt"):
        (tmp_path / name).write_bytes(b"")
    given, kinds = [str(tmp_path), str(tmp_path / "a.png")], ["mask", "overlay", "probability"]
    ours = plan(tmp_path / "out", given, kinds)  # type: ignore[arg-type]
    theirs = runner.plan(given, tmp_path / "out", kinds)
    assert list(theirs.items()) == [(job.source, job.targets) for job in ours]


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (lambda here: [here / "a.png", "--out", here], "a.png is an input, or would be written twice"),
        (lambda here: [here / "a.png", here / "sub/A.jpg", "--out", here / "m"], "written twice"),
        (lambda here: [here / "empty", "--out", here / "m"], "empty holds no pictures"),
        (
            lambda here: [here / "a.png", "--out", here / "m", "--save", "masks"],
            "--save masks: choose from mask,",
        ),
        (lambda here: [here / "a.png", "--out", here / "m", "--model", "no.onnx"], "no.onnx"),
        (
            lambda here: [here / "a.png", "--out", here / "m", "--model", here / "other.onnx"],
            "other.onnx was not exported by maskwright",
        ),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(
    words: Callable[[Path], list[str | Path]], line: str, exported: Path, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "sub").mkdir()
    Image.fromarray(pixels(9, 12, 3)).save(tmp_path / "a.png")
    Image.fromarray(pixels(9, 12, 3)).save(tmp_path / "sub" / "A.jpg")
    other = onnx.load(exported / "model.onnx")
    del other.metadata_props[:]
    onnx.save(other, tmp_path / "other.onnx")
    before = (tmp_path / "a.png").read_bytes()
    done = run(exported, *words(tmp_path))
    assert (done.returncode, done.stdout) == (2, "")
    assert line in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert (tmp_path / "a.png").read_bytes() == before
    assert not (tmp_path / "m").exists()


def test_a_picture_that_is_not_there_is_listed_and_the_rest_is_done(exported: Path, tmp_path: Path) -> None:
    Image.fromarray(pixels(9, 12, 3)).save(tmp_path / "a.png")
    done = run(exported, tmp_path / "gone.png", tmp_path / "a.png", "--out", tmp_path / "masks")
    assert done.returncode == 1
    assert done.stdout.splitlines()[0].startswith("1 of 2 pictures done")
    assert done.stdout.splitlines()[1].startswith(f"failed: {tmp_path / 'gone.png'}: ")


def test_files_that_are_there_stay(exported: Path, tmp_path: Path) -> None:
    for name in ("a.jpg", "b.jpg"):
        Image.fromarray(pixels(9, 12, 3)).save(tmp_path / name)
    (tmp_path / "a.png").write_bytes(b"drawn by hand")
    words = (tmp_path / "a.jpg", tmp_path / "b.jpg", "--out", tmp_path, "--save", "mask,overlay,probability")
    for _ in range(2):
        done = run(exported, *words)
        assert done.returncode == 1
        assert done.stdout.splitlines() == [
            f"1 of 2 pictures done, in {tmp_path}",
            f"failed: {tmp_path / 'a.jpg'}: {tmp_path / 'a.png'} is there and says otherwise: choose another --out",
        ]
        assert (tmp_path / "a.png").read_bytes() == b"drawn by hand"
    (tmp_path / "a.png").unlink()
    assert [run(exported, *words).returncode for _ in range(2)] == [0, 0], "the same files once more"
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        [f"{stem}{tail}" for stem in "ab" for tail in (".jpg", ".png", "_overlay.jpg", "_probability.npz")]
    )


def test_a_picture_that_predict_would_cut_is_told(exported: Path, tmp_path: Path) -> None:
    model = onnx.load(exported / "model.onnx")
    for tiles in (True, False):
        spec = SPEC | {"seen": {"size": [20, 20], "tiles": tiles}}
        onnx.helper.set_model_props(model, {"maskwright": json.dumps({"format": 1, "spec": spec})})
        onnx.save(model, tmp_path / "model.onnx")
        for size in ((20, 20), (9, 21)):
            Image.fromarray(pixels(*size, 3)).save(tmp_path / "a.png")
            out = tmp_path / f"masks-{tiles}-{size[0]}"
            done = run(exported, tmp_path / "a.png", "--out", out, "--model", tmp_path / "model.onnx")
            note = f"note: {tmp_path / 'a.png'} was looked at whole; maskwright predict cuts it\n"
            assert (done.returncode, done.stderr) == (0, note if tiles and size[1] > 20 else "")


def test_of_a_stack_the_first_page_is_taken_and_the_others_are_told(exported: Path, tmp_path: Path) -> None:
    first, *others = (Image.fromarray(pixels(9, 12, 3)) for _ in range(3))
    first.save(tmp_path / "one.png")
    first.save(tmp_path / "stack.tif", save_all=True, append_images=others)
    done = run(exported, tmp_path / "one.png", tmp_path / "stack.tif", "--out", tmp_path / "masks")
    note = f"note: of {tmp_path / 'stack.tif'} the first page; maskwright predict takes all\n"
    assert (done.returncode, done.stderr) == (0, note)
    one, stack = ((tmp_path / f"masks/{name}.png").read_bytes() for name in ("one", "stack"))
    assert one == stack


def test_two_models_beside_it_ask_which(exported: Path, tmp_path: Path) -> None:
    for name in ("one.onnx", "two.onnx"):
        shutil.copy(exported / "model.onnx", tmp_path / name)
    write_runner(tmp_path / "one.onnx")
    Image.fromarray(pixels(9, 12, 3)).save(tmp_path / "a.png")
    words = (tmp_path / "a.png", "--out", tmp_path / "masks")
    done = run(tmp_path, *words)
    assert done.returncode == 2
    assert "2 .onnx files lie beside run.py: say which with --model" in done.stderr
    assert run(tmp_path, *words, "--model", tmp_path / "two.onnx").returncode == 0


def test_it_replaces_itself_and_nothing_else(tmp_path: Path) -> None:
    written = write_runner(tmp_path / "model.onnx")
    assert written == tmp_path / "run.py"
    text = written.read_text(encoding="utf-8")
    written.write_text(text + "# an older version\n", encoding="utf-8")
    assert write_runner(tmp_path / "model.onnx").read_text(encoding="utf-8") == text
    for foreign in (b"print('mine')\n", b"\xff\xfe\x00"):
        written.write_bytes(foreign)
        with pytest.raises(RunError, match=r"run\.py was not written by maskwright"):
            write_runner(tmp_path / "model.onnx")
        assert written.read_bytes() == foreign
    assert [path.name for path in tmp_path.iterdir()] == ["run.py"]


def test_planes_of_sixteen_bits_are_refused(runner: ModuleType, tmp_path: Path) -> None:
    """Pillow would misread them without a word."""
    tifffile = pytest.importorskip("tifffile")
    planes = np.full((3, 6, 8), 300, np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", planes, photometric="rgb", planarconfig="separate")
    with pytest.raises(ValueError, match="interleaved"):
        runner.read(tmp_path / "a.tif", 3)
