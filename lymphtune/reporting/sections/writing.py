"""For a publication: a paragraph of methods, the provenance, and the commands that reproduce the results."""

import shlex

import pandas as pd

from lymphtune.cohort.attributes import attribute_names_text
from lymphtune.cohort.folds import folds_text
from lymphtune.console import counted
from lymphtune.ensembling.commands import ensemble_command, search_command
from lymphtune.ensembling.score import BASELINE, ENSEMBLE
from lymphtune.reporting.facts import Facts
from lymphtune.reporting.parts import Note, Section, Table
from lymphtune.runs.description import CohortDescription
from lymphtune.runs.run import stopping_text
from lymphtune.statistics.words import bounded, percent, signed


def section(facts: Facts) -> Section:
    """Return methods, provenance and commands."""
    table = pd.DataFrame(_provenance(facts).items(), columns=["what", "value"])
    return Section(
        "writing",
        "Write it up",
        "Figures and tables are in figures/ as SVG, 300-dpi PNG, csv and LaTeX; the paragraph below is for your text.",
        [
            Note(methods(facts)),
            Table("provenance", "Provenance", "Of this run, from its run.yaml.", table),
            Note("\n".join(commands(facts)), code=True),
        ],
    )


def methods(facts: Facts) -> str:
    """Return a paragraph of methods and results in plain sentences."""
    cohort, protocol, space = facts.description.cohort, facts.description.protocol, facts.description.space
    honest, gain = facts.scores.entries[ENSEMBLE].honest, facts.scores.over_baseline["balanced_accuracy"]
    baseline = facts.scores.entries[BASELINE].honest["balanced_accuracy"]
    tumoral = int(facts.labels_P.sum())
    simulated = "SIMULATED: these numbers say nothing about people. " if facts.simulated else ""
    calibration = facts.procedure.calibration.word if facts.procedure.calibration else "none"
    early = stopping_text(protocol.scheduler, facts.description.stopping)
    reactive, n = len(facts.labels_P) - tumoral, len(facts.rows)
    sentences = [
        f"{simulated}We scored {len(facts.labels_P)} labelled patients ({reactive} reactive, {tumoral} tumoral; "
        f"{cohort.n_cells} cell pictures of all {cohort.n_patients} patients).",
        f"{protocol.trials} configurations of the space '{space.name}' were trained for at most "
        f"{protocol.epochs} epochs on {folds_text(facts.n_folds, protocol.grouped)} with "
        f"{protocol.repeats} seed(s) each (seed {protocol.seed}; early stopping: {early}).",
        f"The recipe '{facts.procedure.recipe.name}' joined {counted(n, 'trial')}; only models that were not trained "
        f"on a patient predicted that patient (threshold {facts.procedure.threshold.text}, calibration "
        f"{calibration}).",
        "Scores of the whole procedure, including the selection of trials, come from 1,000 bootstrap resamples of the "
        "patients, scored on those held out (Tsamardinos et al. 2018).",
        f"Balanced accuracy was {bounded(honest['balanced_accuracy'])}, AUC {bounded(honest['auc'])}; the best of the "
        f"clinical baselines ({attribute_names_text(facts.cohort.attributes)} alone) had {bounded(baseline)}.",
        f"The paired difference was {signed(gain.difference.value)} ({signed(gain.difference.low, 2)} to "
        f"{signed(gain.difference.high, 2)}), above zero with a probability of {percent(gain.better)}. Intervals "
        "are 95 %.",
    ]
    return " ".join(sentences)


def commands(facts: Facts) -> list[str]:
    """Return the commands that make the run, the ensemble and this report again."""
    name = facts.run.name
    return [
        search_command(facts.description),
        ensemble_command(name, facts.procedure, len(facts.rows)),
        f"lymphtune report --run {shlex.quote(name)}",
    ]


def _ages(cohort: CohortDescription) -> str:
    return "each examination" if cohort.ages == "examination" else cohort.reference_date


def _provenance(facts: Facts) -> dict[str, str]:
    given, protocol = facts.description, facts.description.protocol
    rows = {
        "run": facts.run.name,
        "created": given.created[:19].replace("T", " "),
        "status": facts.run.status,
        "cohort": f"{given.cohort.name} (hash {given.cohort.hash})",
        "ages counted to": _ages(given.cohort),
        "space": f"{given.space.name} (configurations {protocol.configurations or 'of an earlier version'})",
        "seeds": f"search {protocol.seed}, folds {protocol.seed_of_folds}",
    }
    if given.arithmetic:
        rows["precision"] = ", ".join(f"{name} {value}" for name, value in given.arithmetic.as_yaml().items())
    if facts.bundle is not None:
        rows["ensemble"] = f"{facts.bundle.path.name} ({len(facts.rows)} trials)"
    return rows | {f"version of {name}": str(value) for name, value in given.versions.items()}
