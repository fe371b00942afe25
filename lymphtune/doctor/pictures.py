"""Checks of pictures: unreadable, blank, of mixed sizes or formats, or in places that are not read."""

from collections import Counter
from collections.abc import Callable, Iterator

from lymphtune.cohort.cohort import PICTURE_PX
from lymphtune.cohort.depth import CURE, underused
from lymphtune.cohort.folders import RECURSIVE, SUFFIXES, UNSUPPORTED_SUFFIXES
from lymphtune.cohort.layout import FILE
from lymphtune.console import counted
from lymphtune.doctor.evidence import Bag, Evidence, InspectedPicture
from lymphtune.findings import Finding, first_few, sentence

# largest range of levels of a picture of one colour
ONE_COLOUR = 2
# standard deviation of brightness (0 to 255); photographs of cells have 10 or more
MIN_CONTRAST = 3.0
BLACK, WHITE = 10, 245
# pictures that a patient should have at least
MIN_PICTURES = 3
# ratio of the largest to the smallest bag
MAX_SIZE_RATIO = 20
FORMAT_OF = {"jpg": "JPEG", "jpeg": "JPEG", "png": "PNG", "bmp": "BMP", "tif": "TIFF", "tiff": "TIFF"}
ARCHIVES = (".zip", ".tar", ".gz", ".7z", ".rar")


def unreadable(evidence: Evidence) -> Iterator[Finding]:
    """Yield pictures that cannot be used: empty, truncated, of unknown format, too small or too large."""
    kinds: dict[str, list[str]] = {}
    for bag, picture in evidence.inspected():
        if picture.problem:
            kinds.setdefault(_kind(picture.problem), []).append(
                f"{bag.place(picture.name)} ({_reason(picture.problem)})"
            )
    for kind, places in kinds.items():
        cure = "Replace them, or leave them out."
        yield Finding("error", f"{kind} picture", f"{counted(len(places), f'{kind} picture')}", cure, tuple(places))


def _kind(problem: str) -> str:
    kinds = {"empty file": "empty", "truncated or unreadable picture (image file is truncated": "truncated"}
    return next((kind for start, kind in kinds.items() if start in problem), _kind_of_size(problem))


def _kind_of_size(problem: str) -> str:
    return "oversized or tiny" if "pixels" in problem or problem.startswith("over ") else "unreadable"


def _reason(problem: str) -> str:
    """The reason of a problem, without its remedy."""
    reason = problem.rpartition("; ")[0] or problem
    start = "truncated or unreadable picture ("
    return reason.removeprefix(start).removesuffix(")") if reason.startswith(start) else reason


# by start of the reason why an entry must not be read: check, text, cure
REFUSED = {
    "symbolic link out": ("link", "symbolic link{} out of the cohort", "Put copies in their place."),
    "symbolic link to nothing": ("link", "symbolic link{} to nothing", "Replace or remove them."),
    "symbolic link": ("link", "symbolic link{} to a folder that is read already", "Remove them."),
    "name": ("picture's name", "picture{} with a name that cannot be printed", "Rename them."),
    "": ("folder", "folder{} that cannot be read", "Give the right to read them."),
}


def refused(evidence: Evidence) -> Iterator[Finding]:
    """Yield entries that must not be read: links out of the cohort, broken links, unprintable names."""
    kinds: dict[str, list[str]] = {}
    for bag in evidence.bags:
        for name, why in bag.refused.items():
            kind = next(kind for kind in REFUSED if kind in why)
            kinds.setdefault(kind, []).append(f"{bag.path}/{name!r}" if name else bag.path)
    for kind, places in kinds.items():
        check, what, cure = REFUSED[kind]
        text = f"{len(places):,} {what.format('' if len(places) == 1 else 's')}"
        yield Finding("error", check, text, cure, tuple(places))


