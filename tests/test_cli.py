"""The command line: flags of TAO, help, exit codes and errors."""

import logging
import os
import re
import shlex
import subprocess
import sys

import pytest

from bodyposenet import __version__, cli
from bodyposenet.commands.options import OptionField, option_fields
from bodyposenet.console import logger
from bodyposenet.errors import BodyPoseNetError
from bodyposenet.model.checkpoint import read_tensors, write_tensors

ALL = {
    "log_level": ("-l", "-ll", "--log_level", "INFO"),
    "log_file": ("--log_file",),
    "quiet": ("-q", "--quiet", False),
    "gpus": ("--gpus", 1),
    "gpu_index": ("--gpu_index", ()),
    "num_processes": ("-np", "--num_processes", -1),
    "use_amp": ("--use_amp", False),
}
"""Options of TAO's launcher (TAO reference, section 1.1): flags, then the default if any."""

RESULTS = {"results_dir": ("-r", "--results_dir")}

KEY = {
    "key": ("-k", "--key"),
    "key_file": ("--key_file",),
    "require_sealed": ("--require_sealed", False),
}

ENGINE = {
    "engine": ("--engine", "auto"),
    "device": ("--device", "auto"),
    "threads": ("--threads",),
    "precision": ("--precision",),
}

MANY_IMAGES = {
    "processes": ("--processes",),
    "ray": ("--ray",),
    "overwrite": ("--overwrite", False),
}

