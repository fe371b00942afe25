"""Find and list patients' picture folders by a path template, for reading a cohort and for the doctor.

Names are compared in Unicode's composed form (NFC), because some systems store them decomposed.
"""

import os
import re
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from lymphtune.errors import InputError

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff")
UNSUPPORTED_SUFFIXES = (
    ".jpe",
    ".jfif",
    ".gif",
    ".webp",
    ".heic",
    ".avif",
    ".svs",
    ".ndpi",
    ".dcm",
    ".j2k",
    ".jp2",
    ".raw",
    ".ppm",
)
# the patient's folder in a template
PATIENT = "{patient}"
# after the patient's folder: subfolders are read as well
RECURSIVE = "**"
PLACEHOLDER = re.compile(r"\{([^{}]+)\}")


def composed(text: str) -> str:
    """The text in Unicode's composed form (NFC)."""
    return unicodedata.normalize("NFC", text)


@dataclass(frozen=True)
class Template:
    """A path such as `pictures/{centre}/{patient}/**`; above: its parts before the patient's folder."""

    above: tuple[str, ...]
    recursive: bool = False

    @classmethod
    def parse(cls, text: str) -> "Template":
        """Parse a path inside the cohort's folder; raises ValueError if it is not a template."""
        parts = PurePosixPath(text).parts
        recursive = parts[-1:] == (RECURSIVE,)
        *above, last = (parts[:-1] if recursive else parts) or ("",)
        bad = [part for part in above if RECURSIVE in part or re.search(r"[{}]", PLACEHOLDER.sub("", part))]
        if last != PATIENT or bad or PATIENT in above:
            raise ValueError(
                f"{text!r}: expected a path that ends in /{PATIENT}, or in /{PATIENT}/{RECURSIVE} for pictures in "
                "folders below it; {column} before it stands for a column of the table"
            )
        return cls(tuple(above), recursive)

    @property
    def columns(self) -> list[str]:
        """The columns whose values name folders."""
        return list(dict.fromkeys(name for part in self.above for name in PLACEHOLDER.findall(part)))

    def parent(self, values: Mapping[str, str]) -> str:
        """The parent folder for a patient with these values of `columns`."""
        return "/".join(PLACEHOLDER.sub(lambda found: values[found[1]], part) for part in self.above)

    def __str__(self) -> str:
        shown = PLACEHOLDER.sub(r"<\1>", "/".join(self.above))
        return "/".join(filter(None, [shown, "<ID>", RECURSIVE if self.recursive else ""])) + "/*.jpg"


@dataclass(frozen=True)
class PatientFolder:
    """A patient's folder; path: as the file system spells it; parent (folder) and patient: in NFC."""

    path: Path
    parent: str
    patient: str
    recursive: bool = False


@dataclass
class FolderScan:
    """Folders that match a template, and other entries beside them, as paths relative to the cohort's folder."""

    folders: list[PatientFolder] = field(default_factory=list)
    # reason by path for entries that must not be read
    refused: dict[str, str] = field(default_factory=dict)
    # files beside the folders
    stray: list[str] = field(default_factory=list)
    hidden: list[str] = field(default_factory=list)
    # folders that do not match the template
    unmatched: list[str] = field(default_factory=list)


def scan_folders(root: Path, template: Template) -> FolderScan:
    """Find the patients' folders of a template, and the entries beside them."""
    found = FolderScan()
    places = [(root, "")]
    for part in template.above:
        places = [below for path, parent in places for below in _matching_folders(root, path, parent, part, found)]
    for path, parent in places:
        for entry in _folders_in(root, path, parent, found):
            name = composed(entry.name)
            found.folders.append(PatientFolder(path / entry.name, parent, name, template.recursive))
    return found


def _matching_folders(root: Path, path: Path, parent: str, part: str, found: FolderScan) -> Iterator[tuple[Path, str]]:
    """Yield the subfolders of `path` that match one part of the template, with their relative paths in NFC."""
    pieces = re.split(r"(\{[^{}]+\})", part)
    pattern = re.compile("".join(".+" if piece[:1] == "{" else re.escape(composed(piece)) for piece in pieces))
    literal = len(pieces) == 1
    for entry in _folders_in(root, path, parent, found, only=None if not literal else composed(part)):
        place = "/".join(filter(None, [parent, composed(entry.name)]))
        if pattern.fullmatch(composed(entry.name)):
            yield path / entry.name, place
        else:
            found.unmatched.append(place)


