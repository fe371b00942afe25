"""The folder of somebody else's run: what no search writes is refused in one line, and no name in it is a way out."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import lymphtune
from lymphtune.cli import main
from lymphtune.ensembling.commands import search_command
from lymphtune.errors import InputError
from lymphtune.files import read_yaml, write_yaml
from lymphtune.runs.description import RunDescription, StoppingDescription
from lymphtune.runs.run import Run, stopping_text
from lymphtune.searching.description import settings_of, space_of, stages_of
from lymphtune.searching.progress import status_text, status_values

HOSTILE = [
    None,
    [],
    {},
    [[]],
    "",
    "../../x",
    "x" * 20_000,
    -1,
    10**12,
    0.5,
    float("nan"),
    True,
    "\x1b[2J",
    {"a": {"b": []}},
]


@pytest.fixture
def run(searched: Run, tmp_path: Path) -> Run:
    return Run(Path(shutil.copytree(searched.path, tmp_path / "runs" / "theirs")))


def leaves(value: Any, path: tuple = ()) -> list[tuple]:
    """Return the way to each mapping, list and value."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else []
    return [path, *(leaf for key, item in inner for leaf in leaves(item, (*path, key)))]


def with_value(value: Any, path: tuple, new: Any) -> Any:
    if not path:
        return new
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = with_value(copy[path[0]], path[1:], new)
    return copy


def without(value: Any, path: tuple) -> Any:
    if len(path) == 1:
        return {key: item for key, item in value.items() if key != path[0]} if isinstance(value, dict) else []
    return with_value(value, path[:1], without(value[path[0]], path[1:]))


def read_all(run: Run) -> None:
    """Read what status, resume, report and ensemble read of run.yaml."""
    for read in (status_text, status_values, lambda run: settings_of(run, {}), space_of, stages_of):
        try:
            read(run)
        except InputError as error:
            assert "\n" not in str(error)
    search_command(run.description)


@pytest.mark.parametrize("every", [8, pytest.param(1, marks=pytest.mark.slow)])
def test_a_description_of_any_kind_is_read_or_refused(every: int, run: Run) -> None:
    """Each part of run.yaml in turn (the quick suite: one in eight) is taken out, or made what it should not be."""
    (run.path / "leaderboard.parquet").unlink()  # which takes time to read
    sound, refused = read_yaml(run.path / "run.yaml"), 0
    parts = [leaf for leaf in leaves(sound) if leaf and "choose" not in leaf]
    for number, path in list(enumerate(parts))[::every]:
        for new in [
            without(sound, path),
            *(with_value(sound, path, HOSTILE[(number + n) % len(HOSTILE)]) for n in (0, 5)),
        ]:
            write_yaml(run.path / "run.yaml", new)
            try:
                read_all(run)
            except InputError:
                refused += 1
    assert refused > 50 / every


@pytest.mark.parametrize("name", ["driver.json", "progress.json"])
@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[" * 100_000,
        "[]",
        "3",
        '{"pid": 1}',
        '{"time": 3, "trials": [], "running": 5}',
        '{"time": "2026-01-01T00:00:00", "trials": {}, "running": [], "share": 0.5, "left": {"low_s": 1}}',
        '{"time": "2026-01-01", "trials": {}, "running": [], "share": 0.5, "left": {"low_s": 1, "high_s": Infinity}}',
    ],
)
def test_a_progress_of_any_kind_is_read_or_left_out(name: str, text: str, run: Run) -> None:
    (run.path / name).write_text(text)
    description = read_yaml(run.path / "run.yaml") | {"status": "running"}
    write_yaml(run.path / "run.yaml", description)
    assert status_text(run).startswith("theirs: ") and status_values(run)["name"] == "theirs"


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("trial", "../../../elsewhere"),
        ("trial", "/etc"),
        ("trial", ""),
        ("trial", 3),
        ("epoch", "1"),
        ("epoch", 0.5),
        ("log_loss", "x"),
        ("status", 1),
        ("title", "x" * 20_000),
        ("best_epoch_picked", 1),
        ("kind", None),
    ],
)
def test_a_leaderboard_that_no_search_writes_is_refused(column: str, value: Any, run: Run, capsys: Any) -> None:
    board = pd.read_parquet(run.path / "leaderboard.parquet")
    board.assign(**{column: value}).to_parquet(run.path / "leaderboard.parquet")
    for command in (["ensemble", "--top", "2"], ["report"], ["stability"]):
        assert main([*command, "--run", "theirs", "--runs", str(run.path.parent)]) == 2
        said = capsys.readouterr().err
        assert said.count("\n") == 1 and "search again" in said