FLAGS = {
    "dataset_convert": {
        **RESULTS,
        "dataset_spec": ("-d", "--dataset_spec"),
        "output_filename": ("-o", "--output_filename"),
        "mode": ("-m", "--mode", "train"),
        "num_partitions": ("-p", "--num_partitions", 1),
        "num_shards": ("-s", "--num_shards", 0),
        "generate_masks": ("--generate_masks", False),
        "check_files": ("--check_files", False),
        "pseudo_labels": ("--pseudo_labels",),
        "pseudo_score_high": ("--pseudo_score_high",),
        "pseudo_score_low": ("--pseudo_score_low",),
    },
    "train": {
        **RESULTS,
        "experiment_spec_file": ("-e", "--experiment_spec_file"),
        **KEY,
        "multi_node": ("--multi-node", False),
    },
    "evaluate": {
        "results_dir": ("-r", "--results_dir", "."),
        "inference_spec": ("-i", "--inference_spec"),
        "model_filename": ("-m", "--model_filename"),
        "dataset": ("--dataset", "coco"),
        "dataset_spec": ("-d", "--dataset_spec"),
        "protocol": ("--protocol", "coco"),
        "pck_reference": ("--pck_reference", "box"),
        "compare_with": ("--compare_with", ()),
        **KEY,
    }
    | ENGINE
    | MANY_IMAGES,
    "inference": {
        "results_dir": ("-r", "--results_dir"),
        "inference_spec": ("-i", "--inference_spec"),
        "model_filename": ("-m", "--model_filename"),
        "input_type": ("--input_type", "auto"),
        "input": ("--input",),
        "image_root_path": ("--image_root_path", ""),
        **KEY,
        "dump_visualizations": ("--dump_visualizations", False),
        "batch": ("--batch", 1),
        "benchmark": ("--benchmark", False),
        "output": ("--output",),
        "score_threshold": ("--score_threshold",),
        "max_people": ("--max_people",),
        "image_format": ("--image_format", "png"),
        "viz_names": ("--viz_names", "image"),
        "vid_stride": ("--vid_stride", 1),
        "track": ("--track", False),
        "smooth": ("--smooth", False),
        "no_video": ("--no_video", False),
        "show": ("--show", False),
        "output_format": ("--output_format", ()),
    }
    | ENGINE
    | MANY_IMAGES,
    "prune": {
        **RESULTS,
        "model": ("-m", "--model"),
        "output_file": ("-o", "--output_file"),
        **KEY,
        "normalizer": ("-n", "--normalizer", "max"),
        "equalization_criterion": ("-eq", "--equalization_criterion", "union"),
        "pruning_granularity": ("-pg", "--pruning_granularity", 8),
        "pruning_threshold": ("-pth", "--pruning_threshold"),
        "min_num_filters": ("-nf", "--min_num_filters", 16),
        "excluded_layers": ("-el", "--excluded_layers", ()),
        "target_macs": ("--target_macs",),
        "overwrite": ("--overwrite", False),
        "verbose": ("-v", "--verbose", False),
    },
    "export": {
        **RESULTS,
        "model": ("-m", "--model"),
        **KEY,
        "output_file": ("-o", "--output_file"),
        "overwrite": ("--overwrite", False),
        "experiment_spec": ("-e", "--experiment_spec"),
        "backend": ("-t", "--backend", "onnx"),
        "verify_images": ("--verify_images",),
        "verbose": ("-v", "--verbose", False),
        "input_dims": ("-d", "--input_dims"),
        "verify_dataset": ("--verify_dataset",),
        "verify_limit": ("--verify_limit", 500),
        "allow_loss": ("--allow_loss", False),
        "seal_engine": ("--seal_engine", False),
        "data_format": ("-i", "--data_format", "channels_last"),
        "data_type": ("--data_type", "fp32"),
        "sdk_compatible_model": ("--sdk_compatible_model", False),
        "upsample_ratio": ("-u", "--upsample_ratio", 4),
        "static_batch_size": ("--static_batch_size", -1),
        "static_input_dims": ("--static_input_dims", False),
        "bake_normalization": ("--bake_normalization", False),
        "with_decoding": ("--with_decoding", False),
        "max_peaks": ("--max_peaks", 64),
        "max_people": ("--max_people",),
        "int8_target": ("--int8_target",),
        "cal_image_dir": ("--cal_image_dir",),
        "cal_data_file": ("--cal_data_file",),
        "cal_cache_file": ("--cal_cache_file",),
        "batches": ("--batches",),
        "batch_size": ("--batch_size",),
        "cal_method": ("--cal_method",),
        "float_outputs": ("--float_outputs", "--no-float_outputs", True),
        "nodes_to_exclude": ("--nodes_to_exclude", ()),
        "strict_type_constraints": ("-s", "--strict_type_constraints", False),
        "force_ptq": ("--force_ptq", False),
        "cal_select": ("--cal_select",),
        "cal_source_dir": ("--cal_source_dir",),
        "engine_file": ("--engine_file",),
        "engine_runtime": ("--engine_runtime",),
        "max_batch_size": ("--max_batch_size", 1),
        "opt_batch_size": ("--opt_batch_size", 1),
        "max_workspace_size": ("--max_workspace_size", 2 * 2**30),
        "timing_cache": ("--timing_cache",),
        "deployment_bundle": ("--deployment_bundle",),
    },
    "doctor": {"json": ("--json",), **RESULTS},
}
"""Options of each command: those of TAO (TAO reference, sections 1.1 to 1.7), and others."""

REQUIRED = {
    "dataset_convert": {"dataset_spec", "output_filename"},
    "train": {"experiment_spec_file"},
    "evaluate": {"dataset_spec"},
    "inference": {"input"},
    "prune": {"model", "output_file"},
    "export": {"model"},
    "doctor": set(),
}

ENGINE_CHOICES = {
    "engine": ("auto", "pytorch", "onnx", "openvino", "tensorrt"),
    "precision": ("fp32", "bf16"),
}

CHOICES = {
    "dataset_convert": {"mode": ("train", "test")},
    "train": {},
    "evaluate": {
        "dataset": ("coco",),
        "protocol": ("coco", "crowdpose", "pck"),
        "pck_reference": ("box", "torso", "head"),
    }
    | ENGINE_CHOICES,
    "inference": {
        "input_type": ("image", "dir", "json", "video", "webcam", "auto"),
        "output": ("json",),
        "image_format": ("png", "jpg", "webp"),
        "viz_names": ("image", "index"),
    }
    | ENGINE_CHOICES,
    "prune": {
        "normalizer": ("max", "L2"),
        "equalization_criterion": (
            "union",
            "intersection",
            "arithmetic_mean",
            "geometric_mean",
        ),
    },
    "export": {
        "backend": ("onnx", "tfonnx", "uff"),
        "data_format": ("channels_last", "channels_first"),
        "data_type": ("fp32", "fp16", "int8"),
        "int8_target": ("cpu", "tensorrt"),
        "cal_method": ("percentile", "entropy", "minmax"),
        "engine_runtime": ("tensorrt", "openvino", "auto"),
    },
    "doctor": {},
}


