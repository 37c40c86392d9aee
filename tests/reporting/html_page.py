"""Parser of report.html: extracts text, pictures and plots, and checks that it is well-formed."""

from __future__ import annotations

import base64
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np

_VOID_TAGS = {"meta", "img", "input"}


class HtmlPage(HTMLParser):
    """A parsed page. Asserts that tags are closed, ids are unique, and all links internal."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.text = ""
        self.pictures: list[np.ndarray] = []
        self.plots: list[str] = []
        self.shapes: Counter[str] = Counter()  # over pictures, by CSS class
        self._open: list[str] = []
        self._ids: set[str] = set()
        self.feed(path.read_text(encoding="utf-8"))
        self.close()
        assert self._open == []

    def handle_starttag(self, tag, attrs):
        self.handle_startendtag(tag, attrs)
        if tag not in _VOID_TAGS:
            self._open.append(tag)

    def handle_startendtag(self, tag, attrs):
        values = dict(attrs)
        assert tag not in ("script", "link", "iframe")
        if "id" in values:
            assert values["id"] not in self._ids
            self._ids.add(values["id"])
        if "href" in values or "xlink:href" in values:
            assert (values.get("href") or values["xlink:href"]).startswith("#")
        if tag == "img":
            kind, data = values["src"].split(",")
            assert kind == "data:image/jpeg;base64"
            content = np.frombuffer(base64.b64decode(data), np.uint8)
            self.pictures.append(cv2.imdecode(content, cv2.IMREAD_COLOR))
        if tag == "svg" and values.get("role") == "img":
            self.plots.append(values["aria-label"])
        if tag == "path" and "class" in values:
            self.shapes[values["class"]] += 1

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        if self._open and self._open[-1] not in ("style", "text"):
            self.text += data