def bags(evidence: Evidence) -> Iterator[Finding]:
    """Yield bags that are empty or small, and a note on very different bag sizes."""
    if evidence.folder is None and not evidence.pictures_inspected:
        return
    read = [bag for bag in evidence.bags if "" not in bag.refused]
    sizes = {bag.path: max(len(bag.names), len(bag.inspected)) for bag in read}
    empty = tuple(path for path, size in sizes.items() if not size)
    if empty:
        text = f"{counted(len(empty), 'folder')} without a picture"
        cure = f"Add some ({', '.join(SUFFIXES)}), or remove the patient."
        if any(bag.n_below for bag in read if bag.path in {*empty}):
            cure = (
                f"Write `/{RECURSIVE}` at the end of the path of `pictures` in {FILE}: there are some in folders below."
            )
        yield Finding("error", "no picture", text, cure, empty)
    few = tuple(f"{path} ({size})" for path, size in sizes.items() if 0 < size < MIN_PICTURES)
    if few:
        text = f"{counted(len(few), 'patient')} with fewer than {MIN_PICTURES} pictures"
        yield Finding("warning", "few pictures", text, "Add pictures, or leave these patients out.", few)
    filled = [size for size in sizes.values() if size]
    if filled and max(filled) > MAX_SIZE_RATIO * min(filled):
        text = f"from {min(filled)} to {max(filled)} pictures a patient"
        yield Finding("note", "bag sizes", f"{text}; `bag_size` in a space samples the same number of each", "")


def depths(evidence: Evidence) -> Iterator[Finding]:
    """Yield patients whose pictures of more than 8 bits use a small part of the range."""
    places, n_pictures = [], 0
    for bag in evidence.bags:
        if most := underused(picture.depth for picture in bag.inspected):
            deep = [picture for picture in bag.inspected if picture.depth is not None]
            n_pictures += len(deep)
            places.append(f"{bag.place(next(picture.name for picture in deep if picture.depth == most))} ({most})")
    if places:
        text = (
            f"{counted(n_pictures, 'picture')} of more than 8 bits, of {counted(len(places), 'patient')}, that use few "
            "of them: they would be nearly black after conversion"
        )
        yield Finding("error", "bit depth", text, sentence(CURE), tuple(places))


def blank(evidence: Evidence) -> Iterator[Finding]:
    """Yield blank pictures."""
    kinds: dict[str, list[str]] = {}
    for bag in evidence.bags:
        if underused(picture.depth for picture in bag.inspected):
            # reported by `depths`
            continue
        for picture in filter(is_blank, bag.inspected):
            kinds.setdefault(_blankness(picture.levels), []).append(bag.place(picture.name))
    for kind, places in kinds.items():
        text = f"{counted(len(places), 'picture')} {kind}"
        yield Finding("warning", "blank picture", text, "Replace them, or leave them out.", tuple(places))


def _blankness(levels: tuple[int, int]) -> str:
    """The kind of a blank picture as text; levels: its darkest and brightest pixel."""
    low, high = levels
    if high < BLACK:
        return "all black"
    if low > WHITE:
        return "all white"
    return "all of one colour" if high - low <= ONE_COLOUR else "of hardly any contrast"


def is_blank(picture: InspectedPicture) -> bool:
    return not picture.problem and picture.contrast < MIN_CONTRAST


def forms(evidence: Evidence) -> Iterator[Finding]:
    """Yield pictures whose size, mode or format differs from the others', and pictures of several pages."""
    seen = list(evidence.sound())
    if not seen:
        return
    yield from _sizes(seen)
    grey = _places(seen, lambda picture: picture.mode in ("1", "L", "LA") or picture.mode.startswith("I"))
    if 0 < len(grey) < len(seen):
        text = f"{counted(len(grey), 'grey picture')} among {counted(len(seen) - len(grey), 'coloured one')}"
        cure = "Models use the stain's colour: take them from the same source as the others, or leave them out."
        yield Finding("warning", "mode", text, cure, grey)
    elif grey:
        yield Finding("note", "mode", f"all {len(grey)} pictures are grey", "")
    other = _places(seen, lambda picture: picture.mode in ("RGBA", "P", "PA", "CMYK", "YCbCr", "LAB", "HSV"))
    if other:
        modes = first_few(sorted({picture.mode for _, picture in seen} - {"RGB", "L"}))
        yield Finding(
            "note", "mode", f"{counted(len(other), 'picture')} in mode {modes}, converted when read", "", other
        )
    pages = _places(seen, lambda picture: picture.several_pages)
    if pages:
        text = f"{counted(len(pages), 'picture')} of several pages, of which the first alone is read"
        yield Finding("warning", "several pages", text, "Save the pages as pictures of their own.", pages)
    wrong = _places(seen, lambda picture: bool(picture.format) and picture.format != _format_by_name(picture.name))
    if wrong:
        text = f"{counted(len(wrong), 'picture')} in another format than its suffix says, read all the same"
        yield Finding("note", "suffix", text, "", wrong)


