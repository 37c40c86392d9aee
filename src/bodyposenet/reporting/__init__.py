"""Reports of trainings, evaluations and datasets.

- `training_report`, `evaluation_report`: the HTML page of a training and of an evaluation.
- `browse_page`: the gallery of a dataset, with `label_pictures` (photos with their labels).
- `training_history`: epochs, validations and runs of a training, read from its status.json.
- `result_files`: results.csv, results.json and plots of an evaluation.
- `pose_pictures`: pictures of predicted poses, with the annotated people.
- `html`, `plots`, `image_regions`: elements of the pages, figures, and scaled images, that the
  reports share.
"""
