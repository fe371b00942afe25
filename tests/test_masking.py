"""Passwords, keys and tokens of addresses stand in nothing that is written or printed."""

from pathlib import Path
from typing import Any

import pytest

from lymphtune.cli import main
from lymphtune.errors import InputError
from lymphtune.files import read_yaml, write_yaml
from lymphtune.masking import masked
from lymphtune.runs.mirror import Mirror
from lymphtune.runs.run import Run
from lymphtune.searching.description import describe, settings_of
from lymphtune.searching.prepare import prepare
from lymphtune.searching.settings import Settings

ADDRESSES = {
    "http://user:hunter2@host:5000/path": "http://***@host:5000/path",
    "https://hunter2@host/": "https://***@host/",
    "s3://AKIA:hun/ter2+=@bucket/runs": "s3://***@bucket/runs",
    "s3://AKIA:hunter2@bucket/a@b": "s3://***@bucket/a@b",
    "s3://b/runs?access_key=AKIA&secret_key=hunter2&region=eu": "s3://b/runs?access_key=***&secret_key=***&region=eu",
    "https://h/x?X-Amz-Signature=hunter2;token=hunter2": "https://h/x?X-Amz-Signature=***;token=***",
    "--mlflow 'http://u:hunter2@h' --runs s3://k:hunter2@b": "--mlflow 'http://***@h' --runs s3://***@b",
    "http://host:5000/path": "http://host:5000/path",
    "http://host:5000/runs/1@2": "http://host:5000/runs/1@2",
    "s3://bucket/runs?region=eu": "s3://bucket/runs?region=eu",
    "a@b.org: 3 keys": "a@b.org: 3 keys",
    "C:/data and file:///data": "C:/data and file:///data",
}


@pytest.mark.parametrize("text", ADDRESSES)
def test_what_nobody_should_see_is_masked_and_nothing_else(text: str) -> None:
    assert masked(text) == ADDRESSES[text] and masked(masked(text)) == masked(text)


def test_run_yaml_keeps_no_password(tiny_cohort_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("prepare.check_trackers", "trackers.checks.check_packages"):  # as if mlflow and its server were there
        monkeypatch.setattr(f"lymphtune.searching.{name}", lambda *given: None)
    server, bucket = "http://user:hunter2@host:5000", "s3://AKIA:hunter2@bucket/runs"
    monkeypatch.setattr("sys.argv", ["lymphtune", "search", "--mlflow", server, "--runs", bucket])
    settings = Settings(trials=1, runs=tmp_path, name="mine", mlflow=server, storage=bucket)
    run = Run(tmp_path / "mine")
    write_yaml(
        run.path / "run.yaml", describe(run, *prepare("clinical", tiny_cohort_folder, settings), "data").as_yaml()
    )
    text = (run.path / "run.yaml").read_text()
    assert "hunter2" not in text and "AKIA" not in text and "user" not in text
    assert read_yaml(run.path / "run.yaml")["protocol"]["mlflow"] == "http://***@host:5000"
    with pytest.raises(InputError, match=r"the password in --mlflow http://.*@host:5000 was not kept; name the server"):
        settings_of(run, {})
    assert settings_of(run, {"mlflow": server}).mlflow == server


def test_a_bucket_that_refuses_is_named_without_its_key(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    uri = "nosuch://AKIA:hunter2@bucket/runs"
    with pytest.raises(InputError) as refused:
        Mirror(uri, tmp_path)
    assert "nosuch://***@bucket" in str(refused.value) and "hunter2" not in str(refused.value)
    assert main(["runs", "--runs", uri]) == 2
    assert "hunter2" not in "".join(capsys.readouterr())


@pytest.mark.parametrize("arguments", [["--run", "s3://k:hunter2@b"], ["--data", "https://t:hunter2@h/x"]])
def test_the_command_line_masks_what_it_quotes(arguments: list[str], capsys: Any) -> None:
    assert main(["report", *arguments]) == 2
    assert "hunter2" not in "".join(capsys.readouterr())
