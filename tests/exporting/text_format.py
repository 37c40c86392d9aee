"""Parser of the subset of Protobuf's text format that Triton's model configurations use."""

import re
from collections.abc import Iterator
from typing import Any

_TOKEN = re.compile(r'#[^\n]*|("[^"]*")|([\w.-]+)|([{}\[\]:,])')


def parse(text: str) -> dict[str, Any]:
    """Return the fields by name; messages are dicts. A repeated field is an error."""
    tokens = [token for token in (found[0] for found in _TOKEN.finditer(text)) if token[0] != "#"]
    stream = iter([*tokens, "}"])
    message = _message(stream)
    assert next(stream, None) is None, "more } than {"
    return message


def _message(stream: Iterator[str]) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    while (name := next(stream)) != "}":
        assert name.isidentifier(), name
        assert name not in fields, f"{name} is given twice"
        token = next(stream)
        fields[name] = _value(next(stream) if token == ":" else token, stream)
    return fields


def _value(token: str, stream: Iterator[str]) -> Any:
    if token == "{":
        return _message(stream)
    if token == "[":
        return _list(stream)
    if token.startswith('"'):
        return token[1:-1]
    return int(token) if re.fullmatch(r"-?\d+", token) else token


def _list(stream: Iterator[str]) -> list[Any]:
    values = []
    while (token := next(stream)) != "]":
        values.append(_value(token, stream))
        separator = next(stream)
        if separator == "]":
            break
        assert separator == ",", separator
    return values
