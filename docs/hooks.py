"""MkDocs hook: includes the files outside of `docs/` that the pages link to.

The README becomes the home page. Every other linked file (benchmark results, sample specs, ...) has
the same path in the site as in the repository, and links to it are rewritten, so that the same link
works on GitHub, in an editor and in the site. `mkdocs.yml` names this file.

The page of the default model (`bpnet web`) becomes a part of the site, too.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

import bodyposenet

ROOT = Path(__file__).parents[1]
HOME = "README.md"

WEB_PAGE = "try-it"
"""Folder of the page of the default model in the site."""

_WEB_PAGE_MARK = "<!-- try it -->"
"""Place of the link to it."""

_LINK = re.compile(r"(?<=\]\()(?![a-z]+:|#)([^)#\s]+)")
"""The path in a Markdown link, without the anchor: `](PATH#ANCHOR)`."""


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add the home page and all linked files to the files of the site."""
    include(HOME, files, config)
    for page in list(files.documentation_pages()):
        include_linked_files(page, files, config)
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Rewrite the links of a page from paths in the repository to paths in the site."""
    source = repository_path(page.file.src_uri)
    folder = posixpath.dirname(page.file.src_uri) or "."

    def rewrite(match: re.Match[str]) -> str:
        return posixpath.relpath(site_path(linked_file(source, match[1])), folder)

    markdown = _LINK.sub(rewrite, markdown)
    if _WEB_PAGE_MARK in markdown:
        markdown = markdown.replace(_WEB_PAGE_MARK, include_web_page(Path(config.site_dir)))
    return markdown


def include_web_page(site: Path) -> str:
    """Write the page of the default model to the site.

    Returns:
        The link to it, or the reason why it could not be written, such as no internet access.
    """
    try:
        bodyposenet.write_web_page(results_dir=site / WEB_PAGE, overwrite=True)
    except bodyposenet.BodyPoseNetError as error:
        return (
            f"!!! note\n    The page is not a part of this build of the documentation: {error.what}"
        )
    # Not a Markdown link: these files are unknown to MkDocs.
    return f'<a class="md-button" href="{WEB_PAGE}/index.html">Try it with the default model</a>'


def include(path: str, files: Files, config: MkDocsConfig) -> None:
    """Add a file of the repository to the site, with the files that it links to.

    A folder without a README gets a page with links to its files. Missing files are left out:
    MkDocs reports the link.
    """
    if files.get_file_from_path(site_path(path)) is not None:
        return
    source = ROOT / path
    if source.is_file():
        file = File.generated(config, site_path(path), abs_src_path=str(source))
    elif source.name == "README.md" and source.parent.is_dir():
        names = sorted(entry.name for entry in source.parent.iterdir() if entry.is_file())
        links = "\n".join(f"- [{name}]({name})" for name in names)
        file = File.generated(
            config, site_path(path), content=f"# {posixpath.dirname(path)}\n\n{links}\n"
        )
    else:
        return
    files.append(file)
    if path.endswith(".md"):
        include_linked_files(file, files, config)


def include_linked_files(page: File, files: Files, config: MkDocsConfig) -> None:
    """Add the files that a page links to."""
    source = repository_path(page.src_uri)
    for link in _LINK.findall(page.content_string):
        include(linked_file(source, link), files, config)


def linked_file(page: str, link: str) -> str:
    """Return the path in the repository that a link leads to; for a folder, that of its README.

    Args:
        page: Path of the page in the repository.
        link: Path in the link, relative to the page.
    """
    target = posixpath.normpath(posixpath.join(posixpath.dirname(page), link))
    return f"{target}/README.md" if (ROOT / target).is_dir() else target


def site_path(path: str) -> str:
    """Return the path in the site of a file of the repository."""
    return "index.md" if path == HOME else path.removeprefix("docs/")


def repository_path(path: str) -> str:
    """Return the path in the repository of a file of the site."""
    if path == "index.md":
        return HOME
    return f"docs/{path}" if (ROOT / "docs" / path).exists() else path
