"""Templates of the bundle's text files, in the package folder `resources/deployment`."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files
from string import Template


def read_template(name: str) -> str:
    """Return the text of a template."""
    return (files("bodyposenet") / "resources" / "deployment" / name).read_text("utf-8")


def render_template(name: str, values: Mapping[str, object]) -> str:
    """Return the text of a template with its `$names` replaced.

    Args:
        name: Name of the template.
        values: Value of each name.
    """
    return Template(read_template(name)).substitute(values)
