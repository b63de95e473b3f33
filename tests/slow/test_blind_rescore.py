"""Blind re-score: a script that knows nothing of ours arrives at our numbers from the files alone.

It gets the PNGs that `predict` wrote, the raw trimaps and our score files, and needs numpy and Pillow. Among the
pictures are all EXIF orientations, odd sizes, a line of pixels, a grey one, and masks without any pet.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
import yaml
from PIL import Image, ImageOps

from maskwright.config import InputConfig, ModelConfig
from maskwright.data.dataset import open_dataset
from maskwright.evaluation import evaluate
from maskwright.metrics.contract import DEFAULT, MetricContract
from maskwright.predict.model_folder import ModelSpec, build_from_spec, preprocess_from_spec, save_model
from maskwright.predict.predictor import Predictor

pytestmark = pytest.mark.slow

SCRIPT = """
import csv, json, sys
import numpy as np
from PIL import Image

data, predicted, scores, reading = sys.argv[1:]
reading = {int(raw): k for raw, k in json.loads(reading).items()}  # raw value of the trimap -> 0, 1, or 255: ignore
ids = [line.split()[0] for line in open(data + "/annotations/test.txt")]
expected, dices = {}, {}
for name in ids:
    raw = np.array(Image.open(data + "/annotations/trimaps/" + name + ".png"))
    said = np.array(Image.open(predicted + "/" + name + ".png"))
    assert raw.shape == said.shape, f"{name}: mask {said.shape}, trimap {raw.shape}"
    truth = np.full(raw.shape, 99)
    for value, k in reading.items():
        truth[raw == value] = k
    assert not (truth == 99).any() and set(np.unique(said)) <= {0, 1}
    for k in (0, 1):
        known = truth != 255
        tp = int(((said == k) & (truth == k) & known).sum())
        fp = int(((said == k) & (truth != k) & known).sum())
        fn = int(((said != k) & (truth == k) & known).sum())
        expected[name, k] = (tp, fp, fn)
        if k == 1 and tp + fp + fn:
            dices[name] = 2 * tp / (2 * tp + fp + fn)
rows = list(csv.DictReader(open(scores + "/per_image.csv", newline="")))
assert len(rows) == len(expected), f"{len(rows)} rows, expected {len(expected)}"
for row in rows:
    key = row["id"], int(row["class"])
    found = tuple(int(row[column]) for column in ("tp", "fp", "fn"))
    assert found == expected[key], f"{key}: per_image.csv has {found}, the files say {expected[key]}"
value = json.load(open(scores + "/scores.json"))["metrics"]["dice_image"]["value"]
mean = sum(dices.values()) / len(dices)
assert abs(value - mean) < 1e-12, f"dice_image is {value}, the files say {mean}"
assert not [module for module in sys.modules if module.split(".")[0] in ("maskwright", "torch")]
json.dump({"pictures": len(ids), "dice_image": mean, "dices": dices}, sys.stdout)
"""

SIZE = (48, 48)
UPRIGHT_TO_STORED = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
"""EXIF orientation -> how a camera lays the upright picture down."""

Readings = dict[int, Literal["background", "pet", "ignore"]]
BORDER_IS_PET: Readings = {1: "pet", 3: "pet", 2: "background"}
BORDER_IGNORED: Readings = {1: "pet", 2: "background", 3: "ignore"}
BORDER_ALONE: Readings = {3: "pet", 1: "background", 2: "background"}


def scene(
    random: np.random.Generator, size: tuple[int, int], *, pet: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """A picture (H W 3) with a bright ellipse in one corner, and its trimap: 1 pet, 2 background, 3 border."""
    height, width = size
    rows, columns = np.mgrid[:height, :width]
    centre = random.uniform(0.2, 0.4, 2) * size  # up and left: a turned picture is another picture
    radii = random.uniform(0.2, 0.35, 2) * size + 0.5
    distance = np.hypot((rows - centre[0]) / radii[0], (columns - centre[1]) / radii[1])
    trimap = np.select([distance < 0.8, distance < 1], [1, 3], 2).astype(np.uint8)
    if not pet:
        trimap[:] = 2
    inside = (trimap != 2)[..., None]
    colours = np.where(inside, random.uniform(150, 230, 3), random.uniform(20, 90, 3))
    picture = np.clip(colours + random.normal(0, 12, (height, width, 3)), 0, 255).astype(np.uint8)
    return picture, trimap


def write_data(root: Path, values: Readings) -> None:
    """Oxford-IIIT Pet in small: images/, annotations/trimaps/ and the two lists."""
    random = np.random.default_rng(7)
    (root / "images").mkdir(parents=True)
    (root / "annotations" / "trimaps").mkdir(parents=True)

    def write(name: str, picture: np.ndarray, trimap: np.ndarray, orientation: int = 1) -> None:
        image, path = Image.fromarray(picture), root / "images" / f"{name}.jpg"
        if orientation in UPRIGHT_TO_STORED:
            image = image.transpose(UPRIGHT_TO_STORED[orientation])
        exif = Image.Exif()
        exif[0x0112] = orientation
        image.save(path, quality=95, exif=exif)
        assert ImageOps.exif_transpose(Image.open(path)).size == trimap.shape[::-1]
        Image.fromarray(trimap).save(root / "annotations" / "trimaps" / f"{name}.png")

    for number in range(4):
        write(f"train_{number}", *scene(random, (40, 50)))
    for orientation in range(1, 9):
        write(f"turned_{orientation}", *scene(random, (61, 83)), orientation)
    for name, size in {"odd": (37, 53), "tall": (151, 20), "large": (200, 333), "line": (1, 29)}.items():
        write(name, *scene(random, size))
    picture, trimap = scene(random, (45, 64))
    write("grey", picture[..., 0], trimap)
    write("nothing", *scene(random, (40, 41), pet=False))
    write("false_alarm", picture, np.full_like(trimap, 2))
    names = sorted(path.stem for path in (root / "images").iterdir())
    for file, wanted in (("trainval", True), ("test", False)):
        lines = [f"{name} 1 1 1\n" for name in names if name.startswith("train") == wanted]
        (root / "annotations" / f"{file}.txt").write_text("".join(lines))
    (root / "dataset.yaml").write_text(yaml.safe_dump({"format": "oxford-pet", "values": values}))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small network that has learned to find bright ellipses."""
    spec = spec_for("resize")
    torch.manual_seed(0)
    network, preprocess = build_from_spec(spec).train(), preprocess_from_spec(spec)
    optimiser = torch.optim.Adam(network.parameters(), 1e-2)
    random = np.random.default_rng(0)
    for _ in range(80):
        drawn = [scene(random, SIZE) for _ in range(8)]
        images = torch.from_numpy(np.stack([picture for picture, _ in drawn])).permute(0, 3, 1, 2) / 255
        truth = torch.from_numpy(np.stack([trimap for _, trimap in drawn]) != 2).float()
        loss = torch.nn.functional.binary_cross_entropy_with_logits(network(preprocess(images))[:, 0], truth)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    folder = tmp_path_factory.mktemp("trained")
    save_model(folder, spec, network.state_dict())
    return folder


