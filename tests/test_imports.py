"""Dependencies point down one list of layers; modules of one layer do not import each other in a circle."""

import ast
import sys
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LAYERS = [  # from the top; a module imports its own layer and those below it
    ["lam.cli", "lam.short_help", "lam.__main__"],
    ["lam.report"],
    ["lam.policies", "lam.language"],
    ["lam.control"],
    ["lam.viz"],
    ["lam.evals"],
    ["lam.runs"],
    ["lam.models"],
    ["lam.bottlenecks", "lam.encoders", "lam.simulators"],
    ["lam.data", "lam.metrics"],
    ["lam.optimizers", "lam.noise", "lam.distributed", "lam.io"],
]
PREPARATION_READS = ["lam.data", "lam.io"]  # the format of shards and its codecs; whole files
PREPARATION_RUNS = {  # by commands that are loaded when they are asked for
    "data_prep.pipeline.cache_features": "lam.encoders",
    "data_prep.sim": "lam.simulators",
}
SIBLINGS = 17  # files and folders of a folder; py.typed is a mark


def modules() -> dict[str, Path]:
    """Return every module by its dotted name."""
    paths = [path for package in ("lam", "data_prep") for path in (ROOT / package).rglob("*.py")]
    names = {path: ".".join(path.relative_to(ROOT).with_suffix("").parts) for path in paths}
    return {name.removesuffix(".__init__"): path for path, name in names.items()}


MODULES = modules()


@cache
def imports(name: str, lazy: bool) -> frozenset[str]:
    """Return the project's modules that a module imports, for type checkers too; if lazy, also later, in functions."""
    found: set[str] = set()

    def visit(node: ast.AST) -> None:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not lazy:
            return
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names if alias.name in MODULES)
        if isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{name} has a relative import"
            whole = [f"{node.module}.{alias.name}" for alias in node.names]
            found.update(module if module in MODULES else node.module for module in whole)
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(ast.parse(MODULES[name].read_text()))
    return frozenset(found & MODULES.keys()) - {name}


def within(name: str, package: str) -> bool:
    return name == package or name.startswith(package + ".")


def layer(name: str) -> int:
    """Return the place of a module's layer in the list, 0 at the top."""
    found = [place for place, packages in enumerate(LAYERS) if any(within(name, package) for package in packages)]
    assert len(found) == 1, f"{name} is in no layer. Add its folder to LAYERS."
    return found[0]


def test_no_module_imports_from_a_layer_above_it():
    # the package itself only says where its public names are
    ours = [name for name in MODULES if within(name, "lam") and name != "lam"]
    upward = [
        f"{name} imports {target}"
        for name in ours
        for target in sorted(imports(name, lazy=True))
        if target != "lam" and (within(target, "data_prep") or layer(target) < layer(name))
    ]
    assert upward == []


def test_data_preparation_knows_the_format_of_shards_alone():
    allowed = {name: ["data_prep", *PREPARATION_READS] for name in MODULES if within(name, "data_prep")}
    for name, packages in allowed.items():
        packages += [package for command, package in PREPARATION_RUNS.items() if within(name, command)]
    strangers = [
        f"{name} imports {target}"
        for name, packages in allowed.items()
        for target in sorted(imports(name, lazy=True))
        if not any(within(target, package) for package in packages)
    ]
    assert strangers == []


def test_no_modules_import_each_other_in_a_circle():
    # the package itself only says where its public names are
    graph = {name: imports(name, lazy=False) - {"lam"} for name in MODULES if name != "lam"}
    done: set[str] = set()
    circles: list[str] = []

    def follow(name: str, path: list[str]) -> None:
        if name in path:
            circles.append(" -> ".join([*path[path.index(name) :], name]))
        elif name not in done:
            for target in sorted(graph[name]):
                follow(target, [*path, name])
            done.add(name)

    sys.setrecursionlimit(10_000)
    for name in sorted(graph):
        follow(name, [])
    assert circles == []


def test_no_folder_has_more_siblings_than_one_takes_in_at_a_glance():
    folders = {path.parent for path in MODULES.values()}
    crowded = {
        str(folder.relative_to(ROOT)): count
        for folder in folders
        if (count := sum(1 for item in folder.iterdir() if item.name[:2] != "__" and item.name != "py.typed")) > SIBLINGS
    }
    assert crowded == {}


def test_every_class_name_has_one_meaning():
    homes: dict[str, list[str]] = {}
    for name, path in MODULES.items():
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                homes.setdefault(node.name, []).append(name)
    assert {name: places for name, places in homes.items() if len(places) > 1} == {}
