"""What a model may learn in place of the disease: properties of a patient's bag and pictures that ought not to matter.

Shapes: P patients, C cells looked at, S side of a picture.
"""

import re

import numpy as np
import pandas as pd

from lymphtune import console
from lymphtune.cohort.cohort import GROUP, Cohort, evenly_spaced

CELLS_PER_PATIENT = 4  # of a patient, evenly spaced in the bag
PALE = 0.25  # share of a picture's pixels, the brightest, that is taken for background
STEP = 2  # of the pixels whose colours are averaged, every second row and column
BAG_SIZE = "number of cells"
NAMES = (
    BAG_SIZE,
    "background red",
    "background green",
    "background blue",
    "brightness",
    "sharpness",
    "order of ids",
    "pattern of ids",
)


def shortcuts(cohort: Cohort, rows: np.ndarray) -> pd.DataFrame:
    """Return these properties (columns NAMES) of the patients in `rows`; colours and brightness from 0 to 255.

    Beyond them `missing <column>` for each clinical column: 1 where it has no value.

    Of pictures: the mean over CELLS of the patient's. Background: mean colour of the brightest quarter of the pixels;
    sharpness: logarithm of the variance of the Laplacian of green; order of ids: place among these patients, in the
    cohort's own order (P2 before P10); pattern of ids: words, as `pattern_of` gives them.
    """
    counts = cohort.patients["n_cells"].to_numpy()[rows]
    progress_rows = console.each(rows, "Looking for shortcuts", len(rows))
    properties_P5 = np.array([_picture_properties(_some(cohort.bag(row))) for row in progress_rows]).reshape(
        len(rows), 5
    )
    place_P = np.argsort(np.argsort(rows))
    numbers = pd.DataFrame(np.column_stack([counts, properties_P5, place_P]).astype(float), columns=list(NAMES[:-1]))
    numbers[NAMES[-1]] = [pattern_of(cohort.ids[row]) for row in rows]
    given = (
        cohort.patients.iloc[rows]
        .drop(columns=["patient", "label", "n_cells", GROUP], errors="ignore")
        .reset_index(drop=True)
    )
    missing = (given.isna() | (given == "")).astype(float)
    return pd.concat([numbers, missing.add_prefix("missing ")], axis=1)


def pattern_of(patient: str) -> str:
    """Return the id with # for each of its numbers: `A#-#` of A12-3."""
    return re.sub("[0-9]+", "#", patient)


def _some(bag_NSS3: np.ndarray) -> np.ndarray:
    return bag_NSS3[evenly_spaced(len(bag_NSS3), CELLS_PER_PATIENT)]


def _picture_properties(pictures_CSS3: np.ndarray) -> np.ndarray:
    """Return background red, green and blue, brightness and sharpness, mean over some pictures [5]."""
    pixels_CN3 = pictures_CSS3[:, ::STEP, ::STEP].reshape(len(pictures_CSS3), -1, 3)
    light_CN = pixels_CN3.sum(axis=2, dtype=np.uint16)
    pale_CN = light_CN >= np.quantile(light_CN, 1 - PALE, axis=1, method="higher")[:, None]
    background_C3 = [pixels_N3[pale_N].mean(axis=0) for pixels_N3, pale_N in zip(pixels_CN3, pale_CN, strict=True)]
    sharp_C = [_sharpness(picture[:, :, 1]) for picture in pictures_CSS3]
    return np.array([*np.mean(background_C3, axis=0), light_CN.mean() / 3, np.mean(sharp_C)])


def _sharpness(green_SS: np.ndarray) -> float:
    """Return the logarithm of the variance of the Laplacian, so that flat pictures and crisp ones compare."""
    given = green_SS.astype(np.int16)
    around = given[:-2, 1:-1] + given[2:, 1:-1] + given[1:-1, :-2] + given[1:-1, 2:]
    return float(np.log1p((around - 4 * given[1:-1, 1:-1]).var(dtype=np.float32)))
