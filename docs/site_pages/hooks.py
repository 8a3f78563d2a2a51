"""What mkdocs builds from code: `<!-- config keys -->` and `<!-- diagrams of FILE.lark -->` in a page become tables and drawings.

Links of pages to files of the repository that are no pages (tests, contexts, results) become their names.
"""

import re
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

from config_keys import config_keys  # noqa: E402
from railroads import diagrams  # noqa: E402

KEYS = "<!-- config keys -->"
DIAGRAMS = re.compile(r"<!-- diagrams of (\w+\.lark) -->")
LINK = re.compile(r"(?<!!)\[([^\]]*)\]\((?!http|#)([^)#]+)(#[^)]*)?\)")


def on_page_markdown(markdown: str, page: Any, **rest: object) -> str:
    """Fill in what is generated."""
    if KEYS in markdown:
        markdown = markdown.replace(KEYS, config_keys())
    markdown = DIAGRAMS.sub(lambda found: diagrams(ROOT / "grammar/language" / found[1]), markdown)
    folder = (ROOT / "docs" / page.file.src_uri).parent

    def plain(found: re.Match) -> str:
        target = (folder / found[2]).resolve()
        kept = target.suffix in (".md", ".png", ".svg", ".json", ".ipynb") and target.is_relative_to(ROOT / "docs")
        return found[0] if kept else found[1]

    return LINK.sub(plain, markdown)
