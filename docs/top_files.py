"""Hooks of the documentation site: add files from outside docs/ and adapt the links to them."""

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parent.parent
PAGES = ("CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md")
TAKEN = (*PAGES, "cluster.yaml")


def on_files(files: Files, config: Any) -> Files:
    """Return the files of the site, with those from outside docs/ added to its top folder."""
    for name in TAKEN:
        files.append(File.generated(config, name, content=(ROOT / name).read_text(encoding="utf-8")))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Return a page with its links adapted to the site.

    In the repository, a page in docs/ links to `../CONTRIBUTING.md`, which links to `docs/log.md`. On the site, both
    are in one folder.
    """
    if page.file.src_uri in PAGES:
        return re.sub(r"\]\(docs/", "](", markdown)
    return re.sub(rf"\]\(((?:\.\./)*)\.\./({'|'.join(map(re.escape, TAKEN))})([)#])", r"](\1\2\3", markdown)
