"""Reports of trainings and evaluations.

- `training_report`, `evaluation_report`: the HTML page of a training and of an evaluation.
- `training_history`: epochs, validations and runs of a training, read from its status.json.
- `result_files`: results.csv, results.json and plots of an evaluation.
- `html`, `plots`: elements of the pages, and figures, that the reports share.
"""
