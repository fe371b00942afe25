"""Whatever an argument says, a command that cannot do with it says so in one line and ends with 2."""

from pathlib import Path

import pytest

from lymphtune.cli import main

WORDS = [
    "../../etc",
    "/etc/passwd",
    "/dev/zero",
    "/dev/null",
    "x" * 5000,
    "..",
    "~",
    "-",
    "\u202e",
    "\x1b[2J",
    "nul",
    "$(id)",
    "`id`",
    "; id",
    "s3:/",
    "://",
    "=1+1",
    "%s%n",
    "{0}",
    "[red]x[/red]",
    "\ud800",
    "a\nb",
]
COMMANDS = [
    ["search", "--space", "{}", "--dry-run"],
    ["search", "--space", "tiny", "--data", "{}", "--dry-run"],
    ["search", "--resume", "{}"],
    ["search", "--space", "clinical", "--data", "simulated", "--address", "{}"],
    ["ensemble", "--run", "{}"],
    ["ensemble", "--recipe", "{}"],
    ["ensemble", "--threshold", "{}"],
    ["predict", "--ensemble", "{}", "--data", "x"],
    ["export", "--ensemble", "{}", "--onnx", "x.onnx"],
    ["report", "--run", "{}"],
    ["status", "{}"],
    ["stop", "{}"],
    ["compare", "{}", "{}"],
    ["stability", "--run", "{}"],
    ["submit", "--check", "{}"],
    ["pack", "{}", "x.parquet"],
    ["recipes", "--run", "{}"],
    ["robustness", "--run", "{}"],
    ["doctor", "--data", "{}"],
    ["simulate", "x", "--prefix", "{}/"],
]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_an_argument_of_any_kind_is_refused_in_one_line(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for word in WORDS:
        given = [part.replace("{}", word) for part in command]
        try:
            code = main(given)
        except SystemExit as end:  # argparse's own refusal
            code = end.code
        said = capsys.readouterr().err
        own = [line for line in said.split("\n") if line.startswith("lymphtune")]
        assert code == 2 and len(own) == 1 and "Traceback" not in said, (given, code, said)
    assert not list(tmp_path.iterdir())
