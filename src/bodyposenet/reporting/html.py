"""Tables, plots, pictures and text in, one HTML file that needs nothing beside itself out.

Text from files is escaped here: whatever is `Markup` was made by this module.
"""

from __future__ import annotations

import base64
import html
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import NewType

import cv2
import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from numpy.typing import NDArray

from bodyposenet.evaluation.keypoint_ap import METRICS
from bodyposenet.files import atomic_write
from bodyposenet.reporting.plots import DARK, GRID, INK

FILE_NAME = "report.html"

Markup = NewType("Markup", str)
"""HTML; all text in it is escaped."""

_JPEG_QUALITY = 85
_PAGE_COLORS = {INK: "var(--ink)", GRID: "var(--line)", DARK: "var(--strong)"}
"""Colors of a plot that would be lost on a dark page -> the page's own (reports/page.css)."""


@dataclass(frozen=True)
class Section:
    """A part of a page.

    Args:
        title: Its heading.
        parts: What stands in it, in order.
    """

    title: str
    parts: Sequence[Markup]


def write_page(
    path: Path, title: str, facts: Mapping[str, str], sections: Iterable[Section]
) -> Path:
    """Write a page.

    Args:
        path: The file.
        title: Its heading.
        facts: What a reader wants to know first: name -> value.
        sections: The rest; those without parts are left out.

    Returns:
        The file.

    Raises:
        BodyPoseNetError: It cannot be written.
    """
    known = "".join(
        f"<div><dt>{_text(name)}</dt><dd>{_text(value)}</dd></div>" for name, value in facts.items()
    )
    body = "\n".join(
        f"<section>\n<h2>{_text(section.title)}</h2>\n{''.join(section.parts)}\n</section>"
        for section in sections
        if section.parts
    )
    page = (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{_text(title)}</title>\n<style>\n{_stylesheet()}</style>\n</head>\n<body>\n"
        f"<h1>{_text(title)}</h1>\n<dl>{known}</dl>\n{body}\n</body>\n</html>\n"
    )
    with atomic_write(path, durable=True) as file:
        file.write(page.encode(errors="backslashreplace"))
    return path


def paragraph(text: str) -> Markup:
    """A sentence or more."""
    return Markup(f"<p>{_text(text)}</p>")


def preformatted(text: str) -> Markup:
    """A file's text as it stands."""
    return Markup(f"<pre>{_text(text)}</pre>")


def collapsible_list(summary: str, lines: Sequence[str], *, most: int = 100) -> Markup:
    """Lines that open under their summary; of more than `most`, the rest is counted."""
    items = [f"<li>{_text(line)}</li>" for line in lines[:most]]
    if len(lines) > most:
        items.append(f"<li>and {len(lines) - most:,} more; the log names them</li>")
    return Markup(
        f"<details><summary>{_text(summary)}</summary><ul>{''.join(items)}</ul></details>"
    )


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> Markup:
    """A table; the first cell of a row names it."""
    head = "".join(f'<th scope="col">{_text(cell)}</th>' for cell in header)
    body = "".join(
        f'<tr><th scope="row">{_text(name)}</th>'
        + "".join(f"<td>{_text(cell)}</td>" for cell in cells)
        + "</tr>\n"
        for name, *cells in rows
    )
    return Markup(
        f'<div class="wide"><table>\n<thead><tr>{head}</tr></thead>\n'
        f"<tbody>{body}</tbody></table></div>"
    )


def accuracy_table(datasets: Mapping[str, Mapping[str, float | None]]) -> Markup:
    """COCO's ten figures.

    Args:
        datasets: Name of a dataset -> name of a figure (`Metric.name`) -> its value; below 0, None
            or missing where there was nothing to measure.
    """
    kinds = {"AP": "average precision", "AR": "average recall"}
    rows = [
        (
            f"{kinds[metric.kind]} ({metric.kind})", metric.oks, metric.area,
            *(_share(figures.get(metric.name)) for figures in datasets.values()),
        )
        for metric in METRICS
    ]  # fmt: skip
    return table(["figure", "OKS", "people", *datasets], rows)


def row(parts: Iterable[Markup]) -> Markup:
    """Parts beside each other where there is room, else below each other."""
    return Markup('<div class="row">\n' + "\n".join(parts) + "</div>")


def plot(figure: Figure) -> Markup:
    """A figure; on one page their titles differ."""
    return Markup(f"<figure>{_svg(figure)}</figure>")


def thumbnail(image: NDArray[np.uint8], caption: str) -> Markup:
    """A small picture over its caption.

    Args:
        image: (H, W, 3) uint8 RGB.
        caption: What it shows.
    """
    below = f"<figcaption>{_text(caption)}</figcaption>"
    return Markup(f'<figure class="thumbnail">{_image(image, caption)}{below}</figure>')


def full_width_image(image: NDArray[np.uint8], caption: str) -> Markup:
    """A picture as wide as the page, under its caption.

    Args:
        image: (H, W, 3) uint8 RGB.
        caption: What it shows.
    """
    above = f"<figcaption>{_text(caption)}</figcaption>"
    return Markup(f"<figure>{above}{_image(image, caption)}</figure>")


def _text(text: str) -> str:
    return html.escape(text)


def _share(value: float | None) -> str:
    return "–" if value is None or not value >= 0 else f"{value:.3f}"


def _image(image: NDArray[np.uint8], caption: str) -> str:
    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    _, content = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    data = base64.b64encode(content.tobytes()).decode()
    height, width = image.shape[:2]
    return (
        f'<img src="data:image/jpeg;base64,{data}" alt="{_text(caption)}" '
        f'width="{width}" height="{height}">'
    )


def _stylesheet() -> str:
    return (files("bodyposenet") / "resources" / "reports" / "page.css").read_text("utf-8")


def _svg(figure: Figure) -> str:
    """A figure as inline SVG; ink and grid take the page's colors, for light and for dark."""
    title, file = figure.axes[0].get_title(loc="left"), io.StringIO()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    # The salt makes the names within the drawing the same each time, and unlike another plot's.
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": title}):
        figure.savefig(file, format="svg", transparent=True, metadata=nothing)
    drawing = file.getvalue()
    drawing = drawing[drawing.index("<svg") :].replace(
        "<svg", f'<svg role="img" aria-label="{_text(title)}"', 1
    )
    drawing = re.sub(r' id="[\w.]*_\d+"', "", drawing)  # names of groups: nobody refers to them
    for color, variable in _PAGE_COLORS.items():
        drawing = drawing.replace(color, variable)
    return drawing
