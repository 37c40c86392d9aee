"""Datasets: from annotations and TFRecords to training samples.

Read annotations:

- `formats`: formats of annotation tools, which are converted to COCO's structure; also the formats
  of other tools in which predictions are written.
- `coco`: annotation files of all formats, with `annotations` (single annotations), `categories`
  (category of people, order of keypoints), `large_json` (parser that saves memory),
  `invalid_entries` (errors).
- `image_checks`: image files compared with the annotated sizes, and with each other (copies).
- `label_statistics`: statistics of the annotations.
- `label_checks`: suspicious labels (`findings`), with `side_checks` (left and right exchanged).
- `dataset_skeleton`: limbs between the joints of a dataset, to draw and check them.
- `segmentation`: polygons, RLE and boxes.
- `dataset_check`: all checks of a dataset, for `bpnet check`.

Prepare a training on your own data (`bpnet init`):

- `project`: specs that are inferred from annotations, or from joint names.
- `coco_file`: annotation files in COCO's format, written.

Convert annotations to training records (`bpnet dataset_convert`):

- `conversion`: anchor persons, one record for each of them, TFRecord shards.
- `masks`: loss masks.
- `pseudo_labels`: detections of another model as labels, with `detections` (files of detections).
- `records`: training records, with `tfrecord` (file format).

Read training samples:

- `dataset`: records, images and masks as augmented samples and batches.
- `augmentation`: random flip, rotation, zoom, shift and colors.
- `reduced_images`: images decoded at a reduced size, with `image_cache` (cache on disk).
- `teacher_map_store`, `teacher_map_sampler`: precomputed maps of a teacher, for distillation.

Which pixels an image file holds (EXIF orientation) is decided in `media.images`.
"""
