"""HTML building blocks of the reports: self-contained pages without scripts or external files.

All text is escaped here: only functions of this module create strings of the type `Markup`.
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
from typing import Literal, NewType

import cv2
import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from numpy.typing import NDArray

from bodyposenet.evaluation.keypoint_ap import METRICS, Metric
from bodyposenet.files import atomic_write
from bodyposenet.reporting.plots import DARK_BLUE, GRID_COLOR, TEXT_COLOR

REPORT_FILE = "report.html"
"""File name of a report in a results folder."""

Markup = NewType("Markup", str)
"""HTML whose text is escaped."""

_JPEG_QUALITY = 85
_TILES = {"small": "tile", "large": "tile large", "wide": "tile half"}
"""CSS classes of thumbnails by size."""
_CSS_COLORS = {
    TEXT_COLOR: "var(--ink)", GRID_COLOR: "var(--line)", DARK_BLUE: "var(--strong)",
}  # fmt: skip
"""Colors of plots that would be hard to see in dark mode, and the CSS variables to use instead."""


@dataclass(frozen=True)
class Section:
    """A section of a page.

    Args:
        title: Heading.
        parts: Contents, in order.
    """

    title: str
    parts: Sequence[Markup]


def write_page(
    path: Path,
    title: str,
    facts: Mapping[str, str],
    sections: Iterable[Section],
    header: Iterable[Markup] = (),
) -> Path:
    """Write a page.

    Args:
        path: The HTML file.
        title: Heading of the page.
        facts: Names and values of the key facts, shown at the top.
        sections: The sections. Those without parts are omitted.
        header: Parts between the key facts and the sections.

    Returns:
        The path.

    Raises:
        BodyPoseNetError: The file cannot be written.
    """
    key_facts = "".join(
        f"<div><dt>{_escape(name)}</dt><dd>{_escape(value)}</dd></div>"
        for name, value in facts.items()
    )
    top = "".join(header)
    body = "\n".join(
        f'<section id="{_slug(section.title)}">\n<h2>{_escape(section.title)}</h2>\n'
        f"{''.join(section.parts)}\n</section>"
        for section in sections
        if section.parts
    )
    page = (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{_escape(title)}</title>\n<style>\n{_stylesheet()}</style>\n</head>\n<body>\n"
        f"<h1>{_escape(title)}</h1>\n<dl>{key_facts}</dl>\n{top}{body}\n</body>\n</html>\n"
    )
    with atomic_write(path, durable=True) as file:
        file.write(page.encode(errors="backslashreplace"))
    return path


def paragraph(text: str) -> Markup:
    """Return a paragraph."""
    return Markup(f"<p>{_escape(text)}</p>")


def preformatted(text: str) -> Markup:
    """Return preformatted text, such as the contents of a file."""
    return Markup(f"<pre>{_escape(text)}</pre>")


def collapsible_list(summary: str, lines: Sequence[str], *, max_lines: int = 100) -> Markup:
    """Return a list that opens when its summary is clicked.

    Args:
        summary: The visible line.
        lines: The list items.
        max_lines: Maximum number of items to show; the number of the others is shown.
    """
    items = [f"<li>{_escape(line)}</li>" for line in lines[:max_lines]]
    if len(lines) > max_lines:
        items.append(f"<li>and {len(lines) - max_lines:,} more, see the log</li>")
    return Markup(
        f"<details><summary>{_escape(summary)}</summary><ul>{''.join(items)}</ul></details>"
    )


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> Markup:
    """Return a table. The first cell of each row is its header."""
    head = "".join(f'<th scope="col">{_escape(cell)}</th>' for cell in header)
    body = "".join(
        f'<tr><th scope="row">{_escape(name)}</th>'
        + "".join(f"<td>{_escape(cell)}</td>" for cell in cells)
        + "</tr>\n"
        for name, *cells in rows
    )
    return Markup(
        f'<div class="wide"><table>\n<thead><tr>{head}</tr></thead>\n'
        f"<tbody>{body}</tbody></table></div>"
    )


def accuracy_table(
    datasets: Mapping[str, Mapping[str, float | None]], metrics: Iterable[Metric] = METRICS
) -> Markup:
    """Return a table of average precisions and recalls with a column per dataset.

    Args:
        datasets: Values of the metrics by `Metric.name`, by dataset. Values that are below 0, None
            or missing were not measured.
        metrics: The metrics. Default: COCO's ten metrics.
    """
    titles = {"AP": "average precision", "AR": "average recall"}
    rows = [
        (
            f"{titles[metric.kind]} ({metric.kind})", metric.oks, metric.area,
            *(_format_metric(values.get(metric.name)) for values in datasets.values()),
        )
        for metric in metrics
    ]  # fmt: skip
    return table(["metric", "OKS", "people", *datasets], rows)


def row(parts: Iterable[Markup]) -> Markup:
    """Return parts side by side; they wrap on narrow screens."""
    return Markup('<div class="row">\n' + "\n".join(parts) + "</div>")


def gallery(pictures: Iterable[Markup], *, columns: int | None = None) -> Markup:
    """Return pictures in columns of equal width.

    Args:
        pictures: The pictures.
        columns: Number of columns. Default: as many as fit.
    """
    style = "" if columns is None else f' style="grid-template-columns: repeat({columns}, 1fr)"'
    return Markup(f'<div class="gallery"{style}>\n{"".join(pictures)}</div>\n')


def plot(figure: Figure) -> Markup:
    """Return a plot as inline SVG. Plots on the same page must have different titles."""
    return Markup(f"<figure>{_svg(figure)}</figure>")


def thumbnail(
    image: NDArray[np.uint8], caption: str, *, size: Literal["small", "large", "wide"] = "small"
) -> Markup:
    """Return a picture with its caption below.

    Args:
        image: (H, W, 3) uint8 RGB.
        caption: Caption.
        size: Width of the picture: a quarter of the page, a third, or a half.
    """
    below = f"<figcaption>{_escape(caption)}</figcaption>"
    return Markup(f'<figure class="{_TILES[size]}">{_image(image, caption)}{below}</figure>')


def subheading(text: str) -> Markup:
    """Return a heading within a section."""
    return Markup(f"<h3>{_escape(text)}</h3>")


def notice(level: str, title: str, text: str) -> Markup:
    """Return a highlighted paragraph with a bold title.

    Args:
        level: CSS class: `error`, `warning` or `note`.
        title: Title.
        text: Text after the title.
    """
    return Markup(
        f'<p class="notice {_escape(level)}"><strong>{_escape(title)}</strong> {_escape(text)}</p>'
    )


def contents(titles: Iterable[str]) -> Markup:
    """Return links to sections of the page."""
    links = "".join(f'<a href="#{_slug(title)}">{_escape(title)}</a>' for title in titles)
    return Markup(f"<nav>{links}</nav>\n")


def layer_switches(layers: Mapping[str, str]) -> Markup:
    """Return check boxes that show and hide the layers of all `layered_image`s of the page.

    Args:
        layers: Title of each check box by CSS class of the shapes that it hides.
    """
    rules = "".join(
        f"body:has(#show-{layer}:not(:checked)) .{layer}{{display:none}}\n" for layer in layers
    )
    boxes = "".join(
        f'<label><input type="checkbox" id="show-{layer}" checked> {_escape(title)}</label>'
        for layer, title in layers.items()
    )
    return Markup(f'<style>\n{rules}</style><div class="layers">Show: {boxes}</div>\n')


def shape(path: str, css_class: str, *, color: str | None = None, tooltip: str = "") -> Markup:
    """Return an SVG path over a picture.

    Args:
        path: Path data in pixels of the picture, such as `M10 20L30 40`.
        css_class: CSS class, which determines the style.
        color: Color of the stroke, such as `#ff8000`. Default: that of the class.
        tooltip: Text that is shown while the mouse is over the shape.
    """
    stroke = "" if color is None else f' stroke="{_escape(color)}"'
    title = f"<title>{_escape(tooltip)}</title>" if tooltip else ""
    return Markup(f'<path class="{_escape(css_class)}" d="{_escape(path)}"{stroke}>{title}</path>')


def shape_group(css_class: str, shapes: Iterable[Markup]) -> Markup:
    """Return SVG shapes with a common CSS class."""
    return Markup(f'<g class="{_escape(css_class)}">{"".join(shapes)}</g>')


def layered_image(
    image: NDArray[np.uint8], shapes: Iterable[Markup], caption: str, details: str = ""
) -> Markup:
    """Return a picture with shapes over it, which is enlarged when it is clicked.

    Args:
        image: (H, W, 3) uint8 RGB.
        shapes: Results of `shape` and `shape_group`; the center of pixel (x, y) is at x, y.
        caption: Caption.
        details: A second, smaller line of the caption.
    """
    height, width = image.shape[:2]
    below = f"<figcaption>{_escape(caption)}"
    below += f"<small>{_escape(details)}</small></figcaption>" if details else "</figcaption>"
    return Markup(
        f'<figure class="layered"><label><input type="checkbox" '
        f'aria-label="Enlarge {_escape(caption)}">{_image(image, caption)}'
        f'<svg viewBox="-.5 -.5 {width} {height}" aria-hidden="true">{"".join(shapes)}</svg>'
        f"</label>{below}</figure>\n"
    )


def full_width_image(image: NDArray[np.uint8], caption: str) -> Markup:
    """Return a picture as wide as the page, with its caption above.

    Args:
        image: (H, W, 3) uint8 RGB.
        caption: Caption.
    """
    above = f"<figcaption>{_escape(caption)}</figcaption>"
    return Markup(f"<figure>{above}{_image(image, caption)}</figure>")


def quantity(number: int, singular: str, plural: str) -> str:
    """Return a number with its noun."""
    return f"{number:,} {singular if number == 1 else plural}"


def _escape(text: str) -> str:
    return html.escape(text)


def _slug(title: str) -> str:
    """Return the id of a section."""
    return re.sub(r"\W+", "-", title.lower())


def _format_metric(value: float | None) -> str:
    """Format a metric, or return a dash if it was not measured."""
    return "–" if value is None or not value >= 0 else f"{value:.3f}"


def _image(image: NDArray[np.uint8], caption: str) -> str:
    """Return an `img` element with the image as a JPEG data URL."""
    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    _, content = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    data = base64.b64encode(content.tobytes()).decode()
    height, width = image.shape[:2]
    return (
        f'<img src="data:image/jpeg;base64,{data}" alt="{_escape(caption)}" '
        f'width="{width}" height="{height}">'
    )


def _stylesheet() -> str:
    return (files("bodyposenet") / "resources" / "reports" / "page.css").read_text("utf-8")


def _svg(figure: Figure) -> str:
    """Return a figure as inline SVG with the colors of the page, in light and dark mode."""
    title, file = figure.axes[0].get_title(loc="left"), io.StringIO()
    no_metadata = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    # The salt makes the ids within the SVG reproducible, and unique to the plot.
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": title}):
        figure.savefig(file, format="svg", transparent=True, metadata=no_metadata)
    svg = file.getvalue()
    svg = svg[svg.index("<svg") :].replace(
        "<svg", f'<svg role="img" aria-label="{_escape(title)}"', 1
    )
    svg = re.sub(r' id="[\w.]*_\d+"', "", svg)  # Ids of groups, which are not referenced.
    for color, variable in _CSS_COLORS.items():
        svg = svg.replace(color, variable)
    return svg
