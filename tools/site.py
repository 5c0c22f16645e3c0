"""A hook of mkdocs: the site has README as its first page, and whatever files the guides link to.

docs/ lies below what README.md, CONTRIBUTING.md and the code lie in; on the site there is no above.
"""

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
PAGES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
}
OUTSIDE = re.compile(r"\]\(\.\./([^)#]+)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages, and the files outside of docs/ to which something links."""
    for name, uri in PAGES.items():
        text = within_docs((ROOT / name).read_text("utf-8"))
        files.append(File.generated(config, uri, content=text))
    texts = [file.content_string for file in files.documentation_pages() if at_the_top(file)]
    for name in {name for text in texts for name in OUTSIDE.findall(text)} - {*PAGES}:
        files.append(File.generated(config, name, abs_src_path=str(ROOT / name)))
    return files


def at_the_top(file: File) -> bool:
    """Whether it lies in docs/ itself, from where "../" leads out of it."""
    return "/" not in file.src_uri


def within_docs(text: str) -> str:
    """A text of the top folder as it would be in docs/."""
    return re.sub(
        r"\]\((?!https?:|#)(docs/)?([^)]+)",
        lambda link: f"]({link[2]}" if link[1] else f"](../{link[2]}",
        text,
    )


def on_page_markdown(markdown: str, page: Page, **_: object) -> str:
    """Leads the links that go out of docs/ to where the files are on the site."""
    if not at_the_top(page.file):
        return markdown
    return OUTSIDE.sub(lambda link: f"]({PAGES.get(link[1], link[1])}", markdown)
