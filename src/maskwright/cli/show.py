from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from maskwright.cli.answer import Answer
from maskwright.errors import RunError


def show(
    run: Annotated[
        str,
        typer.Argument(
            metavar="RUN_OR_MODEL_OR_FILE",
            help="A run, its name, a model folder, an exported file, or hf:user/name[@revision].",
        ),
    ],
) -> Answer:
    """Show the model card of a run or a model folder, or what an exported file is and the proof it carries.

    The exit code is 1 where a file is not the one that was proven, or its proof failed.
    """
    from rich.markdown import Markdown

    from maskwright.predict.exported import find_exported
    from maskwright.predict.model_folder import find_model, load_spec
    from maskwright.receipt import read_receipt, receipt_facts

    file = find_exported(run)
    if file is not None:
        return _exported(file)
    folder = find_model(run)
    spec = load_spec(folder)
    card = folder / "README.md"
    try:
        text = card.read_text(encoding="utf-8") if card.is_file() else spec.model_dump_json(indent=2)
    except UnicodeDecodeError as error:
        raise RunError(f"{card} is not UTF-8: {error}", "copy the model folder again") from error
    scores = {file.parent.name: _scores(file) for file in folder.parent.glob("scores/*/scores.json")}
    facts: dict[str, str] = {}
    with suppress(RunError):  # a model folder alone has none, nor have old runs
        facts = receipt_facts(read_receipt(folder.parent / "receipt.json"))
    document = {"model": folder, "spec": spec.model_dump(mode="json"), "scores": scores, "receipt": facts}
    return Answer(document, Markdown(text.partition("\n---\n")[2] or text))


def _scores(file: Path) -> object:
    """Raises RunError."""
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError is a ValueError
        raise RunError(f"{file} is damaged: {error}", "run `maskwright evaluate` again") from error


def _exported(file: Path) -> Answer:
    """An exported file. Nothing in it is run."""
    from rich.console import Group, RenderableType

    from maskwright.cli.answer import table
    from maskwright.cli.proof import proof_table
    from maskwright.export.words import proof_notes
    from maskwright.predict.passport import digest_of, read_passport

    passport = read_passport(file)
    proof, unchanged = passport.proof, digest_of(file) == passport.digest
    genuine = proof is not None and proof.passed and unchanged
    spec = passport.spec
    height, width = spec.input.size
    sees = "at its own size" if spec.input.fit == "crop" else f"at {height} x {width} ({spec.input.fit})"
    facts = {
        "Run": passport.run,
        "Network": f"{spec.model.name}, sees a picture {sees}, {spec.input.normalise} normalisation",
        "Precision": passport.precision,
        "Classes": ", ".join(spec.classes),
        "Looks": "once" if passport.tta == "none" else f"several times ({passport.tta})",
        "Threshold, temperature": f"{spec.threshold:g}, {spec.temperature:.3f}",
        "Trained on": f"data of fingerprint {spec.fingerprint}",
        "Dice per picture": ", ".join(
            f"{split} {value:.4f}" for split, value in passport.scores.items() if value is not None
        ),
        "Made with": ", ".join(f"{name} {number}" for name, number in passport.versions.items()),
    } | {f"Run: {label}": value for label, value in passport.receipt.items()}
    lines: list[RenderableType] = [table(("file", str(file)), facts.items())]
    if proof is None:
        lines.append("It carries no proof.")
    else:
        lines.append("Its proof:" if genuine else "Its proof does not hold for this file:")
        lines += [proof_table(proof), *proof_notes(passport, proof)]
    if proof is not None and not unchanged:
        lines.append("The file was changed after it was proven: export it again.")
    document = {"file": file, "genuine": genuine, "passport": passport.model_dump(mode="json")}
    return Answer(document, Group(*lines), code=0 if genuine else 1)
