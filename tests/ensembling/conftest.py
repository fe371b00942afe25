"""A finished run that may be ensembled, and the ensemble of its two best trials; one of each a test file."""

import shutil
from pathlib import Path

import pytest

import lymphtune
from lymphtune.cohort import Cohort, load_cohort
from lymphtune.ensembling.bundle import Ensemble
from lymphtune.ensembling.candidates import Candidates, read_candidates
from lymphtune.runs.run import Run


@pytest.fixture(scope="module")
def run(searched: Run, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A copy of the finished run, free to be ensembled."""
    return Run(Path(shutil.copytree(searched.path, tmp_path_factory.mktemp("runs") / "copy")))


@pytest.fixture(scope="module")
def ensemble(run: Run) -> Ensemble:
    return lymphtune.ensemble(run=run.path, top=2)


@pytest.fixture(scope="module")
def cohort(run: Run) -> Cohort:
    return load_cohort(run.description.cohort.data)


@pytest.fixture(scope="module")
def candidates(run: Run, cohort: Cohort) -> Candidates:
    return read_candidates(run, cohort)