def spec_for(fit: Literal["resize", "letterbox", "crop"]) -> ModelSpec:
    return ModelSpec(
        model=ModelConfig(name="unet", width=8, depth=2),
        input=InputConfig(size=SIZE, fit=fit, normalise="symmetric", channels=3),
        classes=("background", "pet"),
        colours=((0, 0, 0), (230, 159, 0)),
        mean=(0.5, 0.5, 0.5),
        deviation=(0.25, 0.25, 0.25),
    )


def rescore(data: Path, predicted: Path, scores: Path, values: Readings) -> subprocess.CompletedProcess[str]:
    """Run the script on its own: isolated, in another folder, with nothing of ours to import."""
    code = {"background": 0, "pet": 1, "ignore": 255}
    reading = json.dumps({raw: code[name] for raw, name in values.items()})
    return subprocess.run(
        [sys.executable, "-I", "-c", SCRIPT, str(data), str(predicted), str(scores), reading],
        capture_output=True,
        text=True,
        cwd=predicted,
        check=False,
    )


def predict_and_evaluate(
    model: Path, root: Path, values: Readings, contract: MetricContract = DEFAULT
) -> tuple[Path, Path, Path]:
    """Data, predicted PNGs and score files, made as a user would make them."""
    data, predicted, scores = root / "data", root / "predicted", root / "scores"
    write_data(data, values)
    predictor = Predictor.load(model, device="cpu")
    saved = predictor.save(predicted, data / "images")
    assert not [entry.error for entry in saved if entry.error]
    evaluate(predictor, open_dataset(data), contract=contract).save(scores)
    return data, predicted, scores


@pytest.mark.parametrize(
    ("fit", "values"),
    [("resize", BORDER_IS_PET), ("letterbox", BORDER_IGNORED), ("crop", BORDER_ALONE)],
    ids=["resize, border is pet", "letterbox, border ignored", "crop, border alone"],
)
def test_a_script_that_knows_nothing_of_ours_arrives_at_our_numbers(
    trained: Path, tmp_path: Path, fit: Literal["resize", "letterbox", "crop"], values: Readings
) -> None:
    weights = Predictor.load(trained, device="cpu").network.state_dict()
    save_model(tmp_path / "model", spec_for(fit), weights)
    made = predict_and_evaluate(tmp_path / "model", tmp_path, values)
    done = rescore(*made, values)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["pictures"] == 15
    assert "false_alarm" in said["dices"]
    if values is BORDER_IS_PET:
        # Turned pictures are found as well as upright ones: nobody has looked at them lying on their side.
        turned = {name: dice for name, dice in said["dices"].items() if name.startswith("turned")}
        assert len(turned) == 8
        assert min(turned.values()) > 0.8, turned
        assert "nothing" not in said["dices"]
        assert said["dices"]["false_alarm"] == 0


def test_the_script_sees_a_single_wrong_pixel(trained: Path, tmp_path: Path) -> None:
    data, predicted, scores = predict_and_evaluate(trained, tmp_path, BORDER_IS_PET)
    mask = np.array(Image.open(predicted / "odd.png"))
    mask[5, 3] = 1 - mask[5, 3]
    Image.fromarray(mask).save(predicted / "odd.png")
    done = rescore(data, predicted, scores, BORDER_IS_PET)
    assert done.returncode == 1
    assert "('odd', 0): per_image.csv has" in done.stderr


def test_the_script_sees_scores_taken_at_the_network_s_size(trained: Path, tmp_path: Path) -> None:
    made = predict_and_evaluate(trained, tmp_path, BORDER_IS_PET, MetricContract(resolution=SIZE))
    done = rescore(*made, BORDER_IS_PET)
    assert done.returncode == 1
    assert "per_image.csv has" in done.stderr
