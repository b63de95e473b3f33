"""From what was counted to scores: means of contours and objects, by hand and by a plain loop."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maskwright.errors import RunError
from maskwright.metrics.contract import MetricContract
from maskwright.metrics.measures import SURFACE_METRICS, Tallies, features, image_values, measure, total
from maskwright.metrics.objects import ObjectScore
from maskwright.metrics.scores import Scores, merge, scores

NAMES = ("background", "soil", "rock")


def everything(seed: int, images: int, classes: int = 3) -> Tallies:
    """Numbers that need not fit together, but are undefined where they would be."""
    random = np.random.default_rng(seed)
    there = random.random((images, classes)) < 0.7
    counts = random.integers(0, 50, (images, classes, 4)) * there[:, :, None]
    surface = random.integers(1, 50, (images, classes, 5)) * there[:, :, None]
    surface[..., 4] = surface[..., 3] + random.integers(0, 9, (images, classes)) * there
    distance = np.where(there[..., None], random.exponential(5, (images, classes, 2)), math.nan)
    objects = random.integers(0, 4, (images, 3, 5)).astype(np.float64)
    objects[..., 1:4] = objects[..., :1] * random.random((images, 3, 3))
    fn, fp, on_background = (
        random.integers(0, counts[:, None, :, column] + 1, (images, 5, classes)) for column in (2, 1, 3)
    )
    after = counts[:, None] + np.stack([fn, -fp, -fn, -on_background], axis=-1)
    return Tallies(
        counts,
        surface_NK5=surface,
        distance_NK2=distance,
        objects_NS5=objects,
        anatomy_NEK4=after.astype(np.int32),
        facts_NF=random.random((images, 5)),
        brier_N=random.random(images),
        quality_N=np.where(random.random(images) < 0.5, random.random(images), math.nan),
    )


@settings(max_examples=40)
@given(st.integers(0, 2**32 - 1), st.integers(1, 8), st.data())
def test_contours_are_averaged_as_dice_image_is(seed: int, images: int, data: st.DataObject) -> None:
    policy = st.sampled_from(["skip", "zero", "one"])
    absent, empty = data.draw(policy), data.draw(policy)
    foreground = sorted(data.draw(st.sets(st.integers(0, 2), min_size=1)))
    contract = MetricContract.model_validate({"absent": absent, "empty": empty, "foreground": foreground})
    tallies = everything(seed, images)
    assert tallies.surface_NK5 is not None
    assert tallies.distance_NK2 is not None
    stand_in = {"skip": [], "zero": [0.0], "one": [1.0]}
    found = measure(total(features(tallies, contract)), contract).values
    for name in SURFACE_METRICS:
        of_images = []
        for image in range(images):
            values = []
            for k in foreground:
                tp, fp, fn, near, surface = tallies.surface_NK5[image, k].tolist()
                ratio = {"boundary_iou": (tp, tp + fp + fn), "nsd": (near, surface)}.get(name)
                if not tallies.counts_NK4[image, k, :3].any():
                    values += [] if ratio is None else stand_in[absent]
                elif ratio is None:
                    values.append(tallies.distance_NK2[image, k, ("hd95", "assd").index(name)])
                else:
                    values.append(ratio[0] / ratio[1])
            if not tallies.counts_NK4[image, foreground, :3].any():
                values = stand_in[empty] if name in ("boundary_iou", "nsd") else []
            of_images += [np.mean(values)] if values else []
        expected = np.mean(of_images) if of_images else math.nan
        assert found[name][0] == pytest.approx(expected, nan_ok=True)


def test_a_class_whose_contour_is_not_known_is_left_out_whatever_absent_says() -> None:
    counts = np.array([[[9, 0, 0, 0], [4, 0, 0, 0], [4, 1, 0, 0]]])
    surface = np.array([[[9, 0, 0, 9, 9], [0, 0, 0, 0, 0], [3, 1, 0, 6, 8]]])
    distance = np.array([[[0, 0], [math.nan, math.nan], [2, 1]]])
    contract = MetricContract(absent="zero").resolved(3)
    values = image_values(Tallies(counts, surface, distance), contract)
    assert {name: values[name][0] for name in SURFACE_METRICS} == {
        "boundary_iou": 3 / 4,
        "nsd": 6 / 8,
        "hd95": 2,
        "assd": 1,
    }


def test_a_class_has_the_mean_of_the_images_that_it_is_in() -> None:
    tallies = everything(3, 100)
    result = scores(tallies, [f"{number:02d}" for number in range(100)], NAMES, resamples=100)
    assert tallies.distance_NK2 is not None
    for k, entry in enumerate(result.per_class):
        hd95, assd = np.nanmean(tallies.distance_NK2[:, k], axis=0)
        assert [entry.hd95, entry.assd] == pytest.approx([hd95, assd])
        for name in SURFACE_METRICS:
            low, high = getattr(entry, f"{name}_ci95")
            assert low < getattr(entry, name) < high
    assert set(SURFACE_METRICS) <= set(result.metrics)
    assert result.by_image("hd95")["07"] == pytest.approx(np.nanmean(tallies.distance_NK2[7, 1:, 0]))


def test_sizes_by_hand() -> None:
    counts = np.ones((3, 2, 4), dtype=np.int64)
    small: list[list[float]] = [[4, 3, 2.0, 1.0, 0], [0, 0, 0, 0, 2], [1, 0, 0.5, 0.5, 1]]
    objects = np.zeros((3, 3, 5))
    objects[:, 0] = small
    result = scores(Tallies(counts, objects_NS5=objects), list("abc"), NAMES[:2], resamples=200)
    first, medium, _ = result.per_size
    assert (first.size, first.objects, first.invented) == ("small", 5, 3)
    assert (first.found, first.coverage, first.dice) == pytest.approx((3 / 5, 2.5 / 5, 1.5 / 5))
    assert np.isnan(first.found_ci95).all()  # two pictures with objects are too few
    many = scores(
        Tallies(np.tile(counts, (50, 1, 1)), objects_NS5=np.tile(objects, (50, 1, 1))),
        [str(number) for number in range(150)],
        NAMES[:2],
        resamples=200,
    ).per_size[0]
    low, high = many.found_ci95
    assert many.found == pytest.approx(3 / 5)
    assert low < 3 / 5 < high
    assert medium.objects == 0
    assert math.isnan(medium.found)
    assert scores(counts, list("abc"), NAMES[:2]).per_size == ()


def kept(seed: int = 0, images: int = 6) -> Scores:
    ids = [f"{seed}, {number}" for number in range(images)]
    parts = [ObjectScore(id, 1, pixels, 3, 7) for id in ids for pixels in (5, 2000)]
    return scores(everything(seed, images), ids, NAMES, resamples=50, objects=parts)


def test_all_that_was_counted_comes_back(tmp_path: Path) -> None:
    saved = kept()
    saved.save(tmp_path)
    loaded = Scores.load(tmp_path)
    assert loaded.summary() == saved.summary()
    assert loaded.objects == saved.objects
    assert loaded.anatomy == saved.anatomy
    for name, values in vars(saved.tallies).items():
        read = getattr(loaded.tallies, name)
        assert np.array_equal(read, values, equal_nan=True) if values is not None else read is None, name
        assert values is None or read.dtype == values.dtype, name
    files = {"anatomy.json", "objects.csv", "per_image.csv", "pictures.csv", "scores.json"}
    assert {path.name for path in tmp_path.iterdir()} == files


def test_each_part_may_be_missing(tmp_path: Path) -> None:
    whole = everything(1, 4)
    nothing: Any = None
    for name in ("surface_NK5", "distance_NK2", "objects_NS5", "anatomy_NEK4", "facts_NF", "quality_N"):
        part = scores(replace(whole, **{name: nothing}), list("abcd"), NAMES, resamples=50)
        part.save(tmp_path / name)
        loaded = Scores.load(tmp_path / name)
        assert loaded.summary() == part.summary()
        assert getattr(loaded.tallies, name) is None
    scores(whole.counts_NK4, list("abcd"), NAMES, resamples=50).save(tmp_path / "counts")
    assert {path.name for path in (tmp_path / "counts").iterdir()} == {"per_image.csv", "scores.json"}


def test_a_folder_with_a_file_of_other_pictures_is_damaged(tmp_path: Path) -> None:
    kept(images=6).save(tmp_path)
    kept(images=5).save(tmp_path / "other")
    (tmp_path / "other" / "pictures.csv").replace(tmp_path / "pictures.csv")
    with pytest.raises(RunError, match="damaged"):
        Scores.load(tmp_path)


def test_merging_joins_what_all_parts_have() -> None:
    first, second = kept(0), kept(1)
    both = merge([first, second], resamples=50)
    assert both.objects == (*first.objects, *second.objects)
    assert both["hd95"].value == pytest.approx(
        np.nanmean([*first.by_image("hd95").values(), *second.by_image("hd95").values()])
    )
    assert both.per_size[0].objects == first.per_size[0].objects + second.per_size[0].objects
    without = scores(second.tallies.counts_NK4, second.ids, NAMES, resamples=50)
    partly = merge([first, without], resamples=50)
    assert "hd95" not in partly.metrics
    assert partly.per_size == ()