def fields_of(name: str) -> dict[str, OptionField]:
    """Return all options of a command that have a flag, by name."""
    return dict(cli.make_parser(name).fields)


@pytest.mark.parametrize("name", FLAGS)
def test_flags_match_tao(name):
    found = {}
    for field in fields_of(name).values():
        flags = field.flags
        if field.type is bool and field.default:
            flags += (f"--no-{field.name}",)
        default = [] if field.is_required or field.default is None else [field.default]
        found[field.name] = (*flags, *default)
    assert found == ALL | FLAGS[name]
    assert {n for n, field in fields_of(name).items() if field.is_required} == REQUIRED[name]
    assert not cli.make_parser(name).allow_abbrev


@pytest.mark.parametrize("name", FLAGS)
def test_choices_match_tao(name):
    found = {n: field.choices for n, field in fields_of(name).items() if field.choices}
    levels = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
    assert found == CHOICES[name] | {"log_level": levels}


@pytest.mark.parametrize("name", cli.TASKS)
def test_help_lists_only_flags_of_the_command(run_bpnet, name):
    result = run_bpnet(name, "--help")
    assert result.code == 0 and f"bpnet {name}" in result.out
    own = {field.name for field in option_fields(cli.find_command(name).options)}
    for flag in ("gpus", "use_amp", "num_processes"):
        assert (f"--{flag}" in result.out) == (flag in own), flag
    assert ("--gpu_index" in result.out) == (name in ("train", "evaluate", "inference"))


def test_help_shows_defaults(run_bpnet):
    text = " ".join(run_bpnet("inference", "--help").out.split())
    for flag, default in (("--batch N", "1"), ("--image_format", "png"), ("--log_level", "INFO")):
        assert re.search(rf"{flag} (?:(?! --).)*Default: {default}\.", text)
    assert "Default: 0." in run_bpnet("demo", "--help").out


@pytest.mark.parametrize("argv", [["--help"], ["-h"]])
def test_overview(capsys, argv):
    assert cli.main(argv) == 0
    shown = capsys.readouterr().out
    assert all(f"  {name} " in shown for name in cli.TASKS)


def test_usage_is_printed_without_arguments(capsys):
    assert cli.main([]) == 2
    assert "usage: bpnet <sub_task>" in capsys.readouterr().out


def test_version(capsys):
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"bodyposenet {__version__}\n"


def test_help_imports_no_large_library():
    code = (
        "import sys; from bodyposenet.cli import main; main(['--help']);"
        "print(*{'numpy', 'torch', 'cv2', 'pydantic', 'numba', 'yaml', 'rich', 'onnxruntime'}"
        " & set(sys.modules), file=sys.stderr)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stderr.split() == []


def test_name_of_python_function_suggests_its_command(capsys):
    assert cli.main(["predict"]) == 2
    assert "inference" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "out"),
    [
        ([], "Execution status: FAIL\n"),
        (["--output", "json"], ""),
        (["--output=json"], ""),
        (["-q"], ""),
    ],
)
def test_errors_in_flags_keep_standard_output_for_results(capsys, more, out):
    for wrong in (["--bogus"], ["--score_threshold", "3"]):
        assert cli.main(["inference", "--input", "a.png", *more, *wrong]) == 2
        assert capsys.readouterr().out == out


def test_unknown_sub_tasks(capsys):
    assert cli.main(["infer"]) == 2
    captured = capsys.readouterr()
    what, remedy = captured.err.splitlines()
    assert what.startswith("error: ") and what.endswith(" infer")
    assert "inference" in remedy
    assert captured.out == "Execution status: FAIL\n"
    assert cli.main(["xyz"]) == 2
    assert "dataset_convert" in capsys.readouterr().err


