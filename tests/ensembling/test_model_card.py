"""Model cards: SIMULATED first, honest scores of groups or the reason for none, no name that turns into markup."""

from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from markdown_it import MarkdownIt

from lymphtune.cohort import Cohort
from lymphtune.ensembling.bundle import Ensemble
from lymphtune.ensembling.groups import Group, groups, scored_patients
from lymphtune.ensembling.model_card import MODEL_CARD, Subject, escaped, model_card
from lymphtune.ensembling.procedure import asked
from lymphtune.ensembling.score import ENSEMBLE, Comparison, score
from lymphtune.runs.description import RunDescription
from tests.ensembling.made_up import candidates

EVIL = "\"><script>document.title='harmed'</script>\n| x | [y](javascript:z) `code` https://a.example **b** <img src=x>"
PATIENTS = 80


def cohort_of(sexes: str, ages: np.ndarray, simulated: bool = False) -> Cohort:
    """Return the cohort of made-up candidates, a cell of one pixel each."""
    table = pd.DataFrame(
        {
            "patient": [f"P{number}" for number in range(PATIENTS)],
            "label": np.arange(PATIENTS) % 3 % 2,
            "sex": [sexes[number % len(sexes)] for number in range(PATIENTS)],
            "age_years": ages,
            "lymphocytes_g_per_l": 5.0,
            "n_cells": 1,
        }
    )
    table["sex"] = table["sex"].str.strip()  # a space: not recorded
    return Cohort("made up", table, np.zeros((PATIENTS, 1, 1, 3), np.uint8), [""] * PATIENTS, simulated=simulated)


@pytest.fixture(scope="module")
def subject() -> Subject:
    """What a card is about where every patient is female and over 70, and all is well."""
    procedure, given = asked("top", top=3, source="all"), candidates(skill=0.4, patients=PATIENTS)
    comparison, cohort = Comparison.of(given), cohort_of("F", np.full(PATIENTS, 71.0))
    members = given.trials(given.chosen(procedure.recipe.choice))
    run = {
        "created": "2026-01-01T00:00:00",
        "command": "Python",
        "cohort": {
            "name": "made up",
            "simulated": False,
            "hash": "0",
            "data": "here",
            "reference_date": "2020-01-01",
            "n_patients": 99,
            "n_labelled": 80,
            "n_to_predict": 19,
            "n_cells": 80,
        },
        "protocol": {"trials": 9, "epochs": 4, "folds": 5, "repeats": 2, "seed": 3, "scheduler": "asha"},
        "space": {"name": "mixed", "about": ""},
        "versions": {"python": "3.11"},
    }
    ensemble = {
        "name": "top",
        "run": "made-up",
        "threshold": {"value": 0.5},
        "cohort": {"hash": "0"},
        "folds": "1",
        "versions": {},
        "members": [{"trial": trial, "weights": ["a", "b"]} for trial in members["trial"]],
    }
    described = RunDescription.model_validate(run)
    return Subject(described, ensemble, members, cohort, comparison, procedure, score(comparison, procedure))


def section(card: str, title: str) -> str:
    """Return the text below a heading."""
    return card.split(f"## {title}\n")[1].split("\n## ")[0]


def groups_of(subject: Subject, cohort: Cohort) -> dict[str, Group]:
    patients = scored_patients(subject.comparison.candidates, cohort.patients)
    found = groups(subject.comparison.scorer, subject.scores.entries[ENSEMBLE].resampled.predictions, patients)
    return {group.name: group for group in found}


