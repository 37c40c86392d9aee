"""Read XML files of unknown origin, element by element, and write any text as XML.

Document types are refused, because the entities that they define can expand a small file to
gigabytes, or include other files.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from xml.parsers import expat
from xml.sax.saxutils import escape, quoteattr

from bodyposenet.errors import BodyPoseNetError

_REMEDY = "Export the annotations again."
_MAX_DEPTH = 50
_CHUNK_BYTES = 2**16

_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that XML does not allow."""


@dataclass
class XmlElement:
    """An element.

    Args:
        tag: Its name.
        attributes: Its attributes.
        line: Line of the file, from 1.
        children: Elements in it.
        text: Text in it, before and between its children.
    """

    tag: str
    attributes: dict[str, str]
    line: int
    children: list[XmlElement] = field(default_factory=list)
    text: str = ""

    def find_all(self, tag: str) -> Iterator[XmlElement]:
        """Yield all elements of a name in this one, at any depth."""
        for child in self.children:
            if child.tag == tag:
                yield child
            yield from child.find_all(tag)

    def child_text(self, tag: str) -> str:
        """Return the text of the first child of a name, without white space around it."""
        return next((child.text.strip() for child in self.children if child.tag == tag), "")


def read_elements(path: Path) -> Iterator[XmlElement]:
    """Yield the elements in the root element of an XML file, so that one at a time is in memory.

    Args:
        path: The file.

    Raises:
        BodyPoseNetError: The file cannot be read, is not valid XML, has a document type, or is
            nested too deeply.
    """
    stack: list[XmlElement] = []
    texts: list[list[str]] = []  # of the elements in the stack
    complete: list[XmlElement] = []
    parser = expat.ParserCreate()
    parser.buffer_text = True

    def _start(tag: str, attributes: dict[str, str]) -> None:
        if len(stack) > _MAX_DEPTH:
            raise BodyPoseNetError(
                f"{path}:{parser.CurrentLineNumber}: the elements are nested too deeply", _REMEDY
            )
        stack.append(XmlElement(tag, attributes, parser.CurrentLineNumber))
        texts.append([])

    def _end(_: str) -> None:
        element = stack.pop()
        element.text = "".join(texts.pop())
        if len(stack) == 1:
            complete.append(element)
        elif stack:
            stack[-1].children.append(element)

    def _text(text: str) -> None:
        if len(stack) > 1:  # that of the root is only white space between the elements
            texts[-1].append(text)

    def _refuse(*_: object) -> None:
        raise BodyPoseNetError(
            f"{path}:{parser.CurrentLineNumber}: documents with a type (DOCTYPE) are not read",
            "Remove the DOCTYPE; annotation tools do not write any.",
        )

    parser.StartElementHandler = _start
    parser.EndElementHandler = _end
    parser.CharacterDataHandler = _text
    parser.StartDoctypeDeclHandler = _refuse
    try:
        with open(path, "rb") as file:
            while chunk := file.read(_CHUNK_BYTES):
                parser.Parse(chunk, False)
                yield from complete
                complete.clear()
            parser.Parse(b"", True)
        yield from complete
    except OSError as error:
        problem = f"{path}: cannot be read: {error.strerror or error}"
        raise BodyPoseNetError(problem, _REMEDY) from error
    except (expat.ExpatError, LookupError, ValueError) as error:  # encodings without a codec
        line = getattr(error, "lineno", parser.CurrentLineNumber)
        raise BodyPoseNetError(f"{path}:{line}: not valid XML: {error}", _REMEDY) from error


def xml_text(text: str) -> str:
    """Return a text for XML, in which characters that XML does not allow are replaced."""
    return escape(_NOT_XML.sub("\ufffd", text))


def xml_attribute(text: str) -> str:
    """Return a quoted attribute for XML, see `xml_text`."""
    return quoteattr(_NOT_XML.sub("\ufffd", text))
