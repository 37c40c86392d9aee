"""The name of a text in resources/deployment and its values in, the text of a kit's file out."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files
from string import Template


def read_template(name: str) -> str:
    """A text as it stands in the package."""
    return (files("bodyposenet") / "resources" / "deployment" / name).read_text("utf-8")


def fill(name: str, values: Mapping[str, object]) -> str:
    """A text with its `$names` replaced.

    Args:
        name: Of the text.
        values: Of all its names.
    """
    return Template(read_template(name)).substitute(values)
