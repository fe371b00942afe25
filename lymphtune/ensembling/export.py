"""Export of a saved ensemble to one .onnx file, which is compared with the ensemble before it is saved.

Shapes: P patients, M member trials, C cells of all patients, S picture side.
"""

import importlib.util
import json
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from lymphtune import console
from lymphtune.cohort.attributes import STANDARD, Attribute
from lymphtune.cohort.cohort import PICTURE_PX, TO_PREDICT, Cohort
from lymphtune.config import Configuration, configuration
from lymphtune.ensembling.bundle import Ensemble
from lymphtune.errors import InputError
from lymphtune.files import atomic_file
from lymphtune.registry import combiners
from lymphtune.result import Result
from lymphtune.versions import version

if TYPE_CHECKING:
    import onnx

    from lymphtune.training.deployed import Member

EXTRA = ("onnx", "onnxscript", "onnxruntime")
CHECKED = (1, 3, 17)  # numbers of cells of the bags on which file and ensemble are compared
TOLERANCE = 1e-4  # largest accepted difference of probabilities


def export_onnx(ensemble: Path, out: Path, overwrite: bool = False) -> Result:
    """Write the ensemble as one .onnx file; return its largest difference from the ensemble.

    Inputs: cells [N, 224, 224, 3] uint8 of one patient, and one input [1] per attribute (in the study age_years and
    lymphocytes_g_per_l). A numeric attribute is float32, NaN if missing. A categorical one is int64: the position in
    the JSON list `levels of NAME` of the metadata, -1 if missing. Outputs: probability [1] and members [M]. Raises
    InputError if the ensemble cannot be exported, or the file's predictions differ by more than TOLERANCE.
    """
    if missing := [name for name in EXTRA if importlib.util.find_spec(name) is None]:
        raise InputError(f"export --onnx needs {', '.join(missing)}: pip install 'lymphtune[onnx]'")
    if out.is_dir():
        raise InputError(f"{out}: is a folder; name a file with --onnx")
    if out.exists() and not overwrite:
        raise InputError(f"{out}: exists; name another file with --onnx, or replace it with --overwrite")
    loaded = Ensemble.load(ensemble)
    with atomic_file(out) as scratch:
        model, members = _graph(loaded)
        scratch.write_bytes(model.SerializeToString(deterministic=True))
        farthest = _farthest(scratch, loaded, members)
        if not farthest <= TOLERANCE:  # also true for NaN
            raise InputError(
                f"{out}: not written; its probabilities differ from those of {ensemble} by {farthest:.2g}, more than "
                f"{TOLERANCE:g}; try other versions of torch and onnxscript"
            )
        n_bytes = scratch.stat().st_size
    cells = " and ".join([", ".join(map(str, CHECKED[:-1])), str(CHECKED[-1])])
    text = (
        f"{out}: {len(loaded.members)} trials, {console.size(n_bytes)}; at most {farthest:.1g} from the ensemble's "
        f"probabilities on random bags of {cells} cells"
    )
    values = {"onnx": out, "n_trials": len(loaded.members), "n_bytes": n_bytes, "farthest": farthest}
    return Result("\n".join(console.hanging(text)), values)


def _graph(ensemble: Ensemble) -> tuple["onnx.ModelProto", list["Member"]]:
    """Return the ensemble's graph, and each member's configuration and weight files."""
    from lymphtune.training.deployed import load_deployed
    from lymphtune.training.onnx_graph import as_onnx

    weight_M, where = _weights(ensemble), str(ensemble.path / "ensemble.yaml")
    members: list[Member] = [
        (configuration(member["configuration"], where), [ensemble.path / name for name in member["weights"]])
        for member in ensemble.members
    ]
    _check_bags([chosen for chosen, _ in members], ensemble)
    console.say(f"{ensemble.path}: writing {sum(len(paths) for _, paths in members)} fold models, seconds each")
    try:
        model = as_onnx(load_deployed(members, weight_M, ensemble.attributes))
    except InputError as error:
        raise InputError(f"{ensemble.path}: {error}") from error
    _describe(model, ensemble)
    return model, members


def _check_bags(configurations: list[Configuration], ensemble: Ensemble) -> None:
    """Raise InputError if a member uses bags of fixed size: ONNX cannot express its hash-based sampling of cells."""
    if any(chosen.model is not None and chosen.data.fixed for chosen in configurations):
        raise InputError(
            f"{ensemble.path}: has members with 'bag_size: fixed', which predict from several samples of cells; only "
            "members that use all cells can be exported"
        )


def _weights(ensemble: Ensemble) -> np.ndarray:
    """Return each member's weight [M]; raises InputError if the ensemble is not a weighted mean of its members."""
    described = ensemble.description
    if (calibration := described["calibration"]) is not None:
        raise InputError(
            f"{ensemble.path}: calibrated ({calibration}); only an ensemble without calibration can be exported"
        )
    if (weight_M := getattr(ensemble.fitted.combiner, "weights_M_", None)) is None:
        word = next(iter(described["recipe"]["combiner"]))
        raise InputError(
            f"{ensemble.path}: '{word}' is not a weighted mean of its members; combiners that can be exported: "
            f"{', '.join(weighted_means())}"
        )
    return weight_M


