"""Attributes of a folder that should not predict the label: files, formats and dates of pictures, form of the table.

Shapes: P patients, L pictures of one patient whose headers are read.
"""

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from lymphtune import console
from lymphtune.cohort.cohort import Cohort, evenly_spaced
from lymphtune.cohort.layout import Layout, read_layout
from lymphtune.cohort.pictures import FORMATS, UNREADABLE, PictureFiles
from lymphtune.cohort.study import survey_study, table_path
from lymphtune.cohort.table import open_table
from lymphtune.files import NUMBER, sha256

# by name: numbers [P], words [P], or [P, D] columns of one attribute
Attributes = dict[str, np.ndarray]
# pictures of a patient whose headers are read, evenly spaced in its bag
HEADERS_PER_PATIENT = 8
# files all changed within this time were copied together, so that their dates carry no information
MAX_COPYING_S = 3600.0
# columns of a table that are audited
MAX_COLUMNS = 100
# characters of a column's name
MAX_SHOWN = 40
DATE = re.compile(r"[0-9]{1,4}([-/.])[0-9]{1,2}\1[0-9]{1,4}([ T].*)?")
# the tag of the EXIF directory, and the tags of its dates
EXIF, TAKEN, CHANGED = 0x8769, 0x9003, 0x0132
STAMP = "%Y:%m:%d %H:%M:%S"


class _Header(NamedTuple):
    """Properties read from a picture's header; stamp: date in seconds, NaN without one."""

    width: int
    height: int
    kind: str
    coarseness: float
    stamp: float


def origins(folder: Path, cohort: Cohort, rows: np.ndarray) -> Attributes:
    """Attributes of the patients in `rows` from the folder's files and table, without constant or unavailable ones.

    No picture is decoded; HEADERS_PER_PATIENT headers a patient are read. Patients with pseudonyms are identified by
    the digest of their first picture; {} if one cannot be found.
    """
    surveyed = survey_study(folder, cohort.reference_date)
    names = surveyed.patients["patient"].tolist()
    sources = surveyed.sources(range(len(surveyed)))
    files = [source.paths if isinstance(source, PictureFiles) else () for source in sources]
    place = {name: number for number, name in enumerate(names)}
    if not set(cohort.ids) <= set(names):
        of_picture = {sha256(paths[0]): number for number, paths in enumerate(files) if paths}
        firsts = [digests[0] for digests in cohort.digests_of_bags]
        place = {name: of_picture[first] for name, first in zip(cohort.ids, firsts, strict=True) if first in of_picture}
    if not all(cohort.ids[row] in place for row in rows):
        return {}
    places = [place[cohort.ids[row]] for row in rows]
    paths_P = [files[number] for number in places]
    ids = [names[number] for number in places]
    found = _of_table(folder, ids, read_layout(folder)) | _of_files(paths_P) | _of_headers(paths_P)
    return {name: values for name, values in found.items() if not is_constant(values)}


def is_constant(values: np.ndarray) -> bool:
    """Whether an attribute is equal for all patients, up to rounding of means."""
    if values.dtype.kind == "f":
        return np.allclose(values, values[:1], rtol=1e-12, atol=0)
    return bool((values == values[:1]).all())


def _of_table(folder: Path, ids: Sequence[str], layout: Layout) -> Attributes:
    """The order of rows and, by column, missing values, date format and number of decimals."""
    own = (layout.columns.patient, layout.columns.label)
    texts = {values[own[0]]: (row, values) for row, values in open_table(table_path(folder, layout), layout).rows}
    columns = [name for name in texts[ids[0]][1] if name not in own][:MAX_COLUMNS]
    found: Attributes = {"order of rows in the table": _order([texts[patient][0] for patient in ids])}
    for name in columns:
        cells = [texts[patient][1][name] for patient in ids]
        shown = _shown(name)
        missing_P = np.isin(cells, ["", *layout.missing])
        found[f"missing {shown}"] = missing_P.astype(float)
        given = [cell for cell, missing in zip(cells, missing_P, strict=True) if not missing]
        if _most(given, lambda cell: DATE.fullmatch(cell) is not None):
            found[f"format of {shown}"] = np.array([_date_format(cell) for cell in cells])
        elif _most(given, lambda cell: NUMBER.fullmatch(cell.replace(layout.decimal, ".")) is not None):
            found[f"decimals of {shown}"] = np.array([float(len(cell.partition(layout.decimal)[2])) for cell in cells])
    return found


