"""The picture holds: imports go down only, heavy packages stay where they belong, members stand alone."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import lymphtune
from lymphtune import registry

ROOT = Path(lymphtune.__file__).parent
FLOORS = {
    "__main__": 10,
    "cli": 9,
    "reporting": 8,
    "cluster": 8,
    "ensembling": 7,
    "searching": 7,
    "training": 6,
    "shortcuts": 6,
    "doctor": 6,
    "combiners": 6,
    "calibrations": 6,
    "statistics": 5,
    "cohort": 4,
    "models": 3,
    "spaces": 2,
    "config": 2,
    "runs": 2,
    "arguments": 1,
    "console": 1,
    "errors": 1,
    "files": 1,
    "findings": 1,
    "masking": 1,
    "platforms": 1,
    "registry": 1,
    "result": 1,
    "scratch": 1,
    "times": 1,
    "versions": 1,
}
LEVEL = 2  # up to this floor modules of one floor may import each other
MODULES = {
    ".".join(path.relative_to(ROOT.parent).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(ROOT.rglob("*.py"))
}
FAMILIES = [value.package for value in vars(registry).values() if isinstance(value, registry.Family)]


def imports(name: str, top_only: bool = False) -> Iterator[str]:
    """Yield the full names a module imports, typing-only ones left out; `top_only`: not those in functions."""
    nodes: list[ast.AST] = [ast.parse(MODULES[name].read_text(encoding="utf-8"))]
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if top_only and isinstance(node, ast.FunctionDef):
            continue
        nodes.extend(ast.iter_child_nodes(node))
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name}: relative import"
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                yield whole if whole in MODULES else str(node.module)


def part(name: str) -> str:
    """Return the first step below the package: `models` of lymphtune.models.encoders.resnet."""
    return name.removeprefix("lymphtune").strip(".").split(".")[0]


def ours(name: str) -> list[str]:
    return [found for found in imports(name) if found == "lymphtune" or found.startswith("lymphtune.")]


def test_every_part_has_a_floor() -> None:
    assert {part(name) for name in MODULES if part(name)} == set(FLOORS)


def test_imports_go_down() -> None:
    wrong = []
    for name, found in [(module, found) for module in MODULES if part(module) for found in ours(module)]:
        mine, theirs = part(name), part(found)
        if theirs not in ("", mine):
            sideways = FLOORS[theirs] == FLOORS[mine] > LEVEL
            if FLOORS[theirs] > FLOORS[mine] or sideways:
                wrong.append(f"{name} imports {found}")
    assert wrong == []


def test_no_modules_import_each_other_in_a_circle() -> None:
    """Imports within functions count: a circle that is hidden there is one all the same."""
    below = {name: {found for found in ours(name) if found != name} for name in MODULES}
    while leaves := {name for name, found in below.items() if not found & set(below)}:
        below = {name: found for name, found in below.items() if name not in leaves}
    assert sorted(below) == []


def test_ray_and_torch_stay_where_they_belong() -> None:
    wrong = []
    for name in MODULES:
        used, at_top = (heavy(imports(name, top_only)) for top_only in (False, True))
        allowed = {"cluster": {"ray", "torch"}, "models": {"torch", "timm"}, "training": {"torch"}}
        wrong += [f"{name} imports {found}" for found in used - allowed.get(part(name), set())]
        if part(name) == "cluster" and "torch" in at_top:
            wrong.append(f"{name} imports torch before it trains")
    assert wrong == []


def heavy(names: Iterator[str]) -> set[str]:
    return {name.split(".")[0] for name in names} & {"ray", "torch", "torchvision", "timm"}


def test_members_do_not_know_each_other() -> None:
    for family in FAMILIES:
        members = [name for name in MODULES if name.startswith(f"{family}.")]
        assert members
        assert [(name, found) for name in members for found in ours(name) if found.startswith(f"{family}.")] == []


def test_the_command_line_starts_light() -> None:
    heavy = "{'numpy', 'pandas', 'torch', 'ray', 'sklearn', 'pyarrow', 'PIL', 'pydantic'}"
    code = f"import sys, lymphtune.cli; print(sorted({heavy} & set(sys.modules)))"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert said.stdout.strip() == "[]"