def test_deprecated_flags_work_and_are_logged(capsys, monkeypatch):
    calls = []
    replace_run(monkeypatch, "export", calls.append)
    argv = ["-m", "a.tlt", "--data_type", "int8", "--int8_flavour=cpu", "--float_layers", "a", "b"]
    argv += ["--allow_inaccurate"]
    assert cli.main(["export", *argv]) == 0
    assert (calls[0].int8_target, calls[0].nodes_to_exclude) == ("cpu", ("a", "b"))
    assert calls[0].allow_loss
    lines = capsys.readouterr().err.splitlines()
    for old, new in (
        ("int8_flavour", "int8_target"),
        ("float_layers", "nodes_to_exclude"),
        ("allow_inaccurate", "allow_loss"),
    ):
        assert sum(f"--{old}" in line and f"--{new}" in line for line in lines) == 1

    with pytest.raises(SystemExit):
        cli.main(["export", "--help"])
    assert "--int8_flavour" not in capsys.readouterr().out


def test_flags_are_not_abbreviated(capsys):
    assert cli.main(["train", "-e", "spec.yaml", "--result", "out"]) == 2
    assert "--result" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "what", "remedy"),
    [
        (["--inptu", "a.jpg"], "--inptu", "Did you mean --input?"),
        (["--input", "a.jpg", "-e", "x"], "-e", ""),
        (["--input", "a.jpg", "b.jpg", "c.jpg"], "b.jpg", "folder"),
        (["--x"], "--x", ""),
        ([], "--input", ""),
        (["--input", "a.jpg", "--engine"], "--engine", ""),
    ],
)
def test_errors_in_flags_have_two_lines(capsys, argv, what, remedy):
    assert cli.main(["inference", *argv]) == 2
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith("error: ") and what in first
    assert remedy in second and "bpnet inference --help" in second


class EmptyResult:
    """A result with an empty summary."""

    def summary(self) -> str:
        return ""


def replace_run(monkeypatch, name, run):
    """Replace the function that runs a command; without a result, its summary is empty."""

    def run_command(options):
        return run(options) or EmptyResult()

    monkeypatch.setattr(cli.find_command(name), "run", run_command)


@pytest.fixture
def ran(monkeypatch):
    """The options of each call of `train`, which does nothing."""
    calls = []
    replace_run(monkeypatch, "train", calls.append)
    return calls


@pytest.mark.parametrize(
    ("argv", "key"),
    [
        (["-e", "s.yaml", "-k"], ""),
        (["-k", "-e", "s.yaml"], ""),
        (["-e", "s.yaml", "-k", ""], ""),
        (["-e", "s.yaml"], ""),
        (["-e", "s.yaml", "-k", "nvidia_tlt"], "nvidia_tlt"),
        (["-e", "s.yaml", "--key=a b"], "a b"),
    ],
)
def test_an_unset_key_is_empty(ran, capsys, argv, key):
    assert cli.main(["train", *argv]) == 0
    assert ran[0].read_key() == key
    assert capsys.readouterr().out.endswith("Execution status: PASS\n")


@pytest.mark.parametrize("flag", ["-l", "-ll", "--log_level"])
def test_log_levels(ran, flag):
    assert cli.main(["train", "-e", "s.yaml", flag, "DEBUG"]) == 0
    assert logger.level == logging.DEBUG


@pytest.mark.parametrize(
    ("name", "argv", "what"),
    [
        ("train", ["--gpus", "0"], "--gpus 0:"),
        ("train", ["--gpu_index", "0", "1"], "--gpu_index 0 1: --gpus is 1"),
        ("train", ["--gpu_index", "-1"], "--gpu_index -1:"),
        ("train", ["--gpu_index", "0", "0"], "--gpu_index 0 0:"),
        ("train", ["--num_processes", "2"], "--num_processes 2: train"),
        ("inference", ["--gpus", "2"], "--gpus 2: inference"),
        ("inference", ["--use_amp"], "--use_amp: inference"),
    ],
)
def test_unsupported_launcher_flags_are_rejected(ran, capsys, name, argv, what):
    required = ["-e", "s.yaml"] if name == "train" else ["--input", "photo.jpg"]
    assert cli.main([name, *required, *argv]) == 2
    assert capsys.readouterr().err.startswith(f"error: {what}")
    assert not ran


