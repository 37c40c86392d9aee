"""Check that version, tag, changelog and repository of a release agree, and print its notes.

Usage: python .github/check_release.py v0.2.0 organization/bodyposenet > notes.md
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]


def main(tag: str, repository: str) -> str:
    """Check a release.

    Args:
        tag: Its Git tag.
        repository: The repository on GitHub, as `owner/name`.

    Returns:
        The section of the changelog, without its heading. Its links, which are relative in the
        repository, lead to the files of the tag: GitHub does not resolve them in release notes.

    Raises:
        SystemExit: Something does not agree.
    """
    initial = (ROOT / "src/bodyposenet/__init__.py").read_text(encoding="utf-8")
    version = re.findall(r'(?m)^__version__ = "(.+)"', initial)[0]
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    sections = re.findall(r"(?ms)^## \[(\S+)\] - [\d-]+\n(.*?)(?=^## |\Z)", changelog)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    address = project["urls"]["Repository"]
    if tag != f"v{version}":
        sys.exit(f"The tag is {tag}, but the version in src/bodyposenet/__init__.py is {version}.")
    if version not in dict(sections):
        sys.exit(f"CHANGELOG.md has no section `## [{version}] - YYYY-MM-DD`.")
    if address != f"https://github.com/{repository}":
        sys.exit(
            f"pyproject.toml states {address}, but the release is built in {repository}: replace "
            "the address in all files that contain it (CONTRIBUTING.md, Release)."
        )
    files = f"{address}/blob/{tag}"
    return re.sub(r"\]\((?![a-z]+:|#)", f"]({files}/", dict(sections)[version].strip())


if __name__ == "__main__":
    print(main(*sys.argv[1:]))
