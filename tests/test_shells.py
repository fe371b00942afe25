"""No shell is started, and one program alone: its words are a list."""

import ast
from pathlib import Path

import lymphtune

SOURCES = sorted(Path(lymphtune.__file__).parent.rglob("*.py"))
STARTING = {
    "system",
    "popen",
    "Popen",
    "run",
    "call",
    "check_call",
    "check_output",
    "getoutput",
    "spawn",
    "execv",
    "execvp",
}


def test_one_module_alone_starts_a_program_and_no_shell() -> None:
    starting = set()
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                assert not {"pty", "commands"} & {name.name for name in node.names}, path
            if isinstance(node, ast.ImportFrom):
                assert node.module != "subprocess", path
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                of = getattr(node.func.value, "id", "")
                assert not (of == "os" and node.func.attr in STARTING), path
                if of == "subprocess":
                    assert isinstance(node.args[0], ast.List), path
                    starting.add(path.name)
            if isinstance(node, ast.keyword):
                assert node.arg != "shell", path
    assert starting == {"platforms.py"}


def test_nothing_of_pickle_is_read() -> None:
    """torch.load takes tensors and plain values alone, numpy no objects, YAML is safe."""
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
                continue
            name = f"{getattr(node.func.value, 'id', '')}.{node.func.attr}"
            given = {word.arg: ast.unparse(word.value) for word in node.keywords}
            assert not name.startswith(("pickle.", "dill.", "joblib.", "marshal.", "shelve.")), path
            assert name != "torch.load" or given.get("weights_only") == "True", path
            assert name != "np.load" or given.get("allow_pickle") == "False", path
            assert name != "yaml.load" or ast.unparse(node.args[1]) == "_Loader", path
