"""Completion: the printed script, tried in a real bash."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from lymphtune.cli import main

# what bash does with the words of a command line when Tab is pressed behind the last of them
TAB = """source "$0"; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
function=$(complete -p lymphtune | sed 's/.*-F \\([^ ]*\\).*/\\1/'); $function; echo "${COMPREPLY[@]}" """


@pytest.fixture
def script(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    assert main(["completion", "bash"]) == 0
    path = tmp_path / "lymphtune.bash"
    path.write_text(capsys.readouterr().out)
    return path


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash here")
def test_bash_completes_commands_options_words_runs_and_files(script: Path, tmp_path: Path) -> None:
    (tmp_path / "runs" / "mixed-1").mkdir(parents=True)
    (tmp_path / "submission.csv").write_text("")
    for typed, expected in (
        ("stab", "stability"),
        ("search --sp", "--space"),
        ("search --space cl", "clinical"),
        ("search --scheduler a", "asha"),
        ("ensemble --calibration is", "isotonic"),
        ("compare m", "mixed-1"),
        ("ensemble --run m", "mixed-1"),
        ("submit --check s", "submission.csv"),
        ("stability --from cl", "clinical"),
    ):
        command = ["bash", "-c", TAB, str(script), "lymphtune", *typed.split()]
        said = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path, env=dict(os.environ))
        assert said.stdout.split() == [expected], typed


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_are_told_of_every_command(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", shell]) == 0
    said = capsys.readouterr().out
    assert all(word in said for word in ("stability", "compare", "time-budget", "asha"))
