"""Generate `docs/specs.md` from the data models of the spec files.

Types and defaults come from the models, descriptions from the docstrings below their fields. Run
`python docs/generate_specs.py` after a change of a model.
"""

from __future__ import annotations

import ast
import inspect
import json
import re
import types
import typing
from collections.abc import Iterable
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
        "A JSON file, read by `dataset_convert`, by `evaluate`, and by `train` (one per dataset). "
        "Sample: [coco_spec.json](../src/bodyposenet/resources/specs/coco_spec.json).",
    ),
    "Pose configuration": (
        PoseConfiguration,
        "A JSON file that defines the skeleton; the train spec contains its path. Sample: "
        "[bpnet_18joints.json](../src/bodyposenet/resources/pose/bpnet_18joints.json).",
    ),
    "Train spec": (
        TrainSpec,
        "A YAML file, read by `train`. Samples: "
        "[bpnet_train_m1_coco.yaml](../src/bodyposenet/resources/specs/bpnet_train_m1_coco.yaml), "
        "[bpnet_train_lightweight_openpose_coco.yaml]"
        "(../src/bodyposenet/resources/specs/bpnet_train_lightweight_openpose_coco.yaml).",
    ),
    "Inference spec": (
        InferenceSpec,
        "A YAML file, read by `inference` and `evaluate`. Samples: "
        "[infer_spec.yaml](../src/bodyposenet/resources/specs/infer_spec.yaml), the one of TAO's "
        "guide, and [infer_spec_accurate.yaml]"
        "(../src/bodyposenet/resources/specs/infer_spec_accurate.yaml) with the decoder "
        "`accurate`.",
    ),
}

HEADER = """\
# Spec files

Every key of the four kinds of spec files. This page is generated: `python docs/generate_specs.py`.

Unknown keys, wrong types and contradictory values are errors that name the file, the line and the
key. `None`, `null` and an empty value mean the same; `2e-5` is a number. Keys and values marked
"(not in TAO)" are additions of this package. Relative paths are looked up in the working directory
first, then in the folder of the spec file.
"""

BOUNDS = {Ge: "ge", Gt: "gt", Le: "le", Lt: "lt"}
TYPE_NAMES = {str: "string", int: "integer", float: "number", bool: "boolean", type(None): "null"}


def page() -> str:
    """Return the page as Markdown."""
    parts = [HEADER]
    for title, (spec, purpose) in FILES.items():
        parts.append(f"## {title}\n\n{purpose}\n")
        parts.extend(table(block, paths) for block, paths in nested_blocks(spec).items())
    return "\n".join(parts)


def nested_blocks(block: type[Block], path: str = "") -> dict[type[Block], list[str]]:
    """Return a block and all blocks inside it, each with the dotted keys that hold it."""
    found = {block: [path]}
    for name, info in block.model_fields.items():
        for part in blocks_in(info.annotation):
            key = f"{path}.{info.alias or name}".strip(".")
            for inner, paths in nested_blocks(part, key).items():
                known = found.setdefault(inner, [])
                known.extend(each for each in paths if each not in known)
    return found


def table(block: type[Block], paths: list[str]) -> str:
    """Return the heading, the purpose and the table of the keys of a block."""
    heading = ", ".join(f"`{path}`" for path in paths if path)
    choice = block.model_fields.get("class_name")
    if choice is not None and choice.is_required():
        heading += f" of class {type_in_words(choice.annotation)}"
    docstrings = field_docstrings(block)
    purpose = (inspect.getdoc(block) or "").splitlines()[0]
    purpose = re.sub(r" \((TAO )?reference[^)]*\)", "", purpose)
    rows = ["| key | type | default | description |", "|---|---|---|---|"]
    for name, info in block.model_fields.items():
        key = info.alias or name
        cells = (
            f"`{key}`", type_of(info), default_of(info),
            description_of(info, docstrings.get(name, ""), key),
        )  # fmt: skip
        rows.append("| " + " | ".join(cells) + " |")
    lines = [f"### {heading}\n"] if heading else []
    return "\n".join([*lines, purpose + "\n", *rows]) + "\n"


