"""Every default, form and member on the page of the Python API does what the page says."""

import ast
import re
from datetime import date
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import lymphtune
from lymphtune.cli import main
from lymphtune.ensembling.bundle import Ensemble
from lymphtune.ensembling.procedure import asked
from lymphtune.errors import InputError
from lymphtune.searching.settings import Settings

PAGE = (Path(__file__).parent.parent / "docs" / "python-api.md").read_text(encoding="utf-8")


def defaults(heading: str) -> dict[str, object]:
    """Return the names and defaults of the table below a heading, as they stand on the page."""
    section = PAGE[PAGE.index(f"## `{heading}(") :].split("\n## ")[0]
    return {name: ast.literal_eval(text) for name, text in re.findall(r"^\| `(\w+)` \| `(.*?)` \|", section, re.M)}


def test_every_default_of_a_search_is_taken_as_it_stands() -> None:
    given = defaults("lymphtune.search")
    assert len(given) > 20 and Settings.of(given) == Settings()


def test_every_default_of_an_ensemble_is_taken_as_it_stands() -> None:
    given = defaults("lymphtune.ensemble")
    assert {"top", "threshold", "calibration"} <= set(given) and asked(**given) == asked()


def test_the_default_date_of_a_cohort_is_taken_as_it_stands(tiny_cohort_folder: Path) -> None:
    (text,) = re.findall(r"load_cohort\(data, reference_date='([\d-]+)'", PAGE)
    assert lymphtune.load_cohort(tiny_cohort_folder, reference_date=text).reference_date == date(2020, 1, 1)


@pytest.mark.parametrize("word", ["asha", "median", "none"])
def test_every_scheduler_of_the_page_is_one(word: str) -> None:
    assert "asha, median or none" in PAGE and Settings(scheduler=word).scheduler == word


@pytest.mark.parametrize("word", ["none", "temperature", "platt", "isotonic"])
def test_every_calibration_of_the_page_is_one(word: str) -> None:
    assert "none, temperature, platt, isotonic" in PAGE
    part = asked(calibration=word).calibration
    assert (part is None) if word == "none" else (part is not None and part.word == word)


@pytest.mark.parametrize("text", ["0.5", "tuned", "recall=0.95", "cost=5:1"])
def test_every_threshold_of_the_page_is_one(text: str) -> None:
    assert "0.5, tuned, recall=0.95 or cost=FN:FP" in PAGE and asked(threshold=text).threshold.text == text


def test_patients_seen_in_training_are_refused_unless_allowed() -> None:
    """Of three patients the second was seen; no model is asked before that is known."""
    loaded = object.__new__(Ensemble)
    loaded.seen = lambda cohort: np.array([False, True, False])  # type: ignore[method-assign]
    cohort = SimpleNamespace(name="new", ids=["A", "B", "C"], patients=[0, 1, 2])
    with pytest.raises(InputError, match=r"new: 1 of these 3 patients were seen in training \(B\); .*allow_seen=True"):
        loaded.predict_proba(cohort)  # type: ignore[arg-type]
    loaded._refuse_seen(cohort, np.array([0, 2]))  # type: ignore[arg-type]


def test_a_name_of_version_0_1_is_still_there_with_a_warning() -> None:
    from lymphtune import runs
    from lymphtune.runs.run import Run

    with pytest.warns(DeprecationWarning, match=r"lymphtune\.runs\.run\.Run"):
        assert runs.Run is Run


def test_lymphtune_alone_prints_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    assert "usage: lymphtune" in (said := capsys.readouterr()).out and said.err == ""


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        (["serch"], "search"),
        (["search", "--trails", "3"], "--trials"),
        (["search", "--run", "mix"], "--runs"),
        (["ensemble", "--from", "network"], "networks"),
    ],
)
def test_a_misspelt_word_of_the_command_line_is_suggested(
    typed: list[str], meant: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(typed)
    assert f"; did you mean '{meant}'?" in capsys.readouterr().err
