"""The model card of an ensemble: description, data, selection, scores and limits.

Source: Mitchell et al. 2019 (arXiv:1810.03993). Shapes: P scored patients.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from lymphtune.cohort import Cohort
from lymphtune.cohort.attributes import attribute_names_text
from lymphtune.cohort.folds import folds_text
from lymphtune.ensembling.commands import ensemble_command, search_command
from lymphtune.ensembling.groups import LEAST_PATIENTS, SEXES, groups, scored_patients
from lymphtune.ensembling.procedure import Procedure
from lymphtune.ensembling.score import BASELINE, ENSEMBLE, SINGLE, Comparison, Scores
from lymphtune.ensembling.summary import NAMES
from lymphtune.runs.description import RunDescription
from lymphtune.runs.run import stopping_text
from lymphtune.statistics.honest import fixed_score
from lymphtune.statistics.words import bounded, changed

MODEL_CARD = "MODEL_CARD.md"
TITLES = (ENSEMBLE, SINGLE, BASELINE)
LOSSES = {"log_loss": 3, "brier": 3, "calibration_error": 3}  # decimals of the bounds; losses are small
MEASURED = {
    "age_years": "age in years",
    "lymphocytes_g_per_l": "lymphocytes in 10^9/L",
    "n_cells": "pictures a patient",
}
MARKS = {mark: "\\" + mark for mark in "\\`*_[]|~"} | {
    "<": "&lt;",
    ">": "&gt;",
    "&": "&amp;",
    '"': "&quot;",
    "@": "&#64;",
    "$": "&#36;",
}


@dataclass(frozen=True)
class Subject:
    """The content of a card. run: run.yaml. ensemble: ensemble.yaml. members: the members' leaderboard rows."""

    run: RunDescription
    ensemble: Mapping[str, Any]
    members: pd.DataFrame
    cohort: Cohort
    comparison: Comparison
    procedure: Procedure
    scores: Scores

    @cached_property
    def patients(self) -> pd.DataFrame:
        """Return the cohort's rows of the scored patients."""
        return scored_patients(self.comparison.candidates, self.cohort.patients)


