"""A simulated cohort: patients and bags of cells generated from a seed, to try the program without real data.

Class shares, ages and lymphocyte counts follow the cohort of Dessaint and Dalla-torre 2021. Given the diagnosis, the
pictures are independent of age and count, so that both carry information of their own.
Shapes: P patients, C cells of all patients, N cells of one patient, S picture side in pixels.
"""

import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image, ImageDraw

from lymphtune import console
from lymphtune.cohort.blocks import CohortSurvey
from lymphtune.cohort.clinical import DAYS_PER_YEAR, id_problem
from lymphtune.cohort.cohort import COLUMNS, PICTURE_PX, REACTIVE, REFERENCE_DATE, TO_PREDICT, TUMORAL, Cohort
from lymphtune.cohort.pictures import Encoded, Picture, cache_dir
from lymphtune.cohort.simulation import smear
from lymphtune.cohort.study import MARKER
from lymphtune.errors import InputError
from lymphtune.files import atomic_file, atomic_folder, write_json, write_text

N_PATIENTS, N_CELLS, SEED = 120, 12, 0
# prefix of ids
PREFIX = "SIM"
# part of the cache's key; increase it when the same seed should give other pictures
DRAWING_VERSION = 1
TRUTH = "truth_of_patients_to_predict.csv"

MIN_PATIENTS, MIN_CELLS = 10, 3
TO_PREDICT_SHARE, REACTIVE_SHARE = 0.20, 0.31
JPEG_QUALITY = 92
# cells; below this number, starting processes takes longer than they save
PARALLEL_FROM = 2_000
# irregularities of the study's table: two formats of dates, a lower-case sex
SLASHED_SHARE, LOWER_CASE_SHARE = 0.86, 0.02

BENIGN = ("small", "reactive", "large granular")
# parameters of a Dirichlet distribution, sampled once per patient
BENIGN_WEIGHTS = {REACTIVE: (4.0, 3.0, 1.5), TUMORAL: (4.5, 1.8, 1.5)}
DISEASES = {"chronic lymphocytic": 0.50, "villous": 0.20, "cleaved": 0.20, "prolymphocyte": 0.10}
TUMOUR_CELLS = {
    "chronic lymphocytic": {"chronic lymphocytic": 0.84, "smudge": 0.12, "prolymphocyte": 0.04},
    "villous": {"villous": 0.95, "smudge": 0.05},
    "cleaved": {"cleaved": 0.95, "smudge": 0.05},
    "prolymphocyte": {"prolymphocyte": 0.90, "chronic lymphocytic": 0.06, "smudge": 0.04},
}
# parameters of a Beta distribution, sampled once per patient
ATYPICAL_SHARE = {REACTIVE: (2.0, 26.0), TUMORAL: (2.2, 2.2)}

README = """This cohort is SIMULATED. Its patients, ages, lymphocyte counts and pictures were drawn by a computer
program (lymphtune simulate: {n_patients} patients, about {n_cells} cells each, seed {seed}; ages counted to
{reference_date}). No person is behind any row or picture, and no number computed from it says anything about
medicine: use it to try the program. The true labels of the patients to predict are in {truth}.
"""


@dataclass(frozen=True)
class _BetaDistribution:
    """A scaled Beta distribution with this mean, standard deviation and range."""

    mean: float
    deviation: float
    low: float
    high: float

    def draw(self, rng: np.random.Generator, n: int) -> np.ndarray:
        """Sample n values."""
        mean = (self.mean - self.low) / (self.high - self.low)
        weight = mean * (1 - mean) / (self.deviation / (self.high - self.low)) ** 2 - 1
        return self.low + (self.high - self.low) * rng.beta(mean * weight, (1 - mean) * weight, size=n)


AGE_YEARS = {REACTIVE: _BetaDistribution(54.3, 19.8, 22, 93), TUMORAL: _BetaDistribution(75.2, 12.0, 33, 99)}
# lymphocytes in 10^9/L
REACTIVE_COUNT = _BetaDistribution(5.0, 1.0, 4.0, 7.7)
TUMORAL_LOG_COUNT = _BetaDistribution(math.log(12.4), 0.88, math.log(2.3), math.log(295))


def simulated_cohort(
    reference_date: date = REFERENCE_DATE, n_patients: int = N_PATIENTS, n_cells: int = N_CELLS, seed: int = SEED
) -> Cohort:
    """Generate the cohort of this seed; its pictures are cached.

    The same arguments always give the same cohort. Raises InputError on fewer than 10 patients, no cells or a negative
    seed.
    """
    patients = draw_patients(n_patients, n_cells, seed)
    pictures_CSS3, digests = _cached(patients, f"{n_patients}-{n_cells}-{seed}", seed)
    name = _name(n_patients, n_cells, seed)
    return Cohort(name, patients[list(COLUMNS)], pictures_CSS3, digests, reference_date, simulated=True)


