"""The models of the spec files in, `docs/specs.md` out: `python docs/generate_specs.py`.

Types and defaults come from the models, meanings from the docstrings under their fields.
"""

from __future__ import annotations

import ast
import inspect
import json
import re
import types
import typing
from pathlib import Path
from typing import Annotated, Any, Literal, Union

from annotated_types import Ge, Gt, Le, Lt, MinLen
from pydantic import AliasChoices
from pydantic.fields import FieldInfo

from bodyposenet.specs.dataset import DatasetSpec
from bodyposenet.specs.inference import InferenceSpec
from bodyposenet.specs.loading import Block, NullIsDefault, Spec
from bodyposenet.specs.pose import PoseConfiguration
from bodyposenet.specs.training import TrainSpec

TARGET = Path(__file__).with_name("specs.md")

FILES: dict[str, tuple[type[Spec], str]] = {
    "Dataset spec": (
        DatasetSpec,
        "JSON; of `dataset_convert`, `train` (one per dataset) and `evaluate`. Example: "
        "[coco_spec.json](../src/bodyposenet/resources/specs/coco_spec.json).",
    ),
    "Pose configuration": (
        PoseConfiguration,
        "JSON; named by the train spec. Example: "
        "[bpnet_18joints.json](../src/bodyposenet/resources/pose/bpnet_18joints.json).",
    ),
    "Train spec": (
        TrainSpec,
        "YAML; of `train`. Examples: "
        "[bpnet_train_m1_coco.yaml](../src/bodyposenet/resources/specs/bpnet_train_m1_coco.yaml), "
        "[bpnet_train_lightweight_openpose_coco.yaml]"
        "(../src/bodyposenet/resources/specs/bpnet_train_lightweight_openpose_coco.yaml).",
    ),
    "Inference spec": (
        InferenceSpec,
        "YAML; of `inference` and `evaluate`. Examples: "
        "[infer_spec.yaml](../src/bodyposenet/resources/specs/infer_spec.yaml), the guide's, and "
        "[infer_spec_accurate.yaml]"
        "(../src/bodyposenet/resources/specs/infer_spec_accurate.yaml), ours.",
    ),
}

HEADER = """\
# Spec files

Every key of the four spec files. This page is generated: `python docs/generate_specs.py`.

Unknown keys, wrong types and values that do not fit one another are errors that name file, line and
place. `None`, `null` and nothing are the same, `2e-5` is a number. Keys marked *(ours)* are not
TAO's. Paths are relative to the working directory, or else to the folder of the spec.
"""

BOUNDS = {Ge: ("ge", "≥"), Gt: ("gt", ">"), Le: ("le", "≤"), Lt: ("lt", "<")}
WORDS = {str: "text", int: "integer", float: "number", bool: "true, false", type(None): "null"}


def page() -> str:
    """The whole page."""
    parts = [HEADER]
    for title, (spec, purpose) in FILES.items():
        parts.append(f"## {title}\n\n{purpose}\n")
        parts.extend(table(block, paths) for block, paths in places(spec).items())
    return "\n".join(parts)


def places(block: type[Block], path: str = "") -> dict[type[Block], list[str]]:
    """The block and all that are inside it, each with the dotted places where it may stand."""
    found = {block: [path]}
    for name, info in block.model_fields.items():
        for part in blocks_in(info.annotation):
            for inner, paths in places(part, f"{path}.{info.alias or name}".strip(".")).items():
                known = found.setdefault(inner, [])
                known.extend(place for place in paths if place not in known)
    return found


def table(block: type[Block], paths: list[str]) -> str:
    """The heading, the purpose and the keys of a block."""
    heading = ", ".join(f"`{path}`" for path in paths if path)
    choice = block.model_fields.get("class_name")
    if choice is not None and choice.is_required():
        heading += f" of class {type_in_words(choice.annotation)}"
    meanings = field_docstrings(block)
    purpose = re.sub(r" \(reference [^)]*\)", "", (inspect.getdoc(block) or "").splitlines()[0])
    rows = ["| key | type | default | meaning |", "|---|---|---|---|"]
    for name, info in block.model_fields.items():
        key = info.alias or name
        cells = (
            f"`{key}`", type_of(info), default_of(info),
            meaning_of(info, meanings.get(name, ""), key),
        )  # fmt: skip
        rows.append("| " + " | ".join(cells) + " |")
    lines = [f"### {heading}\n"] if heading else []
    return "\n".join([*lines, purpose + "\n", *rows]) + "\n"


