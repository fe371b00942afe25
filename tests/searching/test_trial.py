"""A trial as a worker runs it, without Ray: what it reports, keeps, and leaves for the trials after it."""

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from lymphtune.config import configuration
from lymphtune.models.bag_classifier import BagClassifier
from lymphtune.searching.epoch_report import CURVE, Report
from lymphtune.searching.prepare import prepare
from lymphtune.searching.settings import Settings
from lymphtune.searching.trial import Shared, chunk_file, read_chunk, train_on
from lymphtune.training.precision import Precision

CELL_PX = 40 * 40


@pytest.fixture
def shared(tiny_cohort_folder: Path, tmp_path: Path) -> Shared:
    path = tmp_path / "one.yaml"
    configuration = {
        "model": {"encoder": {"vanilla": {"pooling": "average"}}, "fusion": "gated"},
        "data": {"crop_px": 40, "bag_size": 2},
        "training": {"weight_decay": {"uniform": [0.001, 0.002]}},
    }
    path.write_text(yaml.safe_dump({"configuration": configuration}))
    cohort, plan = prepare(str(path), tiny_cohort_folder, Settings(trials=3, epochs=2, folds=2, grace=1))
    return Shared(cohort, plan, tmp_path / "run", "cpu", Precision())


@pytest.fixture
def attempts(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The numbers of cells that are tried at once, where there is memory for three."""
    real, tried = BagClassifier.encode_at_once, []

    def encode(self: BagClassifier, cells: torch.Tensor) -> torch.Tensor:
        tried.append(len(cells))
        if len(cells) > 3:
            raise torch.OutOfMemoryError("full")
        return real(self, cells)

    monkeypatch.setattr(BagClassifier, "encode_at_once", encode)
    return tried


def note(shared: Shared) -> Path:
    return chunk_file(shared.run_path, shared.plan.trials[0].configuration)


def said_by(number: int, shared: Shared) -> list[dict[str, Any]]:
    reports: list[dict[str, Any]] = []
    train_on(shared.plan.trials[number], shared, reports.append)
    return reports


def test_a_trial_reports_every_epoch_and_keeps_the_weights_of_its_rungs(shared: Shared) -> None:
    reports = said_by(0, shared)
    assert [report["epoch"] for report in reports] == [1, 2]
    held_out = shared.plan.folds_RP >= 0
    for report in reports:
        gates_RP = Report.read(report).gates_RP
        assert set(report["curve"]) == {*CURVE}
        assert ((gates_RP > 0) & (gates_RP < 1))[held_out].all()
    folder = shared.run_path / "trials" / shared.plan.trials[0].hash
    assert sorted(path.name for path in folder.iterdir()) == [
        "checkpoint",
        "epochs.jsonl",
        "weights-epoch-1",
        "weights-epoch-2",
    ]
    assert all(report["curve"]["chunk_pixels"] == 0 for report in reports)
    assert read_chunk(note(shared)) is None


def test_what_fits_is_left_for_the_next_trial(shared: Shared, attempts: list[int]) -> None:
    said_by(0, shared)
    assert attempts[:3] == [8, 4, 2] and max(attempts[3:]) == 2
    assert note(shared).read_text() == f"{2 * CELL_PX}\n"
    attempts.clear()
    said_by(1, shared)
    assert max(attempts) == 2  # no second try
    assert read_chunk(note(shared)) == 2 * CELL_PX


@pytest.mark.parametrize("text", ["", "many"])
def test_a_damaged_note_is_no_note(shared: Shared, attempts: list[int], text: str) -> None:
    note(shared).parent.mkdir(parents=True)
    note(shared).write_text(text)
    said_by(0, shared)
    assert attempts[0] == 8
    assert read_chunk(note(shared)) == 2 * CELL_PX


def test_what_fits_one_encoder_says_nothing_of_another(shared: Shared) -> None:
    own = shared.plan.trials[0].configuration
    changes = {"encoder": {"resnet": {"filters": 8}}}
    other = configuration(own.as_yaml() | {"model": own.as_yaml()["model"] | changes}, "test")
    larger = configuration(own.as_yaml() | {"data": {"crop_px": 96}}, "test")
    assert chunk_file(shared.run_path, other) != note(shared)
    assert chunk_file(shared.run_path, larger) == note(shared)  # pixels are counted