def survey_simulated(
    reference_date: date = REFERENCE_DATE, n_patients: int = N_PATIENTS, n_cells: int = N_CELLS, seed: int = SEED
) -> CohortSurvey:
    """The same cohort, whose pictures are drawn block by block without the cache."""
    patients = draw_patients(n_patients, n_cells, seed)

    def sources(rows: range) -> list[SimulatedBag]:
        return [SimulatedBag(patients, row, seed) for row in rows]

    name = _name(n_patients, n_cells, seed)
    return CohortSurvey(name, patients[list(COLUMNS)], sources, reference_date, simulated=True, decode=_decode_raw)


@dataclass(frozen=True)
class SimulatedBag:
    """The pictures of the patient in that row, drawn when they are read and encoded as raw pixels."""

    patients: pd.DataFrame
    row: int
    seed: int

    def __len__(self) -> int:
        return int(self.patients["n_cells"].iloc[self.row])

    def read(self) -> Iterator[Encoded]:
        patient = self.patients["patient"].iloc[self.row]
        for number, picture_SS3 in enumerate(draw_bag(self.patients, self.row, self.seed)):
            yield Encoded(f"{patient}/{number:06d}", f"{number:06d}", picture_SS3.tobytes())


def _decode_raw(data: bytes, where: str) -> Picture:
    return Picture(np.frombuffer(data, np.uint8).reshape(PICTURE_PX, PICTURE_PX, 3))


def _name(n_patients: int, n_cells: int, seed: int) -> str:
    usual = (n_patients, n_cells, seed) == (N_PATIENTS, N_CELLS, SEED)
    return "simulated" if usual else f"simulated-p{n_patients}-c{n_cells}-s{seed}"


def simulated_truth(n_patients: int = N_PATIENTS, n_cells: int = N_CELLS, seed: int = SEED) -> pd.Series:
    """The true label of each patient to predict, by id."""
    patients = draw_patients(n_patients, n_cells, seed)
    return _truth(patients)


def _truth(patients: pd.DataFrame) -> pd.Series:
    hidden = patients[patients["label"] == TO_PREDICT]
    return hidden.set_index("patient")["true_label"].rename("LABEL")


def write_simulated(
    out: Path,
    n_patients: int = N_PATIENTS,
    n_cells: int = N_CELLS,
    seed: int = SEED,
    reference_date: date = REFERENCE_DATE,
    prefix: str = PREFIX,
) -> None:
    """Write the cohort of this seed as a folder in the study's layout, atomically.

    Ids are `prefix` and a number. Two cohorts with one prefix share ids and count as the same patients. Raises
    InputError if `out` exists and is not an empty folder, or if the prefix cannot begin an id.
    """
    if problem := id_problem(f"{prefix}1"):
        raise InputError(f"--prefix {prefix!r}: an id with it {problem}; expected letters such as {PREFIX}")
    patients = draw_patients(n_patients, n_cells, seed)
    patients["patient"] = patients["patient"].str.replace(PREFIX, prefix, n=1, regex=False)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out}: exists already; name a folder that does not, or an empty one")
    with atomic_folder(out) as folder:
        _write_bags(folder, patients, seed)
        _clinical_annotation(patients, seed, reference_date).to_csv(folder / "clinical_annotation.csv")
        _truth(patients).to_csv(folder / TRUTH, index_label="ID")
        facts = {"n_patients": n_patients, "n_cells": n_cells, "seed": seed, "reference_date": reference_date}
        write_text(folder / "README.txt", README.format(truth=TRUTH, **facts))
        write_text(folder / MARKER, "Drawn by a program; no person is behind it.\n")


def draw_patients(n_patients: int, n_cells: int, seed: int) -> pd.DataFrame:
    """Sample one row per patient in order of id: columns COLUMNS, true_label and disease; no pictures.

    `disease` is the tumoral type of cell that dominates, "" for reactive patients.
    """
    _check(n_patients, n_cells, seed)
    rng = _rng(seed, 0)
    labels, true_labels = _draw_labels(rng, n_patients)
    ages, counts = np.zeros(n_patients), np.zeros(n_patients)
    for label in (REACTIVE, TUMORAL):
        of_label = true_labels == label
        ages[of_label] = AGE_YEARS[label].draw(rng, int(of_label.sum()))
        counts[of_label] = _draw_counts(rng, label, int(of_label.sum()))
    diseases = rng.choice(list(DISEASES), p=list(DISEASES.values()), size=n_patients)
    sizes = rng.gamma(8, n_cells / 8, size=n_patients)
    return pd.DataFrame(
        {
            "patient": [f"{PREFIX}{number}" for number in range(1, n_patients + 1)],
            "label": labels,
            "sex": rng.choice(["F", "M"], size=n_patients),
            # whole days, so that the age can be recovered from a date of birth
            "age_years": np.round(ages * DAYS_PER_YEAR) / DAYS_PER_YEAR,
            "lymphocytes_g_per_l": counts.round(2),
            "n_cells": np.maximum(MIN_CELLS, sizes.round().astype(np.int64)),
            "true_label": true_labels,
            "disease": np.where(true_labels == TUMORAL, diseases, ""),
        }
    ).astype({"patient": "str", "sex": "str", "disease": "str"})


