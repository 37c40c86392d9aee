"""Deployment bundles: folders with a model and everything needed to run it elsewhere.

A bundle contains files for DeepStream, Triton and trtexec, and a small Python program.

- `writer`: writes the folder (`write_bundle`).
- `readme`: its README.
- `signature`: tensors, normalization and skeleton of the model, from which all files are written.
- `deepstream`, `triton` and `trtexec`: the files for these programs.
- `templates`: the texts of the files, in `resources/deployment`.
"""

from bodyposenet.exporting.bundle.writer import BundleOptions, write_bundle

__all__ = ["BundleOptions", "write_bundle"]
