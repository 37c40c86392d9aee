"""Mutations of files, as by defective disks, other programs or attackers.

Most keep the structure of the format intact (checksums and lengths are corrected), so that the
change reaches the code behind the parser. Each function takes the content of a valid file and a
random generator, and returns the mutated content.
"""

from __future__ import annotations

import hashlib
import io
import json
import struct
import zlib
from collections.abc import Callable, MutableSequence
from contextlib import suppress
from random import Random
from typing import Any
from xml.etree import ElementTree

import yaml
from google_crc32c import value as crc32c

from bodyposenet.data.tfrecord import Features, encode_example

Mutation = Callable[[bytes, Random], bytes]

_UNUSUAL_NUMBERS: tuple[Any, ...] = (
    0, -1, 1, 2, 0.0, -0.0, 0.5, 1e-320, 1e38, 1e223, 1e308, -1e308, float("nan"), float("inf"),
    2**31 - 1, 2**31, 2**32, 2**63 - 1, 2**63, 2**64, -(2**63), 10**400,
)  # fmt: skip
_UNUSUAL_TEXTS = (
    "", " ", "\0", "a\0b", "\ud800", "\udcff", "é", "\u202e", "x" * 300, "x" * 70_000, "../" * 40,
    "/etc/hostname", "/dev/zero", "C:\\x", "a\\b", "$x$", "$(id)", "%s%n", "{0}", "[bold]", "nan",
    "1", "1e400", "true", "null", "-k", "http://127.0.0.1:9/x", "*", "**", "(" * 50, "~", "\n",
    "\r",
)  # fmt: skip
_UNUSUAL_VALUES: tuple[Any, ...] = (None, True, False, [], {}, [[]], [None], {"": None}, {"a": {}})
_CHANGE_COUNTS = (1, 1, 1, 2, 3)
_INTEGER_LIMITS = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 2**31 - 1, 2**31, 2**32 - 1)


def mutate_bytes(content: bytes, random: Random) -> bytes:
    """Change one to three places, regardless of the format."""
    for _ in range(random.choice(_CHANGE_COUNTS)):
        content = random.choice(_BYTE_CHANGES)(content, random)
    return content


def mutate_json(content: bytes, random: Random) -> bytes:
    """Change one to three values, keys or texts of a JSON file; rarely its bytes."""
    return _mutate_text(content, random, json.loads, lambda tree: json.dumps(tree).encode())


def mutate_json_lines(content: bytes, random: Random) -> bytes:
    """Change one line of a file with one JSON value per line."""
    lines = content.splitlines(keepends=True)
    place = random.randrange(len(lines))
    lines[place] = mutate_json(lines[place].rstrip(b"\n"), random) + b"\n"
    return b"".join(lines)


def mutate_yaml(content: bytes, random: Random) -> bytes:
    """Change one to three values, keys or texts of a YAML file, its aliases, tags or bytes."""
    if random.random() < 0.1:
        text = content.decode()
        place = random.choice([i for i, letter in enumerate(text) if letter == ":"])
        tag = random.choice(["!!bool", "!!timestamp", "!!int", "!!set", "!!python/name:x", "!x"])
        extra = random.choice([f" {tag}", " &a [*a]", " *nobody", " &a", " >", " |", " {", " [["])
        return (text[: place + 1] + extra + text[place + 1 :]).encode()
    return _mutate_text(content, random, yaml.safe_load, _dump_yaml)


def mutate_xml(content: bytes, random: Random) -> bytes:
    """Change attributes, texts or elements of an XML file, add a document type, or change bytes."""
    chance = random.random()
    if chance < 0.15:
        return mutate_bytes(content, random)
    if chance < 0.2:
        return b"<!DOCTYPE a [<!ENTITY b 'c'>]>" + content
    root = ElementTree.fromstring(content)
    for _ in range(random.choice(_CHANGE_COUNTS)):
        element = random.choice(list(root.iter()))
        unusual = random.choice([*_UNUSUAL_TEXTS, *map(str, _UNUSUAL_NUMBERS)])
        match random.randrange(5):
            case 0 if len(element):
                element.remove(random.choice(list(element)))
            case 1 if len(element):
                element.extend([random.choice(list(element))] * random.choice([1, 2, 1000]))
            case 2:
                element.tag = random.choice([other.tag for other in root.iter()])
            case 3:
                element.text = unusual
            case _ if element.attrib:
                key = random.choice(list(element.attrib))
                element.attrib.pop(key)
                if random.random() < 0.8:
                    element.set(key, unusual)
            case _:
                element.text = unusual
    return ElementTree.tostring(root, "unicode").encode(errors="surrogatepass")


