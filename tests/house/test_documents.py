"""README, CONTRIBUTING and the guide name only what exists: verbs, options, recipes, make targets, files."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import typer.main

from maskwright.cli.main import app
from maskwright.config import recipe_keys, recipe_names

ROOT = Path(__file__).resolve().parents[2]
RECIPES = sorted((ROOT / "src/maskwright/recipes").rglob("*.yaml"))
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def commands(page: Path) -> list[str]:
    """Lines of code blocks and words in backticks that call maskwright, without comments; a recipe's header."""
    text = page.read_text()
    if page.suffix == ".yaml":
        return re.findall(r"^# Command:  (.*)$", text, re.MULTILINE)
    lines = [line for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL) for line in block.splitlines()]
    prose = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    lines += [" ".join(inline.split()) for inline in re.findall(r"`(maskwright [^`]+)`", prose)]
    return [line.partition("#")[0].strip() for line in lines if line.startswith("maskwright ")]


@pytest.mark.parametrize(
    ("page", "line"),
    [(page.name, line) for page in (*PAGES, *RECIPES) for line in commands(page)],
    ids=lambda value: value,
)
def test_commands_parse(page: str, line: str) -> None:
    command, words = typer.main.get_command(app), shlex.split(line)[1:]
    if "VERB" in words or words == ["--help"]:
        return
    while words and words[0] in getattr(command, "commands", {}):
        command = command.commands[words.pop(0)]  # type: ignore[attr-defined]
    assert not hasattr(command, "commands"), f"no such verb: {line}"
    if words:  # otherwise it is only mentioned
        command.make_context(line, words)


def test_there_are_commands_to_check() -> None:
    assert sum(len(commands(page)) for page in PAGES) > 20


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_make_targets_exist(page: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = re.findall(r"^make ([a-z-]+)|`make\s+([a-z\s-]+)`", page.read_text(), re.MULTILINE)
    assert {word for words in named for word in " ".join(words).split()} <= targets


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", page.read_text())
    assert [link for link in links if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_recipe_keys_and_names_exist(page: Path) -> None:
    text = page.read_text()
    sections = {key.partition(".")[0] for key in recipe_keys() if "." in key}
    named = re.findall(rf"\b((?:{'|'.join(sections)})\.[a-z_]+)\b", text)
    files = (".md", ".py", ".safetensors", ".onnx")
    assert {key for key in named if not key.endswith(files)} <= set(recipe_keys())
    assert set(re.findall(r"--recipe ([a-z][\w/-]+)", text)) <= set(recipe_names())


def test_recipes_say_how_they_are_run() -> None:
    for name in recipe_names():
        header = (ROOT / "src/maskwright/recipes" / f"{name}.yaml").read_text().partition("\n\n")[0]
        assert header.startswith("# ")
        own = "demo" if name == "demo" else f"train --data [^ ]+ --recipe {name}"
        assert re.search(rf"^# Command:  maskwright {own}( |$)", header, re.MULTILINE), name
        wanted = ("Hardware", "Minutes", "Score") if "/" in name else ("Hardware", "Score")
        for label in wanted:
            assert re.search(rf"^# {label + ':':<9} \S", header, re.MULTILINE), (name, label)
        keys = re.findall(r"\b([a-z]+\.[a-z_]+)=", header)
        assert set(keys) <= set(recipe_keys()), name