def draw_cell_types(patients: pd.DataFrame, row: int, seed: int) -> list[str]:
    """The type of each cell of the patient in that row, names of `smear.CELL_TYPES`."""
    rng = _rng(seed, 1, row)
    label, disease, n_cells = (patients[name].to_numpy()[row] for name in ("true_label", "disease", "n_cells"))
    benign_weights = rng.dirichlet(BENIGN_WEIGHTS[label])
    share = rng.beta(*ATYPICAL_SHARE[label])
    types = []
    for _ in range(n_cells):
        if rng.random() >= share:
            types.append(str(rng.choice(BENIGN, p=benign_weights)))
            continue
        cells = TUMOUR_CELLS[disease or str(rng.choice(list(DISEASES), p=list(DISEASES.values())))]
        types.append(str(rng.choice(list(cells), p=list(cells.values()))))
    return types


def draw_bag(patients: pd.DataFrame, row: int, seed: int) -> np.ndarray:
    """Draw the pictures [N, S, S, 3] of the patient in that row, each from its own seed."""
    stain = smear.draw_stain(_rng(seed, 2, row))
    pictures = []
    for cell, kind in enumerate(draw_cell_types(patients, row, seed)):
        rng = _rng(seed, 3, row, cell)
        pictures.append(smear.draw_picture(smear.vary(smear.CELL_TYPES[kind], rng), stain, rng))
    return np.stack(pictures)


