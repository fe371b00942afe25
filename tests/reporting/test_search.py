"""What the report says of a search whose trials' losses are made up."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from lymphtune.files import write_yaml
from lymphtune.reporting.drawing import styled, svg_of
from lymphtune.reporting.facts import Facts
from lymphtune.reporting.parts import Drawing, Note, Section, Table
from lymphtune.reporting.search_results import SearchResults
from lymphtune.reporting.sections.search import section
from lymphtune.runs.run import Run
from lymphtune.spaces import Space, Suggested

TREE = {
    "model": {
        "encoder": {"choose": ["vanilla", {"resnet": {"filters": {"choose": [4, 8]}}}]},
        "fusion": {"choose": ["none", "concat"]},
    },
    "training": {"learning_rate": {"log_uniform": [1e-4, 1e-2]}},
}
EPOCHS, RUNG = 6, 3


@pytest.fixture(autouse=True)
def _fewer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lymphtune.statistics.importance.RESAMPLES", 8)
    monkeypatch.setattr("lymphtune.reporting.search_results.CONFIGURATIONS", 600)


def made_up(folder: Path, trials: int, effect: float = 1.0, noise: float = 0.02, tree: Any = TREE) -> Facts:
    """Return facts of a run in which the learning rate decides, and every second trial was stopped at the rung."""
    protocol = {"searcher": "random", "seed": 1, "epochs": EPOCHS, "rungs": [RUNG], "trials": trials}
    protocol |= {"folds": 5, "repeats": 1}
    about = {"name": "mine", "about": "", "grid": False, "configuration": tree, "rows": [], "note": ""}
    cohort = {"name": "mine", "simulated": True, "hash": "", "reference_date": "2020-01-01", "data": ""}
    description = {"created": "now", "cohort": cohort, "protocol": protocol, "space": about}
    write_yaml(folder / "run.yaml", description)
    space, rng = Space("mine", "", False, Suggested(), tree), np.random.default_rng(0)
    rows = [_row("baseline", -1, "clinical", 1, 0.3, "done")]
    for number in range(trials):
        chosen = space.sample(1, number)
        if chosen.training is None:
            continue
        loss = 0.5 + effect * 0.1 * np.log10(chosen.training.learning_rate / 1e-3) + rng.normal(0, noise)
        epochs = RUNG if number % 2 else EPOCHS
        curve = [loss + 0.05 * (EPOCHS - epoch) for epoch in range(1, epochs + 1)]
        (folder / "trials" / f"t{number}").mkdir(parents=True)
        pd.DataFrame({"log_loss": curve}).to_parquet(folder / "trials" / f"t{number}" / "curves.parquet")
        rows.append(_row(f"t{number}", number, chosen.title, epochs, curve[-1], "stopped" if number % 2 else "done"))
    nothing: Any = None  # of what this section does not look at
    leaderboard = pd.DataFrame(rows)
    return Facts(Run(folder), Run(folder).description, leaderboard, nothing, nothing, nothing, nothing, nothing)


def _row(trial: str, number: int, title: str, epochs: int, loss: float, status: str) -> dict[str, Any]:
    return {
        "trial": trial,
        "number": number,
        "title": title,
        "kind": "clinical" if number < 0 else "network",
        "baseline": number < 0,
        "epochs": epochs,
        "log_loss": loss,
        "status": status,
        "seconds": 2.0 * epochs,
    }


def styled_section(facts: Any) -> Section:
    with styled():
        found = section(facts)
    assert found is not None
    return found


def test_what_decided_leads_and_every_part_is_there(tmp_path: Path) -> None:
    found = styled_section(made_up(tmp_path, 60))
    assert found.lead.startswith("learning_rate (") and "accounts for most" in found.lead
    assert "The other 3 cannot be told from chance." in found.lead
    names = [part.name for part in found.parts if isinstance(part, Drawing | Table)]
    assert names == [
        "search-importance",
        "search-importances",
        "search-marginals",
        "search-parallel",
        "search-rungs",
        "search-rungs-table",
        "search-best",
    ]
    assert not [part for part in found.parts if isinstance(part, Note) and part.warning]
    for part in found.parts:
        if isinstance(part, Drawing):
            assert len(svg_of(part)) < 150_000 and any(mark.isdigit() for mark in part.alt)
            assert "\\math" not in svg_of(part)


def test_trials_are_compared_at_the_epoch_that_all_have(tmp_path: Path) -> None:
    searched = SearchResults.of(made_up(tmp_path, 12))
    assert searched.epoch == RUNG and len(searched.compared) == 12
    first = searched.curves["t0"]
    assert searched.compared["score"][0] == pytest.approx(sum(first[:RUNG]) / 3)
    (rung,) = searched.rungs
    assert len(rung.scores) == 12 and rung.stopped.sum() == 6 and rung.stopped["t1"] and not rung.stopped["t0"]


def test_what_stopping_spared_is_counted(tmp_path: Path) -> None:
    searched = SearchResults.of(made_up(tmp_path, 12))
    assert (searched.epochs_trained, searched.epochs_planned) == (6 * EPOCHS + 6 * RUNG, 12 * EPOCHS)
    assert searched.seconds_saved == 6 * (EPOCHS - RUNG) * 2.0
    texts = [part.text for part in styled_section(searched.facts).parts if isinstance(part, Note)]
    assert any("6 of 12 trials were stopped early: 54 of 72 epochs were trained, 25 % saved" in text for text in texts)


def test_noise_is_called_noise(tmp_path: Path) -> None:
    found = styled_section(made_up(tmp_path, 40, effect=0.0))
    assert found.lead.startswith("What mattered cannot be told")
    assert any("explains nothing" in part.text for part in found.parts if isinstance(part, Note) and part.warning)


def test_few_trials_get_a_warning_fewer_no_shares_and_a_handful_no_section(tmp_path: Path) -> None:
    sections = {}
    for trials in (4, 6, 14):
        with styled():
            sections[trials] = section(made_up(tmp_path / str(trials), trials))
    assert sections[4] is None
    assert sections[6] is not None and sections[14] is not None
    texts = {n: [part.text for part in sections[n].parts if isinstance(part, Note) and part.warning] for n in (6, 14)}
    assert any("6 trials are too few" in text for text in texts[6])
    assert "search-importance" not in [part.name for part in sections[6].parts if isinstance(part, Drawing)]
    assert any("14 trials, under 20" in text for text in texts[14])


def test_one_wild_loss_does_not_decide_what_mattered(tmp_path: Path) -> None:
    facts = made_up(tmp_path, 60)
    path = tmp_path / "trials" / "t5" / "curves.parquet"
    pd.DataFrame({"log_loss": [50.0] * RUNG}).to_parquet(path)
    searched = SearchResults.of(facts)
    assert searched.losses_N.max() < 2
    assert "learning_rate" in styled_section(facts).lead


def test_choices_that_do_not_fit_the_trials_are_not_believed(tmp_path: Path) -> None:
    facts = made_up(tmp_path, 12)
    facts.leaderboard.loc[3, "title"] = "another"
    found = styled_section(facts)
    assert any("written by another version" in part.text for part in found.parts if isinstance(part, Note))
    assert "cannot be told" in found.lead


def test_a_trial_without_curves_is_left_out(tmp_path: Path) -> None:
    facts = made_up(tmp_path, 12)
    (tmp_path / "trials" / "t4" / "curves.parquet").write_bytes(b"no table")
    assert len(SearchResults.of(facts).ended) == 11
    assert all(isinstance(part.figure, Figure) for part in styled_section(facts).parts if isinstance(part, Drawing))


def test_a_space_whose_networks_are_all_alike_leaves_nothing_to_tell(tmp_path: Path) -> None:
    network = {"model": {"encoder": "vanilla"}}
    facts = made_up(tmp_path, 60, tree={"choose": [network, {"clinical": "svm"}]})
    assert "cannot be told" in styled_section(facts).lead