def mutate_lines(content: bytes, random: Random) -> bytes:
    """Change the lines of a text file: drop, repeat, replace or damage them."""
    lines = content.splitlines(keepends=True)
    place = random.randrange(len(lines))
    match random.randrange(5):
        case 0:
            del lines[place]
        case 1:
            lines.insert(place, lines[place] * random.choice([1, 2, 1000]))
        case 2:
            lines[place] = lines[random.randrange(len(lines))]
        case 3:
            lines[place] = _encode(random.choice(_UNUSUAL_TEXTS)) + b"\n"
        case _:
            lines[place] = mutate_bytes(lines[place], random)
    return b"".join(lines)


def mutate_engine(content: bytes, random: Random) -> bytes:
    """Mutate a file like `mutate_container`, but leave the checksum of a changed body wrong.

    A compiled engine is executable code: with a correct checksum, it could do anything.
    """
    mutated = mutate_container(content, random)
    (size,) = struct.unpack_from("<I", content, 12)
    body = content[24 + 32 + size :]
    return mutated if mutated.endswith(body) else mutate_bytes(content, random)


def mutate_onnx(content: bytes, random: Random) -> bytes:
    """Change fields of the graph, of its weights or of its header; rarely bytes."""
    import onnx

    if random.random() < 0.15:
        return mutate_bytes(content, random)
    if random.random() < 0.7:
        return mutate_message(onnx.ModelProto, content, random)
    model = onnx.load_model_from_string(content)
    header = next(prop for prop in model.metadata_props if prop.key == "bodyposenet")
    mutated = mutate_json(header.value.encode(), random)
    with suppress(UnicodeDecodeError):
        header.value = mutated.decode()
    return model.SerializeToString()


def mutate_container(content: bytes, random: Random) -> bytes:
    """Change a file in this package's container format: its header (with checksum) or its bytes."""
    if random.random() < 0.2:
        return mutate_bytes(content, random)
    size, body_size = struct.unpack_from("<IQ", content, 12)
    start = 24 + 32
    encoded = content[start : start + size]
    body = content[start + size : start + size + body_size]
    if random.random() < 0.8:
        encoded = mutate_json(encoded, random)
    else:
        body = mutate_bytes(body, random)
    version = random.choice(_INTEGER_LIMITS) if random.random() < 0.02 else 1
    prelude = struct.pack("<8sIIQ", content[:8], version, len(encoded), len(body))
    digest = hashlib.sha256(prelude + encoded + body).digest()
    return prelude + digest + encoded + body


def mutate_tfrecord(content: bytes, random: Random) -> bytes:
    """Change features of a `tf.train.Example`, with correct checksums, or the file's bytes."""
    if random.random() < 0.2:
        return mutate_bytes(content, random)
    (size,) = struct.unpack_from("<Q", content)
    message, rest = content[12 : 12 + size], content[16 + size :]
    if random.random() < 0.8:
        features = _features(message)
        for _ in range(random.choice(_CHANGE_COUNTS)):
            name = random.choice(sorted(features))
            features[name] = _unusual_feature(features[name], random)
            if random.random() < 0.1:
                del features[name]
                break
        message = encode_example(features)
    else:
        message = mutate_bytes(message, random)
    return _frame(struct.pack("<Q", len(message))) + _frame(message) + rest


_INTEGERS = ("frame/image_id", "frame/height", "frame/width", "person/person_idx")
_BYTES = (
    "frame/image_path", "frame/mask_path", "dataset", "person/joints", "person/scales",
    "person/centers",
)  # fmt: skip


def _features(message: bytes) -> dict[str, bytes | int]:
    found = Features(message)
    return {name: found.integer(name) for name in _INTEGERS} | {
        name: found.content(name) for name in _BYTES
    }


