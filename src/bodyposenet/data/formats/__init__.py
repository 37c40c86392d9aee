"""Formats of annotation tools and datasets: one module per format.

A format is an `AnnotationFormat`: a function that recognizes its files, and a function that
converts a file to COCO's structure (`document`). All further checks are in `data.coco`, so every
command reads every format.

- `reading`: detection of the format, reading, summary of a file.
- `document`: COCO's structure, and the interface of a format.
- `grouping`: keypoints and boxes that are stored separately; `image_folder`: images by address;
  `safe_xml`: XML of unknown origin, and any text in XML.
- `coco`, `coco_wholebody`, `label_studio`, `cvat`, `yolo_pose`, `sloth`, `mpii`: the formats.

Predictions of a model are written in the formats of other tools (`bpnet inference
--output_format`), in the same modules or those of tools that only read poses:

- `predictions`: poses in images or in a video, and the interface of an output format.
- `output`: the list of output formats, and their folders.
- `openpose`, `csv_table`, `deeplabcut`: formats that are only written.
"""

from bodyposenet.data.formats.reading import (
    AnnotationSummary,
    CategorySummary,
    describe_annotations,
    read_document,
)

__all__ = [
    "AnnotationSummary",
    "CategorySummary",
    "describe_annotations",
    "read_document",
]
