"""Projects of `bpnet init`: from annotations, or joint names, to specs that are ready to run.

- `skeleton_inference`: limbs, left/right pairs and sigmas from names, files and annotated people.
"""
