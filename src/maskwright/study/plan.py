"""study.yaml: which runs a study is made of, and what it is to show. Frozen, complete, and it refuses typos."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

import yaml
from pydantic import BaseModel, BeforeValidator, Field, NonNegativeInt, PositiveInt, ValidationError

from maskwright.config import Part, Recipe, flatten, load_recipe, make_recipe, recipe_keys, suggest
from maskwright.errors import ConfigError
from maskwright.metrics.measures import METRICS

COSTS = ("parameters", "flops", "latency")
"""What a search may weigh quality against: numbers that are trained, operations and seconds of one picture."""

Side: TypeAlias = str | Mapping[str, Any]
"""One side of a claim: a cell's name, or values of recipe keys (and `cell`), which pools all cells that have them."""


def _number(value: object) -> object:
    """YAML reads `1e-5` as text; a person means a number."""
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value


Number = Annotated[int | float, BeforeValidator(_number)]


class Claim(Part):
    """A conclusion to be judged, in the words of the person who drew it."""

    says: str
    better: Side
    than: Side


class Range(Part):
    """Numbers to search in; whole ones where both ends are whole."""

    low: Number
    high: Number
    log: bool = False
    """Equal chances for equal ratios."""


class Search(Part):
    """What is tried instead of a grid, and what for."""

    space: Annotated[Mapping[str, Range | tuple[Any, ...]], Field(min_length=1)]
    """Recipe key -> a range, or a list to choose from."""
    objectives: Mapping[str, Literal["maximise", "minimise"]] = {"dice_image": "maximise"}
    """A metric of the validation pictures, `parameters`, `flops` or `latency`; several end in a Pareto front."""
    trials: PositiveInt = 40
    sampler: Literal["tpe", "random"] = "tpe"
    """tpe: Tree-structured Parzen Estimator (Bergstra et al. 2011; Ozaki et al. 2022 for several objectives)."""
    pruner: Literal["none", "hyperband"] = "none"
    """hyperband (Li et al. 2018): ends runs whose validation score falls behind; one objective only."""


class StudyPlan(Part):
    """study.yaml: a grid over `axes`, named `cells`, both (every cell at every point of the grid), or a `search`."""

    about: str = ""
    """What it asks, in a line."""
    base: str = "unet"
    """A named recipe, or a file beside the study."""
    data: str | None = None
    """As for `maskwright train`; a relative path starts where the study file lies."""
    set: Mapping[str, Any] = {}
    """Recipe keys changed for every run."""
    axes: Mapping[str, Annotated[tuple[Any, ...], Field(min_length=1)]] = {}
    """Recipe key -> its values."""
    cells: Mapping[str, Mapping[str, Any]] = {}
    """Name -> recipe keys, and `base` where the cell starts from another recipe."""
    seeds: Annotated[tuple[NonNegativeInt, ...], Field(min_length=1)] = (0, 1, 2)
    budget: str | None = None
    """Time of each run, such as 90s; None: the recipe's epochs."""
    metric: str = "dice_image"
    split: Literal["validation", "test"] = "validation"
    """Where runs are judged. A search may only look at validation."""
    threads: PositiveInt = 1
    """CPU threads of each run."""
    claims: tuple[Claim, ...] = ()
    search: Search | None = None


@dataclass(frozen=True)
class Cell:
    """One recipe of a study, run once with each seed."""

    name: str
    label: str
    """The named cell that it came from; the name itself without a grid."""
    recipe: Recipe

    def at(self, seed: int) -> Recipe:
        return self.recipe.model_copy(update={"seed": seed})

    def folder(self, seed: int) -> str:
        return f"{slug(self.name)}-{seed}"


@dataclass(frozen=True)
class Study:
    """A plan that was checked, with its cells; a search has none."""

    name: str
    plan: StudyPlan
    cells: tuple[Cell, ...]


_STUDIES = resources.files("maskwright") / "recipes" / "studies"


def study_names() -> list[str]:
    """The studies inside the package."""
    return sorted(
        entry.name.removesuffix(".yaml") for entry in _STUDIES.iterdir() if entry.name.endswith(".yaml")
    )


def about_studies() -> dict[str, str]:
    """Each with what it asks."""
    return {
        name: parse_plan((_STUDIES / f"{name}.yaml").read_text(encoding="utf-8"), name).about
        for name in study_names()
    }


def parse_seeds(text: str) -> tuple[int, ...]:
    """`0,1,2` -> numbers. Raises ConfigError."""
    try:
        seeds = tuple(int(part) for part in text.split(","))
    except ValueError:
        seeds = (-1,)
    if min(seeds) < 0:
        raise ConfigError(f"--seeds {text} is no list of seeds", "write 0,1,2")
    return seeds


