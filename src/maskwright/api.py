"""What Python users call, and what the command line is thin over."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml

from maskwright.calibrate import Fitted, calibrate
from maskwright.cleaning import Chosen, choose_cleaning
from maskwright.config import Recipe, flatten, load_recipe, make_recipe, recipe_names
from maskwright.data.dataset import Dataset, Item, open_dataset
from maskwright.draw import batch_sheet, class_legend, overlay, png, predictions_sheet, sheet
from maskwright.errors import RunError, UserError
from maskwright.evaluation import evaluate
from maskwright.files import write_bytes, write_text
from maskwright.lint import check_levels, lint, run_facts
from maskwright.losses import make_loss
from maskwright.metrics.contract import DEFAULT, MetricContract
from maskwright.metrics.scores import Scores, merge
from maskwright.models import build_model
from maskwright.models.heads import add_heads
from maskwright.predict.clean import FILE as CLEANING
from maskwright.predict.clean import KeptCleaning, save_cleaning, weights_digest
from maskwright.predict.ensemble import Ensemble, split_names
from maskwright.predict.model_folder import find_model, load_spec, save_spec
from maskwright.predict.predictor import Predictor, use_threads
from maskwright.progress import SILENT, Progress
from maskwright.receipt import Receipt, read_receipt
from maskwright.report.gallery import save_gallery
from maskwright.runfolder import Logged, RunFolder
from maskwright.tensors import Mask, Picture, Prediction

if TYPE_CHECKING:
    from PIL.Image import Image

    from maskwright.export.export import Outcome
    from maskwright.predict.hub import Pushed
    from maskwright.replay import Verification

RUNS = Path("runs")
SHOWN = 8
"""Pictures on a sheet."""


@dataclass(frozen=True)
class Means:
    """How the work is done; what is done, recipe and data say."""

    device: str
    threads: int | None
    skip_broken: bool
    progress: Progress
    track: Mapping[str, str] = field(default_factory=dict)
    """Tracker -> address."""


@dataclass(frozen=True)
class Run:
    """A training run, by its folder."""

    folder: RunFolder

    @classmethod
    def open(cls, path_or_name: str | Path, runs: str | Path = RUNS) -> Run:
        """A path, or a name under `runs`. Raises RunError where it is not a run."""
        return cls(RunFolder.open(path_or_name, Path(runs)))

    @property
    def path(self) -> Path:
        return self.folder.path

    @property
    def name(self) -> str:
        return self.folder.name

    def predictor(self, device: str = "auto", tta: str | None = None) -> Predictor:
        """The best weights, ready for any picture; `tta` as in `Predictor.load`."""
        return Predictor.load(self.path, device, tta)

    def evaluate(
        self,
        split: str = "test",
        *,
        data: str | Path | Dataset | None = None,
        contract: MetricContract = DEFAULT,
        device: str = "auto",
        tta: str | None = None,
        threads: int | None = None,
        skip_broken: bool = False,
        progress: Progress = SILENT,
    ) -> Scores:
        """Score the best weights on a split at the pictures' own size, and keep the scores in the run folder.

        data: another data set with the same classes; None is the run's own. They are kept as `scores/SPLIT` for the
        run's own data and the default contract, otherwise as `scores/SPLIT-DATA-CONTRACT` with their hashes. `tta` (see
        `Predictor.load`) is appended where it is not the recipe's own; the scores' advice names it.
        """
        dataset = self.folder.read_dataset() if data is None else _open(data, skip_broken, progress)
        with use_threads(threads):
            predictor = self.predictor(device, tta)
            scores = evaluate(
                predictor, dataset, split=split, contract=contract, skip_broken=skip_broken, progress=progress
            )
            scores = _saying(scores, _of_tta([predictor]))
            folder = self.folder.scores(_scores_name(split, dataset, scores.contract, [predictor]))
            save_gallery(folder, predictor, dataset, scores, split=split, progress=progress)
        scores.save(folder)
        return scores

    def calibrate(
        self,
        split: str = "validation",
        *,
        data: str | Path | Dataset | None = None,
        device: str = "auto",
        threads: int | None = None,
        progress: Progress = SILENT,
    ) -> Fitted:
        """Fit the temperature anew and keep it in `model/config.json`; training does so at its end.

        Use pictures that were not trained on. Masks stay as they are; scores that are kept already do, too: only what
        is evaluated from now on says how good the new temperature is.
        """
        dataset = self.folder.read_dataset() if data is None else _open(data, False, progress)
        with use_threads(threads):
            fitted = calibrate(self.predictor(device), dataset, split=split, progress=progress)
        spec = load_spec(self.folder.model)
        save_spec(self.folder.model, spec.model_copy(update={"temperature": fitted.temperature}))
        return fitted

    def clean(
        self,
        split: str = "validation",
        *,
        data: str | Path | Dataset | None = None,
        device: str = "auto",
        threads: int | None = None,
        progress: Progress = SILENT,
    ) -> Chosen:
        """Choose how masks are cleaned, and keep it in `model/cleaning.json` if it clearly helps; else keep none.

        Use pictures that were not trained on, and not those that scores are reported on. No mask changes unless it is
        asked for (`predict --clean`, `Cleaned`).
        """
        dataset = self.folder.read_dataset() if data is None else _open(data, False, progress)
        with use_threads(threads):
            chosen = choose_cleaning(self.predictor(device), dataset, split=split, progress=progress)
        if chosen.helps:
            found = chosen.comparison
            kept = KeptCleaning(
                cleaning=chosen.cleaning,
                weights=weights_digest(self.folder.model),
                split=split,
                pictures=chosen.pictures,
                gain=found.difference,
                ci95=None if np.isnan(found.ci95[0]) else found.ci95,
                p=found.p,
            )
            save_cleaning(self.folder.model, kept)
        else:
            (self.folder.model / CLEANING).unlink(missing_ok=True)
        return chosen

    def scores(self, name: str = "test") -> Scores:
        """Scores that `evaluate` kept. Raises RunError when there are none."""
        return Scores.load(self.folder.scores(name))

    def receipt(self) -> Receipt:
        """What the run was made with, and its weights after steps 1 to 8, 16, ... Raises RunError: none, or damaged."""
        return read_receipt(self.folder.receipt_file)

    def verify(
        self,
        steps: int = 8,
        *,
        data: str | Path | None = None,
        device: str = "auto",
        threads: int | None = None,
        progress: Progress = SILENT,
    ) -> Verification:
        """Do the first steps again, beside the run, and say whether the same weights come out.

        See `maskwright.replay.verify`.
        """
        from maskwright.replay import verify

        return verify(self.folder, steps=steps, data=data, device=device, threads=threads, progress=progress)

    def kept(
        self,
        split: str = "test",
        *,
        data: str | Path | Dataset | None = None,
        contract: MetricContract = DEFAULT,
        tta: str | None = None,
        skip_broken: bool = False,
        progress: Progress = SILENT,
    ) -> Scores | None:
        """What `evaluate` with the same arguments kept, if the pictures and the weights are still the same."""
        dataset = self.folder.read_dataset() if data is None else _open(data, skip_broken, progress)
        predictor = self.predictor("cpu", tta)
        name = _scores_name(split, dataset, contract.resolved(len(dataset.classes)), [predictor])
        return _kept(self.folder.scores(name), [self.folder.model])

    def resume(
        self,
        *,
        device: str = "auto",
        threads: int | None = None,
        skip_broken: bool = False,
        progress: Progress = SILENT,
        track: Sequence[str] = (),
    ) -> Run:
        """Go on from the last save, to the same bits as if the run had never stopped.

        A finished run stays as it is where its scores and report are there; its recipe.yaml may have more epochs now,
        and `track` is heard all the same. A run in the embedded MLflow file goes on there by itself; `track` as in
        `train` names other places again.
        """
        trackers, recipe = _trackers(track), self.folder.read_recipe()
        if not trackers and (epoch := _finished(self.folder, recipe)):
            progress.say(f"{self.path} is finished (epoch {epoch})")
            return self
        dataset = self.folder.read_dataset(skip_broken=skip_broken)
        means, (init, budget) = (
            Means(device, threads, skip_broken, progress, trackers),
            _begun_with(self.folder),
        )
        return _work(self, recipe, dataset, means, init=init, budget=budget, resume=True)

    def push(self, to: str, *, private: bool = False, licence: str | None = None) -> Pushed:
        """Share the best weights as `hf:user/name`; see `maskwright.report.share`. Raises RunError."""
        from maskwright.report.share import share

        return share(self.path, to, private=private, licence=licence)

    def export(self, out: str | Path | None = None, **options: Any) -> Outcome:
        """One file from pictures to masks, with its proof: see `maskwright.api.export`."""
        return export(self.path, out, **options)

    def report(self) -> Path:
        """Write report.html (one file, opens offline) and the model card anew."""
        from maskwright.report.build import build_report

        return build_report(self.folder)


@dataclass(frozen=True)
class RunEnsemble:
    """Several runs whose probabilities are averaged."""

    runs: tuple[Run, ...]

    @property
    def name(self) -> str:
        return "+".join(run.name for run in self.runs)

    @property
    def path(self) -> Path:
        """Beside the first run, named after all of them: `runs/a+b`. It holds scores and nothing else."""
        first = self.runs[0].path
        return (first if first.name else first.resolve()).with_name(self.name)

    def predictor(self, device: str = "auto", tta: str | None = None) -> Ensemble:
        """The best weights of every run, ready for any picture. Raises RunError where their classes differ."""
        return Ensemble.load([run.path for run in self.runs], device, tta)

    def evaluate(
        self,
        split: str = "test",
        *,
        data: str | Path | Dataset | None = None,
        contract: MetricContract = DEFAULT,
        device: str = "auto",
        tta: str | None = None,
        threads: int | None = None,
        skip_broken: bool = False,
        progress: Progress = SILENT,
    ) -> Scores:
        """As `Run.evaluate`, kept under `path/scores`; their advice names the runs.

        Without `data` it is the runs' own, whose `split` must hold the same pictures for all of them: otherwise a
        member could be judged by what it was trained on, as with the validation splits of two folds. Raises RunError.
        """
        if (self.path / "recipe.yaml").is_file():
            raise RunError(
                f"the scores of {self.name} would lie in {self.path}, which is a run itself",
                "rename that run",
            )
        dataset = self._own_data(split) if data is None else _open(data, skip_broken, progress)
        with use_threads(threads):
            predictor = self.predictor(device, tta)
            scores = evaluate(
                predictor, dataset, split=split, contract=contract, skip_broken=skip_broken, progress=progress
            )
        members = predictor.members
        scores = _saying(
            scores, f"average of {', '.join(str(run.path) for run in self.runs)}", _of_tta(members)
        )
        scores.save(self.path / "scores" / _scores_name(split, dataset, scores.contract, members))
        return scores

    def scores(self, name: str = "test") -> Scores:
        """Scores that `evaluate` kept. Raises RunError when there are none."""
        return Scores.load(self.path / "scores" / name)

    def kept(
        self,
        split: str = "test",
        *,
        data: str | Path | Dataset | None = None,
        contract: MetricContract = DEFAULT,
        tta: str | None = None,
        skip_broken: bool = False,
        progress: Progress = SILENT,
    ) -> Scores | None:
        """As `Run.kept`."""
        dataset = self._own_data(split) if data is None else _open(data, skip_broken, progress)
        members = self.predictor("cpu", tta).members
        name = _scores_name(split, dataset, contract.resolved(len(dataset.classes)), members)
        return _kept(self.path / "scores" / name, [run.folder.model for run in self.runs])

    def _own_data(self, split: str) -> Dataset:
        first, *others = [(run, run.folder.read_dataset()) for run in self.runs]
        for run, dataset in others:
            if dataset.split(split) != first[1].split(split):
                raise RunError(
                    f"{first[0].path} and {run.path} have different {split} pictures, and one may have been trained on "
                    "the other's",
                    "name data that none has seen with --data",
                )
        return first[1]


def open_runs(names: str, runs: str | Path = RUNS) -> Run | RunEnsemble:
    """The run of a path or a name, or the ensemble of `RUN1+RUN2`. Raises RunError where one is not a run."""
    found = [Run.open(name, runs) for name in split_names(names, Path(runs))]
    return found[0] if len(found) == 1 else RunEnsemble(tuple(found))


@dataclass(frozen=True)
class CrossValidation:
    """K runs `path/fold-0`, ..., and the scores of all pictures, each by the model that never saw it."""

    path: Path
    runs: tuple[Run, ...]
    scores: Scores
    """Also in `path/scores/out-of-fold`."""


def train(
    recipe: Recipe | str | Path | None = None,
    data: str | Path | Dataset = "synthetic:shapes",
    overrides: Mapping[str, object] | None = None,
    name: str | None = None,
    *,
    runs: str | Path = RUNS,
    init: str | Path | None = None,
    budget: float | str | None = None,
    device: str = "auto",
    threads: int | None = None,
    skip_broken: bool = False,
    progress: Progress = SILENT,
    track: Sequence[str] = (),
) -> Run:
    """Train a model and score it on the validation split; everything lies in `runs/name` afterwards.

    recipe: a name of `maskwright recipes`, a file, or a Recipe; None takes the model's own, or that of `unet`.
    overrides: recipe keys, such as {"train.epochs": 20}. init: a run or a model folder whose weights are the start.
    budget: seconds, or text like "15m": epochs and schedule are planned to end in that time. track: "mlflow",
    "mlflow=http://host:5000" or "wandb", beside TensorBoard. Raises UserError, which says what to do, for every mistake
    in recipe, data and names.

    >>> run = train("unet", data="data/pets", overrides={"input.size": (256, 256)})
    """
    chosen, start, seconds = choose_recipe(recipe, overrides), _start(init), _seconds(budget)
    trackers = _trackers(track)
    dataset = _open(data, skip_broken, progress)
    run = Run(_begin(chosen, dataset, Path(runs), name or new_name(chosen, dataset)))
    means = Means(device, threads, skip_broken, progress, trackers)
    return _work(run, chosen, dataset, means, init=start, budget=seconds)


def finish(
    path: str | Path,
    recipe: Recipe,
    data: str | Path | Dataset,
    *,
    init: str | Path | None = None,
    budget: float | str | None = None,
    device: str = "auto",
    threads: int | None = None,
    skip_broken: bool = False,
    progress: Progress = SILENT,
) -> Run:
    """The trained run in `path`: as it lies there, gone on with where it was stopped, or new.

    Raises RunError where a run of another recipe, or of other data, lies there; the rest is as in `train`.
    """
    from maskwright.training.checkpoint import has_state

    folder = RunFolder(Path(path))
    done = (folder.scores("validation") / "scores.json").is_file()  # training ends with them
    if done or has_state(folder.checkpoints):
        if folder.read_recipe() != recipe:
            raise RunError(f"{path} is a run of another recipe", "move it away, or choose another name")
        if isinstance(data, Dataset) and folder.dataset_file.read_text(encoding="utf-8") != data.to_yaml():
            raise RunError(f"{path} is a run on other data", "move it away, or choose another name")
        if done:
            return Run(folder)
        return Run(folder).resume(device=device, threads=threads, skip_broken=skip_broken, progress=progress)
    begun = folder.recipe_file.is_file() and not folder.model.exists()
    if folder.path.is_dir() and (begun or not any(folder.path.iterdir())):
        shutil.rmtree(folder.path)  # stopped before its first save: there is nothing to go on with
    return train(
        recipe,
        data,
        name=folder.path.name,
        runs=folder.path.parent,
        init=init,
        budget=budget,
        device=device,
        threads=threads,
        skip_broken=skip_broken,
        progress=progress,
    )


def cross_validate(
    recipe: Recipe | str | Path | None = None,
    data: str | Path | Dataset = "synthetic:shapes",
    overrides: Mapping[str, object] | None = None,
    name: str | None = None,
    *,
    folds: int = 5,
    runs: str | Path = RUNS,
    init: str | Path | None = None,
    budget: float | str | None = None,
    device: str = "auto",
    threads: int | None = None,
    skip_broken: bool = False,
    progress: Progress = SILENT,
    track: Sequence[str] = (),
) -> CrossValidation:
    """`folds` runs `runs/name/fold-0`, ...: each picture of train and validation is judged by the one model that
    never saw it. Groups stay together; the test split is not touched. budget is the time of all runs together; the
    rest is as in `train`.
    """
    chosen, start, seconds = choose_recipe(recipe, overrides), _start(init), _seconds(budget)
    dataset = _open(data, skip_broken, progress)
    name = name or new_name(chosen, dataset)
    path = Path(runs) / name
    if path.exists():
        raise RunError(f"{path} exists already", "choose another name")
    means = Means(device, threads, skip_broken, progress, _trackers(track))
    share = None if seconds is None else seconds / folds
    finished = []
    for number, fold in enumerate(dataset.folds(folds, chosen.seed)):
        progress.say(f"Fold {number + 1} of {folds}")
        run = Run(_begin(chosen, fold, Path(runs), f"{name}/fold-{number}"))
        finished.append(_work(run, chosen, fold, means, init=start, budget=share))
    scores = merge([run.scores("validation") for run in finished])
    scores.save(path / "scores" / "out-of-fold")
    return CrossValidation(path, tuple(finished), scores)


def demo(
    out: str | Path | None = None,
    *,
    device: str = "auto",
    threads: int | None = None,
    progress: Progress = SILENT,
) -> Run:
    """The whole way on generated pictures: train the recipe `demo`, score it on its test split, report.

    The run is `out`, or `runs/demo`; where that is taken and was not asked for, `runs/demo-2`, and so on.
    """
    path = Path(out) if out is not None else free_path(RUNS / "demo")
    run = train(
        "demo",
        "synthetic:shapes",
        name=path.name,
        runs=path.parent,
        device=device,
        threads=threads,
        progress=progress,
    )
    run.evaluate("test", device=device, threads=threads, progress=progress)
    try:
        run.export(threads=threads, progress=progress)
    except RunError as error:  # ONNX is an extra
        progress.say(f"Not exported: {error}")
    run.report()
    return run


def export(model: str | Path, out: str | Path | None = None, **options: Any) -> Outcome:
    """One file that takes pictures and gives masks, written if the parity gate says that it is the model evaluated.

    model: a run, its name, or a model folder (then with `data`). The options and errors are those of
    `maskwright.export.export.export`. The report of the run shows the file where it lies in the run's own folder.
    """
    from maskwright.export.export import export as write
    from maskwright.report.build import build_report

    with use_threads(options.get("threads")):
        outcome = write(model, out, **options)
    if outcome.path is not None and outcome.path.parent.name == "export":
        with suppress(RunError):  # a folder of that name, but no run around it
            build_report(RunFolder.open(outcome.path.parent.parent))
    return outcome


def choose_recipe(
    recipe: Recipe | str | Path | None, overrides: Mapping[str, object] | None = None
) -> Recipe:
    """The recipe with its overrides; without one that of the model, or of `unet` where it has none.

    Raises ConfigError.
    """
    changes = flatten(overrides or {})
    if isinstance(recipe, Recipe):
        return make_recipe(flatten(recipe.model_dump()) | changes)
    if recipe is None:
        named = str(changes.get("model.name", "unet"))
        recipe = named if named in recipe_names() else "unet"
    return load_recipe(str(recipe), changes)


def new_name(recipe: Recipe, dataset: Dataset) -> str:
    """Model, data and time, as in `unet-pets-20261121-1305`."""
    return f"{recipe.model.name.replace(':', '-')}-{dataset.name}-{time.strftime('%Y%m%d-%H%M%S')}"


def free_path(path: Path) -> Path:
    """`path`, or with the first number behind it that is not taken."""
    number, free = 2, path
    while free.exists():
        number, free = number + 1, path.with_name(f"{path.name}-{number}")
    return free


def contact_sheet(dataset: Dataset, pictures: int = 24) -> Image:
    """Pictures with their masks from all over the data set, at most `pictures`."""
    items = [item for item in dataset.items if item.mask is not None] or dataset.items
    chosen = items[:: max(1, len(items) // pictures)][:pictures]
    tiles = []
    for item in chosen:
        picture = dataset.image(item, 3)
        tiles.append(picture if item.mask is None else overlay(picture, dataset.mask(item), dataset.classes))
    captions = [f"{item.id} ({item.split})" for item in chosen]
    return sheet(tiles, captions, columns=6, title=dataset.name, legend=class_legend(dataset.classes))


def augmented_sheet(
    recipe: Recipe | str | Path,
    data: str | Path | Dataset,
    *,
    pictures: int = 12,
    skip_broken: bool = False,
    progress: Progress = SILENT,
) -> Image:
    """The first training pictures of epoch 1 and their masks, as the recipe augments them at full strength."""
    from maskwright.data.store import prepare
    from maskwright.training.begin import assemble
    from maskwright.training.device import make_accelerator
    from maskwright.training.step import epoch_pictures, load_batch

    chosen, dataset = choose_recipe(recipe), _open(data, skip_broken, progress)
    store = prepare(dataset, chosen.input, skip_broken=skip_broken, progress=progress)
    machinery, _ = assemble(chosen, dataset, store, make_accelerator("cpu", "fp32"))
    rows, copies = epoch_pictures(store, chosen, 0)
    batch = load_batch(machinery, rows[:pictures], copies[:pictures], 0, 1.0)
    return batch_sheet(batch, dataset.classes, title=f"Augmented by {recipe}")


@dataclass(frozen=True)
class RunLine:
    """One line of `maskwright runs`; None where the run has not come so far."""

    name: str
    model: str
    data: str
    epochs: int
    minutes: float
    validation_dice: float | None
    test_dice: float | None


def list_runs(runs: str | Path = RUNS) -> list[RunLine]:
    """The runs in a folder and those of folds and studies within it, oldest first; what is no run is left out."""
    recipes = [*Path(runs).glob("*/recipe.yaml"), *Path(runs).glob("*/*/recipe.yaml")]
    lines = []
    for file in sorted(recipes, key=lambda file: (file.stat().st_mtime, str(file))):
        run = Run(RunFolder(file.parent))
        try:
            rows, model = run.folder.read_metrics(), run.folder.read_recipe().model.name
        except (UserError, ValueError):
            continue
        lines.append(
            RunLine(
                name=str(file.parent.relative_to(runs)),
                model=model,
                data=_data_name(run),
                epochs=len(rows),
                minutes=round(rows[-1]["seconds"] / 60, 1) if rows else 0.0,
                validation_dice=_dice(run, "validation"),
                test_dice=_dice(run, "test"),
            )
        )
    return lines


def _data_name(run: Run) -> str:
    """From dataset.yaml alone: the pictures need not be there any more."""
    try:
        said = yaml.safe_load(run.folder.dataset_file.read_text(encoding="utf-8"))
        return Path(str(said["path"])).name
    except (OSError, yaml.YAMLError, KeyError, TypeError):
        return ""


def _dice(run: Run, split: str) -> float | None:
    try:
        return run.scores(split)["dice_image"].value
    except RunError:
        return None


def _open(data: str | Path | Dataset, skip_broken: bool, progress: Progress) -> Dataset:
    if isinstance(data, Dataset):
        return data
    return open_dataset(data, skip_broken=skip_broken, progress=progress)


def _start(init: str | Path | None) -> Path | None:
    return None if init is None else find_model(init)


def _begun_with(folder: RunFolder) -> tuple[Path | None, float | None]:
    """Initial weights and budget of a run that was stopped before its first save; a save holds them otherwise."""
    from maskwright.training.checkpoint import has_state

    if has_state(folder.checkpoints) or not folder.receipt_file.is_file():
        return None, None
    receipt = read_receipt(folder.receipt_file)
    return None if receipt.init is None else find_model(receipt.init.path), receipt.budget


def _finished(folder: RunFolder, recipe: Recipe) -> int:
    """The last epoch of a run that came to its end and was judged and reported since; 0 for others."""
    from maskwright.training.checkpoint import saved_counters
    from maskwright.training.epoch import out_of_patience

    counters = saved_counters(folder.checkpoints)
    left = (folder.report_file, folder.model / "model.safetensors")
    if counters is None or not all(file.is_file() for file in left):
        return 0
    planned = counters.epoch >= recipe.train.epochs
    if counters.budget is not None:
        planned = counters.step >= counters.total_steps
    ended = planned or out_of_patience(recipe, counters)
    judged = ended and _kept(folder.scores("validation"), [folder.model]) is not None
    return counters.epoch if judged else 0


def _trackers(words: Sequence[str]) -> dict[str, str]:
    from maskwright.training.track import parse_trackers

    return parse_trackers(words)


def _seconds(budget: float | str | None) -> float | None:
    from maskwright.training.budget import parse_budget

    return parse_budget(budget) if isinstance(budget, str) else budget


def _scores_name(split: str, dataset: Dataset, contract: MetricContract, members: Sequence[Predictor]) -> str:
    """SPLIT, and what differs from the way in which the members were trained and meant to be used."""
    fingerprint, parts = dataset.fingerprint(), [split]
    own = members[0].spec.fingerprint
    if fingerprint != own or contract != DEFAULT.resolved(len(dataset.classes)):
        parts += [fingerprint, contract.hash]
    return "-".join(parts + sorted({member.tta for member in members if member.tta != member.spec.input.tta}))


def _kept(folder: Path, models: Sequence[Path]) -> Scores | None:
    """The scores in `folder`; None where there are none, or where one of the model folders holds newer weights."""
    file = folder / "scores.json"
    if not file.is_file():
        return None
    newest = max((model / "model.safetensors").stat().st_mtime_ns for model in models)
    return Scores.load(folder) if newest <= file.stat().st_mtime_ns else None


def _of_tta(members: Sequence[Predictor]) -> str:
    kinds = sorted({member.tta for member in members} - {"none"})
    return f"with test-time augmentation: {', '.join(kinds)}" if kinds else ""


def _saying(scores: Scores, *advice: str) -> Scores:
    """The scores, and before their own advice how they came about."""
    return replace(scores, advice=(*filter(None, advice), *scores.advice))


def check_recipe(recipe: Recipe, dataset: Dataset | None = None) -> None:
    """Raises ConfigError where network, heads or loss cannot be made as the recipe says. Makes them, fetches nothing.

    Without a data set, two classes are assumed, and all the targets that the recipe names.
    """
    check_levels(recipe)
    channels = recipe.input.channels
    network = recipe.model.model_copy(update={"encoder_weights": "none"})
    classes = 2 if dataset is None else len(dataset.classes)
    model = build_model(network, 3 if channels == "auto" else channels, classes)
    add_heads(model, len(recipe.loss.heads), recipe.model.name)
    targets = tuple(recipe.loss.targets) if dataset is None else dataset.targets
    make_loss(recipe.loss, None, deep_supervision=recipe.model.deep_supervision, targets=targets)


def _begin(recipe: Recipe, dataset: Dataset, runs: Path, name: str) -> RunFolder:
    """A new run folder that says what will be trained on what. The recipe is checked first: a typo must not use up
    the name. Raises ConfigError.
    """
    check_recipe(recipe, dataset)
    folder = RunFolder.create(runs, name)
    write_text(folder.recipe_file, recipe.to_yaml())
    write_text(folder.dataset_file, dataset.to_yaml())
    return folder


def _work(
    run: Run,
    recipe: Recipe,
    dataset: Dataset,
    means: Means,
    *,
    init: Path | None = None,
    budget: float | None = None,
    resume: bool = False,
) -> Run:
    """Train, then leave behind what a person wants to see: validation scores, predictions, card, report."""
    from maskwright.training.loop import train as train_loop
    from maskwright.training.track import tracking

    for note in dataset.advice:
        means.progress.say(f"Note: {note}")
    if not resume:
        facts = run_facts(dataset, recipe, budgeted=budget is not None, started=init is not None)
        for advice in lint(recipe, facts):
            means.progress.say(str(advice))
    with (
        use_threads(means.threads),
        tracking(run.folder, means.track, recipe, Logged(means.progress, run.folder.log_file)) as trackers,
    ):
        train_loop(
            recipe,
            dataset,
            run.folder,
            device=means.device,
            init=init,
            budget=budget,
            resume=resume,
            skip_broken=means.skip_broken,
            progress=means.progress,
            track=trackers.epoch,
        )
        _judge(run, dataset, means)
        run.report()
        metrics = run.scores("validation").metrics
        scores = {f"validation/{name}": score.value for name, score in metrics.items()}
        artefacts = (
            run.folder.recipe_file,
            run.folder.receipt_file,
            run.folder.model / "README.md",
            run.folder.report_file,
        )
        trackers.finish(scores, artefacts)
    return run


def _judge(run: Run, dataset: Dataset, means: Means) -> None:
    """The temperature, validation scores at native size, and predictions.png with pictures from all over that split; of
    pictures in tiles, the tile in their middle: eight whole ones would be too much for memory and eyes.
    """
    items = dataset.scored("validation")
    shown = {item.id for item in items[:: max(1, len(items) // SHOWN)][:SHOWN]}
    kept: dict[str, tuple[Picture, Mask, Mask]] = {}

    def keep(item: Item, picture: Picture, truth: Mask, prediction: Prediction) -> None:
        if item.id in shown:
            seen = item.tiles[len(item.tiles) // 2].window.slices if item.tiles else np.s_[:, :]
            kept[item.id] = (picture[seen].copy(), truth[seen].copy(), prediction.mask[seen].copy())

    run.calibrate(data=dataset, device=means.device, progress=means.progress)
    predictor, folder = run.predictor(means.device), run.folder.scores("validation")
    scores = evaluate(
        predictor,
        dataset,
        split="validation",
        skip_broken=means.skip_broken,
        progress=means.progress,
        keep=keep,
    )
    save_gallery(folder, predictor, dataset, scores, split="validation", progress=means.progress)
    scores.save(folder)
    pictures, truths, masks = zip(*kept.values(), strict=True)
    drawn = predictions_sheet(
        pictures, truths, masks, dataset.classes, list(kept), title=f"{run.name}: validation"
    )
    write_bytes(run.path / "predictions.png", png(drawn))