def _folders_in(
    root: Path, path: Path, parent: str, found: FolderScan, only: str | None = None
) -> Iterator[os.DirEntry[str]]:
    """Yield the readable subfolders of `path` and record other entries in `found`. only: a single name, in NFC."""
    try:
        inside = sorted(folder_entries(path), key=lambda entry: entry.name)
    except InputError as error:
        found.refused[parent] = str(error).removeprefix(f"{path}: ")
        return
    for entry in inside:
        place = "/".join(filter(None, [parent, entry.name]))
        if only is not None and composed(entry.name) != only:
            continue
        if entry.name.startswith("."):
            if parent:
                found.hidden.append(place)
        elif entry.is_symlink() and (why := link_problem(path / entry.name, root)):
            found.refused[place] = why
        elif entry.is_dir():
            yield entry
        elif parent and only is None:
            found.stray.append(place)


@dataclass
class Listing:
    """Content of one patient's folder; names: relative paths of pictures; n_below: pictures in subfolders not read."""

    names: list[str] = field(default_factory=list)
    hidden: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)
    n_below: int = 0


def list_folder(path: Path, root: Path, recursive: bool) -> Listing:
    """List the patient's folder at `path`, with its subfolders if `recursive`.

    Links out of `root` are refused. If the folder itself cannot be read, `refused` has the name "".
    """
    found = Listing()
    _list(path, "", root, recursive, found, {os.path.realpath(path)})
    for names in (found.names, found.hidden, found.others, found.folders):
        names.sort()
    return found


def _list(path: Path, prefix: str, root: Path, recursive: bool, found: Listing, seen: set[str]) -> None:
    try:
        inside = folder_entries(path)
    except InputError as error:
        found.refused[prefix.rstrip("/")] = str(error).removeprefix(f"{path}: ")
        return
    for entry in inside:
        name, is_picture = f"{prefix}{entry.name}", entry.name.lower().endswith(SUFFIXES)
        linked = entry.is_symlink()
        why = link_problem(path / entry.name, root) if linked else None
        if entry.name.startswith("."):
            found.hidden.append(name)
        elif is_picture and not entry.name.isprintable():
            found.refused[name] = UNPRINTABLE
        elif why and (is_picture or recursive):
            found.refused[name] = why
        elif why:
            found.others.append(name)
        elif entry.is_dir():
            _list_below(path / entry.name, name, root, recursive, found, seen)
        else:
            (found.names if is_picture and entry.is_file() else found.others).append(name)


def _list_below(path: Path, name: str, root: Path, recursive: bool, found: Listing, seen: set[str]) -> None:
    if not recursive:
        found.folders.append(name)
        found.n_below += _count_pictures(path)
    elif (real := os.path.realpath(path)) in seen:
        found.refused[name] = f"a symbolic link to {real}, which is read already; remove it"
    else:
        seen.add(real)
        _list(path, f"{name}/", root, recursive, found, seen)


def _count_pictures(path: Path) -> int:
    """Number of pictures in a folder and its subfolders, without following links."""
    return sum(
        name.lower().endswith(SUFFIXES) and not name.startswith(".") for _, _, names in os.walk(path) for name in names
    )


UNPRINTABLE = "a name that cannot be printed; rename it"


def find_pictures(folder: Path, root: Path | None = None, recursive: bool = False) -> list[Path]:
    """The folder's picture files sorted by name, without hidden files and other suffixes.

    Raises InputError on a broken symbolic link, or one out of `root` (default: the folder itself).
    """
    return [folder / name for name in readable(list_folder(folder, root or folder, recursive), folder).names]


def readable(found: Listing, folder: Path) -> Listing:
    """The listing unchanged; raises InputError if an entry must not be read."""
    for name, why in found.refused.items():
        if why == UNPRINTABLE:
            raise InputError(f"{folder}: the picture's name {name!r} cannot be printed; rename it")
        raise InputError(f"{folder / name if name else folder}: {why}")
    return found


def folder_entries(folder: Path) -> list[os.DirEntry[str]]:
    """The folder's entries; raises InputError if it cannot be listed."""
    try:
        with os.scandir(folder) as found:
            return list(found)
    except OSError as error:
        raise InputError(f"{folder}: cannot be read ({error.strerror})") from error


def link_problem(path: Path, root: Path) -> str | None:
    """Why the symbolic link must not be followed (out of `root`, or broken); None if it may be followed."""
    target = Path(os.path.realpath(path))
    if not target.is_relative_to(os.path.realpath(root)):
        return f"a symbolic link out of {root}; put a copy in its place"
    return None if target.exists() else "a symbolic link to nothing; replace or remove it"


def check_link(path: Path, root: Path) -> None:
    """Raise InputError if the symbolic link leads out of `root` or is broken."""
    if why := link_problem(path, root):
        raise InputError(f"{path}: {why}")


def actual_path(folder: Path, below: str) -> Path:
    """The path `below` inside the folder as the file system spells it; unchanged where it does not exist."""
    path = folder
    for step in PurePosixPath(below).parts:
        there = path / step
        if not there.exists() and not there.is_symlink() and path.is_dir():
            alike = [entry.name for entry in folder_entries(path) if composed(entry.name) == composed(step)]
            there = path / (alike[0] if alike else step)
        path = there
    return path