def field_docstrings(block: type[Block]) -> dict[str, str]:
    """Return the docstring below each field of a class and of its bases, as one line each."""
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


def description_of(info: FieldInfo, docstring: str, key: str) -> str:
    """Return what a key does, or why it has no effect, and its aliases."""
    extra = info.json_schema_extra
    if isinstance(extra, dict) and "ignored" in extra:
        docstring = f"No effect: {extra['ignored']}."
    if isinstance(info.validation_alias, AliasChoices):
        others = [str(choice) for choice in info.validation_alias.choices if choice != key]
        docstring += " Alias: " + ", ".join(f"`{other}`" for other in others) + "."
    return docstring.replace("|", "\\|").replace("->", "→")


def default_of(info: FieldInfo) -> str:
    """Return the default as YAML writes it; that of a block is described in its own table."""
    if info.is_required():
        return "required"
    default = info.get_default(call_default_factory=True)
    if isinstance(default, Block):
        return "see below"
    return f"`{json.dumps(default)}`" if default != "" else '`""`'


def type_of(info: FieldInfo) -> str:
    """Return the type of a key, including whether null is allowed."""
    words = type_in_words(info.annotation, info.metadata)
    takes_null = any(isinstance(part, NullIsDefault) for part in info.metadata)
    return f"{words} or null" if takes_null else words


def type_in_words(annotation: Any, constraints: Iterable[Any] = ()) -> str:
    """Describe a type annotation: `integer ≥ 1 or null`, `list of strings`."""
    constraints = list(constraints)
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Annotated:
        return type_in_words(arguments[0], [*constraints, *arguments[1:]])
    if origin in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(type_in_words(part, constraints) for part in arguments))
    if origin is Literal:
        return " or ".join(f"`{value}`" for value in arguments)
    if origin is dict:
        return f"mapping: {type_in_words(arguments[0])} → {type_in_words(arguments[1])}"
    if origin is tuple:
        return list_in_words(arguments, constraints)
    if isinstance(annotation, type) and issubclass(annotation, Block):
        return "block"
    name = TYPE_NAMES.get(annotation, "any")
    bounds = bounds_in_words(constraints) if name in ("integer", "number") else ""
    return f"{name} {bounds}".rstrip()


def list_in_words(arguments: tuple[Any, ...], constraints: Iterable[Any]) -> str:
    """Describe a list of a fixed length (`[integer, integer]`) or of any (`list of strings`)."""
    if arguments[-1] is not Ellipsis:
        return "[" + ", ".join(type_in_words(part) for part in arguments) + "]"
    least = max((c.min_length for c in constraints if isinstance(c, MinLen)), default=0)
    items = re.sub(r"^(string|integer|number|block)\b", r"\1s", type_in_words(arguments[0]))
    return f"list of {items}" + (f", at least {least}" if least else "")


def bounds_in_words(constraints: Iterable[Any]) -> str:
    """Describe the bounds of a number: `≥ 1`, `from 0 to 1`, `> 0 and ≤ 8`."""
    bounds: dict[str, float] = {}
    for constraint in constraints:
        for part in constraint.metadata if isinstance(constraint, FieldInfo) else [constraint]:
            if name := BOUNDS.get(type(part)):
                bounds[name] = getattr(part, name)
    if bounds.keys() == {"ge", "le"}:
        return f"from {bounds['ge']:.15g} to {bounds['le']:.15g}"
    signs = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}
    return " and ".join(f"{signs[name]} {bounds[name]:.15g}" for name in signs if name in bounds)


def blocks_in(annotation: Any) -> list[type[Block]]:
    """Return the blocks that an annotation names."""
    if isinstance(annotation, type) and issubclass(annotation, Block):
        return [annotation]
    return [block for part in typing.get_args(annotation) for block in blocks_in(part)]


if __name__ == "__main__":
    TARGET.write_text(page(), encoding="utf-8")