def contact_sheet(path: Path, seed: int = 0) -> None:
    """Write a PNG with one row per type of cell: its name and eight cells with eight stains."""
    shown_px, side_px, margin_px, n_columns = 150, 100, 150, 8
    stains = [smear.draw_stain(_rng(seed, 4, column)) for column in range(n_columns)]
    sheet = Image.new("RGB", (margin_px + n_columns * side_px, len(smear.CELL_TYPES) * side_px), "white")
    edge = (PICTURE_PX - shown_px) // 2
    box = (edge, edge, edge + shown_px, edge + shown_px)
    for row, (name, kind) in enumerate(smear.CELL_TYPES.items()):
        ImageDraw.Draw(sheet).text((8, row * side_px + side_px // 2 - 6), name, fill="black", font_size=13)
        for column, stain in enumerate(stains):
            rng = _rng(seed, 5, row, column)
            picture = Image.fromarray(smear.draw_picture(smear.vary(kind, rng), stain, rng))
            small = picture.resize((side_px - 2, side_px - 2), Image.Resampling.LANCZOS, box=box)
            sheet.paste(small, (margin_px + column * side_px, row * side_px))
    with atomic_file(path) as scratch:
        sheet.quantize(256, kmeans=6).save(scratch, format="PNG", optimize=True)


def _check(n_patients: int, n_cells: int, seed: int) -> None:
    if n_patients < MIN_PATIENTS:
        raise InputError(f"simulated cohort: {n_patients} patients; expected {MIN_PATIENTS} or more")
    if n_cells < 1:
        raise InputError(f"simulated cohort: {n_cells} cells a patient; expected 1 or more")
    if seed < 0:
        raise InputError(f"simulated cohort: seed {seed}; expected 0 or more")


def _rng(seed: int, *key: int) -> np.random.Generator:
    """An independent random generator for one key."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))


def _draw_labels(rng: np.random.Generator, n_patients: int) -> tuple[np.ndarray, np.ndarray]:
    """The labels [P], -1 for patients to be predicted, and the true labels [P], shuffled."""
    n_hidden = round(TO_PREDICT_SHARE * n_patients)
    n_reactive = [round(REACTIVE_SHARE * n) for n in (n_hidden, n_patients - n_hidden)]
    true_labels = np.full(n_patients, TUMORAL, dtype=np.int64)
    true_labels[: n_reactive[0]] = REACTIVE
    true_labels[n_hidden : n_hidden + n_reactive[1]] = REACTIVE
    labels = true_labels.copy()
    labels[:n_hidden] = TO_PREDICT
    order = rng.permutation(n_patients)
    return labels[order], true_labels[order]


def _draw_counts(rng: np.random.Generator, label: int, n: int) -> np.ndarray:
    """Sample n lymphocyte counts in 10^9/L."""
    if label == REACTIVE:
        return REACTIVE_COUNT.draw(rng, n)
    logs = TUMORAL_LOG_COUNT
    # more samples than needed, because those outside the range are dropped
    samples = rng.normal(logs.mean, logs.deviation, size=20 * n + 20)
    return np.exp(samples[(samples > logs.low) & (samples < logs.high)][:n])


def _bags(patients: pd.DataFrame, seed: int) -> Iterator[np.ndarray]:
    """Yield the bag of each patient in order; large cohorts are drawn by one process per core."""
    n_cells, rows = int(patients["n_cells"].sum()), range(len(patients))
    bags: Iterator[np.ndarray] = (draw_bag(patients, row, seed) for row in rows)
    if n_cells >= PARALLEL_FROM:
        # joblib takes a quarter of a second to import
        from joblib import Parallel, delayed

        bags = Parallel(n_jobs=-1, return_as="generator")(delayed(draw_bag)(patients, row, seed) for row in rows)
    with console.bar("Drawing simulated cells", n_cells) as progress:
        for bag_CSS3 in bags:
            yield bag_CSS3
            progress.advance(len(bag_CSS3))


def _cached(patients: pd.DataFrame, parameters: str, seed: int) -> tuple[np.ndarray, Sequence[str]]:
    """All pictures [C, S, S, 3], memory-mapped read-only from the cache, and the SHA-256 of each one's pixels."""
    code = b"".join(Path(str(module)).read_bytes() for module in (smear.__file__, __file__))
    key = hashlib.sha256(f"{DRAWING_VERSION} {np.__version__} {parameters} ".encode() + code).hexdigest()[:16]
    target = cache_dir() / f"simulated-{parameters}-{key}.npy"
    n_cells = int(patients["n_cells"].sum())
    found = _load_cached(target, n_cells)
    if found is None:
        _draw_into(target, patients, seed)
        found = _load_cached(target, n_cells)
    if found is None:
        raise InputError(f"{target}: cannot be read back; remove it and start again")
    return found


def _load_cached(target: Path, n_cells: int) -> tuple[np.ndarray, Sequence[str]] | None:
    try:
        digests = json.loads(target.with_suffix(".json").read_text(encoding="utf-8"))
        pictures_CSS3 = np.load(target, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError):
        return None
    sound = pictures_CSS3.shape == (n_cells, PICTURE_PX, PICTURE_PX, 3) and len(digests) == n_cells
    return (pictures_CSS3, digests) if sound else None


def _draw_into(target: Path, patients: pd.DataFrame, seed: int) -> None:
    """Draw every picture into the cache file and write the digests beside it."""
    shape = (int(patients["n_cells"].sum()), PICTURE_PX, PICTURE_PX, 3)
    digests = []
    with atomic_file(target) as scratch:
        with scratch.open("wb") as file:
            np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
            for bag_NSS3 in _bags(patients, seed):
                file.write(bag_NSS3.tobytes())
                digests += [hashlib.sha256(picture_SS3.tobytes()).hexdigest() for picture_SS3 in bag_NSS3]
        write_json(target.with_suffix(".json"), digests)


def _write_bags(folder: Path, patients: pd.DataFrame, seed: int) -> None:
    for patient, label, bag_NSS3 in zip(patients["patient"], patients["label"], _bags(patients, seed), strict=True):
        home = folder / ("testset" if label == TO_PREDICT else "trainset") / patient
        home.mkdir(parents=True)
        for number, picture_SS3 in enumerate(bag_NSS3):
            Image.fromarray(picture_SS3).save(home / f"{number:06d}.jpg", quality=JPEG_QUALITY)


def _clinical_annotation(patients: pd.DataFrame, seed: int, reference_date: date) -> pd.DataFrame:
    """The table in the study's layout with the irregularities of the study's own, independent of the class."""
    rng = _rng(seed, 6)
    days = (patients["age_years"] * DAYS_PER_YEAR).round().astype(int)
    born = [reference_date - timedelta(days=int(n_days)) for n_days in days]
    slashed = rng.random(len(born)) < SLASHED_SHARE
    lower_case = rng.random(len(born)) < LOWER_CASE_SHARE
    return pd.DataFrame(
        {
            "ID": patients["patient"],
            "LABEL": patients["label"],
            "GENDER": patients["sex"].where(~(lower_case & (patients["sex"] == "F")), "f"),
            "DOB": [
                f"{d.month}/{d.day}/{d.year}" if s else f"{d:%d-%m-%Y}" for d, s in zip(born, slashed, strict=True)
            ],
            "LYMPH_COUNT": patients["lymphocytes_g_per_l"],
        }
    )
