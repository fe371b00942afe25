"""The cohort and the plan of a search, checked before anything is written or started."""

import os
from pathlib import Path

import numpy as np

from lymphtune import console
from lymphtune.cohort import Cohort, default_data, load_cohort
from lymphtune.cohort.ages import age_note
from lymphtune.cohort.folds import check_roles, cohort_folds, few_held_out_note, folds_hash, folds_table
from lymphtune.cohort.pseudonyms import Pseudonyms, read_pseudonyms
from lymphtune.config import Part
from lymphtune.doctor import quick_findings
from lymphtune.doctor.listing import short_listing
from lymphtune.errors import InputError
from lymphtune.registry import encoders
from lymphtune.searching.plan import Plan, Stage, encoder_option, make_plan
from lymphtune.searching.settings import Settings
from lymphtune.searching.trackers.checks import check_trackers
from lymphtune.shortcuts.audit import enough_patients, shortcut_audit
from lymphtune.spaces import Space, load_space


def prepare(
    space: str | Path | Space,
    data: str | Path | None,
    settings: Settings,
    before: tuple[Stage, ...] = (),
    dry: bool = False,
) -> tuple[Cohort, Plan]:
    """Return the cohort and everything that would be done with it; writes nothing but the picture cache, and the key of
    pseudonyms where there is none.

    before: the stages of a resumed run. dry: a missing key of pseudonyms is not created; a random one is used once.
    """
    chosen = space if isinstance(space, Space) else load_space(space)
    if not dry:
        check_trackers(settings.mlflow, settings.wandb, settings.name)
    folds = settings.folds or chosen.suggested.folds
    data = default_data() if data is None else data
    cohort = load_cohort(data, settings.reference_date, _pseudonyms(settings, bool(before), dry))
    notes = [*cohort.notes, *filter(None, [age_note(cohort)])]
    for line in [f"{cohort.name}: {note}" for note in notes] + short_listing(
        cohort.name, quick_findings(data, cohort), data
    ):
        console.say(line)
    if note := check_roles(cohort):
        console.say(f"{cohort.name}: {note}")
    repeats = settings.repeats or chosen.suggested.repeats
    folds_RP = cohort_folds(cohort, folds, repeats, settings.seed_of_folds)
    if note := few_held_out_note(cohort.labels[folds_RP[0] >= 0]):
        console.say(f"{cohort.name}: {note}")
    _warn_of_shortcuts(cohort, data, folds_RP[0] if folds > 1 else None)
    defining = {"cohort": cohort.hash, "folds": folds_hash(folds_table(cohort, folds_RP))}
    plan = make_plan(chosen, settings, folds_RP, defining, before, int(cohort.patients["n_cells"].min()))
    _check_encoders(plan)
    return cohort, plan


def _warn_of_shortcuts(cohort: Cohort, data: str | Path, fold_P: np.ndarray | None) -> None:
    """Print the properties that predict the label alone although they should not, where there are enough patients."""
    if enough_patients(cohort.labels):
        for finding in shortcut_audit(cohort, data, fold_P).findings:
            if finding.severity == "warning":
                console.say(f"{cohort.name}: {finding.text}")


def _pseudonyms(settings: Settings, again: bool, dry: bool) -> Pseudonyms | None:
    """Return what stands in place of ids; raises InputError where the key would lie among the runs: they travel."""
    key, runs = settings.pseudonymise, settings.runs
    if key is None:
        return None
    if key.resolve().is_relative_to(runs.resolve()):
        raise InputError(f"{key}: the key of the pseudonyms would lie among the runs; name a place outside of {runs}")
    if dry and not key.exists():
        return Pseudonyms(os.urandom(32))
    return read_pseudonyms(key, make=not again and not dry)


def _check_encoders(plan: Plan) -> None:
    """Build every encoder that takes weights from elsewhere once; raises InputError where one cannot be."""
    asked: dict[tuple[Part, int], None] = {}  # in the trials' order
    for chosen in (trial.configuration for trial in plan.networks):
        if chosen.model is not None and encoder_option(chosen, "state"):
            asked[chosen.model.encoder, chosen.data.crop_px] = None
    for encoder, crop_px in asked:
        encoder.options.state()
        encoders[encoder.word].build(crop_px, encoder.options)