class Tags(HTMLParser):
    """All tags of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)


def tags(card: str) -> list[str]:
    """Return the tags of the card as a browser would show it."""
    return Tags(MarkdownIt("commonmark", {"html": True}).enable("table").render(card)).tags


def test_every_question_of_a_card_is_answered(subject: Subject) -> None:
    card = model_card(subject)
    for title in ("What it is", "Data", "What it is for", "How it was selected", "Scores", "Limits", "Provenance"):
        assert section(card, title).strip()
    assert "not a medical device" in card and "SIMULATED" not in card and "\n\n\n" not in card
    mine = subject.scores.entries[ENSEMBLE]
    row = next(line for line in section(card, "Scores").splitlines() if line.startswith("| balanced accuracy"))
    assert f"{mine.naive['balanced_accuracy']:.3f} | {mine.honest['balanced_accuracy'].value:.3f} (" in row
    assert "lymphtune ensemble --recipe top --run made-up --top 3 --from all\n" in card
    assert model_card(subject) == card


def test_a_simulated_cohort_is_said_first(subject: Subject) -> None:
    lines = model_card(replace(subject, cohort=replace(subject.cohort, simulated=True))).splitlines()
    assert lines[0].startswith("# SIMULATED") and "no number below means anything for real patients" in lines[2]


def test_a_group_of_all_patients_has_the_scores_of_all(subject: Subject) -> None:
    found, honest = groups_of(subject, subject.cohort), subject.scores.entries[ENSEMBLE].honest
    for name in ("female", "over 70 years"):
        assert found[name].honest == {metric: honest[metric] for metric in found[name].honest} != {}
    assert {name: group.reason for name, group in found.items() if group.reason} == {
        "male": "no patient",
        "under 50 years": "no patient",
        "50 to 70 years": "no patient",
    }
    assert "| male | 0 | 0 | not scored: no patient |" in model_card(subject)


def test_small_groups_and_those_of_one_class_are_named_and_not_scored(subject: Subject) -> None:
    ages = np.where(np.arange(PATIENTS) < 9, 30.0, 60.0)
    found = groups_of(subject, cohort_of("FM ", ages))
    assert found["under 50 years"].reason == "fewer than 10 patients" and not found["under 50 years"].honest
    assert (found["female"].n_reactive, found["female"].n_tumoral) == (27, 0)
    assert [found[name].reason for name in ("female", "male", "sex not recorded")] == ["one class only"] * 3
    middle = found["50 to 70 years"]
    assert middle.n_reactive + middle.n_tumoral == 71 and set(middle.honest) >= {"balanced_accuracy", "auc"}


def test_groups_are_judged_on_their_own_patients_left_out(subject: Subject) -> None:
    """An ensemble that is right on women and wrong on men is told so, whatever it says of drawn patients."""
    cohort, scorer = cohort_of("FFFMMM", np.full(PATIENTS, 60.0)), subject.comparison.scorer
    labels_P, men_P = scorer.labels_P, (cohort.patients["sex"] == "M").to_numpy()
    truth_P = np.where(men_P, 1 - labels_P, labels_P).astype(float)
    probability_SP = np.where(scorer.held_out_SP, truth_P, 1 - truth_P)
    predictions = replace(subject.scores.entries[ENSEMBLE].resampled.predictions, probability_SP=probability_SP)
    found = {group.name: group for group in groups(scorer, predictions, cohort.patients)}
    assert found["female"].honest["recall"].value == 1 and found["male"].honest["recall"].value == 0
    assert found["male"].honest["auc"].value == 0


@pytest.mark.parametrize("folds", [1, 5])
def test_no_name_becomes_markup(folds: int, subject: Subject) -> None:
    protocol = subject.run.protocol.as_yaml()
    plain = tags(model_card(replace(subject, run=subject.run.changed(protocol=protocol | {"folds": 5}))))
    run = subject.run.changed(
        cohort=subject.run.cohort.as_yaml() | {"name": EVIL},
        protocol=protocol | {"folds": folds, "scheduler": EVIL},
        space={"name": EVIL, "about": ""},
        versions={EVIL: EVIL},
        command=f"lymphtune search ```` {EVIL}",
    )
    evil = replace(
        subject,
        run=run,
        ensemble=subject.ensemble | {"name": EVIL, "run": EVIL},
        members=subject.members.assign(title=EVIL),
    )
    found = tags(model_card(evil))
    assert "script" not in found and "img" not in found
    assert [found.count(tag) for tag in ("a", "td", "tr")] == [plain.count(tag) for tag in ("a", "td", "tr")]
    assert found.count("strong") == plain.count("strong") and found.count("code") == plain.count("code")
    assert found.count("li") == plain.count("li") + (folds == 1)


def test_escaped_text_reads_as_it_was() -> None:
    shown = MarkdownIt("commonmark").render(escaped("a_b*c*|d [e] <f>\x00 ~g~"))
    assert shown == "<p>a_b*c*|d [e] &lt;f&gt; ~g~</p>\n"


def test_the_card_lies_sealed_in_the_bundle(ensemble: Ensemble) -> None:
    card = (ensemble.path / MODEL_CARD).read_text(encoding="utf-8")
    assert MODEL_CARD in ensemble.description["files"] and ensemble.members[0]["trial"][:6] in card
    assert "not scored: fewer than 10 patients" in card and "12 patients scored: few" in card


def test_members_that_cannot_see_the_number_of_pictures_are_counted(subject: Subject) -> None:
    assert "removed. Alone" in " ".join(model_card(subject).split())
    members = [dict(member) for member in subject.ensemble["members"]]
    members[0]["configuration"] = {"data": {"bag_size": "fixed:9"}}
    members[1]["configuration"] = {"data": {"bag_size": 24}}
    card = model_card(replace(subject, ensemble=subject.ensemble | {"members": members}))
    assert "removed, except in 1 of 3 members, which use the same number of cells for every patient. Alone" in " ".join(
        card.split()
    )


def test_a_card_says_what_ages_are_counted_to(subject: Subject) -> None:
    assert "Ages are counted to 2020-01-01." in section(model_card(subject), "Data").replace("\\", "")
    run = subject.run.changed(cohort=subject.run.cohort.as_yaml() | {"ages": "examination"})
    assert "Ages are those at the examination." in section(model_card(replace(subject, run=run)), "Data")
