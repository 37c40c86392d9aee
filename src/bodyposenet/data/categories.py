"""Select the category of people in a COCO annotation file, and match its keypoints by name.

Annotation tools write the category in different ways: names in other case, other ids, several
categories, keypoints in another order, or no list of categories at all.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from bodyposenet.console import logger
from bodyposenet.data.annotations import shorten, to_integer
from bodyposenet.data.formats.document import CocoDocument
from bodyposenet.errors import BodyPoseNetError

_MAX_LISTED = 10


class Category(NamedTuple):
    """The category whose annotations are people.

    Args:
        ids: Its ids; empty if all annotations are people.
        keypoints: Names of its keypoints, or None if the file does not name them.
        is_only: Whether it is the only category, so that annotations need no category id.
    """

    ids: frozenset[Any]
    keypoints: list[Any] | None = None
    is_only: bool = True

    def includes(self, annotation: Mapping[str, Any]) -> bool:
        """Return whether an annotation belongs to this category.

        Raises:
            ValueError: The category id of the annotation is missing or invalid.
        """
        if not self.ids:
            return True
        category_id = annotation.get("category_id")
        if category_id is None and self.is_only:
            return True
        number = to_integer(category_id)
        if number is None:
            raise ValueError(f"category_id must be an integer, got {shorten(category_id)}")
        return number in self.ids


class CategoryQuery(NamedTuple):
    """The category that a dataset spec describes.

    Args:
        name: Name of the category, or None to select by id alone.
        id: Id of the category, or None to select by name alone.
        joints: Names of the keypoints.
    """

    name: str | None
    id: int | None
    joints: tuple[str, ...]

    def __str__(self) -> str:
        return f"with id {self.id}" if self.name is None else f"named {self.name}"

    def matches(self, entry: Mapping[str, Any]) -> bool:
        """Return whether an entry of `categories` has the name, or the id if there is no name."""
        if self.name is None:
            return to_integer(entry.get("id")) == self.id
        name = entry.get("name")
        return isinstance(name, str) and name.strip().casefold() == self.name.strip().casefold()


def select_category(path: Path, document: CocoDocument, query: CategoryQuery) -> Category:
    """Select the category of people.

    In this order: the category with the queried name; the category with the queried id, if its
    keypoints have the queried names; the only category with keypoints.

    Args:
        path: The annotation file, for messages.
        document: Its content.
        query: Category in the dataset spec.

    Returns:
        The category.

    Raises:
        BodyPoseNetError: No category matches, or more than one.
    """
    categories = [entry for entry in document.categories if isinstance(entry, dict)]
    if not categories:
        return _category_of_annotations(path, document, query)
    chosen = [entry for entry in categories if query.matches(entry)]
    if not chosen:
        chosen = [_fallback_category(path, categories, query)]
    names = [entry["keypoints"] for entry in chosen if _has_keypoints(entry)]
    if any(other != names[0] for other in names):
        raise BodyPoseNetError(
            f"{path}: several categories {query}, with different keypoints",
            "Remove all but one of them from the file.",
        )
    ids = frozenset(to_integer(entry.get("id")) for entry in chosen)
    return Category(ids, names[0] if names else None, len(chosen) == len(categories))


def keypoint_order(
    path: Path, names: Sequence[Any] | None, joints: tuple[str, ...], *, is_complete: bool = True
) -> tuple[int, ...] | None:
    """Match keypoints by name, ignoring case, spaces, hyphens and underscores.

    Keypoints of the file that the dataset spec does not have are ignored, and logged.

    Args:
        path: The annotation file, for messages.
        names: Names of the file's keypoints, or None if the file does not name them.
        joints: Names of the dataset spec's keypoints.
        is_complete: Whether the names include keypoints that are labeled nowhere in the file.

    Returns:
        Index of each joint among the file's keypoints, -1 if it is labeled nowhere; or None if the
        keypoints and their order are the same.

    Raises:
        BodyPoseNetError: The file does not have a keypoint of the dataset spec; if the names are
            not complete: and it has an unknown one instead.
    """
    if not names or list(names) == list(joints):
        return None
    found, expected = [_normalized(name) for name in names], [_normalized(name) for name in joints]
    missing = [joint for joint in joints if _normalized(joint) not in found]
    extra = [shorten(name) for name in names if _normalized(name) not in expected]
    is_repeated = len(set(found)) < len(found) or len(set(expected)) < len(expected)
    if is_repeated or (missing and (is_complete or extra)):
        differences = "; ".join(
            f"{kind}: {', '.join(map(str, some))}"
            for kind, some in (("missing", missing), ("unexpected", extra))
            if some
        )
        raise BodyPoseNetError(
            f"{path}: {len(names)} keypoints do not match the {len(joints)} of the dataset spec: "
            f"{differences or 'repeated names'}",
            "Use the file's keypoint names in `keypoints` of the dataset spec, or correct the "
            "file.",
        )
    if missing:
        logger.warning("%s: labeled nowhere: %s", path, ", ".join(missing))
    if extra:
        logger.warning(
            "%s: keypoints that the dataset spec does not have are ignored: %s",
            path, ", ".join(extra),
        )  # fmt: skip
    order = tuple(found.index(name) if name in found else -1 for name in expected)
    if is_complete and not missing and not extra and order != tuple(range(len(joints))):
        logger.info("%s: keypoints are reordered to match the dataset spec", path)
    return None if order == tuple(range(len(names))) else order


def _category_of_annotations(path: Path, document: CocoDocument, query: CategoryQuery) -> Category:
    """Select by the annotations' category ids, in a file without a list of categories."""
    ids = {
        number
        for entry in document.annotations
        if isinstance(entry, dict) and (number := to_integer(entry.get("category_id"))) is not None
    }
    if len(ids) <= 1:
        return Category(frozenset())
    if query.id in ids:
        return Category(frozenset({query.id}), is_only=False)
    listed = ", ".join(map(str, sorted(ids)[:_MAX_LISTED]))
    raise BodyPoseNetError(
        f"{path}: annotations of {len(ids)} categories ({listed}), but no list `categories`",
        "Add the list to the file, or set the id of people in `categories` of the dataset spec.",
    )


