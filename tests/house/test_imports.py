"""The house rules that can be read off the source: imports point upstream, nothing unpickles, nothing prints."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import maskwright

PACKAGE = Path(maskwright.__path__[0])
ORDER = (
    "errors",
    "tensors",
    "progress",
    "files",
    "folds",
    "versioned",
    "config",
    "fit",
    "data",
    "augment",
    "models",
    "losses",
    "metrics",
    "draw",
    "pages",
    "predict",
    "evaluation",
    "calibrate",
    "runfolder",
    "receipt",
    "training",
    "replay",
    "lint",
    "compare",
    "cleaning",
    "export",
    "contest",
    "audit",
    "report",
    "api",
    "triage",
    "study",
    "cli",
    "__main__",
)
"""A module imports from its own folder and from what stands before it."""

LAZY = {
    "matplotlib",
    "timm",
    "segmentation_models_pytorch",
    "accelerate",
    "tensorboard",
    "jinja2",
    "rich",
    "mlflow",
    "optuna",
}
"""Slow to import: only inside functions."""

WITHOUT_TORCH = ("errors", "progress", "files", "config", "data.classes", "cli.main")

RUNNER = PACKAGE / "export" / "run.py"
"""A script that is copied beside an exported model and stands on its own there: it prints and exits as scripts do."""

SOURCES = sorted(PACKAGE.rglob("*.py"))


def name_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


def only_for_types(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def imports(tree: ast.AST, *, in_functions: bool) -> Iterator[str]:
    """Full dotted names of all that is imported when the code runs."""
    for node in ast.iter_child_nodes(tree):
        if only_for_types(node):
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute here"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        if in_functions or not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield from imports(node, in_functions=in_functions)


def upstream_faults(name: str, tree: ast.AST) -> list[str]:
    """What module `name` imports although it stands later in the order."""
    here = name.partition(".")[0]
    if not here:  # the package itself forwards names lazily
        return []
    names = [target for target in imports(tree, in_functions=True) if target.startswith("maskwright.")]
    folders = [target.split(".")[1] for target in names]
    allowed = (*ORDER[: ORDER.index(here) + 1], "__version__")
    return [
        f"{name} imports {target}"
        for target, folder in zip(names, folders, strict=True)
        if folder not in allowed
    ]


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_imports_point_upstream(path: Path) -> None:
    assert upstream_faults(name_of(path), ast.parse(path.read_text())) == []


def test_a_downstream_import_is_found_even_inside_a_function() -> None:
    code = "def f():\n    from maskwright.training.loop import train\n"
    assert upstream_faults("data.store", ast.parse(code)) == [
        "data.store imports maskwright.training.loop.train"
    ]
    assert upstream_faults("api", ast.parse(code)) == []


def test_no_module_imports_itself_around_a_corner() -> None:
    modules = {name_of(path) for path in SOURCES}
    edges: dict[str, set[str]] = {}
    for path in SOURCES:
        found = imports(ast.parse(path.read_text()), in_functions=True)
        named = [target.removeprefix("maskwright.") for target in found if target.startswith("maskwright.")]
        inside = {target if target in modules else target.rpartition(".")[0] for target in named}
        edges[name_of(path)] = inside & modules - {name_of(path), ""}
    edges[""] = set()
    while leaves := [name for name, targets in edges.items() if not targets]:
        for leaf in leaves:
            del edges[leaf]
        edges = {name: targets.difference(leaves) for name, targets in edges.items()}
    assert not edges, f"these import each other: {edges}"


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_slow_packages_are_imported_inside_functions(path: Path) -> None:
    found = {target.partition(".")[0] for target in imports(ast.parse(path.read_text()), in_functions=False)}
    assert not found & LAZY


@pytest.mark.parametrize("name", WITHOUT_TORCH)
def test_cheap_modules_do_not_reach_torch(name: str) -> None:
    seen: set[str] = set()
    waiting = [name]
    while waiting:
        module = waiting.pop()
        path = PACKAGE.joinpath(*module.split("."))
        file = path.with_suffix(".py") if path.with_suffix(".py").is_file() else path / "__init__.py"
        if module in seen or not file.is_file():
            continue
        seen.add(module)
        for target in imports(ast.parse(file.read_text()), in_functions=False):
            assert target.partition(".")[0] != "torch", f"{module} imports torch"
            if target.startswith("maskwright."):
                inner = target.removeprefix("maskwright.")
                waiting += [inner, inner.rpartition(".")[0]]
    assert seen


def calls(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func)


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_nothing_that_a_stranger_sent_is_unpickled(path: Path) -> None:
    tree = ast.parse(path.read_text())
    modules = {target.partition(".")[0] for target in imports(tree, in_functions=True)}
    assert not modules & {"pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"}
    assert "torch.load" not in set(calls(tree))
    allowed = [
        node for node in ast.walk(tree) if isinstance(node, ast.keyword) and node.arg == "allow_pickle"
    ]
    assert all(isinstance(keyword.value, ast.Constant) and not keyword.value.value for keyword in allowed)
    assert "yaml.load" not in set(calls(tree)), "yaml.safe_load"


@pytest.mark.parametrize(
    "path", [path for path in SOURCES if "cli" not in path.parts and path != RUNNER], ids=name_of
)
def test_the_library_neither_prints_nor_exits(path: Path) -> None:
    assert not {"print", "sys.exit", "exit", "os._exit"} & set(calls(ast.parse(path.read_text())))
