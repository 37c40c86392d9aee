"""Deployment bundle: a folder with a model and everything needed to run it elsewhere.

It contains files for DeepStream, Triton and trtexec, and a small Python program, all with the
values of the model.
"""

from bodyposenet.exporting.bundle.writer import BundleOptions, write_bundle

__all__ = ["BundleOptions", "write_bundle"]
