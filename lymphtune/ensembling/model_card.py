"""The model card of an ensemble: what it is, whom it was learnt from and judged on, what it is worth, and its limits.

Source: Mitchell et al. 2019 (arXiv:1810.03993). Shapes: P patients judged.
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
from lymphtune.ensembling.score import BASELINE, ENSEMBLE, SINGLE, RecipeScores, Scores
from lymphtune.ensembling.summary import NAMES
from lymphtune.runs.run import stopping_text
from lymphtune.statistics.honest import fixed_score
from lymphtune.statistics.words import bounded, changed

MODEL_CARD = "MODEL_CARD.md"
TITLES = (ENSEMBLE, SINGLE, BASELINE)
LOSSES = {"log_loss": 3, "brier": 3, "calibration_error": 3}  # digits of their bounds: they are small
MEASURED = {
    "age_years": "age in years", "lymphocytes_g_per_l": "lymphocytes in 10^9/L", "n_cells": "pictures a patient"
}  # fmt: skip
MARKS = {mark: "\\" + mark for mark in "\\`*_[]|~"} | {
    "<": "&lt;", ">": "&gt;", "&": "&amp;", '"': "&quot;", "@": "&#64;", "$": "&#36;"
}  # fmt: skip


@dataclass(frozen=True)
class Subject:
    """What a card is about. run: run.yaml; ensemble: ensemble.yaml; members: their rows of the leaderboard."""

    run: Mapping[str, Any]
    ensemble: Mapping[str, Any]
    members: pd.DataFrame
    cohort: Cohort
    contest: RecipeScores
    procedure: Procedure
    scores: Scores

    @cached_property
    def patients(self) -> pd.DataFrame:
        """Return the cohort's rows of the patients judged."""
        return scored_patients(self.contest.candidates, self.cohort.patients)


def model_card(subject: Subject) -> str:
    """Return the card as Markdown, in which no name can be markup; the same subject gives the same card."""
    templates = Environment(
        loader=PackageLoader("lymphtune.ensembling"), finalize=_finalized, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True, keep_trailing_newline=True,
    )  # fmt: skip
    templates.filters["bounded"] = bounded
    given = _what_it_is(subject) | _selection(subject) | _worth(subject) | _provenance(subject)
    text = templates.get_template("model_card.md").render(given)
    return re.sub(r"\n{3,}", "\n\n", text)


def escaped(text: str) -> str:
    """Return text that Markdown shows as it is, on one line: no HTML, link, emphasis, or end of a table's cell."""
    printable = "".join(letter if letter.isprintable() else " " for letter in text)
    marked = "".join(MARKS.get(letter, letter) for letter in " ".join(printable.split()))
    return marked.replace("://", "&#58;//").replace("www.", "www&#46;")


def _finalized(value: Any) -> str:
    """Return what an expression of the template becomes; Markup is Markdown already."""
    return str(value) if isinstance(value, Markup) else escaped(str(value))


def _what_it_is(subject: Subject) -> dict[str, Any]:
    saved, procedure = subject.ensemble, subject.procedure
    kinds = dict(zip(subject.members["trial"], subject.members["sees"], strict=True))
    titles = dict(zip(subject.members["trial"], subject.members["title"], strict=True))
    members = [
        {"trial": trial[:6], "title": titles[trial], "sees": kinds[trial], "models": len(member["weights"])}
        for member in saved["members"]
        for trial in [member["trial"]]
    ]
    rule = procedure.threshold
    chosen = f"{rule.text}, chosen on these patients, in every resample anew" if rule.is_chosen else "fixed beforehand"
    return {
        "name": saved["name"], "run": saved["run"], "simulated": subject.cohort.simulated, "members": members,
        "n_models": sum(member["models"] for member in members), "combiner": procedure.recipe.combiner.word,
        "threshold_value": f"{saved['threshold']['value']:.3g}", "threshold_how": chosen,
        "cohort": subject.run["cohort"], "n_judged": len(subject.contest.candidates.labels_P),
        "attributes": list(_attributes(subject)), "seen": attribute_names_text(subject.cohort.attributes),
        "space": subject.run["space"],
    }  # fmt: skip


