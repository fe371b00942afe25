"""The result of a command: text for a person, and the same in plain values for a program (`--json`)."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from datetime import date
from pathlib import PurePath
from typing import Any


@dataclass(frozen=True)
class Result:
    """What a command found.

    text: for a person. values: the same, unrounded, as anything that `plain` takes. fault: one line where what was
    checked is not fit for use. code: with which the command line exits.
    """

    text: str
    values: Any
    fault: str = ""
    code: int = 0

    @property
    def document(self) -> str:
        """The values as one JSON document, NaN and infinities as null."""
        return json.dumps(plain(self.values), indent=2, ensure_ascii=False, allow_nan=False)


def plain(value: Any) -> Any:
    """Return a value as JSON knows it.

    A table is a list of its rows, a dataclass or named tuple a mapping, a path or day a text; NaN and infinities are
    None. Raises TypeError on anything else, sets among it.
    """
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, str):
        return str(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, date):
        return value.isoformat()
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if hasattr(value, "_asdict"):  # a named tuple
        return plain(value._asdict())
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    return _of_arrays(value)


def _of_arrays(value: Any) -> Any:
    """Return numpy's and pandas' values as plain ones; by their methods, as neither is imported for it."""
    if hasattr(value, "to_dict") and hasattr(value, "columns"):
        return plain(value.to_dict("records"))
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    raise TypeError(f"{type(value).__name__} is no plain value")
