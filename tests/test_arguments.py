"""What Python's functions take is what the commands take, and what they refuse is refused in one line that names it."""

from dataclasses import fields
from datetime import date, datetime
from pathlib import Path

import numpy as np
import pytest

import lymphtune
from lymphtune.cli.options import brought
from lymphtune.ensembling.procedure import asked
from lymphtune.errors import InputError, listed, suggestion
from lymphtune.searching.settings import Settings
from lymphtune.times import in_seconds


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        ({"time_budget_s": "30m"}, 1800.0),
        ({"time_budget_s": 90}, 90.0),
        ({"reference_date": "2026-05-01"}, date(2026, 5, 1)),
        ({"runs": "elsewhere"}, Path("elsewhere")),
        ({"weights": "folder"}, Path("folder")),
        ({"trials": np.int64(3)}, 3),
        ({"gpus_per_trial": 1}, 1.0),
        ({"gpus_per_trial": "auto"}, "auto"),
        ({"seed": 2**32 - 1}, 2**32 - 1),
    ],
)
def test_settings_take_what_the_command_line_takes(given: dict, taken: object) -> None:
    ((name, _),) = given.items()
    found = getattr(Settings.of(given), name)
    assert (found == taken and type(found) is type(taken)) or isinstance(taken, Path)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"trials": "2"}, "trials: expected a whole number; found '2'$"),
        ({"trials": 2.0}, "trials: expected a whole number; found 2.0$"),
        ({"trials": True}, "trials: expected a whole number; found True$"),
        ({"time_budget_s": "soon"}, "time_budget_s: 'soon' is not a time; expected 90s, 30m or 2h$"),
        ({"time_budget_s": float("nan")}, "time_budget_s: nan is not a time"),
        ({"reference_date": "1/2/2020"}, "reference_date: '1/2/2020' is not a date; expected YYYY-MM-DD$"),
        ({"reference_date": datetime(2020, 1, 1, 12)}, "reference_date: .* is not a date"),
        ({"report": "yes"}, "report: expected True or False; found 'yes'$"),
        ({"gpus_per_trial": "aut"}, "gpus_per_trial: expected a number or 'auto'; found 'aut'$"),
        ({"name": 5}, "name: expected a text; found 5$"),
        ({"runs": 5}, "runs: 5 is not a path"),
        ({"seed": 2**32}, "seed: 4294967296; expected 4294967295 or less$"),
        ({"scheduler": "ahsa"}, "scheduler: 'ahsa'; there are .*; did you mean 'asha'\\?$"),
        ({"trails": 2}, "search takes no 'trails'; there are address, .*; did you mean 'trials'\\?$"),
    ],
)
def test_settings_that_are_of_no_such_kind_are_named(given: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        lymphtune.search("tiny", "simulated", **given)


@pytest.mark.parametrize("field", [field.name for field in fields(Settings)])
def test_no_setting_crashes_on_what_it_is_not(field: str) -> None:
    with pytest.raises(InputError, match=f"^{field}: "):
        Settings.of({field: object()})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"top": "5"}, "top: expected a whole number; found '5'$"),
        ({"source": "network"}, "--from has no 'network'; .* did you mean 'networks'\\?$"),
        ({"threshold": 1.5}, "--threshold 1.5: expected a number between 0 and 1"),
        ({"threshold": None}, "threshold: expected a text or a number; found None$"),
        ({"calibration": "plat"}, "--calibration has no 'plat'; there are none, isotonic.* did you mean 'platt'\\?$"),
        ({"refer": "some"}, "refer: expected a number; found 'some'$"),
        ({"treshold": 0.3}, "ensemble takes no 'treshold'; .*; did you mean 'threshold'\\?$"),
        ({"recipe": 5}, "expected a shipped name or a .yaml file; found 5$"),
    ],
)
def test_options_of_an_ensemble_are_named(given: dict, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        lymphtune.ensemble(**given, run=tmp_path)


def test_options_of_an_ensemble_as_numbers_and_texts() -> None:
    assert asked(threshold=0.3).threshold.value == asked(threshold="0.3").threshold.value == 0.3
    assert asked(calibration=None) == asked(calibration="none") == asked()
    assert asked(refer=0).refer == 0 and asked(top=np.int64(3)).recipe.choice.most == 3


def test_a_cohort_of_a_date_as_text(tiny_cohort_folder: Path) -> None:
    as_text = lymphtune.load_cohort(tiny_cohort_folder, reference_date="2021-01-01")
    assert as_text.hash == lymphtune.load_cohort(str(tiny_cohort_folder), reference_date=date(2021, 1, 1)).hash
    with pytest.raises(InputError, match="reference_date: 'today' is not a date; expected YYYY-MM-DD"):
        lymphtune.load_cohort(tiny_cohort_folder, reference_date="today")
    with pytest.raises(InputError, match="data: 5; expected a folder"):
        lymphtune.load_cohort(5)


@pytest.mark.parametrize(("text", "seconds"), [("90", 90), ("90s", 90), ("1.5m", 90), ("2h", 7200)])
def test_times(text: str, seconds: float) -> None:
    assert in_seconds(text) == seconds


def test_runs_of_a_folder_are_taken_as_they_are() -> None:
    with brought("search", {"runs": "folder", "trials": 3}) as given:
        assert given == {"runs": "folder", "trials": 3}


def test_a_word_that_is_nearly_one_is_suggested() -> None:
    assert suggestion("mixd", ["images", "mixed"]) == "; did you mean 'mixed'?"
    assert suggestion("MIXED", ["images", "mixed"]) == "; did you mean 'mixed'?"
    assert suggestion("elephant", ["images", "mixed"]) == suggestion("mixed", ["images", "mixed"]) == ""
    assert listed("plat", ["none", "platt"]) == "none, platt; did you mean 'platt'?"
