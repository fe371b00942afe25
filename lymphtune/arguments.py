"""What a person hands to a command or a function, checked in one place: both take the same and refuse the same."""

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from datetime import date
from functools import cache
from pathlib import Path
from typing import Annotated, Any, get_type_hints

from pydantic import BeforeValidator, TypeAdapter, ValidationError

from lymphtune.errors import InputError, listed
from lymphtune.times import a_day, in_seconds

KINDS = {
    "int": "a whole number",
    "float": "a number",
    "bool": "True or False",
    "string": "a text",
    "date": "a date",
    "path": "a path",
    "literal": "one of the words",
}


def a_path(given: Any) -> Path:
    """Return a path, or that of a text; raises ValueError."""
    if isinstance(given, str | Path) and str(given):
        return Path(given)
    raise ValueError(f"{given!r} is not a path; expected a text or a pathlib.Path")


def _plain(given: Any) -> Any:
    """Return NumPy's numbers as Python's."""
    return given.item() if type(given).__module__ == "numpy" and hasattr(given, "item") and not given.shape else given


Day = Annotated[date, BeforeValidator(a_day)]
Seconds = Annotated[float, BeforeValidator(in_seconds)]
Folder = Annotated[Path, BeforeValidator(a_path)]


@cache
def _adapters(of: Any) -> dict[str, TypeAdapter[Any]]:
    hints = get_type_hints(of, localns=globals(), include_extras=True)  # names that are imported for typing only
    return {field.name: _adapter(hints[field.name]) for field in fields(of)}


def check_fields(given: Any) -> None:
    """Bring a frozen dataclass's fields to their declared types, in place; raises InputError that names the field."""
    kind: Any = type(given)
    for name, adapter in _adapters(kind).items():
        object.__setattr__(given, name, _checked(adapter, name, getattr(given, name)))


def checked(kind: Any, name: str, given: Any) -> Any:
    """Return one argument of a declared type; raises InputError that names it."""
    return _checked(_adapter(kind), name, given)


def _adapter(kind: Any) -> TypeAdapter[Any]:
    whole: Any = Annotated[kind, BeforeValidator(_plain)]
    return TypeAdapter(whole)


def _checked(adapter: TypeAdapter[Any], name: str, given: Any) -> Any:
    try:
        return adapter.validate_python(given, strict=True)
    except ValidationError as error:
        raise InputError(f"{name}: {_mishap(error, given)}") from error


def _mishap(error: ValidationError, given: Any) -> str:
    """Return what is wrong with a value, in the words of its kind."""
    found = error.errors()
    for one in found:
        if one["type"] == "value_error":
            return str(one["ctx"]["error"])
    kinds = dict.fromkeys(KINDS.get(one["type"].partition("_")[0], one["msg"]) for one in found)
    words = [str(one["ctx"]["expected"]) for one in found if one["type"] == "literal_error"]
    wanted = [*(kind for kind in kinds if kind != KINDS["literal"]), *words]
    return f"expected {' or '.join(wanted)}; found {given!r}"


def check_names(given: Mapping[str, Any], known: Iterable[str], of: str) -> None:
    """Raise InputError where a keyword is none of those that `of` takes."""
    known = sorted(known)
    for name in given:
        if name not in known:
            raise InputError(f"{of} takes no '{name}'; there are {listed(name, known)}")


def keywords(called: Callable[..., Any]) -> list[str]:
    """Return the names of a function's arguments."""
    return list(inspect.signature(called).parameters)
