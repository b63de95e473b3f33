"""Ensembles against the mean of their members' own answers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from maskwright.config import InputConfig, ModelConfig
from maskwright.data.image_io import read_image
from maskwright.errors import ConfigError, RunError
from maskwright.predict.ensemble import Ensemble, load_predictor, split_names
from maskwright.predict.model_folder import ModelSpec, build_from_spec, save_model
from maskwright.predict.predictor import Predictor


class Filter(nn.Module):
    """A 3x3 convolution drawn from a seed."""

    def __init__(self, channels: int, classes: int, seed: int) -> None:
        super().__init__()
        self.layer = nn.Conv2d(channels, classes, 3, padding=1)
        nn.init.normal_(self.layer.weight, generator=torch.Generator().manual_seed(seed))
        nn.init.zeros_(self.layer.bias)  # type: ignore[arg-type]

    def forward(self, images: Tensor) -> Tensor:
        return self.layer(images)  # type: ignore[no-any-return]


def spec(
    classes: tuple[str, ...] = ("ground", "cat", "dog"),
    channels: int = 3,
    size: tuple[int, int] = (12, 16),
    threshold: float = 0.5,
) -> ModelSpec:
    return ModelSpec(
        model=ModelConfig(name="unet", width=4, depth=1),
        input=InputConfig(size=size, channels=channels),  # type: ignore[arg-type]
        classes=classes,
        colours=((0, 0, 0), (255, 0, 0), (0, 0, 255))[: len(classes)],
        mean=(0.5,) * channels,
        deviation=(0.2,) * channels,
        threshold=threshold,
    )


def member(seed: int, said: ModelSpec | None = None) -> Predictor:
    said = said or spec()
    return Predictor(said, Filter(said.channels, len(said.classes), seed), torch.device("cpu"))


def photo(height: int = 18, width: int = 22, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, channels), dtype=np.uint8)


def test_the_answer_is_the_mean_and_each_member_keeps_its_own_input_side() -> None:
    a, b = member(1), member(2, spec(channels=1, size=(9, 9)))
    both = Ensemble({"a": a, "b": b})
    answer = both(photo())
    expected = (a(photo()).probabilities + b(photo()).probabilities) / 2
    np.testing.assert_array_equal(answer.probabilities, expected)
    np.testing.assert_array_equal(answer.mask, expected.argmax(0))
    assert (str(answer.probabilities.dtype), str(answer.mask.dtype)) == ("float32", "uint8")
    assert not np.array_equal(answer.mask, a(photo()).mask)
    assert (both.channels, both.classes.names) == (3, a.classes.names)


def test_the_order_and_a_twin_change_nothing() -> None:
    a, b = member(1), member(2)
    one, other = Ensemble({"a": a, "b": b})(photo()), Ensemble({"b": b, "a": a})(photo())
    np.testing.assert_array_equal(one.probabilities, other.probabilities)
    twins = Ensemble({"a": a, "again": member(1)})(photo())
    np.testing.assert_array_equal(twins.probabilities, a(photo()).probabilities)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_members_see_what_they_would_see_alone(channels: int, tmp_path: Path) -> None:
    """Whatever the file holds, a grey member beside a wider one gets the grey picture that the file gives."""
    picture = photo(channels=channels)
    Image.fromarray(picture[..., 0] if channels == 1 else picture).save(tmp_path / "photo.png")
    members = {str(count): member(count, spec(channels=count)) for count in (1, 3, 4)}
    answer = Ensemble(members)(tmp_path / "photo.png").probabilities
    alone = [one(tmp_path / "photo.png").probabilities for one in members.values()]
    np.testing.assert_array_equal(answer, (alone[0] + alone[1] + alone[2]) / np.float32(3))


def test_two_classes_are_cut_at_the_mean_threshold() -> None:
    pets = ("ground", "pet")
    a, b = member(1, spec(pets, threshold=0.2)), member(2, spec(pets, threshold=0.6))
    answer = Ensemble({"a": a, "b": b})(photo())
    np.testing.assert_array_equal(answer.mask, answer.probabilities[1] > 0.4)
    assert (answer.mask != (answer.probabilities[1] > 0.5)).any()


def test_other_classes_are_refused_and_both_are_named() -> None:
    with pytest.raises(
        RunError, match="a knows the classes ground, cat, dog and b ground, dog, cat"
    ) as caught:
        Ensemble({"a": member(1), "b": member(2, spec(("ground", "dog", "cat")))})
    assert caught.value.hint


def save_random(folder: Path, said: ModelSpec) -> Path:
    save_model(folder, said, build_from_spec(said).state_dict())
    return folder


def test_runs_are_loaded_by_their_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b", "c+d"):
        save_random(tmp_path / "runs" / name / "model", spec())
    for names in ("a", "runs/a/model", "c+d", "runs/c+d", "runs/c+d/model"):
        assert isinstance(load_predictor(names, "cpu"), Predictor)
    both = load_predictor("a+runs/b", "cpu", "flips")
    assert isinstance(both, Ensemble)
    assert [len(one.views) for one in both.members] == [2, 2]
    alone = [Predictor.load(name, "cpu", "flips")(photo()).probabilities for name in "ab"]
    np.testing.assert_array_equal(both(photo()).probabilities, (alone[0] + alone[1]) / 2)
    with pytest.raises(RunError, match="there is no run or model 'nobody'"):
        load_predictor("a+nobody", "cpu")
    with pytest.raises(ConfigError, match="flop"):
        load_predictor("a+b", "cpu", "flop")


@pytest.mark.parametrize("names", ["a+", "+a", "a++b", "+", "a+a", "a+b+a"])
def test_names_that_are_left_out_or_said_twice(names: str) -> None:
    with pytest.raises(RunError, match="write RUN1"):
        split_names(names)


def test_saved_masks_are_those_of_the_call(tmp_path: Path) -> None:
    both = Ensemble({"a": member(1), "b": member(2)})
    Image.fromarray(photo()).save(tmp_path / "one.png")
    (saved,) = both.save(tmp_path / "out", tmp_path / "one.png", save=("mask", "probability"))
    assert [path.name for path in saved.outputs] == ["one.png", "one_probability.npz"]
    answer = both(photo())
    with Image.open(tmp_path / "out" / "one.png") as mask:
        np.testing.assert_array_equal(np.asarray(mask), answer.mask)
    with np.load(tmp_path / "out" / "one_probability.npz") as content:
        np.testing.assert_array_equal(content["probabilities"], answer.probabilities)
    assert read_image(tmp_path / "one.png", 3).shape == (18, 22, 3)