def _shown(column: str) -> str:
    """A column's name, shortened and printable."""
    return "".join(letter if letter.isprintable() else "?" for letter in column[:MAX_SHOWN]) or "the unnamed column"


def _order(numbers: Sequence[float]) -> np.ndarray:
    return np.argsort(np.argsort(numbers, kind="stable"), kind="stable").astype(float)


def _most(cells: Sequence[str], true_of: Callable[[str], bool]) -> bool:
    return 2 * sum(map(true_of, cells)) > len(cells)


def _date_format(cell: str) -> str:
    """The format of a date, such as N/N/YYYY for 3/27/1961; other texts without their digits."""
    return re.sub("[0-9]+", lambda digits: "YYYY" if len(digits[0]) == 4 else "N", cell)


def _of_files(paths_P: Sequence[Sequence[Path]]) -> Attributes:
    """Mean and standard deviation of the logarithm of file sizes, and the mean time of the last change."""
    sizes, changed = [], []
    for paths in paths_P:
        stats = [path.stat() for path in paths]
        sizes.append(np.log([max(stat.st_size, 1) for stat in stats]))
        changed.append(np.mean([stat.st_mtime for stat in stats]))
    found: Attributes = {
        "size of picture files": np.array([size_L.mean() for size_L in sizes]),
        "spread of file sizes": np.array([size_L.std() for size_L in sizes]),
    }
    if np.ptp(changed) > MAX_COPYING_S:
        found["date of picture files"] = np.array(changed)
    return found


def _of_headers(paths_P: Sequence[Sequence[Path]]) -> Attributes:
    """Dimensions, format, compression and dates of the pictures, from their headers."""
    headers_P = []
    for paths in console.each(paths_P, "Reading picture headers", len(paths_P)):
        headers = [_header(paths[number]) for number in evenly_spaced(len(paths), HEADERS_PER_PATIENT)]
        headers_P.append([header for header in headers if header is not None])
    if not all(headers_P):
        return {}
    side_P2 = [np.log([[one.width, one.height] for one in some]).mean(axis=0) for some in headers_P]
    stamps_P = [np.array([one.stamp for one in some]) for some in headers_P]
    undated_P = np.array([np.isnan(stamp_L).mean() for stamp_L in stamps_P])
    found: Attributes = {
        "dimensions of pictures": np.array(side_P2),
        "format of pictures": np.array([Counter(one.kind for one in some).most_common(1)[0][0] for some in headers_P]),
        "compression of pictures": np.array([np.mean([one.coarseness for one in some]) for some in headers_P]),
        "pictures without a date": undated_P,
    }
    if (undated_P < 1).any():
        dated_P = np.array(
            [np.nan if share == 1 else np.nanmean(stamp_L) for share, stamp_L in zip(undated_P, stamps_P, strict=True)]
        )
        found["date in pictures"] = np.where(np.isnan(dated_P), np.nanmean(dated_P), dated_P)
    return found


def _header(path: Path) -> _Header | None:
    """A picture's header; None if it cannot be read, which decoding reports."""
    try:
        with Image.open(path, formats=FORMATS) as image:
            tables: Mapping[int, Sequence[int]] = getattr(image, "quantization", None) or {}
            coarseness = float(np.log1p(sum(sum(table) for table in tables.values())))
            return _Header(*image.size, f"{image.format} {image.mode}", coarseness, _stamp(image))
    except (*UNREADABLE, Image.DecompressionBombError, Image.DecompressionBombWarning):
        return None


def _stamp(image: Image.Image) -> float:
    """When the picture was taken, else last changed, in seconds; NaN without a date."""
    if image.format == "PNG" and "exif" not in image.info:
        # Pillow would decode the whole picture to look for EXIF data elsewhere
        return float("nan")
    exif = image.getexif()
    for text in (exif.get_ifd(EXIF).get(TAKEN), exif.get(CHANGED)):
        try:
            return (datetime.strptime(str(text).strip("\0 "), STAMP) - datetime(1970, 1, 1)).total_seconds()
        except ValueError:
            # missing, or not a date
            continue
    return float("nan")