def field_docstrings(block: type[Block]) -> dict[str, str]:
    """The string under each field of a class and of those it builds on, as one line."""
    parent = block.__base__
    assert parent is not None
    found = field_docstrings(parent) if issubclass(parent, Block) and parent is not Block else {}
    (definition,) = ast.parse(inspect.getsource(block)).body
    assert isinstance(definition, ast.ClassDef)
    for field, text in zip(definition.body, definition.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
            match text:
                case ast.Expr(value=ast.Constant(value=str(words))):
                    found[field.target.id] = " ".join(words.split())
    return found


def meaning_of(info: FieldInfo, docstring: str, key: str) -> str:
    """What a key does; its other spellings; or that it does nothing, and why."""
    extra = info.json_schema_extra
    if isinstance(extra, dict) and "ignored" in extra:
        docstring = f"No effect: {extra['ignored']}."
    if isinstance(info.validation_alias, AliasChoices):
        others = [str(choice) for choice in info.validation_alias.choices if choice != key]
        docstring += " Also written " + ", ".join(f"`{other}`" for other in others) + "."
    return docstring.replace("|", "\\|").replace("->", "→")


def default_of(info: FieldInfo) -> str:
    """The default as YAML writes it."""
    if info.is_required():
        return "required"
    default = info.get_default(call_default_factory=True)
    if isinstance(default, Block):
        return "below"
    return f"`{json.dumps(default)}`" if default != "" else '`""`'


def type_of(info: FieldInfo) -> str:
    """The type of a key, and whether it takes null."""
    words = type_in_words(info.annotation, info.metadata)
    takes_null = any(isinstance(part, NullIsDefault) for part in info.metadata)
    return f"{words} or null" if takes_null else words


def type_in_words(annotation: Any, constraints: typing.Sequence[Any] = ()) -> str:
    """A type annotation as people say it."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Annotated:
        return type_in_words(arguments[0], [*constraints, *arguments[1:]])
    if origin in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(type_in_words(part, constraints) for part in arguments))
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in arguments)
    if origin is dict:
        return f"{type_in_words(arguments[0])} → {type_in_words(arguments[1])}"
    if origin is tuple:
        return list_in_words(arguments, constraints)
    if isinstance(annotation, type) and issubclass(annotation, Block):
        return "block"
    word = WORDS.get(annotation, "anything")
    return (
        " ".join([word, *bounds_in_words(constraints)]) if word in ("integer", "number") else word
    )


def list_in_words(arguments: tuple[Any, ...], constraints: typing.Sequence[Any]) -> str:
    """`[integer, integer]`, or `list of text`."""
    if arguments[-1] is not Ellipsis:
        return "[" + ", ".join(type_in_words(part) for part in arguments) + "]"
    least = max((c.min_length for c in constraints if isinstance(c, MinLen)), default=0)
    return f"list of {type_in_words(arguments[0])}" + (f", at least {least}" if least else "")


def bounds_in_words(constraints: typing.Sequence[Any]) -> list[str]:
    """`≥ 1`, `≤ 6`: the bounds of a number."""
    flat = [
        part
        for constraint in constraints
        for part in (constraint.metadata if isinstance(constraint, FieldInfo) else [constraint])
    ]
    return [
        f"{sign} {getattr(part, name)}"
        for kind, (name, sign) in BOUNDS.items()
        for part in flat
        if isinstance(part, kind)
    ]


def blocks_in(annotation: Any) -> list[type[Block]]:
    """The blocks that an annotation names."""
    if isinstance(annotation, type) and issubclass(annotation, Block):
        return [annotation]
    return [block for part in typing.get_args(annotation) for block in blocks_in(part)]


if __name__ == "__main__":
    TARGET.write_text(page(), encoding="utf-8")
