"""Extract three small sets from COCO 2017, with downscaled photos and annotations.

python examples/default_model/coco_subset.py --coco data/coco -o data

`data/coco` contains `train2017`, `val2017` and `annotations`, as published. `coco_subset.yaml`
lists the photos of each set.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import cv2
import yaml
from cv2.typing import MatLike

from bodyposenet import BodyPoseNetError
from bodyposenet.console import print_result, progress
from bodyposenet.exit_codes import exit_code_of
from bodyposenet.files import atomic_write, make_directory, read_json, write_json
from bodyposenet.media.images import read_image

SETS = Path(__file__).with_suffix(".yaml")
_JPEG_QUALITY = 80


def main() -> None:
    """Write the sets."""
    flags = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    flags.add_argument(
        "--coco", type=Path, required=True, metavar="DIR", help="folder of COCO 2017"
    )
    flags.add_argument("-o", "--output", type=Path, required=True, metavar="DIR")
    arguments = flags.parse_args()
    coco = {split: _read_split(arguments.coco, split) for split in ("train2017", "val2017")}
    for name, content in yaml.safe_load(SETS.read_text("utf-8")).items():
        for file_name, splits in content["annotations"].items():
            photos = [(split, image_id) for split, ids in splits.items() for image_id in ids]
            out = arguments.output / name
            annotations = _write_photos(coco, photos, out / "images", content["long_side"])
            write_json(out / "annotations" / file_name, annotations, indent=None)
            print_result(f"written: {out / 'annotations' / file_name}, {len(photos)} photos")


@dataclass(frozen=True)
class Split:
    """One of COCO's splits.

    Args:
        photos: Folder of the photos.
        annotations: The annotation file.
        content: Content of the annotation file.
    """

    photos: Path
    annotations: Path
    content: dict[str, Any]

    def image(self, image_id: int) -> dict[str, Any]:
        """Return the entry of an image in the annotation file.

        Raises:
            BodyPoseNetError: The file has no such image.
        """
        if image_id not in self._images:
            raise BodyPoseNetError(
                f"{self.annotations}: has no image {image_id}",
                "Use the complete annotation file of COCO 2017.",
            )
        return self._images[image_id]

    @cached_property
    def _images(self) -> dict[int, dict[str, Any]]:
        return {image["id"]: image for image in self.content["images"]}

    @cached_property
    def people(self) -> dict[int, list[dict[str, Any]]]:
        """Annotations by image id."""
        people = defaultdict(list)
        for person in self.content["annotations"]:
            people[person["image_id"]].append(person)
        return people


def _read_split(folder: Path, split: str) -> Split:
    path = folder / "annotations" / f"person_keypoints_{split}.json"
    return Split(folder / split, path, read_json(path, "Download COCO 2017's annotations."))


def _write_photos(
    coco: dict[str, Split], photos: list[tuple[str, int]], folder: Path, long_side: int
) -> dict[str, Any]:
    """Write downscaled photos, each given as (split, id); return their annotations."""
    make_directory(folder)
    images, people = [], []
    for split_name, image_id in progress(photos, f"writing {folder}"):
        split = coco[split_name]
        image = split.image(image_id)
        scale = min(1.0, long_side / max(image["width"], image["height"]))
        size = (round(image["width"] * scale), round(image["height"] * scale))
        pixels = read_image(split.photos / image["file_name"], (image["height"], image["width"]))
        small = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
        _write_jpeg(folder / image["file_name"], cv2.cvtColor(small, cv2.COLOR_RGB2BGR))
        images.append(image | dict(zip(("width", "height"), size, strict=True)))
        people += [shrink(person, scale) for person in split.people[image_id]]
    return coco["val2017"].content | {"images": images, "annotations": people}


def _write_jpeg(path: Path, bgr: MatLike) -> None:
    _, content = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    with atomic_write(path) as file:
        file.write(content.tobytes())


def shrink(person: dict[str, Any], scale: float) -> dict[str, Any]:
    """Scale an annotation with its image; the mask of a crowd becomes its box."""
    x, y, width, height = box = [value * scale for value in person["bbox"]]
    outline = person["segmentation"]
    if isinstance(outline, dict):
        outline = [[x, y, x + width, y, x + width, y + height, x, y + height]]
    else:
        outline = [[value * scale for value in polygon] for polygon in outline]
    factors = (scale, scale, 1)
    return person | {
        "bbox": box,
        "area": person["area"] * scale**2,
        "segmentation": outline,
        "keypoints": [value * factors[k % 3] for k, value in enumerate(person["keypoints"])],
    }


if __name__ == "__main__":
    sys.exit(exit_code_of("coco_subset.py", main))