def test_gpu_index_selects_the_device(ran, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,6,7")
    command = ["train", "-e", "s.yaml", "--gpus", "1", "--gpu_index"]
    assert cli.main([*command, "3"]) == 0
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "7"
    assert cli.main([*command, "1"]) == 2  # CUDA_VISIBLE_DEVICES has one GPU now


def test_errors_have_two_lines(monkeypatch, capsys):
    def run(_: object) -> None:
        raise BodyPoseNetError("spec.yaml:3: broken", "Fix it.")

    replace_run(monkeypatch, "train", run)
    assert cli.main(["train", "-e", "spec.yaml"]) == 2
    captured = capsys.readouterr()
    assert captured.err == "error: spec.yaml:3: broken\n       Fix it.\n"
    assert captured.out == "Execution status: FAIL\n"


@pytest.mark.parametrize(("arguments", "text"), [((), "train"), (("9 TB",), "9 TB")])
def test_memory_error_names_the_command_or_the_size(monkeypatch, capsys, arguments, text):
    def run(_: object) -> None:
        raise MemoryError(*arguments)

    replace_run(monkeypatch, "train", run)
    assert cli.main(["train", "-e", "spec.yaml"]) == 2
    assert re.search(rf"memory.*{text}\n", capsys.readouterr().err)


@pytest.mark.parametrize("fails", [False, True])
def test_log_file_contains_messages_results_and_errors(monkeypatch, capsys, tmp_path, fails):
    from bodyposenet.console import print_result

    def run(_: object) -> None:
        logger.info("working")
        print_result("a table\nof results")
        if fails:
            raise BodyPoseNetError("spec.yaml:3: broken", "Fix it.")

    replace_run(monkeypatch, "train", run)
    log = tmp_path / "log"
    cli.main(["train", "-e", "spec.yaml", "--log_file", str(log)])
    error = "error: spec.yaml:3: broken\n       Fix it.\n" if fails else ""
    ending = f"Execution status: {'FAIL' if fails else 'PASS'}\n"
    assert log.read_text() == f"INFO: working\na table\nof results\n{error}{ending}"
    captured = capsys.readouterr()
    assert captured.out == f"a table\nof results\n{ending}"
    assert captured.err == error


def test_log_file_contains_errors_in_flags(ran, tmp_path):
    log = tmp_path / "log"
    assert cli.main(["train", "-e", "s.yaml", "--gpus", "0", "--log_file", str(log)]) == 2
    assert log.read_text().startswith("error: --gpus 0:")


def test_closed_output_pipe_is_no_error(tmp_path):
    """As in `bpnet ... | head -1`: the run is completed, and no traceback is printed."""
    code = (
        "import sys; from bodyposenet import cli; from bodyposenet.console import print_result;"
        "from types import SimpleNamespace;"
        "run = lambda _: [print_result('line') for _ in range(3)] and SimpleNamespace(summary=str);"
        "cli.find_command('train').run = run;"
        "sys.exit(cli.main(['train', '-e', 's.yaml', '--log_file', sys.argv[1]]))"
    )
    log = tmp_path / "log"
    reader, writer = os.pipe()
    os.close(reader)
    run = subprocess.run(
        [sys.executable, "-c", code, log], stdout=writer, stderr=subprocess.PIPE, check=False
    )
    os.close(writer)
    assert (run.returncode, run.stderr) == (0, b"")
    assert log.read_text() == "line\nline\nline\nExecution status: PASS\n"


@pytest.mark.parametrize(
    ("command", "package", "extra"),
    [
        ("train -e spec.yaml", "torch", "train"),
        ("evaluate -d spec.json", "matplotlib", "eval"),
        ("export -m model.tlt -o model.onnx", "torch", "export"),
        ("export -m model.tlt -o model.onnx", "openvino", "openvino"),
    ],
)
def test_a_missing_package_names_its_extra(monkeypatch, capsys, command, package, extra):
    def run(_: object) -> None:
        raise ModuleNotFoundError(f"No module named {package!r}", name=package)

    name, *flags = command.split()
    replace_run(monkeypatch, name, run)
    assert cli.main([name, *flags]) == 2
    error = capsys.readouterr().err
    assert f"{package} is not installed" in error
    assert f"pip install 'bodyposenet[{extra}]'" in error


def test_keyboard_interrupt_exits_with_130(monkeypatch, capsys):
    def run(_: object) -> None:
        raise KeyboardInterrupt

    replace_run(monkeypatch, "train", run)
    assert cli.main(["train", "-e", "spec.yaml"]) == 130
    assert "interrupted" in capsys.readouterr().err


@pytest.mark.parametrize("prefix", [["model", "bpnet"], ["bpnet"]])
def test_tao_command_line_is_accepted(ran, monkeypatch, prefix):
    monkeypatch.setattr(sys, "argv", ["tao", *prefix, "train", "-e", "s.yaml", "--gpus", "1"])
    assert cli.tao() == 0
    assert ran[0].experiment_spec_file == "s.yaml"


@pytest.mark.parametrize(
    ("script", "warns"), [("from nvidia_tao_cli import main", True), ("from bodyposenet", False)]
)
def test_tao_warns_about_the_launcher_of_nvidia(ran, monkeypatch, tmp_path, capsys, script, warns):
    other = tmp_path / ("tao.bat" if sys.platform == "win32" else "tao")
    other.write_text(script)
    other.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["tao", "model", "bpnet", "train", "-e", "s.yaml"])
    assert cli.tao() == 0
    assert [str(other) in line for line in capsys.readouterr().err.splitlines()] == [True] * warns


