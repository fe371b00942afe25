"""Site of the documentation: files that lie beside docs/ become part of it, and links between the two are kept."""

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parent.parent
PAGES = ("CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md")
TAKEN = (*PAGES, "cluster.yaml")


def on_files(files: Files, config: Any) -> Files:
    """Return the site's files and those from beside docs/, as if they lay in it."""
    for name in TAKEN:
        files.append(File.generated(config, name, content=(ROOT / name).read_text(encoding="utf-8")))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Return a page whose links lead to where its targets lie on the site.

    In the repository `../CONTRIBUTING.md` is right in docs/, and `docs/log.md` beside it; here all are in one folder.
    """
    if page.file.src_uri in PAGES:
        return re.sub(r"\]\(docs/", "](", markdown)
    return re.sub(rf"\]\(((?:\.\./)*)\.\./({'|'.join(map(re.escape, TAKEN))})([)#])", r"](\1\2\3", markdown)
