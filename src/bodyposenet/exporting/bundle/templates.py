"""Templates of the bundle's text files, and the clients that assign peaks to people.

They are in the package folders `resources/deployment` and `resources/clients`.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files
from string import Template


def read_template(name: str) -> str:
    """Return the text of a template."""
    return _read("deployment", name)


def read_client(name: str) -> str:
    """Return the text of a client."""
    return _read("clients", name)


def _read(folder: str, name: str) -> str:
    """Return the text of a resource."""
    return (files("bodyposenet") / "resources" / folder / name).read_text("utf-8")


def render_template(name: str, values: Mapping[str, object]) -> str:
    """Return the text of a template with its `$names` replaced.

    Args:
        name: Name of the template.
        values: Value of each name.
    """
    return Template(read_template(name)).substitute(values)