def test_tao_warns_about_the_package_of_nvidia(ran, monkeypatch, tmp_path, capsys):
    package = tmp_path / "nvidia_tao-5.5.0.dist-info"
    package.mkdir()
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: nvidia-tao\nVersion: 5.5.0\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "argv", ["tao", "model", "bpnet", "train", "-e", "s.yaml"])
    assert cli.tao() == 0
    assert "nvidia-tao 5.5.0" in capsys.readouterr().err


def test_other_tao_networks_are_rejected(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["tao", "model", "yolo_v4", "train"])
    assert cli.tao() == 2
    assert "tao model bpnet" in capsys.readouterr().err


GUIDE = [
    "dataset_convert -d /workspace/examples/bpnet/data_pose_config/coco_spec.json"
    " -o /workspace/tao-experiments/bpnet/data/train -m 'train' --generate_masks",
    "train -e train_spec.yaml -r results -k key --gpus 1",
    "inference --inference_spec $SPECS_DIR/infer_spec.yaml"
    " --model_filename $USER_EXPERIMENT_DIR/models/exp_m1_unpruned/$MODEL_CHECKPOINT"
    " --input_type json --input $USER_EXPERIMENT_DIR/data/viz_example_data.json"
    " --results_dir $USER_EXPERIMENT_DIR/results/exp_m1_unpruned/infer_default"
    " --dump_visualizations -k",
    "evaluate -i inference_spec.yaml -d dataset_spec.json -m model.tlt -r results -k key",
    "prune -m exp_m1_unpruned/bpnet_model.tlt -o exp_m1_pruned/bpnet_model.pruned-0.2.tlt"
    " -eq union -pth 0.2 -k $KEY",
    "export -m exp_m1_retrain/bpnet_model.tlt -o exp_m1_final/bpnet_model.etlt -k $KEY"
    " -d 288,384,3 -e $SPECS_DIR/bpnet_retrain_m1_coco.txt -t tfonnx --data_type int8"
    " --cal_image_dir data/train2017/ --cal_cache_file exp_m1_final/calibration.288.384.bin"
    " --cal_data_file exp_m1_final/coco.288.384.tensorfile --batch_size 1 --batches 5000"
    " --max_batch_size 1 --data_format channels_last"
    " --engine_file exp_m1_final/bpnet_model.288.384.int8.engine --sdk_compatible_model",
]
"""Commands of TAO's guide after `tao model bpnet`; that of `inference` with an unset $KEY."""


