"""study.yaml: typos answered with what was meant, cells by hand, and the studies inside the package."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from maskwright.config import flatten, load_recipe, recipe_names
from maskwright.errors import ConfigError
from maskwright.study.plan import Study, choose_cells, parse_plan, parse_seeds, read_study, slug, study_names


def written(folder: Path, text: str, name: str = "mine.yaml") -> str:
    (folder / name).write_text(text)
    return str(folder / name)


def difference(study: Study, name: str, other: str) -> dict[str, object]:
    """Keys of cell `name` whose values cell `other` does not have."""
    recipes = {cell.name: flatten(cell.recipe.model_dump()) for cell in study.cells}
    return {key: value for key, value in recipes[name].items() if value != recipes[other][key]}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("axis: {}", "has no key 'axis'; did you mean axes?"),
        ("axes: {optim.lr: [1, 2]}", "axes of study mine has...'optim.lr'; did you mean optim.learning_rate?"),
        ("set: {epochs: 3}", "set of study mine has no recipe key 'epochs'; did you mean train.epochs?"),
        ("cells: {a: {model.widht: 3}}", "cell 'a'...'model.widht'; did you mean model.width?"),
        ("set: {seed: 3}", "sets seed; `seeds: [0, 1, 2]`"),
        ("metric: dice", "metric=dice in study mine is no metric; did you mean dice_"),
        ("claims: [{say: x, better: a, than: b}]", "claim 1 of study...no key 'say'; did you mean says?"),
        ("search: {spaces: {}}", "search of study ...mine.yaml has no key 'spaces'; did you mean space?"),
        ("seeds: []", "seeds=[] in study"),
        ("seeds: [1, 1]", "name a seed twice"),
        ("budget: soon", "--budget soon is no time"),
        ("cells: {a: {model.width: 8}, b: {model.width: 8}}", "cells 'a' and 'b' of study mine are the same recipe"),
        ("cells: {a b: {model.width: 8}, a-b: {model.width: 9}}", "cells 'a b' and 'a-b'...would share a folder"),
        ("cells: {a: {}}\nclaims: [{says: x, better: a, than: c}]", "names 'c', and no cell is that"),
        ("claims: [{says: x, better: {model.width: 4}, than: unet}]", "and no cell is that"),
        ("- a", "is not a mapping"),
        ("a: [", "is not YAML"),
    ],
)  # fmt: skip
def test_mistakes_are_named(text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        read_study(written(tmp_path, text))
    assert all(part in str(caught.value) for part in said.split("..."))


SPACE = "space: {model.width: [4, 8]}"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f"search: {{{SPACE}}}\nseeds: [0]\nsplit: test", "would search on the test split"),
        (f"search: {{{SPACE}}}", "searches with 3 seeds"),
        (f"search: {{{SPACE}}}\nseeds: [0]\naxes: {{train.batch: [1, 2]}}", "has a search and a grid"),
        (f"search: {{{SPACE}, objectives: {{flop: minimise}}}}\nseeds: [0]", "no objective 'flop'; did you mean flops"),
        ("search: {space: {train.batch: {low: 8, high: 4}}}\nseeds: [0]", "train.batch from 8 to 4 is no range"),
        ("search: {space: {augment.noise: {low: 0, high: 1, log: true}}}\nseeds: [0]", "is no range"),
        ("search: {space: {}}\nseeds: [0]", "search.space={} in study"),
        (
            f"search: {{{SPACE}, pruner: hyperband, objectives: {{miou: maximise, flops: minimise}}}}\nseeds: [0]",
            "pruner=hyperband of study mine needs one objective",
        ),
    ],
)  # fmt: skip
def test_a_search_that_cannot_be_trusted_is_refused(text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        read_study(written(tmp_path, text))
    assert all(part in str(caught.value) for part in said.split("..."))


def test_every_cell_stands_at_every_point_of_the_grid(tmp_path: Path) -> None:
    (tmp_path / "mine-base.yaml").write_text("model: {width: 5}\n")
    text = "base: mine-base.yaml\ncells: {plain: {}, wide: {model.width: 9}, other: {base: demo}}\n"
    study = read_study(
        written(tmp_path, text + "axes: {train.batch: [2, 4], optim.learning_rate: [1e-3, 1e-4]}")
    )
    assert len(study.cells) == 12
    found = {(cell.label, cell.recipe.train.batch, cell.recipe.optim.learning_rate) for cell in study.cells}
    assert found == set(itertools.product(("plain", "wide", "other"), (2, 4), (1e-3, 1e-4)))
    first = study.cells[0]
    assert first.name == "plain, batch=2, learning_rate=0.001"
    assert first.folder(3) == "plain-batch-2-learning_rate-0.001-3"
    assert (first.at(3).seed, first.recipe.seed) == (3, 0)
    widths = {cell.label: cell.recipe.model.width for cell in study.cells}
    assert widths == {"plain": 5, "wide": 9, "other": load_recipe("demo").model.width}


def test_claims_choose_cells_by_name_by_label_and_by_value(tmp_path: Path) -> None:
    text = "cells: {a: {}, b: {model.width: 9}}\naxes: {train.batch: [2, 4]}"
    study = read_study(written(tmp_path, text))

    def names(side: object) -> list[str]:
        return [cell.name for cell in choose_cells(study, side)]  # type: ignore[arg-type]

    assert names("a, batch=2") == ["a, batch=2"]
    assert names("a") == ["a, batch=2", "a, batch=4"]
    assert names({"train.batch": 4}) == ["a, batch=4", "b, batch=4"]
    assert names({"cell": "b", "train.batch": 4}) == ["b, batch=4"]
    assert names({"train": {"batch": 4}}) == ["a, batch=4", "b, batch=4"]


def test_words_hold_for_all_cells_but_not_for_what_varies(tmp_path: Path) -> None:
    file = written(tmp_path, "cells: {a: {}, b: {model.width: 9}}\naxes: {train.batch: [2, 4]}\ndata: here")
    study = read_study(file, {"train.epochs": 3}, seeds=[7], budget="9s", threads=2)
    assert {cell.recipe.train.epochs for cell in study.cells} == {3}
    assert (study.plan.seeds, study.plan.budget, study.plan.threads) == ((7,), "9s", 2)
    assert study.plan.data == str((tmp_path / "here").resolve())
    assert read_study(file, data="there").plan.data == str(Path("there").resolve())
    assert read_study(file, data="synthetic:shapes").plan.data == "synthetic:shapes"
    for key in ("train.batch", "model.width"):
        with pytest.raises(ConfigError, match=f"{key} is what study .* varies"):
            read_study(file, {key: 1})


def test_without_axes_and_cells_there_is_the_base(tmp_path: Path) -> None:
    (cell,) = read_study(written(tmp_path, "base: demo")).cells
    assert cell.recipe == load_recipe("demo")
    assert cell.name == "demo"


@pytest.mark.parametrize("name", study_names())
def test_the_studies_of_the_package_are_sound(name: str) -> None:
    study = read_study(name)
    assert study.plan.about
    assert study == read_study(f"studies/{name}")
    assert bool(study.cells) != bool(study.plan.search)
    assert f"studies/{name}" not in recipe_names()


def test_unknown_studies_are_told() -> None:
    with pytest.raises(ConfigError, match="there is no study '002-tabel'; did you mean 002-table"):
        read_study("002-tabel")
    for name in ("../studies/002-table", "", "/002-table"):
        with pytest.raises(ConfigError, match="there is no study"):
            read_study(name)
    with pytest.raises(ConfigError, match="cannot be read"):
        read_study("nothing.yaml")


def test_document_002_s_table_changes_what_its_cells_are_named_after() -> None:
    study = read_study("002-table")
    assert len(study.cells) == 11
    for network in ("UNet", "ResNet34-UNet"):
        first = f"{network}, combine x1"
        assert difference(study, f"{network}, combine x2", first) == {"augment.copies": 2}
        assert difference(study, f"{network}, flip x1", first) == {"augment.copies_kind": "flips"}
        assert difference(study, f"{network}, combine x1, 1e-4", first) == {"optim.learning_rate": 1e-4}
        assert difference(study, f"{network}, none", first) == {
            "augment.copies": 0,
            "augment.flip": False,
            "augment.rotate": 0,
            "augment.shift": 0,
        }
    assert study.cells[4].recipe == load_recipe("pets/002-unet")
    assert study.cells[7].recipe == load_recipe("pets/002-resnet34-unet")


def test_document_001_s_steps_change_one_thing_each() -> None:
    study = read_study("001-ablation")
    names = [cell.name for cell in study.cells]
    steps = [set(difference(study, name, before)) for before, name in itertools.pairwise(names[:5])]
    assert all(key.startswith("augment.") for key in steps[0])
    assert steps[1:] == [
        {"loss.terms"},
        {"optim.learning_rate"},
        {"optim.learning_rate", "optim.weight_decay", "optim.schedule"},
    ]
    assert study.cells[4].recipe == load_recipe("pets/001-unet")


@pytest.mark.parametrize(("text", "seeds"), [("0,1,2", (0, 1, 2)), ("7", (7,))])
def test_seeds_as_words(text: str, seeds: tuple[int, ...]) -> None:
    assert parse_seeds(text) == seeds
    for wrong in ("-1", "a", "", "1;2"):
        with pytest.raises(ConfigError, match="is no list of seeds"):
            parse_seeds(wrong)


def test_folder_names_are_plain() -> None:
    assert slug("UNet, combine x1, 1e-4") == "UNet-combine-x1-1e-4"
    assert slug("../../x") == "x"
    assert slug("…") == "cell"


def test_a_plan_says_what_a_file_says() -> None:
    plan = parse_plan(
        "seeds: [4]\nsearch: {space: {optim.learning_rate: {low: 1e-5, high: 1e-2, log: true}}}", "x"
    )
    assert plan.search is not None
    assert plan.search.space["optim.learning_rate"].low == 1e-5  # type: ignore[union-attr]
