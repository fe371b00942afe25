"""The command line: every command, its help, and bad input in one line with exit code 2."""

import csv
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml
from PIL import Image

from lymphtune.cli import main, parser
from lymphtune.runs.run import Run

COMMANDS = parser()._subparsers._group_actions[0].choices  # type: ignore[union-attr]
CSV = "clinical_annotation.csv"


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """Return the one line with which the command refuses."""
    assert main([str(argument) for argument in arguments]) == 2
    said = capsys.readouterr()
    lines = [line for line in said.err.splitlines() if line.startswith("lymphtune: ")]
    assert said.out == "" and len(lines) == 1 and "Traceback" not in said.err
    return lines[0]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    assert ended.value.code == 0
    assert f"example:\n  lymphtune {command}" in capsys.readouterr().out


def test_refusals_of_the_parser_are_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    for given, said in (
        (["search", "--trials", "x"], "lymphtune search: argument --trials: invalid int value: 'x'; see `lymphtune "),
        (["submit"], "lymphtune submit: the following arguments are required: --check; see `lymphtune submit --help`"),
        (["serch"], "lymphtune: argument COMMAND: invalid choice: 'serch'"),
    ):
        with pytest.raises(SystemExit) as ended:
            main(given)
        (line,) = capsys.readouterr().err.splitlines()
        assert ended.value.code == 2 and line.startswith(said)


def test_exit_codes_are_explained(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    said = capsys.readouterr().out
    codes = [line.split()[0] for line in said.split("exit codes:")[1].splitlines() if line]
    assert codes == ["0", "1", "2", "3", "130"]


def test_help_imports_nothing_heavy() -> None:
    heavy = "{'ray', 'torch', 'pandas', 'numpy', 'sklearn', 'rich', 'shtab'}"
    code = f"import sys, lymphtune.cli; lymphtune.cli.parser(); sys.exit(len({heavy} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_search_ensemble_predict_from_the_command_line(
    tiny_cohort_folder: Path,
    tmp_path: Path,
    ray_session: None,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["search", "--space", "tiny", "--data", str(tiny_cohort_folder), "--trials", "2", "--epochs", "2"]) == 0
    said = capsys.readouterr()
    assert "clinical logistic (baseline)" in said.out and "busy: " in said.err
    assert all(len(line) <= 80 for line in said.out.splitlines())
    assert main(["ensemble", "--top", "2"]) == 0
    submission = Path(capsys.readouterr().out.splitlines()[-1])
    assert list(pd.read_csv(submission).columns) == ["ID", "Predicted"]
    assert main(["simulate", "new", "--patients", "10", "--cells", "3", "--seed", "5"]) == 0
    assert main(["predict", "--ensemble", str(submission.parent), "--data", "new", "--cells"]) == 0
    assert len(pd.read_csv("predictions/submission.csv")) == 10
    assert pd.read_parquet("predictions/cells.parquet")["patient"].nunique() == 10
    known = ["--data", str(tiny_cohort_folder), "--out", "known"]
    assert main(["predict", "--ensemble", str(submission.parent), *known]) == 2
    assert main(["predict", "--ensemble", str(submission.parent), *known, "--allow-seen"]) == 0
    assert pd.read_parquet("known/predictions.parquet")["seen"].sum() == 12
    assert main(["runs"]) == 0
    assert "2 trials  tiny" in capsys.readouterr().out


def test_spaces_and_recipes_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["spaces"]) == 0
    assert {line.split()[0] for line in capsys.readouterr().out.splitlines()} >= {"mixed", "images", "study", "tiny"}
    assert main(["spaces", "mixed", "--sample", "3"]) == 0
    assert len(list(yaml.safe_load_all(capsys.readouterr().out.replace("\n# ", "\n---\n# ")))) == 3
    assert main(["recipes"]) == 0
    assert {line.split()[0] for line in capsys.readouterr().out.splitlines()} >= {"top", "greedy", "stack", "blend"}