def _fallback_category(
    path: Path, categories: Sequence[Mapping[str, Any]], query: CategoryQuery
) -> Mapping[str, Any]:
    """Select the category of the queried id and keypoints, or else the only one with keypoints.

    Raises:
        BodyPoseNetError: No category qualifies, or more than one.
    """
    with_keypoints = [entry for entry in categories if _has_keypoints(entry)]
    expected = sorted(map(_normalized, query.joints))
    same_id = [
        entry
        for entry in with_keypoints
        if query.id is not None
        and to_integer(entry.get("id")) == query.id
        and sorted(map(_normalized, entry["keypoints"])) == expected
    ]
    if len(same_id or with_keypoints) != 1:
        raise BodyPoseNetError(
            f"{path}: no category {query}, and {len(with_keypoints)} categories with keypoints; "
            f"the file has {_list_categories(categories)}",
            "Write the name of one of them in `categories` of the dataset spec (or its id, without "
            "a name).",
        )
    (chosen,) = same_id or with_keypoints
    logger.warning(
        "%s: no category %s; using %s, %s",
        path, query, _list_categories([chosen]),
        "which has the id in the dataset spec" if same_id else "the only one with keypoints",
    )  # fmt: skip
    return chosen


def _has_keypoints(category: Mapping[str, Any]) -> bool:
    """Return whether a category has a list of keypoints that is not empty."""
    return isinstance(category.get("keypoints"), list) and bool(category["keypoints"])


def _list_categories(categories: Sequence[Mapping[str, Any]]) -> str:
    """List names and ids of the first categories, for messages."""
    listed = [
        f"{shorten(entry.get('name'))} (id {shorten(entry.get('id'))})"
        for entry in categories[:_MAX_LISTED]
    ]
    more = [f"{len(categories) - len(listed)} more"] if len(categories) > len(listed) else []
    return ", ".join([*listed, *more])


def _normalized(name: Any) -> str:
    """Fold case and remove spaces, hyphens and underscores, which tools write differently."""
    return re.sub(r"[\W_]+", "", str(name).casefold())