def read_study(
    name_or_file: str,
    overrides: Mapping[str, object] | None = None,
    *,
    data: str | None = None,
    seeds: Sequence[int] | None = None,
    budget: str | None = None,
    threads: int | None = None,
) -> Study:
    """A named study or a file. `overrides` (dotted recipe keys) hold for every run; the others replace the plan's.

    Raises ConfigError: unknown keys, impossible values, two cells with one recipe, a search that looks at the test
    split.
    """
    path = Path(name_or_file)
    if path.suffix in {".yaml", ".yml"} or path.is_file():
        name, here = path.stem, path.parent
        if name == "study":  # the file that a study folder keeps, and the obvious name: the folder says more
            name = path.resolve().parent.name
        try:
            text = path.read_text(encoding="utf-8")
        except OSError as error:
            raise ConfigError(
                f"study {path} cannot be read: {error.strerror}",
                "give a file or a name of `maskwright study`",
            ) from error
    else:
        name, here = name_or_file.removeprefix("studies/"), None
        if name not in study_names():  # and so no path that leads out of the package
            raise ConfigError(f"there is no study {name!r}", suggest(name, study_names()))
        text = (_STUDIES / f"{name}.yaml").read_text(encoding="utf-8")
    plan = parse_plan(text, name_or_file)
    plan = _found(plan, here)
    changed: dict[str, object] = {"set": flatten(plan.set) | flatten(overrides or {})}
    changed |= {"data": _data(data, Path())} if data is not None else {}
    changed |= {"seeds": tuple(seeds)} if seeds is not None else {}
    changed |= {"budget": budget} if budget is not None else {}
    changed |= {"threads": threads} if threads is not None else {}
    _refuse_what_varies(plan, overrides or {}, name_or_file)
    return make_study(name, plan.model_copy(update=changed))


def parse_plan(text: str, source: str) -> StudyPlan:
    """Raises ConfigError that names the key, and the one that was meant."""
    try:
        values = yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        raise ConfigError(
            f"study {source} is not YAML: {' '.join(str(error).split())}", "mend that line"
        ) from error
    if not isinstance(values, Mapping):
        raise ConfigError(
            f"study {source} is not a mapping", f"known keys are: {', '.join(StudyPlan.model_fields)}"
        )
    _check_keys(values, StudyPlan, f"study {source}")
    for number, claim in enumerate(_list(values.get("claims"))):
        _check_keys(claim, Claim, f"claim {number + 1} of study {source}")
    _check_keys(values.get("search"), Search, f"search of study {source}")
    try:
        return StudyPlan.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ConfigError(
            f"{where}={first.get('input')} in study {source}: {first['msg']}", "see docs/study.md"
        ) from error


def _list(value: object) -> Sequence[object]:
    return value if isinstance(value, list) else ()


def _check_keys(values: object, model: type[BaseModel], where: str) -> None:
    known = list(model.model_fields)
    for key in values if isinstance(values, Mapping) else ():
        if key not in known:
            raise ConfigError(f"{where} has no key {str(key)!r}", suggest(str(key), known))


def _found(plan: StudyPlan, here: Path | None) -> StudyPlan:
    """Relative files start where the study lies."""
    if here is None:
        return plan

    def place(name: str) -> str:
        beside = here / name
        return str(beside.resolve()) if name.endswith((".yaml", ".yml")) or beside.is_file() else name

    data = None if plan.data is None else _data(plan.data, here)
    cells = {
        name: {**cell, "base": place(str(cell["base"]))} if "base" in cell else cell
        for name, cell in plan.cells.items()
    }
    return plan.model_copy(update={"base": place(plan.base), "data": data, "cells": cells})


def _data(name: str, here: Path) -> str:
    return name if name.startswith("synthetic:") else str((here / name).resolve())


def _refuse_what_varies(plan: StudyPlan, overrides: Mapping[str, object], source: str) -> None:
    varied = set(plan.axes).union(*(flatten(cell) for cell in plan.cells.values()))
    varied |= set(plan.search.space) if plan.search else set()
    for key in flatten(overrides):
        if key in varied:
            raise ConfigError(f"{key} is what study {source} varies", "change it in the study file")


def make_study(name: str, plan: StudyPlan) -> Study:
    """The plan with its cells, checked. Raises ConfigError."""
    where = f"study {name}"
    _check_recipe_keys(plan.set, f"set of {where}")
    _check_recipe_keys(plan.axes, f"axes of {where}")
    for label, cell in plan.cells.items():
        _check_recipe_keys({key: cell[key] for key in cell if key != "base"}, f"cell {label!r} of {where}")
    if plan.metric not in METRICS:
        raise ConfigError(
            f"metric={plan.metric} in {where} is no metric", suggest(plan.metric, list(METRICS))
        )
    if len(set(plan.seeds)) < len(plan.seeds):
        raise ConfigError(f"seeds of {where} name a seed twice", "each makes one run")
    if plan.budget is not None:
        from maskwright.training.budget import parse_budget

        parse_budget(plan.budget)
    if plan.search is not None:
        _check_search(plan, plan.search, where)
        return Study(name, plan, ())
    study = Study(name, plan, _cells(plan, where))
    for claim in plan.claims:
        for side in (claim.better, claim.than):
            choose_cells(study, side)
    return study