def test_a_trial_s_name_is_no_way_out(run: Run) -> None:
    for name in ("..", "../x", "/etc", "a/b", "", "a" * 65, "a\0", "a.b"):
        with pytest.raises(InputError, match="names no trial"):
            run.trial(name)


def test_a_link_to_another_file_is_not_copied_into_an_ensemble(run: Run, tmp_path: Path) -> None:
    """Whoever passes the ensemble on would pass the file on."""
    secret = tmp_path / "secret"
    secret.write_text("secret")
    for weights in run.path.glob("trials/*/weights"):
        (weights / "backbone.safetensors").symlink_to(secret)
    with pytest.raises(InputError, match="a symbolic link out of"):
        lymphtune.ensemble(run=run.path, top=1)
    assert not any(b"secret" in path.read_bytes() for path in run.path.rglob("ensembles/**/*") if path.is_file())


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("folds.parquet", lambda t: t.assign(fold="x")),
        ("folds.parquet", lambda t: t.drop(columns="patient")),
        ("folds.parquet", lambda t: t.assign(repeat=np.nan)),
        ("folds.parquet", lambda t: t.assign(patient=3)),
        ("oof.parquet", lambda t: t.assign(probability="x")),
        ("oof.parquet", lambda t: t.assign(probability=np.nan)),
        ("oof.parquet", lambda t: t.assign(epoch="x")),
        ("oof.parquet", lambda t: t.assign(patient=3)),
        ("oof.parquet", lambda t: t.assign(fold=[[1]] * len(t))),
        ("oof.parquet", lambda t: t[:0]),
    ],
)
def test_tables_that_no_search_writes_are_refused(name: str, change: Callable, run: Run, capsys: Any) -> None:
    for path in run.path.rglob(name):
        if "ensembles" not in path.parts:
            change(pd.read_parquet(path)).to_parquet(path)
    assert main(["ensemble", "--top", "2", "--run", "theirs", "--runs", str(run.path.parent)]) == 2
    assert [line for line in capsys.readouterr().err.splitlines() if line.startswith("lymphtune: ")]


def described(**values: Any) -> RunDescription:
    cohort = {"name": "made up", "simulated": False, "data": "; id", "hash": "0", "reference_date": "2020-01-01"}
    protocol = dict.fromkeys(("trials", "epochs", "folds", "repeats", "seed"), 1)
    parts = {"created": "now", "cohort": cohort, "protocol": protocol, "space": {"name": "$(id)"}}
    return RunDescription.model_validate(parts | values)


def test_a_command_of_somebody_else_s_is_quoted_anew() -> None:
    typed = "lymphtune search --space mixed; rm -rf ~ `id` $(id) \n > x"
    assert (
        search_command(described(command=typed)) == "lymphtune search --space 'mixed;' rm -rf '~' '`id`' '$(id)' '>' x"
    )
    for other in ("rm -rf ~", "lymphtune 'search", ""):
        made = search_command(described(command=other))
        assert made.startswith("lymphtune search --space '$(id)' --data '; id' --trials 1")


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    "name",
    ["run.yaml", "driver.json", "progress.json", "leaderboard.parquet", "folds.parquet", "oof.parquet", "config.yaml"],
)
def test_a_pipe_in_the_place_of_a_file_is_not_waited_for(name: str, run: Run, capsys: Any) -> None:
    for path in run.path.rglob(name):
        path.unlink()
        os.mkfifo(path)
    commands = [["status", "theirs"], ["runs"]]
    if not name.endswith(".json"):  # which these do without
        commands += [["stability", "--run", "theirs"], ["ensemble", "--run", "theirs"]]
    for command in commands:
        assert main([*command, "--runs", str(run.path.parent)]) in (0, 2)


NONE = "no trial was stopped early"


@pytest.mark.parametrize(
    ("counts", "text"),
    [
        (None, "asha"),
        ({"rungs": 0, "decided": 0, "stopped": 0}, "none"),
        ({"rungs": 3, "decided": 0, "stopped": 0}, f"asha, which decided at none of its 3 rungs: {NONE}"),
        ({"rungs": 1, "decided": 1, "stopped": 0}, "asha, which decided at 1 of its 1 rung and stopped 0 trials"),
        ({"rungs": 3, "decided": 2, "stopped": 1}, "asha, which decided at 2 of its 3 rungs and stopped 1 trial"),
    ],
)
def test_early_stopping_is_not_named_without_what_it_did(counts: dict[str, int] | None, text: str) -> None:
    assert stopping_text("asha", counts and StoppingDescription(**counts)) == text