def weighted_means() -> list[str]:
    """Return the names of the combiners that are weighted means of the members."""
    oof_MP, labels_P = np.array([[0.1, 0.4, 0.8, 0.9], [0.2, 0.3, 0.6, 0.7]]), np.array([0, 0, 1, 1])
    built = {word: combiners[word].build(combiners[word].options()) for word in combiners.words()}
    return [word for word, combiner in built.items() if hasattr(combiner.fit(oof_MP, labels_P), "weights_M_")]


def _describe(model: "onnx.ModelProto", ensemble: Ensemble) -> None:
    """Describe the ensemble in the file's metadata."""
    import onnx

    given, cohort = ensemble.description, ensemble.description["cohort"]
    model.producer_name, model.producer_version = "lymphtune", version("lymphtune")
    about = {
        "lymphtune": version("lymphtune"),
        "run": given["run"],
        "cohort": cohort["name"],
        "simulated": str(cohort["simulated"]).lower(),
        "ages": "at the examination" if ensemble.ages.at == "examination" else f"at {ensemble.reference_date}",
        "reference_date": cohort["reference_date"],
        "threshold": str(ensemble.threshold),
        "members": " ".join(member["trial"] for member in ensemble.members),
        "notice": "not a medical device",
    }
    words = {one.name: one.levels for one in ensemble.attributes if one.levels is not None}
    about |= {f"levels of {name}": json.dumps(levels, ensure_ascii=False) for name, levels in words.items()}
    onnx.helper.set_model_props(model, about)


def _farthest(file: Path, ensemble: Ensemble, members: list["Member"]) -> float:
    """Return the largest difference between file and ensemble on random bags, over ensemble and members."""
    import onnxruntime

    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    cohort, difference = _bags(ensemble.attributes), []
    members_MP = _original(members, cohort)
    expected_P = ensemble.fitted.combiner.predict_proba(members_MP)
    for row, patient in enumerate(cohort.patients.itertuples()):
        values = {one.name: _value(one, getattr(patient, one.name)) for one in ensemble.attributes}
        given = {"cells": cohort.bag(row)} | values
        probability, probability_M = session.run(["probability", "members"], given)
        difference += [np.abs(probability - expected_P[row]).max(), np.abs(probability_M - members_MP[:, row]).max()]
    return float(np.max(difference))


def _value(attribute: Attribute, value: Any) -> np.ndarray:
    """Return a patient's value as an input of the file."""
    if attribute.levels is None:
        return np.array([value], dtype=np.float32)
    return np.array([attribute.levels.index(value) if value in attribute.levels else -1])


def _original(members: list["Member"], cohort: Cohort) -> np.ndarray:
    """Return the members' predictions [M, P] from the saved fold models, in float32 on a CPU."""
    from lymphtune.training.loading import predict_with

    rows = np.arange(len(cohort.patients))
    return np.array(
        [
            np.mean(
                [predict_with(path, chosen, cohort, rows, device_name="cpu").probability_P for path in paths], axis=0
            )
            for chosen, paths in members
        ]
    )


def _bags(attributes: Sequence[Attribute]) -> Cohort:
    """Return random patients with CHECKED cells of noise that differ in brightness; the last lacks its numbers."""
    rng, n_cells = np.random.default_rng(0), sum(CHECKED)
    light_C111 = rng.integers(40, 216, (n_cells, 1, 1, 1))
    cells_CSS3 = (light_C111 + rng.integers(-40, 40, (n_cells, PICTURE_PX, PICTURE_PX, 3))).astype(np.uint8)
    patients = pd.DataFrame(
        {
            "patient": [f"random-{count}" for count in CHECKED],
            "label": TO_PREDICT,
            "sex": "",
            "age_years": rng.uniform(20, 90, len(CHECKED)).astype(np.float32).astype(float),
            "lymphocytes_g_per_l": rng.uniform(4, 60, len(CHECKED)).astype(np.float32).astype(float),
            "n_cells": CHECKED,
        }
    )
    patients.loc[len(CHECKED) - 1, "age_years"] = np.nan
    for attribute in (one for one in attributes if one not in STANDARD):
        if attribute.levels is None:
            patients[attribute.name] = rng.uniform(1, 9, len(CHECKED)).astype(np.float32).astype(float)
            patients.loc[len(CHECKED) - 1, attribute.name] = np.nan
        else:
            patients[attribute.name] = rng.choice([*attribute.levels, ""], len(CHECKED))
    digests = [sha256(cell).hexdigest() for cell in cells_CSS3]
    return Cohort("random", patients, cells_CSS3, digests, simulated=True, attributes=tuple(attributes))
