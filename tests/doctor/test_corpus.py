"""Every broken cohort of the corpus: the doctor says what is wrong, a search and a prediction refuse it or go on."""

import shutil
from pathlib import Path

import pytest

import lymphtune
from lymphtune.cohort import load_cohort
from lymphtune.doctor import examine, quick_findings
from lymphtune.ensembling.apply import predict_to
from lymphtune.runs.run import Run
from tests.doctor.corpus import KINDS, Kind, doctor_says, dry_run_on, outcome, read_as_predict_does

SOME = KINDS[:: len(KINDS) // 8]


def by_name(kind: Kind) -> str:
    return kind.name.replace(" ", "-")


def test_the_corpus_is_large_and_its_kinds_differ() -> None:
    assert len({kind.name for kind in KINDS}) == len(KINDS) >= 60
    assert {kind.severity for kind in KINDS} == {"error", "warning", "note"}


def test_of_the_cohort_that_is_whole_there_are_notes_alone(tiny_cohort_folder: Path) -> None:
    assert {finding.severity for finding in examine(tiny_cohort_folder).findings} <= {"note"}
    assert quick_findings(tiny_cohort_folder, load_cohort(tiny_cohort_folder)) == []


@pytest.mark.parametrize("kind", KINDS, ids=by_name)
def test_doctor_says_what_is_wrong(kind: Kind, tiny_cohort_folder: Path) -> None:
    assert doctor_says(kind, kind.make(tiny_cohort_folder)) == ""


@pytest.mark.parametrize("kind", SOME, ids=by_name)
def test_search_and_reading_refuse_or_go_on(kind: Kind, tiny_cohort_folder: Path, tmp_path: Path) -> None:
    data = kind.make(tiny_cohort_folder)
    assert outcome(kind.search, lambda: dry_run_on(data, tmp_path / "runs")) == ""
    assert outcome(kind.predict, lambda: read_as_predict_does(data)) == ""


@pytest.fixture(scope="module")
def saved(searched: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an ensemble that was trained on the tiny cohort."""
    run = Path(shutil.copytree(searched.path, tmp_path_factory.mktemp("runs") / "copy"))
    lymphtune.ensemble(run=run, top=1)
    return run / "ensembles" / "top"


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS, ids=by_name)
def test_search_and_predict_refuse_or_go_on(kind: Kind, saved: Path, tiny_cohort_folder: Path, tmp_path: Path) -> None:
    data = kind.make(tiny_cohort_folder)
    assert outcome(kind.search, lambda: dry_run_on(data, tmp_path / "runs")) == ""
    assert outcome(kind.predict, lambda: predict_to(saved, str(data), tmp_path / "out", allow_seen=True)) == ""
    assert (tmp_path / "out").exists() == (kind.predict is None)
