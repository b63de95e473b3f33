"""Tiles: shares that sum to 1, and an answer that is that of one look."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import Float32
from PIL import Image
from tests.predict.test_predictor import build_from_spec_randomly

from maskwright.config import InputConfig, ModelConfig
from maskwright.data.tiles import Window
from maskwright.errors import ConfigError, DataError
from maskwright.predict import tiles as tiles_module
from maskwright.predict.clean import Cleaned, Cleaning
from maskwright.predict.ensemble import Ensemble
from maskwright.predict.layout import Layout, choose_layout
from maskwright.predict.look import Seams, TiledPrediction, compare, furthest, in_tiles
from maskwright.predict.model_folder import ModelSpec, Seen
from maskwright.predict.predictor import Predictor
from maskwright.predict.reach import WHOLE, Context
from maskwright.predict.save import Answers, identity_of
from maskwright.predict.tiled import Tiled
from maskwright.predict.tiles import Stretch, blended, stretches
from maskwright.tensors import Prediction

SIZES = [(300, 411), (333, 130), (257, 512), (400, 97)]
"""No multiples of any stride."""
TILES = [(128, 128), (256, 192)]


def predictor(
    depth: int = 2, classes: int = 3, tta: str = "none", fit: str = "crop", **changes: object
) -> Predictor:
    """Random weights whose answer depends on the place and on all that the network sees."""
    values = {"size": (64, 96), "fit": fit, "channels": 3} | {
        key: value for key, value in changes.items() if key in InputConfig.model_fields
    }
    spec = ModelSpec(
        model=ModelConfig(name="unet", width=4, depth=depth),
        input=InputConfig(**values),  # type: ignore[arg-type]
        classes=tuple(f"class {number}" for number in range(classes)),
        colours=((0, 0, 0), (230, 159, 0), (86, 180, 233))[:classes],
        mean=(0.5,) * 3,
        deviation=(0.2,) * 3,
        seen=changes.get("seen"),  # type: ignore[arg-type]
    )
    torch.manual_seed(1)
    return Predictor(spec, build_from_spec_randomly(spec), torch.device("cpu"), tta)


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def layout_of(model: Predictor | Ensemble, size: tuple[int, int], tile: tuple[int, int]) -> Layout:
    found = choose_layout(model, size, tile)
    assert found is not None
    return found


def apart(model: Predictor | Ensemble, picture: np.ndarray, layout: Layout) -> float:
    """The largest difference of a probability between tiles and one look."""
    said = in_tiles(model, picture, layout)
    return compare(said.probabilities, said.mask, model(picture)).difference


@given(
    length=st.integers(1, 600),
    strides=st.integers(4, 20),
    stride=st.sampled_from([1, 2, 8, 16]),
    share=st.floats(0, 0.5),
    believed=st.floats(0, 1),
)
@settings(max_examples=300)
def test_shares_sum_to_1_and_spare_the_margins(
    length: int, strides: int, stride: int, share: float, believed: float
) -> None:
    tile = strides * stride
    overlap = int(tile * share)
    margin = int(overlap / 2 * believed)
    found = stretches(length, tile, overlap, stride, margin)
    total = np.zeros(length, np.float32)
    for place, stretch in enumerate(found):
        side = len(stretch.shares)
        total[stretch.start : stretch.start + side] += stretch.shares
        assert stretch.start % stride == 0
        assert side % stride == length % stride or side == length
        assert side <= tile
        assert stretch.shares.min() >= 0
        if place > 0:
            assert stretch.begin >= stretch.start + margin
            assert found[place - 1].start + side - stretch.start >= overlap
        if place < len(found) - 1:
            assert stretch.end <= stretch.start + side - margin
    assert (total == 1).all()
    assert found[-1].start + len(found[-1].shares) == length


def test_blending_puts_a_picture_together_again() -> None:
    """Each tile answers with what lies under it, so any shares that sum to 1 give the whole back."""
    whole = np.random.default_rng(0).random((3, 70, 90), dtype=np.float32)
    rows, columns = stretches(70, 24, 8, 2, 1), stretches(90, 32, 12, 1, 4)
    assert len(rows) > 2
    assert len(columns) > 2
    asked: list[Window] = []

    def answer(window: Window) -> Float32[np.ndarray, "K h w"]:
        asked.append(window)
        return whole[:, *window.slices]

    together, times = np.zeros_like(whole), np.zeros((70, 90), int)
    for window, finished in blended(answer, rows, columns, 3):
        together[:, *window.slices] = finished
        times[window.slices] += 1
    assert (times == 1).all()
    np.testing.assert_allclose(together, whole, atol=1e-6)
    assert len(asked) == len(rows) * len(columns)


def test_many_blended_rows_lie_in_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiles_module, "LARGE", 1000)
    test_blending_puts_a_picture_together_again()
    assert isinstance(tiles_module._array((3, 20, 90)), np.memmap)


def test_the_file_of_blended_rows_has_its_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """A write to a mapped page that the disk has no block for would end the process without a word."""
    sizes = []
    mapped = np.memmap

    def noted(file: BinaryIO, *words: Any, **more: Any) -> np.memmap[Any, Any]:
        sizes.append(512 * os.fstat(file.fileno()).st_blocks)
        return mapped(file, *words, **more)

    monkeypatch.setattr(tiles_module, "LARGE", 1000)
    monkeypatch.setattr(np, "memmap", noted)
    tiles_module._array((3, 200, 900))
    assert sizes[0] >= 4 * 3 * 200 * 900


@pytest.mark.parametrize("tta", ["none", "flips"])
@pytest.mark.parametrize("depth", [1, 2])
def test_tiles_give_what_one_look_gives(depth: int, tta: str) -> None:
    model = predictor(depth, tta=tta)
    for size in SIZES:
        for tile in TILES:
            layout = layout_of(model, size, tile)
            assert layout.exact
            assert layout.notes == ()
            assert layout.tiles > 1
            picture = noise(*size)
            assert apart(model, picture, layout) < 1e-5
            whole = model(picture).probabilities
            assert np.abs(whole - whole.mean((1, 2), keepdims=True)).max() > 0.1, (
                "a flat answer proves nothing"
            )


def test_two_classes_and_an_ensemble() -> None:
    members = {"near": predictor(1, classes=2), "far": predictor(2, classes=2, tta="flips")}
    model = Ensemble(members)
    assert model.context == Context(members["far"].context.reach, 4)
    assert apart(model, noise(300, 211), layout_of(model, (300, 211), (128, 128))) < 1e-5


def test_without_margin_or_off_the_grid_it_is_another_answer() -> None:
    """What the test above would see if the margin, the stride, or the remainder were forgotten."""
    model, size = predictor(2), (300, 211)
    picture, good = noise(*size), layout_of(model, (300, 211), (128, 128))
    context = model.context

    def cut(make: Callable[[int], list[Stretch]]) -> Layout:
        rows, columns = (tuple(make(length)) for length in size)
        return replace(good, rows=rows, columns=columns)

    assert apart(model, picture, cut(lambda n: stretches(n, 128, 2 * context.reach, 4, context.reach))) < 1e-5
    assert apart(model, picture, cut(lambda n: stretches(n, 128, 2 * context.reach, 4, 0))) > 1e-4
    assert apart(model, picture, cut(lambda n: stretches(n, 127, 2 * context.reach, 1, context.reach))) > 1e-3
    near = context.reach // 4
    assert apart(model, picture, cut(lambda n: stretches(n, 128, 2 * near, 4, near))) > 1e-4


def test_a_mirror_needs_tiles_that_end_on_its_grid() -> None:
    """Tiles of a multiple of the stride begin on the grid of the picture, but not on that of its mirror image."""
    model = predictor(2, tta="flips")
    picture, reach = noise(128, 211), model.context.reach
    good = layout_of(model, (128, 211), (128, 128))
    assert apart(model, picture, good) < 1e-5
    columns = [Stretch(column.start, column.shares) for column in stretches(208, 128, 2 * reach, 4, reach)]
    off = replace(good, size=(128, 208), columns=tuple(columns))
    shifted = replace(
        off,
        size=(128, 211),
        columns=(
            *columns[:-1],
            Stretch(columns[-1].start, np.concatenate([columns[-1].shares, np.ones(3, np.float32)])),
        ),
    )
    assert apart(model, picture, shifted) > 1e-4


def test_what_reaches_too_far_is_blended_and_told() -> None:
    model = predictor(3)
    layout = layout_of(model, (300, 411), (128, 128))
    assert not layout.exact
    (note,) = layout.notes
    assert f"looks {model.context.reach} pixels far" in note
    assert "--tile 216,216" in note
    assert layout_of(model, (300, 411), (216, 216)).exact
    assert 0 < apart(model, noise(300, 411), layout) < 1


def test_normalise_image_and_scales_see_the_whole_picture() -> None:
    for model in (predictor(normalise="image"), predictor(tta="scales")):
        assert model.context == WHOLE
        assert "looks at the whole picture" in layout_of(model, (300, 411), (128, 128)).notes[0]


def test_only_what_is_large_is_cut_unasked() -> None:
    """Tiles that give the same are taken earlier than tiles that do not."""
    model, far = predictor(2), predictor(tta="scales")
    assert choose_layout(model, (2048, 2048)) is None
    assert choose_layout(far, (4096, 4096)) is None
    assert choose_layout(far, (4096, 4097)) is not None
    large = choose_layout(model, (4096, 4097))
    assert large is not None
    assert large.exact
    assert large.tile == (384, 381)
    assert choose_layout(model, (300, 400), (300, 400)) is None


def test_a_model_that_saw_whole_pictures_says_so() -> None:
    model = predictor(fit="resize", seen=Seen(size=(375, 500)))
    assert choose_layout(model, (3000, 4000)) is None
    (note,) = layout_of(model, (3000, 4000), (512, 512)).notes
    assert "trained on whole pictures of about 375 x 500" in note
    assert "each resized to 64 x 96, 0.17 (down) and 0.19 (across) of its size" in note
    assert "a tile of 512 x 512 is shown to it at 0.12 (down) and 0.19 (across) of its size" in note
    with pytest.raises(DataError, match=r"20000 x 20000 is too large.*375 x 500.*--tile H,W"):
        choose_layout(model, (20_000, 20_000))
    (note,) = layout_of(predictor(fit="letterbox"), (300, 400), (128, 128)).notes
    assert "does not say what it was trained on" in note


def test_a_model_that_saw_tiles_gets_such_tiles() -> None:
    model = predictor(fit="resize", seen=Seen(size=(256, 256), tiles=True))
    layout = choose_layout(model, (700, 900))
    assert layout is not None
    assert layout.notes == ()
    assert {len(stretch.shares) for stretch in (*layout.rows, *layout.columns)} == {256}
    assert choose_layout(model, (256, 200)) is None
    assert "trained on tiles of about 256 x 256" in layout_of(model, (700, 900), (512, 512)).notes[0]
    assert choose_layout(model, (100_000, 100_000)) is not None


@pytest.mark.parametrize(
    ("size", "tile", "said"),
    [
        ((300, 400), (8, 512), "too small for this network"),
        ((300, 400), (0, 8), "is no size"),
        ((300, 400), (1 << 20, 1 << 20), "is no size"),
        ((0, 0), None, "has no pixels"),
    ],
)
def test_sizes_that_make_no_sense(size: tuple[int, int], tile: tuple[int, int] | None, said: str) -> None:
    with pytest.raises((ConfigError, DataError), match=said):
        choose_layout(predictor(2), size, tile)


def test_tiled_is_called_like_a_predictor() -> None:
    model = predictor(2)
    picture = noise(300, 211)
    said = Tiled(model, (128, 128), check=True)(picture)
    assert isinstance(said, TiledPrediction)
    assert said.seams is not None
    assert said.seams.difference < 1e-5
    assert said.seams.changed == 0
    assert said.seams.pixels == 300 * 211
    np.testing.assert_allclose(said.probabilities, model(picture).probabilities, atol=1e-5)
    np.testing.assert_array_equal(said.mask, model(picture).mask)
    whole = Tiled(model)(picture)
    assert not isinstance(whole, TiledPrediction)
    np.testing.assert_array_equal(whole.probabilities, model(picture).probabilities)


def test_seams_and_notes_are_kept(tmp_path: Path) -> None:
    """What was predicted before is looked at whole once it is asked for, and then told of again."""
    Image.fromarray(noise(200, 220)).save(tmp_path / "a.png")
    Image.fromarray(noise(40, 50)).save(tmp_path / "small.png")
    asked: list[np.ndarray] = []

    class Counted(Predictor):
        def __call__(self, image: Any) -> Prediction:
            asked.append(image)
            return super().__call__(image)

    made = predictor(3)
    model = Counted(made.spec, made.network, made.device, made.tta)

    def saved(check: bool, **options: Any) -> list[tuple[tuple[str, ...], Seams | None]]:
        asked.clear()
        results = Tiled(model, (96, 96), check).save(tmp_path / "out", f"{tmp_path}/*.png", **options)
        return [(result.notes, result.seams) for result in results]

    (notes, none), nothing = saved(False)
    assert notes
    assert none is None
    assert nothing == ((), None)
    (again, seams), nothing = saved(True)
    assert again == notes
    assert seams is not None
    assert seams.difference > 0
    assert nothing == ((), None)
    assert saved(True) == [(notes, seams), nothing]
    assert not asked
    assert saved(False) == [(notes, None), nothing]
    assert not asked
    assert saved(False, save=["plain"]) == [(notes, None), nothing]
    assert asked
    assert saved(True, save=["mask", "plain"]) == [(notes, seams), nothing]
    assert not asked


def test_who_cuts_and_who_does_not_are_told_apart(tmp_path: Path) -> None:
    """A model that learned on tiles answers otherwise where it is cut."""
    Image.fromarray(noise(300, 300)).save(tmp_path / "a.png")
    model = predictor(2, fit="resize", seen=Seen(size=(96, 96), tiles=True))
    for each in (model, Tiled(model)):
        each.save(tmp_path / "out", tmp_path / "a.png", save=["plain"])
        made = np.asarray(Image.open(tmp_path / "out/a_plain.png"))
        np.testing.assert_array_equal(made, each(tmp_path / "a.png").mask)
    rules = Cleaning(smallest=2)
    who: list[Answers] = [model, Tiled(model), Cleaned(model, rules), Cleaned(Tiled(model), rules)]
    assert len({identity_of(each) for each in who}) == 4


def test_seams_are_where_the_answers_differ_most() -> None:
    one = Tiled(predictor(3), (96, 96), check=True)(noise(200, 220))
    assert isinstance(one, TiledPrediction)
    assert one.seams is not None
    apart_HW = np.abs(one.probabilities - predictor(3)(noise(200, 220)).probabilities).max(0)
    assert one.seams.difference == apart_HW.max()
    assert apart_HW[one.seams.row, one.seams.column] == apart_HW.max()


def test_seams_count_what_is_known() -> None:
    """The difference of 0.5 lies where nothing is known; of 0.25, where something is."""
    shares = np.full((2, 2, 3), 0.5, np.float32)
    shares[:, 0, 0], shares[:, 1, 2] = (0, 1), (0.25, 0.75)
    whole = Prediction(np.zeros((2, 3), np.uint8), np.full((2, 2, 3), 0.5, np.float32), 1)
    mask, known = shares.argmax(0).astype(np.uint8), np.ones((2, 3), bool)
    assert compare(shares, mask, whole, 10, 20) == Seams(0.5, 10, 20, changed=2, pixels=6)
    known[0] = False
    found = compare(shares, mask, whole, 10, 20, known)
    assert found == Seams(0.25, 11, 22, changed=1, pixels=3)
    nothing = compare(shares, mask, whole, 10, 20, np.zeros((2, 3), bool))
    assert (nothing.difference, nothing.pixels, nothing.share) == (0, 0, 0)
    assert furthest([nothing, found]) == found
    assert furthest([nothing]) is None


def test_memory_is_that_of_the_blended_rows() -> None:
    """Twice as many rows of tiles: the same peak."""
    import tracemalloc

    def peak(height: int) -> int:
        rows, columns = stretches(height, 64, 16, 1, 2), stretches(2000, 64, 16, 1, 2)
        tracemalloc.start()
        for _ in blended(lambda window: np.ones((4, *window[2:]), np.float32), rows, columns, 4):
            pass
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    first = peak(640)
    assert first < 4 * 4 * 64 * 2000, "less than a row of tiles"
    assert peak(2560) < 1.05 * first


def shares_of(stretch: Stretch) -> Sequence[float]:
    return [float(share) for share in stretch.shares]


def test_a_ramp_by_hand() -> None:
    """10 pixels in tiles of 6 that share 2: the cut is at 5, the ramp one pixel to either side, at their middles."""
    first, second = stretches(10, 6, 2)
    assert shares_of(first) == [1, 1, 1, 1, 0.75, 0.25]
    assert shares_of(second) == [0.25, 0.75, 1, 1, 1, 1]
    first, second = stretches(10, 6, 2, margin=1)
    assert shares_of(first) == [1, 1, 1, 1, 1, 0]
    assert shares_of(second) == [0, 1, 1, 1, 1, 1]
