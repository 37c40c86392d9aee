"""Reports of trainings and evaluations: HTML pages, plots and result files."""
