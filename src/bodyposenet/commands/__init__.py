"""The commands of `bpnet`.

Each command has a module of its name, with its options class, its result class and its Python
function: `init`, `check`, `browse`, `dataset_convert`, `train`, `evaluate`, `inference`, `prune`,
`export`, `web`, `doctor`, `demo`.

Shared modules:
    options: the framework: options classes, the decorator `command`, validation.
    option_parser: the command-line parser that is built from an options class.
    model_options: options of several commands: encryption key, model and engine, processes.
    output_formats: `--output_format` of `inference`.
    spec_checks: what `check` checks besides the data.
    export_verification: images on which `export` compares a model with its network.
    diagnostics: self-test of the installation, for `doctor`; installed packages.
    launcher: options of TAO's launcher that all commands accept: logging and GPUs.

The entry point is `bodyposenet.cli`.
"""