NOTEBOOK = [
    "dataset_convert -m 'train' -o data/train -r bpnet/ --generate_masks"
    " --dataset_spec data_pose_config/coco_spec.json",
    "train -e specs/bpnet_train_m1_coco.yaml -r models/exp_m1_unpruned -k nvidia_tlt --gpus 1",
    "evaluate --inference_spec specs/infer_spec.yaml --model_filename exp/bpnet_model.hdf5"
    " --dataset_spec data_pose_config/coco_spec.json --results_dir results/eval_default",
    "inference --inference_spec specs/infer_spec.yaml --model_filename exp/bpnet_model.hdf5"
    " --input_type json --input data/viz_example_data.json --results_dir results/infer_default"
    " --dump_visualizations",
    "prune -m exp/bpnet_model.hdf5 -o pruned/bpnet_model.pruned-0.2.hdf5 -r bpnet/ -eq union"
    " -pth 0.2",
    "export -m exp/bpnet_model.hdf5 -o final/bpnet_model.onnx -r bpnet/ -d 288,384,3"
    " -e specs/bpnet_retrain_m1_coco.yaml -t tfonnx --data_type int8"
    " --engine_file final/bpnet_model.288.384.int8.engine --cal_image_dir data/samples/"
    " --cal_cache_file final/calibration.288.384.bin --cal_data_file final/coco.tensorfile"
    " --batch_size 1 --batches 2000 --max_batch_size 1 --data_format channels_last",
]
"""Commands of TAO 5's notebook, with shorter paths."""


@pytest.mark.parametrize("command", GUIDE + NOTEBOOK, ids=lambda command: command.split()[0])
def test_commands_of_tao_guide_and_notebook_parse(monkeypatch, command):
    name, *argv = shlex.split(command)
    calls = []
    replace_run(monkeypatch, name, calls.append)
    monkeypatch.setattr(sys, "argv", ["tao", "model", "bpnet", name, *argv])
    assert cli.tao() == 0
    assert len(calls) == 1


def key_of(*argv: str) -> str:
    values = cli.make_parser("evaluate").parse(["-d", "d.json", *argv])
    return cli.build_options("evaluate", values, progress=False).read_key()


def test_key_is_read_from_flag_file_or_environment(tmp_path, monkeypatch):
    file = tmp_path / "key"
    file.write_text("fîle key \n", encoding="utf-8")
    monkeypatch.delenv("BPNET_KEY", raising=False)
    assert key_of() == key_of("-k") == ""
    assert key_of("--key_file", str(file)) == "fîle key "
    monkeypatch.setenv("BPNET_KEY", "environment key")
    assert key_of() == "environment key"
    assert key_of("-k") == key_of("-k", "") == ""  # as with an unset $KEY
    assert key_of("-k", "flag") == "flag"
    assert key_of("--key_file", str(file)) == "fîle key "


def test_invalid_keys_are_errors(tmp_path, monkeypatch):
    monkeypatch.delenv("BPNET_KEY", raising=False)
    empty, binary = tmp_path / "empty", tmp_path / "binary"
    empty.write_text("\n")
    binary.write_bytes(b"\xff\x00")
    for argv, fact in (
        (("--key_file", str(empty)), "empty"),
        (("--key_file", str(binary)), "binary"),
        (("--key_file", str(tmp_path / "lost")), "lost"),
        (("--key_file", str(binary), "-k", "a"), "--key_file"),
        (("--key_file", str(binary), "-k", ""), "--key_file"),
        (("--require_sealed",), "--require_sealed"),
    ):
        with pytest.raises(BodyPoseNetError, match=fact):
            key_of(*argv)


def test_require_sealed_rejects_plain_models(run_bpnet, exported, drawn_dataset, tmp_path):
    plain, sealed = tmp_path / "plain.tlt", exported / "model.tlt"
    prune = ("prune", "-o", tmp_path / "out.tlt", "-pth", "0.9", "-k", "key", "--require_sealed")
    header, tensors = read_tensors(sealed, "key")
    write_tensors(plain, header, tensors)
    photo = next((drawn_dataset.folder / "test").rglob("*.jpg"))
    infer = ("inference", "--input", photo, "-r", tmp_path, "-k", "key", "--require_sealed")
    for command in (
        (*prune, "-m", plain),
        (*infer, "-m", plain),
        (*infer, "-m", exported / "model.onnx"),
        infer,
    ):
        refused = run_bpnet(*command)
        assert refused.code == 2
        assert "sealed" in refused.err
        assert "--require_sealed" in refused.err
    assert run_bpnet(*prune, "-m", sealed).code == 0