def test_pack_is_accepted_wherever_a_folder_is(
    tiny_cohort_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    packed = tmp_path / "tiny.parquet"
    assert main(["pack", str(tiny_cohort_folder), str(packed)]) == 0
    assert main(["search", "--space", "tiny", "--data", str(packed), "--trials", "1", "--dry-run"]) == 0
    assert "12 labelled patients, 3 to predict" in capsys.readouterr().out


@pytest.mark.slow
def test_without_data_the_simulated_cohort_is_used_and_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["search", "--space", "clinical", "--trials", "1", "--dry-run"]) == 0
    said = capsys.readouterr()
    assert "SIMULATED" in said.err and "SIMULATED" in said.out


class TestBadInput:
    """Nothing is started, nothing is written."""

    @pytest.fixture
    def search(self, tiny_cohort_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):  # type: ignore[no-untyped-def]
        self.folder, self.runs = tiny_cohort_folder, tmp_path / "runs"

        def call(*more: object, data: object = None) -> str:
            given = ("search", "--space", "tiny", "--data", data or self.folder, "--runs", self.runs, *more)
            line = refused(capsys, *given)
            assert not self.runs.exists()
            return line

        return call

    def rewrite(self, change) -> None:  # type: ignore[no-untyped-def]
        """Pass the rows of the csv, header first, through `change`."""
        with (self.folder / CSV).open(newline="") as file:
            rows = list(csv.reader(file))
        rows = change(rows) or rows
        with (self.folder / CSV).open("w", newline="") as file:
            csv.writer(file).writerows(rows)

    def set(self, column: str, value: str, row: int = 1) -> None:
        def change(rows: list[list[str]]) -> None:
            rows[row][rows[0].index(column)] = value

        self.rewrite(change)

    def first_picture(self) -> Path:
        return sorted((self.folder / "trainset").rglob("*.jpg"))[0]

    def test_no_such_folder(self, search) -> None:  # type: ignore[no-untyped-def]
        assert "nowhere: no such file or folder" in search(data="nowhere")

    def test_an_unknown_scheduler(self, search) -> None:  # type: ignore[no-untyped-def]
        assert "scheduler: 'ahsa'; there are asha, median, none" in search("--scheduler", "ahsa", "--racing")

    def test_a_csv_without_label(self, search) -> None:  # type: ignore[no-untyped-def]
        self.rewrite(lambda rows: [[cell for i, cell in enumerate(row) if i != 2] for row in rows])
        assert "LABEL" in search()

    def test_a_duplicate_id(self, search) -> None:  # type: ignore[no-untyped-def]
        self.rewrite(lambda rows: [*rows, rows[1]])
        assert "row 17" in search()

    def test_an_id_without_pictures(self, search) -> None:  # type: ignore[no-untyped-def]
        shutil.rmtree(self.folder / "trainset" / "P1")
        assert "P1" in search()

    def test_a_folder_without_a_row(self, search) -> None:  # type: ignore[no-untyped-def]
        shutil.copytree(self.folder / "trainset" / "P1", self.folder / "trainset" / "P99")
        assert "P99" in search()

    def test_a_truncated_picture(self, search) -> None:  # type: ignore[no-untyped-def]
        picture = self.first_picture()
        picture.write_bytes(picture.read_bytes()[:500])
        line = search()
        assert picture.name in line and "truncated" in line

    def test_a_huge_picture(self, search) -> None:  # type: ignore[no-untyped-def]
        Image.new("RGB", (6000, 6000)).save(self.first_picture())
        assert "6000" in search()

    @pytest.mark.parametrize("mode", ["L", "CMYK"])
    def test_a_picture_without_rgb_is_converted_and_said(
        self,
        mode: str,
        search,
        capsys: pytest.CaptureFixture[str],  # type: ignore[no-untyped-def]
    ) -> None:
        with Image.open(self.first_picture()) as picture:
            picture.convert(mode).save(self.first_picture())
        assert main(["search", "--space", "tiny", "--data", str(self.folder), "--dry-run", "--trials", "1"]) == 0
        assert "RGB" in capsys.readouterr().err

    def test_an_unreadable_date(self, search) -> None:  # type: ignore[no-untyped-def]
        self.set("DOB", "31/02/1950")
        assert "DOB '31/02/1950' is not a date" in search()

    def test_a_negative_count(self, search) -> None:  # type: ignore[no-untyped-def]
        self.set("LYMPH_COUNT", "-3")
        assert "LYMPH_COUNT '-3'" in search()

    def test_one_class_only(self, search) -> None:  # type: ignore[no-untyped-def]
        def change(rows: list[list[str]]) -> None:
            for row in rows[1:]:
                row[2] = row[2].replace("0", "1") if row[2] == "0" else row[2]

        self.rewrite(change)
        assert "none of them reactive" in search()

    def test_fewer_patients_of_a_class_than_folds(self, search) -> None:  # type: ignore[no-untyped-def]
        assert "6 reactive patients for 7 folds" in search("--folds", 7)

    def test_an_unknown_word_in_a_space(self, search, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
        space = tmp_path / "mine.yaml"
        space.write_text("configuration: {model: {encoder: resnet, aggregator: gated_atention}}")
        line = search("--space", space)
        assert "mine.yaml: model.aggregator has no 'gated_atention'; there are attention, feature_mean, gated" in line

    def test_an_output_folder_that_cannot_be_written(self, search, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
        (tmp_path / "file").write_text("")
        assert "cannot be made" in search("--runs", tmp_path / "file" / "runs")

    def test_ensemble_before_any_search(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert "no run in it; `lymphtune search` makes one" in refused(capsys, "ensemble", "--runs", tmp_path)

    def test_top_zero(self, searched: Run, capsys: pytest.CaptureFixture[str]) -> None:
        given = ("ensemble", "--runs", searched.path.parent)
        assert "--top 0" in refused(capsys, *given, "--top", 0)
        assert not (searched.path / "ensembles").exists()

    def test_no_such_ensemble(
        self, tmp_path: Path, tiny_cohort_folder: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert "no ensemble.yaml in it" in refused(
            capsys, "predict", "--ensemble", tmp_path, "--data", tiny_cohort_folder
        )


def test_an_interrupt_keeps_what_has_ended(tiny_cohort_folder: Path, tmp_path: Path) -> None:
    import signal
    import time

    command = [sys.executable, "-m", "lymphtune", "search", "--space", "tiny", "--data", str(tiny_cohort_folder)]
    process = subprocess.Popen(
        [*command, "--epochs", "4000", "--trials", "3", "--name", "cut"],
        cwd=tmp_path,
        env=dict(os.environ),
        stderr=subprocess.PIPE,
        text=True,
    )
    leaderboard = tmp_path / "runs" / "cut" / "leaderboard.parquet"
    deadline = time.monotonic() + 120
    # Ray has started once a trial trains: a signal within a fork of its processes prints "Exception ignored"
    while not list(tmp_path.glob("runs/cut/trials/*/epochs.jsonl")) and time.monotonic() < deadline:
        time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 130 and "Traceback" not in said
    run = Run(leaderboard.parent)
    assert run.description.status == "interrupted"
    assert (run.leaderboard["status"] == "done").sum() == 4  # the baselines
    assert not list(run.path.rglob(".*"))


def test_every_option_is_explained() -> None:
    for action in COMMANDS.values():
        assert all(option.help for option in action._actions), action.prog


def test_a_hold_out_of_two_groups_of_one_class_each_is_refused_before_training(
    tiny_cohort_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tiny_cohort_folder / "clinical_annotation.csv"
    header, *rows = table.read_text().splitlines()
    table.write_text("\n".join([f"{header},SITE", *(f"{row},s{row.split(',')[2]}" for row in rows)]) + "\n")
    (tiny_cohort_folder / "cohort.yaml").write_text("groups: [SITE]\n")
    given = ["search", "--data", str(tiny_cohort_folder), "--space", "tiny", "--folds", "1"]
    assert main([*given, "--runs", str(tmp_path / "runs")]) == 2 and not (tmp_path / "runs").exists()
    said = " ".join(capsys.readouterr().err.split())
    assert "all reactive patients are in one group, which is never split" in said and "for a hold-out" in said