def _check_recipe_keys(values: Mapping[str, Any], where: str) -> None:
    known = [key for key in recipe_keys() if key != "seed"]
    for key in flatten(values):
        if key == "seed":
            raise ConfigError(f"{where} sets seed", "`seeds: [0, 1, 2]` of the study does")
        if key not in known and not key.startswith("loss.targets."):
            raise ConfigError(f"{where} has no recipe key {key!r}", suggest(key, known))


def _check_search(plan: StudyPlan, search: Search, where: str) -> None:
    _check_recipe_keys(dict.fromkeys(search.space), f"search.space of {where}")
    for key, span in search.space.items():
        if isinstance(span, Range) and not (span.low < span.high and (span.low > 0 or not span.log)):
            raise ConfigError(
                f"search.space of {where}: {key} from {span.low} to {span.high} is no range",
                "low must be under high, and above 0 with log",
            )
    if plan.split != "validation":
        raise ConfigError(
            f"{where} would search on the {plan.split} split, and its score would mean nothing afterwards",
            "leave split out; judge what it finds in a study of cells with `split: test`",
        )
    if plan.axes or plan.cells or plan.claims:
        raise ConfigError(f"{where} has a search and a grid", "keep search, or axes, cells and claims")
    if len(plan.seeds) != 1:
        raise ConfigError(
            f"{where} searches with {len(plan.seeds)} seeds",
            "write `seeds: [0]`; the best are judged with more",
        )
    known = [*METRICS, *COSTS]
    for name in search.objectives:
        if name not in known:
            raise ConfigError(f"search.objectives of {where} has no objective {name!r}", suggest(name, known))
    if search.pruner != "none" and (len(search.objectives) > 1 or next(iter(search.objectives)) in COSTS):
        raise ConfigError(
            f"search.pruner={search.pruner} of {where} needs one objective, a score", "use `pruner: none`"
        )


def _cells(plan: StudyPlan, where: str) -> tuple[Cell, ...]:
    cells = []
    for label, own in (plan.cells or {"": {}}).items():
        for values in itertools.product(*plan.axes.values()):
            point = dict(zip(plan.axes, values, strict=True))
            base = str(own.get("base", plan.base))
            changes = {key: value for key, value in own.items() if key != "base"}
            recipe = load_recipe(base, flatten(plan.set) | flatten(changes) | point | {"seed": 0})
            said = ", ".join(f"{leaf(key, plan.axes)}={value_text(recipe, key)}" for key in point)
            name = ", ".join(filter(None, (label, said))) or plan.base
            cells.append(Cell(name, label or name, recipe))
    _check_distinct(cells, where)
    return tuple(cells)


def _check_distinct(cells: Sequence[Cell], where: str) -> None:
    for first, second in itertools.combinations(cells, 2):
        if first.recipe == second.recipe:
            raise ConfigError(
                f"cells {first.name!r} and {second.name!r} of {where} are the same recipe", "leave one out"
            )
        if slug(first.name) == slug(second.name):
            raise ConfigError(
                f"cells {first.name!r} and {second.name!r} of {where} would share a folder", "rename one"
            )


def leaf(key: str, keys: Iterable[str]) -> str:
    """The last part of a key, where no other of `keys` ends like it."""
    last = key.rpartition(".")[2]
    return last if sum(other.rpartition(".")[2] == last for other in keys) == 1 else key


def value_text(recipe: Recipe, key: str) -> str:
    """A recipe's value as a person writes it: `1e-05`, `96,96`, `true`."""
    return plain_text(flatten(recipe.model_dump(mode="json"))[key])


def plain_text(value: object) -> str:
    if isinstance(value, list | tuple):
        return ",".join(plain_text(entry) for entry in value) or "none"
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"{value:g}" if isinstance(value, float) else str(value)


def slug(name: str) -> str:
    """`UNet, 1e-3 combine x1` -> `UNet-1e-3-combine-x1`: a run's name."""
    return re.sub(r"[^\w.+-]+", "-", name).strip(".+-") or "cell"


def choose_cells(study: Study, side: Side) -> tuple[Cell, ...]:
    """The cells of a side of a claim, in order. Raises ConfigError where there are none."""
    wanted = {"cell": side} if isinstance(side, str) else dict(side)
    name = wanted.pop("cell", None)
    _check_recipe_keys(wanted, f"a claim of study {study.name}")
    found = tuple(
        cell
        for cell in study.cells
        if name in (None, cell.name, cell.label)
        and make_recipe(flatten(cell.recipe.model_dump()) | flatten(wanted)) == cell.recipe
    )
    if not found:
        raise ConfigError(
            f"a claim of study {study.name} names {side!r}, and no cell is that",
            suggest(str(name), [cell.name for cell in study.cells])
            if name
            else "compare with axes and cells",
        )
    return found
