"""Curves in other people's viewers: written by a real search, read back with their own readers."""

from pathlib import Path

import pytest

import lymphtune
from lymphtune.errors import InputError
from lymphtune.runs import Run, read_table
from lymphtune.searching import plan
from lymphtune.searching.plan import Settings
from lymphtune.searching.tracking import TENSORBOARD


def scalars(folder: Path) -> dict[str, dict[int, float]]:
    """Return what TensorBoard files hold: tag -> step -> value."""
    from tensorboardX.proto.event_pb2 import Event
    from tensorboardX.record_writer import masked_crc32c  # noqa: F401  (the format below is its own)

    found: dict[str, dict[int, float]] = {}
    for path in folder.iterdir():
        content, at = path.read_bytes(), 0
        while at < len(content):
            length = int.from_bytes(content[at : at + 8], "little")
            event = Event.FromString(content[at + 12 : at + 12 + length])
            for value in event.summary.value:
                if value.HasField("simple_value"):
                    found.setdefault(value.tag, {})[event.step] = value.simple_value
            at += 16 + length
    return found


def test_every_trial_has_its_curves_for_tensorboard(searched: Run) -> None:
    networks = searched.leaderboard.query("kind == 'network'")
    assert sorted(path.name for path in (searched.path / TENSORBOARD).iterdir()) == sorted(networks["trial"])
    for row in networks.itertuples():
        found = scalars(searched.path / TENSORBOARD / row.trial)
        curves = read_table(searched.trial(row.trial) / "curves.parquet")
        for name in ("log_loss", "balanced_accuracy", "train_loss", "learning_rate"):
            said = found[f"ray/tune/{name}"]
            for epoch, value in zip(curves["epoch"], curves[name], strict=True):
                assert said[epoch] == pytest.approx(value, rel=1e-5)


def test_mlflow_and_wandb_get_them_too(
    tiny_cohort_folder: Path, tmp_path: Path, ray_session: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    mlflow = pytest.importorskip("mlflow")
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    given = {"trials": 1, "epochs": 2, "folds": 2, "mlflow": f"sqlite:///{tmp_path}/ml.db", "wandb": "lymphtune"}
    run = lymphtune.search("tiny", tiny_cohort_folder, runs=tmp_path / "runs", name="tracked", **given)
    loss = run.leaderboard.query("kind == 'network'")["log_loss"].iloc[0]
    mlflow.set_tracking_uri(given["mlflow"])
    (tracked,) = mlflow.search_runs(experiment_names=["tracked"], output_format="list")
    assert tracked.data.metrics["log_loss"] == pytest.approx(loss)
    assert any("learning_rate" in name for name in tracked.data.params)
    assert list((run.path / "wandb").glob("offline-run-*"))


@pytest.mark.parametrize("package", ["mlflow", "wandb"])
def test_a_missing_package_is_named(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=rf"--{package}: needs a package more: pip install 'lymphtune\[{package}\]'"):
        Settings(**{package: "somewhere"})
