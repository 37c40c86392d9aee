"""Projects of `bpnet init`: from annotations, or joint names, to specs that are ready to run.

- `annotated_data`: annotations of any format, with `split` (training and validation images).
- `skeleton_inference`: limbs, left/right pairs and sigmas from names, files and annotated people.
- `training_settings`: input size, augmentation and length of a training from the data.
- `project_files`: the files of a project.
- `templates`: specs and pose configurations of the package.
"""
