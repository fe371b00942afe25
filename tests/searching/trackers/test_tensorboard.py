"""TensorBoard files: written by a real search, read back with their own reader."""

from pathlib import Path

import pytest

from lymphtune.cluster.tensorboard import TENSORBOARD
from lymphtune.runs.run import Run, read_table


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
