"""Data models of the spec files, with the keys of TAO's JSON and YAML files.

The files:

- `dataset`: dataset spec (`coco_spec.json`).
- `training`: train spec, with its blocks `dataloader`, `network` (model and loss) and `optimizer`.
- `inference`: inference spec of `inference` and `evaluate`.
- `pose`: pose configuration, which defines joints and limbs.
- `model_header`: headers of model files, which contain the spec.

How they are read:

- `loading`: base classes `Spec` and `Block`, validation, error messages with file and line.
- `spec_file`: parsers of JSON and YAML.
- `number_types`: numbers with bounds.

Keys marked "(not in TAO)" are additions of bodyposenet.
"""
