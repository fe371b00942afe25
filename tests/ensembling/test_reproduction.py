"""Weights that are not those of the out-of-fold probabilities are refused; small differences of rounding are not."""

import os
import shutil
from pathlib import Path

import pandas as pd
import pytest

import lymphtune
from lymphtune.cohort import Cohort
from lymphtune.ensembling.bundle import Ensemble
from lymphtune.ensembling.reproduction import check_reproduction
from lymphtune.errors import InputError
from lymphtune.files import hashes, read_yaml, write_table, write_yaml
from lymphtune.runs.run import Run

FOLD = "repeat-0-fold-{}.safetensors"


@pytest.fixture
def own(searched: Run, tmp_path: Path) -> Run:
    return Run(Path(shutil.copytree(searched.path, tmp_path / "own")))


@pytest.fixture
def best(own: Run) -> tuple[str, int]:
    """The best network that ran to its end, and its judged epoch."""
    row = own.leaderboard.query("kind == 'network' and status == 'done'").iloc[0]
    return str(row["trial"]), int(row["epoch"])


def copy_of(run: Run, best: tuple[str, int]) -> Path:
    """Return a folder with a copy of the trial's weights."""
    copy = run.path / "copy"
    shutil.copytree(run.trial(best[0]) / "weights", copy / best[0], dirs_exist_ok=True)
    return copy


def swap(folder: Path) -> None:
    one, other = (folder / FOLD.format(fold) for fold in (0, 1))
    os.rename(one, folder / "aside")
    os.rename(other, one)
    os.rename(folder / "aside", other)


def test_swapped_fold_models_are_refused_by_their_hashes(own: Run, best: tuple[str, int]) -> None:
    swap(own.trial(best[0]) / "weights")
    names = ", ".join(FOLD.format(fold) for fold in (0, 1))
    with pytest.raises(InputError, match=rf"{best[0]}/weights: not the weights that the search wrote \({names}\)"):
        lymphtune.ensemble(run=own.path, top=1)
    assert not (own.path / "ensembles").exists()


def test_swapped_fold_models_are_refused_by_what_they_predict(own: Run, best: tuple[str, int], cohort: Cohort) -> None:
    folder = own.trial(best[0])
    check_reproduction(own, cohort, dict([best]), copy_of(own, best))
    swap(folder / "weights")
    described = read_yaml(folder / "config.yaml")
    write_yaml(folder / "config.yaml", described | {"weights": hashes(folder / "weights")})
    with pytest.raises(InputError, match=r"fold-0.*fold-1.* do not reproduce the trial's out-of-fold probabilities"):
        check_reproduction(own, cohort, dict([best]), copy_of(own, best))


def test_rounding_of_another_machine_is_taken(own: Run, best: tuple[str, int], cohort: Cohort) -> None:
    path = own.trial(best[0]) / "oof.parquet"
    oof = pd.read_parquet(path)
    for shift, fits in ((5e-4, True), (0.05, False)):
        moved = oof.assign(probability=(oof["probability"] - shift).clip(0, 1))
        write_table(path, moved, cohort.about)
        if fits:
            check_reproduction(own, cohort, dict([best]), copy_of(own, best))
            continue
        with pytest.raises(InputError, match="do not reproduce"):
            check_reproduction(own, cohort, dict([best]), copy_of(own, best))


def test_swapped_fold_models_of_a_saved_ensemble_are_refused(own: Run, best: tuple[str, int]) -> None:
    saved = lymphtune.ensemble(run=own.path, top=1)
    swap(saved.path / "weights" / best[0])
    with pytest.raises(InputError, match=r"fold-0.safetensors: missing or not the file that was saved"):
        Ensemble.load(saved.path)