def _unusual_feature(value: bytes | int, random: Random) -> bytes | int:
    """Return another value; in one of ten cases of the other type."""
    if isinstance(value, int) == (random.random() < 0.9):
        return random.choice([0, -1, 1, 7, 255, 2**31, 2**40, 2**63 - 1, -(2**63)])
    if isinstance(value, int):
        return b"1"
    if len(value) % 8 == 0 and random.random() < 0.6:  # float64
        place = 8 * random.randrange(len(value) // 8 or 1)
        odd = struct.pack("<d", random.choice([float("nan"), float("inf"), -1e9, 1e30, 1e223, 0.5]))
        return value[:place] + odd + value[place + 8 :]
    return random.choice([mutate_bytes(value, random), *map(_encode, _UNUSUAL_TEXTS)])


def mutate_png(content: bytes, random: Random) -> bytes:
    """Change the chunks of a PNG, with correct checksums, or its bytes."""
    if random.random() < 0.3:
        return mutate_bytes(content, random)
    chunks, place = [], 8
    while place < len(content):
        (size,) = struct.unpack_from(">I", content, place)
        chunks.append((content[place + 4 : place + 8], content[place + 8 : place + 8 + size]))
        place += 12 + size
    chosen = random.randrange(len(chunks))
    kind, data = chunks[chosen]
    match random.randrange(4):
        case 0:
            del chunks[chosen]
        case 1:
            chunks.insert(chosen, (kind, data))
        case 2:
            chunks[chosen] = (random.choice([b"IDAT", b"tRNS", b"iCCP", b"eXIf", b"acTL"]), data)
        case _:
            chunks[chosen] = (kind, mutate_bytes(data, random))
    parts = [content[:8]]
    for kind, data in chunks:
        wrong = random.random() < 0.1
        size = random.choice(_INTEGER_LIMITS) if wrong else len(data)
        parts += [struct.pack(">I", size), kind, data, struct.pack(">I", zlib.crc32(kind + data))]
    return b"".join(parts)


def mutate_hdf5(content: bytes, random: Random) -> bytes:
    """Change attributes, names, shapes or values of an HDF5 file, or its bytes."""
    import h5py
    import numpy as np

    if random.random() < 0.3:
        return mutate_bytes(content, random)
    file = io.BytesIO(content)
    with h5py.File(file, "r+") as tensors:
        names: list[str] = []
        tensors.visit(names.append)
        name = random.choice(names)
        match random.randrange(5):
            case 0:
                key = random.choice([*tensors.attrs, "count", "shape"])
                odd = [number for number in _UNUSUAL_NUMBERS if abs(number) < 2**62]
                tensors.attrs[key] = random.choice([*odd, "", [1, 2], np.zeros(0)])
            case 1:
                del tensors[name]
            case 2:
                tensors.move(name, random.choice(["x", name + "x", "_tensorfile_array_key__9"]))
            case 3:
                del tensors[name]
                shape = random.choice([(), (0,), (1, 8, 8, 3), (1, 1, 1, 1, 1), (2**40, 8, 8, 3)])
                kind = random.choice(["f4", "f8", "i1", "S3", "f2", h5py.string_dtype()])
                chunks = True if shape and 0 not in shape else None
                tensors.create_dataset(name, shape, kind, chunks=chunks)
            case _:
                entry = tensors[name]
                if isinstance(entry, h5py.Dataset) and entry.size:
                    is_float = entry.dtype.kind == "f"
                    entry[...] = random.choice([np.nan, np.inf, 1e30, 0] if is_float else [0, 1])
    return file.getvalue()


def mutate_message(kind: Any, message: bytes, random: Random) -> bytes:
    """Change one to three fields of a protocol buffer, at any depth.

    Args:
        kind: Class of the message.
        message: The serialized message.
        random: Random generator.
    """
    parsed = kind.FromString(message)
    for _ in range(random.choice(_CHANGE_COUNTS)):
        _mutate_field(parsed, random)
    return parsed.SerializeToString()


def _mutate_field(message: Any, random: Random) -> None:
    """Change a random field, at any depth."""
    fields = message.ListFields()
    if not fields:
        return
    field, value = random.choice(fields)
    is_list = isinstance(value, MutableSequence)
    if field.message_type is not None and random.random() < 0.85:
        _mutate_field(random.choice(list(value)) if is_list else value, random)
    elif random.random() < 0.25 or field.message_type is not None:
        message.ClearField(field.name)
    elif is_list:
        items = list(value)
        items[random.randrange(len(items))] = _unusual_scalar(field, items[0], random)
        if random.random() < 0.3:
            items = items[1:] if random.random() < 0.5 else items * 2
        del value[:]
        value.extend(items)
    else:
        setattr(message, field.name, _unusual_scalar(field, value, random))


def _unusual_scalar(field: Any, value: Any, random: Random) -> Any:
    """Return another value that the field accepts."""
    if isinstance(value, str):
        return random.choice(
            [text for text in _UNUSUAL_TEXTS if text.isprintable()] + [value + "x"]
        )
    if isinstance(value, bytes):
        return mutate_bytes(value, random)
    if isinstance(value, bool):
        return not value
    if isinstance(value, float):
        return random.choice([float("nan"), float("inf"), 0.0, -1.0, 1e30])
    if field.enum_type is not None:
        return random.choice(field.enum_type.values).number
    limit = 2**31 if field.cpp_type in (field.CPPTYPE_INT32, field.CPPTYPE_UINT32) else 2**63
    return random.choice([n for n in (0, -1, 1, 2, 7, 255, 2**31 - 1, 2**40) if n < limit])


def _mutate_text(
    content: bytes, random: Random, load: Callable[[bytes], Any], dump: Callable[[Any], bytes]
) -> bytes:
    """Change the tree in a text file; in one of eight cases its bytes."""
    if random.random() < 0.125:
        return mutate_bytes(content, random)
    tree = load(content)
    for _ in range(random.choice(_CHANGE_COUNTS)):
        tree = _mutate_tree(tree, random)
    return dump(tree)


def _mutate_tree(tree: Any, random: Random) -> Any:
    """Return a tree of dictionaries and lists with one value or key changed."""
    if isinstance(tree, dict) and tree and random.random() < 0.9:
        key = random.choice(list(tree))
        match random.randrange(12):
            case 0:
                return {name: value for name, value in tree.items() if name != key}
            case 1:
                return tree | {random.choice(_UNUSUAL_TEXTS): tree[key]}
            case 2:
                return tree | {key: tree[random.choice(list(tree))]}
        return tree | {key: _mutate_tree(tree[key], random)}
    if isinstance(tree, list) and tree and random.random() < 0.85:
        place = random.randrange(len(tree))
        match random.randrange(10):
            case 0:
                return tree[:place] + tree[place + 1 :]
            case 1:
                return tree[: place + 1] + tree[place:]
            case 2:
                return tree * 50
        return [*tree[:place], _mutate_tree(tree[place], random), *tree[place + 1 :]]
    return _unusual_value(tree, random)


def _unusual_value(value: Any, random: Random) -> Any:
    match random.randrange(8):
        case 0:
            return random.choice(_UNUSUAL_VALUES)
        case 1:
            return random.choice(_UNUSUAL_TEXTS)
        case 2:
            return str(value)
        case 3:
            return [value]
        case 4:
            return {"x": value}
        case 5 if isinstance(value, str):
            return value + random.choice(_UNUSUAL_TEXTS)
        case 6:
            nested: Any = value
            for _ in range(random.choice([5, 100, 300])):
                nested = [nested]
            return nested
    if isinstance(value, (int, float)) and abs(value) < 1e300 and random.random() < 0.3:
        return random.choice([-value, value + 0.5, value * 1000, float(value)])
    return random.choice(_UNUSUAL_NUMBERS)


def _dump_yaml(tree: Any) -> bytes:
    """Return YAML, or JSON, which is valid YAML, if PyYAML cannot write a value."""
    try:
        return yaml.safe_dump(tree, allow_unicode=True).encode(errors="surrogatepass")
    except (yaml.YAMLError, RecursionError):
        return json.dumps(tree).encode()


def _encode(text: str) -> bytes:
    return text.encode(errors="surrogatepass")


def _frame(data: bytes) -> bytes:
    """Return the bytes with their masked checksum, as in a TFRecord."""
    crc = crc32c(data)
    return data + struct.pack("<I", (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF)


def _flip(content: bytes, random: Random) -> bytes:
    place = random.randrange(len(content) or 1)
    return content[:place] + bytes([random.randrange(256)]) + content[place + 1 :]


def _cut(content: bytes, random: Random) -> bytes:
    return content[: random.randrange(len(content) or 1)]


def _drop(content: bytes, random: Random) -> bytes:
    place = random.randrange(len(content) or 1)
    return content[:place] + content[place + random.choice([1, 2, 4, 100, 5000]) :]


def _repeat(content: bytes, random: Random) -> bytes:
    place, size = random.randrange(len(content) or 1), random.choice([1, 4, 100, 5000])
    return content[: place + size] + content[place:]


def _overwrite(content: bytes, random: Random) -> bytes:
    """Replace four or eight bytes by a limit of an integer type."""
    place = random.randrange(len(content) or 1)
    order = random.choice("<>")
    packed = struct.pack(order + random.choice("IQ"), random.choice(_INTEGER_LIMITS))
    return content[:place] + packed + content[place + len(packed) :]


def _erase(content: bytes, random: Random) -> bytes:
    place, size = random.randrange(len(content) or 1), random.choice([4, 100, 4096])
    return content[:place] + bytes(min(size, len(content) - place)) + content[place + size :]


_BYTE_CHANGES: tuple[Mutation, ...] = (_flip, _flip, _cut, _drop, _repeat, _overwrite, _erase)
