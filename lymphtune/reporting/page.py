"""The sections as one self-contained HTML page, without external resources; all text in it is escaped."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from lymphtune.reporting.drawing import in_page
from lymphtune.reporting.parts import Block, Drawing, Note, Part, Section, Table
from lymphtune.reporting.tables import as_shown, numeric

POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"


def page(title: str, banners: Sequence[str], sections: Sequence[Section], svgs: Mapping[str, str], live: bool) -> str:
    """Return the page's HTML; svgs: SVG text by the drawing's name; live: the page reloads every minute."""
    templates = Environment(
        loader=PackageLoader("lymphtune.reporting"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.tests |= {kind.__name__.lower(): _instance_test(kind) for kind in (Block, Drawing, Note, Table)}
    templates.globals |= {"as_shown": as_shown, "numeric": numeric, "svg": lambda part: _svg(part, svgs)}
    loader = templates.loader
    assert loader is not None
    inlined = {name: Markup(loader.get_source(templates, f"page.{name}")[0]) for name in ("css", "js")}
    made = datetime.now().isoformat(sep=" ", timespec="minutes")
    return templates.get_template("page.html").render(
        title=title,
        banners=banners,
        sections=sections,
        live=live,
        policy=POLICY,
        made=made,
        embedded=dict(_embedded(sections)),
        **inlined,
    )


def _instance_test(kind: type[Part]) -> Callable[[object], bool]:
    return lambda value: isinstance(value, kind)


def _svg(drawing: Drawing, svgs: Mapping[str, str]) -> Markup:
    return Markup(in_page(svgs[drawing.name], f"{drawing.name}-alt"))


def _embedded(sections: Sequence[Section]) -> Iterator[tuple[str, object]]:
    for section in sections:
        for part in section.parts:
            if isinstance(part, Block):
                yield from part.embedded.items()