def _sizes(seen: list[tuple[Bag, InspectedPicture]]) -> Iterator[Finding]:
    sizes = Counter(picture.size for _, picture in seen)
    usual, count = sizes.most_common(1)[0]
    if len(sizes) > 1:
        places = tuple(
            f"{bag.place(picture.name)} ({picture.size[0]}x{picture.size[1]})"
            for bag, picture in seen
            if picture.size != usual
        )
        text = f"{len(seen) - count:,} of {len(seen):,} pictures are not {usual[0]}x{usual[1]}"
        cells = "; each is scaled and cropped, and a cell's size no longer compares"
        cure = "Cut them all at one scale; one cell in the middle of each."
        yield Finding("warning", "sizes", text + cells, cure, places)
    elif usual != (PICTURE_PX, PICTURE_PX):
        text = f"all pictures are {usual[0]}x{usual[1]}, scaled and cropped to {PICTURE_PX}x{PICTURE_PX}"
        yield Finding("note", "sizes", text, "")


def _places(seen: list[tuple[Bag, InspectedPicture]], fits: Callable[[InspectedPicture], bool]) -> tuple[str, ...]:
    return tuple(bag.place(picture.name) for bag, picture in seen if fits(picture))


def _format_by_name(name: str) -> str:
    return FORMAT_OF.get(name.rpartition(".")[2].lower(), "")


def leftovers(evidence: Evidence) -> Iterator[Finding]:
    """Yield files in the bags that are not read: hidden files, other files, subfolders, unsupported formats."""
    hidden = tuple(bag.place(name) for bag in evidence.bags for name in bag.hidden)
    others = [bag.place(name) for bag in evidence.bags for name in bag.others]
    unread = tuple(place for place in others if place.lower().endswith(UNSUPPORTED_SUFFIXES))
    archives = tuple(place for place in others if place.lower().endswith(ARCHIVES))
    folders = tuple(bag.place(name) for bag in evidence.bags for name in bag.folders)
    rest = tuple(place for place in others if place not in {*unread, *archives})
    if unread:
        text = f"{counted(len(unread), 'picture')} in formats that are not read"
        yield Finding("warning", "unread pictures", text, f"Convert them to one of {', '.join(SUFFIXES)}.", unread)
    if archives:
        text = f"{counted(len(archives), 'archive')} in patients' folders, never unpacked"
        yield Finding("warning", "unread pictures", text, "Unpack what belongs there, and take them out.", archives)
    if folders:
        inside, n_below = counted(len(folders), "folder"), sum(bag.n_below for bag in evidence.bags)
        text = f"{inside} inside patients' folders, not read, with {counted(n_below, 'picture')}"
        cure = f"Write `/{RECURSIVE}` at the end of the path of `pictures` in {FILE}, move them up, or take them out."
        yield Finding("warning", "unread pictures", text, cure, folders)
    if rest:
        yield Finding("note", "other files", f"{counted(len(rest), 'other file')}, which nothing reads", "", rest)
    if hidden:
        yield Finding("note", "hidden files", f"{counted(len(hidden), 'hidden file')}, which nothing reads", "", hidden)


CHECKS = (unreadable, refused, bags, depths, blank, forms, leftovers)