def model_card(subject: Subject) -> str:
    """Return the card as Markdown with all names escaped; the same subject gives the same card."""
    templates = Environment(
        loader=PackageLoader("lymphtune.ensembling"),
        finalize=_finalized,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    templates.filters["bounded"] = bounded
    values = _description(subject) | _selection(subject) | _results(subject) | _provenance(subject)
    text = templates.get_template("model_card.md").render(values)
    return re.sub(r"\n{3,}", "\n\n", text)


def escaped(text: str) -> str:
    """Escape text for one line of Markdown: no HTML, link, emphasis or end of a table cell."""
    printable = "".join(letter if letter.isprintable() else " " for letter in text)
    marked = "".join(MARKS.get(letter, letter) for letter in " ".join(printable.split()))
    return marked.replace("://", "&#58;//").replace("www.", "www&#46;")


def _finalized(value: object) -> str:
    """Return the text of a template expression, escaped unless it is Markup, which is Markdown already."""
    return str(value) if isinstance(value, Markup) else escaped(str(value))


def _description(subject: Subject) -> dict[str, Any]:
    saved, procedure = subject.ensemble, subject.procedure
    kinds = dict(zip(subject.members["trial"], subject.members["sees"], strict=True))
    titles = dict(zip(subject.members["trial"], subject.members["title"], strict=True))
    members = [
        {"trial": trial[:6], "title": titles[trial], "sees": kinds[trial], "models": len(member["weights"])}
        for member in saved["members"]
        for trial in [member["trial"]]
    ]
    rule = procedure.threshold
    chosen = f"{rule.text}, chosen on these patients, again in every resample" if rule.is_chosen else "fixed beforehand"
    return {
        "name": saved["name"],
        "run": saved["run"],
        "simulated": subject.cohort.simulated,
        "members": members,
        "n_models": sum(member["models"] for member in members),
        "combiner": procedure.recipe.combiner.word,
        "threshold_value": f"{saved['threshold']['value']:.3g}",
        "threshold_how": chosen,
        "cohort": subject.run.cohort,
        "n_judged": len(subject.comparison.candidates.labels_P),
        "attributes": list(_attributes(subject)),
        "seen": attribute_names_text(subject.cohort.attributes),
        "space": subject.run.space,
    }


def _attributes(subject: Subject) -> Iterator[tuple[str, str, str]]:
    """Yield rows of the table of patients: attribute, value of the reactive and of the tumoral patients."""
    patients = subject.patients
    reactive, tumoral = (patients[patients["label"] == label] for label in (0, 1))
    yield "patients", str(len(reactive)), str(len(tumoral))
    for letter, name in SEXES.items():
        yield name, str((reactive["sex"] == letter).sum()), str((tumoral["sex"] == letter).sum())
    numeric = [one.name for one in subject.cohort.attributes if one.levels is None and one.name not in MEASURED]
    for column, name in (MEASURED | dict(zip(numeric, numeric, strict=True))).items():
        yield f"{name}, median (range)", _range(reactive[column]), _range(tumoral[column])
    for attribute in subject.cohort.attributes:
        for level in attribute.levels or ():
            counts = [str((some[attribute.name] == level).sum()) for some in (reactive, tumoral)]
            yield f"{attribute.name}: {level}", counts[0], counts[1]


def _range(values: pd.Series) -> str:
    if values.isna().all():
        return "not recorded"
    return f"{values.median():.3g} ({values.min():.3g} to {values.max():.3g})"


def _selection(subject: Subject) -> dict[str, Any]:
    protocol, procedure, scores = subject.run.protocol, subject.procedure, subject.scores
    choice, n_folds = procedure.recipe.choice, protocol.folds
    referred = "No patient is referred to another examination."
    if scores.not_referred is not None:
        kept, share = scores.not_referred
        referred = (
            f"The least certain {100 * (1 - share):.0f} % are referred to another examination; the honest balanced "
            f"accuracy of the others is {bounded(kept)}."
        )
    return {
        "protocol": protocol,
        "early_stopping": stopping_text(protocol.scheduler, subject.run.stopping),
        "n_folds": n_folds,
        "source": choice.source,
        "by": NAMES[choice.by],
        "folds_text": folds_text(n_folds, protocol.grouped),
        "n_allowed": int(subject.comparison.candidates.allowed(choice).sum()),
        "n_tied": int(scores.tied_M.sum()),
        "calibration": procedure.calibration.word if procedure.calibration else "none",
        "refer": referred,
    }


def _results(subject: Subject) -> dict[str, Any]:
    scores, scorer = subject.scores, subject.comparison.scorer
    mine, patients = scores.entries[ENSEMBLE], subject.patients
    share_P = (patients["n_cells"] / patients["n_cells"].max()).to_numpy()
    error = bounded(mine.honest["calibration_error"], LOSSES["calibration_error"])
    calibrated = "Calibrated after averaging" if subject.procedure.calibration else "Not calibrated"
    return {
        "titles": TITLES,
        "least": LEAST_PATIENTS,
        "scores": list(_scores(scores)),
        "differences": list(_differences(scores, attribute_names_text(subject.cohort.attributes))),
        "groups": groups(scorer, mine.resampled.predictions, patients),
        "bag_size_auc": fixed_score(share_P, scorer.labels_P, "auc", group_P=scorer.group_P),
        "n_fixed": sum(_is_fixed(member) for member in subject.ensemble["members"]),
        "calibrated": f"{calibrated}: honest calibration error {error}, which is biased upwards in small samples.",
        "sets": f"Prediction sets at error rate {subject.procedure.error_rate:g}: {bounded(scores.covered)} of them "
        f"hold the true label, {bounded(scores.both)} hold both. This applies only to patients of the same population.",
    }


def _is_fixed(member: dict[str, Any]) -> bool:
    """Return whether a member predicts every patient from the same number of cells."""
    data = member.get("configuration", {}).get("data") or {}
    return isinstance(data.get("bag_size"), str)


def _scores(scores: Scores) -> Iterator[dict[str, Any]]:
    """Yield one row per metric: naive score of the ensemble, honest scores of all three procedures."""
    entries = [scores.entries[title] for title in TITLES]
    for metric, name in NAMES.items():
        honest = [bounded(entry.honest[metric], LOSSES.get(metric, 2)) for entry in entries]
        naive = f"{entries[0].naive[metric]:.3f}"
        yield {"metric": name.replace("err.", "error"), "naive": naive, "honest": honest}


def _differences(scores: Scores, attributes: str) -> Iterator[str]:
    yield f"Optimism (naive minus honest balanced accuracy): {scores.entries[ENSEMBLE].optimism:+.3f}"
    for title, gains in ((BASELINE, scores.over_baseline), (SINGLE, scores.over_single)):
        for metric, gain in gains.items():
            yield f"Ensemble minus {title}, {NAMES[metric]}: {changed(gain.difference)}"
    if scores.over_baseline["balanced_accuracy"].difference.low <= 0:
        yield f"The ensemble is not significantly better than {attributes} alone."


def _provenance(subject: Subject) -> dict[str, Any]:
    run, saved = subject.run, subject.ensemble
    protocol = run.protocol
    rows = [
        ("run", f"{saved['run']}, started {run.created[:10]}"),
        ("cohort", f"hash {saved['cohort']['hash']}"),
        ("folds", f"hash {saved['folds']}"),
        ("configurations", protocol.configurations or "not recorded"),
        ("seeds", f"search {protocol.seed}, folds {protocol.seed_of_folds}, resamples 0"),
        ("hashes of this folder's files", "in ensemble.yaml"),
    ]
    for what, versions in (("searched with", run.versions), ("averaged with", saved["versions"])):
        rows.append((what, ", ".join(f"{name} {value}" for name, value in versions.items()) or "not recorded"))
    typed = [search_command(run), ensemble_command(saved["run"], subject.procedure, len(saved["members"]))]
    return {"provenance": rows, "commands": _fenced("\n".join(typed))}


def _fenced(text: str) -> Markup:
    """Return text as a code block with a fence longer than any run of backticks in it."""
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return Markup(f"{fence}\n{text}\n{fence}")