def _attributes(subject: Subject) -> Iterator[tuple[str, str, str]]:
    """Yield what the reactive and the tumoral patients are like."""
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
    protocol, procedure, scores = subject.run["protocol"], subject.procedure, subject.scores
    choice, n_folds = procedure.recipe.choice, int(protocol["folds"])
    referred = "Nobody is referred to another examination."
    if scores.kept is not None:
        kept, share = scores.kept
        referred = (
            f"The most doubtful {100 * (1 - share):.0f} % are referred to another examination; the honest balanced "
            f"accuracy of the others is {bounded(kept)}."
        )
    return {
        "protocol": protocol, "early_stopping": stopping_text(protocol["scheduler"], subject.run.get("stopping")),
        "n_folds": n_folds, "source": choice.source, "by": NAMES[choice.by],
        "folds_text": folds_text(n_folds, bool(protocol.get("grouped"))),
        "n_allowed": int(subject.contest.candidates.allowed(choice).sum()), "n_tied": int(scores.tied_M.sum()),
        "calibration": procedure.calibration.word if procedure.calibration else "none", "refer": referred,
    }  # fmt: skip


def _worth(subject: Subject) -> dict[str, Any]:
    scores, left_out = subject.scores, subject.contest.left_out
    mine, patients = scores.entries[ENSEMBLE], subject.patients
    share_P = (patients["n_cells"] / patients["n_cells"].max()).to_numpy()
    error = bounded(mine.honest["calibration_error"], LOSSES["calibration_error"])
    calibrated = "Calibrated after averaging" if subject.procedure.calibration else "Not calibrated"
    return {
        "titles": TITLES, "least": LEAST_PATIENTS, "scores": list(_scores(scores)),
        "differences": list(_differences(scores, attribute_names_text(subject.cohort.attributes))),
        "groups": groups(left_out, mine.repeated.judged, patients),
        "bag_size_auc": fixed_score(share_P, left_out.labels_P, "auc", group_P=left_out.group_P),
        "n_fixed": sum(_is_fixed(member) for member in subject.ensemble["members"]),
        "calibrated": f"{calibrated}: honest calibration error {error}, which few patients raise by themselves.",
        "sets": f"Prediction sets at error rate {subject.procedure.error_rate:g}: {bounded(scores.covered)} of them "
        f"hold the true label, {bounded(scores.both)} hold both. That is promised for patients of the same population "
        "only.",
    }  # fmt: skip


def _is_fixed(member: dict[str, Any]) -> bool:
    """Return whether a member judges every patient on as many cells as any other."""
    data = member.get("configuration", {}).get("data") or {}
    return isinstance(data.get("bag_size"), str)


def _scores(scores: Scores) -> Iterator[dict[str, Any]]:
    """Yield a row a metric: naive of the ensemble, honest of all three procedures."""
    entries = [scores.entries[title] for title in TITLES]
    for metric, name in NAMES.items():
        honest = [bounded(entry.honest[metric], LOSSES.get(metric, 2)) for entry in entries]
        naive = f"{entries[0].naive[metric]:.3f}"
        yield {"metric": name.replace("err.", "error"), "naive": naive, "honest": honest}


def _differences(scores: Scores, attributes: str) -> Iterator[str]:
    yield f"Optimism, the naive balanced accuracy less the honest one: {scores.entries[ENSEMBLE].optimism:+.3f}"
    for title, gains in ((BASELINE, scores.over_baseline), (SINGLE, scores.over_single)):
        for metric, gain in gains.items():
            yield f"Ensemble less {title}, {NAMES[metric]}: {changed(gain.difference)}"
    if scores.over_baseline["balanced_accuracy"].difference.low <= 0:
        yield f"The ensemble is not shown to beat {attributes} alone."


def _provenance(subject: Subject) -> dict[str, Any]:
    run, saved = subject.run, subject.ensemble
    protocol = run["protocol"]
    rows = [
        ("run", f"{saved['run']}, begun {str(run['created'])[:10]}"), ("cohort", f"hash {saved['cohort']['hash']}"),
        ("folds", f"hash {saved['folds']}"), ("configurations", protocol.get("configurations", "not recorded")),
        ("seeds", f"search {protocol['seed']}, folds {protocol.get('fold_seed', protocol['seed'])}, resamples 0"),
        ("hashes of this folder's files", "in ensemble.yaml"),
    ]  # fmt: skip
    for what, versions in (("searched with", run.get("versions", {})), ("averaged with", saved["versions"])):
        rows.append((what, ", ".join(f"{name} {value}" for name, value in versions.items()) or "not recorded"))
    typed = [search_command(run), ensemble_command(saved["run"], subject.procedure, len(saved["members"]))]
    return {"provenance": rows, "commands": _fenced("\n".join(typed))}


def _fenced(text: str) -> Markup:
    """Return text as a block of code, whatever is in it."""
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return Markup(f"{fence}\n{text}\n{fence}")
