"""Properties of a patient's bag, pictures and id that should not predict the label.

Shapes: P patients, C cells used, N pixels of a picture, S side of a picture.
"""

import re

import numpy as np
import pandas as pd

from lymphtune import console
from lymphtune.cohort.cohort import GROUP, Cohort, evenly_spaced

# evenly spaced in the bag
CELLS_PER_PATIENT = 4
# share of the pixels, the brightest, that counts as background
PALE = 0.25
# colours are averaged over every second row and column
STEP = 2
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
    """The properties (columns NAMES) of the patients in `rows`; colours and brightness from 0 to 255.

    Also a column `missing <column>` for each clinical column: 1 without a value, else 0.

    Picture properties are means over CELLS_PER_PATIENT pictures. Background: mean colour of the brightest quarter of
    the pixels. Sharpness: logarithm of the variance of the Laplacian of green. Order of ids: rank among these patients
    in the cohort's order (P2 before P10). Pattern of ids: words, as `pattern_of` returns them.
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
    """The id with # in place of each number: A12-3 becomes `A#-#`."""
    return re.sub("[0-9]+", "#", patient)


def _some(bag_NSS3: np.ndarray) -> np.ndarray:
    return bag_NSS3[evenly_spaced(len(bag_NSS3), CELLS_PER_PATIENT)]


def _picture_properties(pictures_CSS3: np.ndarray) -> np.ndarray:
    """Background red, green and blue, brightness and sharpness, each a mean over the pictures [5]."""
    pixels_CN3 = pictures_CSS3[:, ::STEP, ::STEP].reshape(len(pictures_CSS3), -1, 3)
    light_CN = pixels_CN3.sum(axis=2, dtype=np.uint16)
    pale_CN = light_CN >= np.quantile(light_CN, 1 - PALE, axis=1, method="higher")[:, None]
    background_C3 = [pixels_N3[pale_N].mean(axis=0) for pixels_N3, pale_N in zip(pixels_CN3, pale_CN, strict=True)]
    sharp_C = [_sharpness(picture[:, :, 1]) for picture in pictures_CSS3]
    return np.array([*np.mean(background_C3, axis=0), light_CN.mean() / 3, np.mean(sharp_C)])


def _sharpness(green_SS: np.ndarray) -> float:
    """Logarithm of the variance of the Laplacian."""
    given = green_SS.astype(np.int16)
    around = given[:-2, 1:-1] + given[2:, 1:-1] + given[1:-1, :-2] + given[1:-1, 2:]
    return float(np.log1p((around - 4 * given[1:-1, 1:-1]).var(dtype=np.float32)))
