"""`bpnet export`: files, INT8, engines, deployment bundles and errors."""

import json
import re
import subprocess
import sys

import cv2
import h5py
import numpy as np
import onnx
import pytest

import bodyposenet
from bodyposenet import cli
from bodyposenet.commands.export import ExportOptions, ExportResult
from bodyposenet.commands.options import to_argv
from bodyposenet.encryption import read_container
from bodyposenet.errors import BodyPoseNetError
from bodyposenet.exporting import verification
from bodyposenet.inference.engines.engine_file import read_engine
from bodyposenet.inference.engines.onnx_file import read_etlt
from bodyposenet.model.checkpoint import read_model

INT8 = "--data_type", "int8", "--batches", "1", "--cal_image_dir", "photos"

WITHOUT_TORCH = """
import sys
sys.modules["torch"] = None
from bodyposenet.cli import main
raise SystemExit(main(sys.argv[1:]) or "bodyposenet.model" in sys.modules)
"""


def header(content: bytes) -> dict:
    props = onnx.load_model_from_string(content).metadata_props
    return json.loads({prop.key: prop.value for prop in props}["bodyposenet"])


@pytest.fixture(scope="module")
def deployable(exported, tmp_path_factory):
    """A folder with the sealed deployable model, its engine and its deployment bundle."""
    from bodyposenet.cli import main

    folder = tmp_path_factory.mktemp("deployable")
    done = main(
        ["export", "-m", str(exported / "model.tlt"), "-k", "key", "-t", "tfonnx",
         "-o", str(folder / "model.etlt"), "-d", "128,128,3", "--sdk_compatible_model",
         "--engine_file", str(folder / "model.engine"), "--engine_runtime", "openvino",
         "--deployment_bundle", str(folder / "bundle"), "--max_batch_size", "8"]
    )  # fmt: skip
    assert done == 0
    return folder


@pytest.fixture
def export(run_bpnet, exported, tmp_path, monkeypatch):
    """Run `bpnet export` on the trained model; its ONNX file is reused, which saves seconds."""
    monkeypatch.setattr(
        "bodyposenet.exporting.onnx.export_onnx",
        lambda *_: (exported / "model.onnx").read_bytes(),
    )

    def run(*flags: object):
        output = () if "-o" in flags else ("-o", tmp_path / "m.onnx")
        model = ("-m", exported / "model.tlt", "-k", "key", "-d", "128,128,3")
        return run_bpnet("export", *model, *output, *flags)

    return run


def test_header_is_that_of_the_model_and_no_paths_are_included(exported):
    content = (exported / "model.onnx").read_bytes()
    found = header(content)
    assert found.pop("data_type") == "fp32"
    assert found.pop("form")["upsample_ratio"] == 1
    assert found == read_model(exported / "model.tlt", "key")[0]
    assert b"File " not in content
    assert b".py" not in content


def run_without_torch(exported, task, *flags):
    model = "-i", exported / "infer.yaml", "-m", exported / "model.onnx"
    command = [sys.executable, "-c", WITHOUT_TORCH, task, *model, *flags]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr


def test_inference_needs_no_torch(exported, drawn_dataset, tmp_path):
    run_without_torch(
        exported, "inference", "--input_type", "dir", "--input", drawn_dataset.folder / "test",
        "-r", tmp_path, "--dump_visualizations",
    )  # fmt: skip
    document = json.loads((tmp_path / "detections.json").read_text())
    assert sum(len(image["keypoints"]) for image in document["images"]) >= len(document["images"])


def test_evaluation_needs_no_torch(exported, drawn_dataset, tmp_path):
    run_without_torch(exported, "evaluate", "-d", drawn_dataset.spec, "-r", tmp_path)
    assert (tmp_path / "results.json").is_file()


def test_all_files_of_a_model_have_the_same_ap(
    run_bpnet, exported, deployable, drawn_dataset, tmp_path
):
    found = {}
    for path in (exported / "model.onnx", deployable / "model.etlt", deployable / "model.engine"):
        done = run_bpnet(
            "evaluate", "-i", exported / "infer.yaml", "-m", path, "-k", "key",
            "-d", drawn_dataset.spec, "-r", tmp_path / path.suffix, "--threads", 1,
        )  # fmt: skip
        assert done.code == 0, done.err
        results = json.loads((tmp_path / path.suffix / "results.json").read_text())
        found[path.suffix] = results["kpi"]["AP_0.50:0.95_all"]
    assert found[".onnx"] > 0.3
    assert found == pytest.approx(dict.fromkeys(found, found[".onnx"]), abs=1e-6)


def test_deployable_model_has_the_documented_signature(deployable):
    content = read_etlt(deployable / "model.etlt", "key")
    model = onnx.load_model_from_string(content)
    onnx.checker.check_model(model, full_check=True)
    names = [tensor.name for tensor in (*model.graph.input, *model.graph.output)]
    assert names == ["input_1:0", "conv2d_transpose_1/BiasAdd:0", "heatmap_out/BiasAdd:0"]
    assert header(content)["form"]["upsample_ratio"] == 4
    assert (deployable / "bundle" / "model.onnx").read_bytes() == content
    assert read_container(deployable / "model.etlt", "key")[0]["data_type"] == "fp32"
    assert read_engine(deployable / "model.engine")[0].runtime == "openvino"  # plain, as in TAO


def test_seal_engine(export, tmp_path):
    flags = "--engine_file", tmp_path / "m.engine", "--engine_runtime", "openvino"
    done = export(*flags)
    assert "m.engine" in done.err
    assert "--seal_engine" in done.err
    read_container(tmp_path / "m.engine")
    assert export(*flags, "--seal_engine", "--overwrite").code == 0
    with pytest.raises(BodyPoseNetError, match="sealed"):
        read_container(tmp_path / "m.engine")
    assert read_container(tmp_path / "m.engine", "key")[0]["kind"] == "engine"


def test_existing_file_is_replaced_only_with_overwrite(export, tmp_path):
    (tmp_path / "m.onnx").write_text("precious")
    done = export()
    assert done.code == 2
    assert "m.onnx" in done.err
    assert "--overwrite" in done.err
    assert (tmp_path / "m.onnx").read_text() == "precious"
    assert export("--overwrite").code == 0
    assert header((tmp_path / "m.onnx").read_bytes())["data_type"] == "fp32"


def test_missing_extension_is_added_and_a_plain_file_is_logged(export, tmp_path):
    done = export("-o", tmp_path / "m")
    assert done.code == 0
    assert (tmp_path / "m.onnx").is_file()
    assert "m.onnx" in done.err
    assert ".etlt" in done.err


def test_float16_and_given_photos(export, tmp_path, drawn_dataset):
    photos = drawn_dataset.folder / "test"
    done = export("--data_type", "fp16", "--verify_images", photos, "-t", "tfonnx")
    assert done.code == 0
    assert "within 0.5 px" in done.err
    assert done.err.count("3 x 128 x 128") == 1
    assert done.err.count("2 x 128 x 128") == 1  # the folder holds six
    assert header((tmp_path / "m.onnx").read_bytes())["data_type"] == "fp16"


def last_kpi(folder):
    """Return the figures of the last comparison in status.json."""
    lines = map(json.loads, (folder / "status.json").read_text().splitlines())
    return [line["kpi"] for line in lines if "kpi" in line][-1]


def test_int8_is_calibrated_with_the_photos_given(export, tmp_path, drawn_dataset):
    done = export(
        "--data_type", "int8", "--cal_image_dir", drawn_dataset.folder / "test", "--batches", 3,
        "--batch_size", 2, "--cal_cache_file", tmp_path / "cal.bin", "--force_ptq", "--allow_loss",
    )  # fmt: skip
    assert done.code == 0, done.err
    assert "--force_ptq" not in done.err  # has no effect, and is accepted
    assert header((tmp_path / "m.onnx").read_bytes())["data_type"] == "int8-cpu"
    assert (tmp_path / "cal.bin").is_file()
    assert "only 0 photos" in done.err  # all six are used, too few to hold any back
    assert done.err.count("3 x 128 x 128") == 5  # 16 drawn images
    again = export(
        "--data_type", "int8", "--cal_cache_file", tmp_path / "cal.bin", "--overwrite",
        "--cal_method", "entropy", "--batches", 3,
    )  # fmt: skip
    assert again.code == 2
    assert "cal.bin" in again.err
    for flag in ("--cal_method: percentile", "--batches times --batch_size: 6"):
        assert flag in again.err


def test_int8_is_verified_on_held_back_photos(export, tmp_path, drawn_dataset):
    """The overfitted model differs too much on unknown photos after quantization."""
    flags = "--data_type", "int8", "--cal_image_dir", drawn_dataset.folder / "train", "--batches", 2
    done = export(*flags, "--int8_target", "tensorrt", "-s", "--no-float_outputs")
    assert "5 photos that were not used" in done.err
    assert done.code == 2
    assert "m.onnx: not written" in done.err
    assert "--cal_method" in done.err
    assert "--allow_loss" in done.err
    assert not (tmp_path / "m.onnx").exists()
    share = last_kpi(tmp_path)["matched_share"]
    assert share < 0.85
    done = export(*flags, "--int8_target", "tensorrt", "-s", "--no-float_outputs", "--allow_loss")
    assert done.code == 0
    assert "m.onnx differs too much" in done.err
    assert f"{share:.1%}" in done.out
    assert header((tmp_path / "m.onnx").read_bytes())["data_type"] == "int8-tensorrt"


def test_int8_without_people_in_the_photos_is_refused(export, tmp_path):
    (tmp_path / "black").mkdir()
    for number in range(8):
        cv2.imwrite(str(tmp_path / "black" / f"{number}.png"), np.zeros((64, 64, 3), np.uint8))
    done = export("--data_type", "int8", "--cal_image_dir", tmp_path / "black", "--batches", 4)
    assert done.code == 2
    assert "m.onnx: not written" in done.err
    assert "--verify_images" in done.err
    assert not (tmp_path / "m.onnx").exists()


def test_int8_export_is_deterministic(export, tmp_path, drawn_dataset):
    """The second run reads the cache, and the third the tensorfile.

    All twelve photos are asked for, but four of them are held back in each run.
    """
    cache = tmp_path / "cal.bin"
    flags = (
        "--data_type", "int8", "--cal_image_dir", drawn_dataset.folder / "train",
        "--cal_data_file", tmp_path / "cal.tensorfile", "--cal_cache_file", cache,
        "--batches", 6, "--batch_size", 2, "--overwrite", "--allow_loss",
    )  # fmt: skip
    files = []
    for run in range(3):
        done = export(*flags)
        assert done.code == 0, done.err
        assert ("Calibrating on 8 photos instead of 12" in done.err) == (run == 0)
        assert "on 4 photos that were not used" in done.err
        files.append((tmp_path / "m.onnx").read_bytes())
        if run == 1:
            cache.unlink()
            (tmp_path / "cal.bin.json").unlink()
    assert files == files[:1] * 3


def test_photos_are_not_compared_on_if_those_used_are_unknown(export, tmp_path, drawn_dataset):
    photos, tensorfile = drawn_dataset.folder / "train", tmp_path / "cal.tensorfile"
    flags = (
        "--data_type", "int8", "--cal_image_dir", photos, "--batches", 2,
        "--cal_data_file", tensorfile, "--overwrite", "--allow_loss",
    )  # fmt: skip
    assert "5 photos that were not used" in export(*flags).err
    file = (tmp_path / "m.onnx").read_bytes()
    with h5py.File(tensorfile, "a") as tensors:  # as in a file of TAO
        del tensors["photos"], tensors.attrs["requested"]
    again = export(*flags)
    assert again.code == 0, again.err
    assert (tmp_path / "m.onnx").read_bytes() == file
    assert "photos that were not used" not in again.err
    assert "cal.tensorfile" in again.err
    assert "--verify_images" in again.err
    assert again.err.count("3 x 128 x 128") == 5  # 16 drawn images


def test_given_photos_that_were_calibrated_on_are_skipped(export, tmp_path, drawn_dataset):
    photos = drawn_dataset.folder / "test"
    flags = "--data_type", "int8", "--cal_image_dir", photos, "--verify_images", photos
    done = export(*flags, "--batches", 2, "--allow_loss")
    assert done.code == 0, done.err
    assert "skipped 2 photos" in done.err
    assert re.search(r"1 x 128 x 128.*\n.*3 x 128 x 128", done.err)
    done = export(*flags, "--batches", 6, "--overwrite")
    assert done.code == 2
    assert f"--verify_images {photos}" in done.err


def test_ap_is_compared_on_a_dataset(export, tmp_path, drawn_dataset, monkeypatch):
    flags = "--verify_dataset", drawn_dataset.spec, "--verify_limit", 4, "--overwrite"
    done = export(*flags)
    assert done.code == 0, done.err
    kpi = last_kpi(tmp_path)
    assert kpi["AP"] == pytest.approx(kpi["network_AP"], abs=1e-3)
    assert kpi["AP"] > 0.3
    assert f"AP on 4 images of drawn: {kpi['AP']:.3f}" in done.out
    (tmp_path / "m.onnx").unlink()
    monkeypatch.setattr(verification, "MAX_AP_LOSS", -1.0)
    done = export(*flags)
    assert done.code == 2
    assert f"{kpi['AP']:.3f}" in done.err
    assert not (tmp_path / "m.onnx").exists()


def test_ap_is_not_measured_on_images_that_were_calibrated_on(export, drawn_dataset):
    done = export(
        "--data_type", "int8", "--cal_image_dir", drawn_dataset.folder / "test", "--batches", 4,
        "--verify_dataset", drawn_dataset.spec, "--allow_loss",
    )  # fmt: skip
    assert done.code == 0, done.err
    assert "skipped 4 images" in done.err
    assert "AP on 2 images" in done.out


def test_calibration_images_are_selected_from_a_dataset(
    export, tmp_path, drawn_dataset, monkeypatch
):
    images, cache = tmp_path / "chosen", tmp_path / "cal.bin"
    cache.write_text("another model's")  # TAO's default name, which is used only if it is given
    monkeypatch.chdir(tmp_path)
    done = export(
        "--data_type", "int8", "--cal_select", drawn_dataset.folder / "annotations" / "test.json",
        "--cal_source_dir", drawn_dataset.folder / "test", "--cal_image_dir", images,
        "--batches", 2, "--int8_target", "tensorrt", "--allow_loss",
    )  # fmt: skip
    assert done.code == 0, done.err
    assert len(list(images.iterdir())) == 2
    assert "4 photos that were not used" in done.err  # the other ones
    assert cache.read_text() == "another model's"
    assert header((tmp_path / "m.onnx").read_bytes())["data_type"] == "int8-tensorrt"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("-t", "uff"), "--backend uff"),
        (("-d", "96,128,1"), "--input_dims 96,128,1: 1 channels"),
        (("-d", "0,8,3"), "--input_dims 0,8,3"),
        (("-d", "96,128,3", "-i", "channels_first"), "96 channels"),
        (("-d", "100,4,3"), "96 or 104 for the height and 8 for the width"),
        (("-o", "model.plan"), "model.plan"),
        (("--engine_file", "model.plan"), "--engine_file model.plan"),
        (("--sdk_compatible_model", "-u", "1"), "--upsample_ratio 1"),
        (("--opt_batch_size", "4"), "--opt_batch_size 4"),
        (("-k", "wrong"), "wrong key"),
        (("-m", "model.onnx"), "model.onnx: already exported"),
        (("-m", "nothere.tlt", "-o", "new/m.onnx"), "nothere.tlt"),
        (("--verify_images", "nothere"), "--verify_images nothere"),
        (("--verify_dataset", "nothere.json"), "nothere.json"),
        (("-o", "bundle/m.onnx", "--deployment_bundle", "bundle"), "--deployment_bundle bundle"),
        (
            ("--engine_file", "bundle/e/m.engine", "--deployment_bundle", "bundle"),
            "(bundle/e)",
        ),
        (("-r", "bundle", "--deployment_bundle", "bundle"), "--deployment_bundle bundle"),
        (("--deployment_bundle", "photos"), "error: photos: "),
        (("--deployment_bundle", "photos/a.png"), "photos/a.png is a file"),
        (
            (*INT8, "--int8_target", "cpu", "--engine_file", "m.engine"),
            "--int8_target tensorrt",
        ),
        (("--data_type", "int8"), "INT8 needs"),
        (("--data_type", "int8", "--cal_image_dir", "nothere"), "nothere"),
        ((*INT8, "--batches", "2"), "found 1 images"),
        (
            (*INT8, "--cal_data_file", "photos/a.png"),
            "a.png",
        ),
        ((*INT8, "--cal_cache_file", "photos/a.png"), "a.png: "),
        ((*INT8, "--nodes_to_exclude", "stage1/conv1", "-s"), "--strict_type_constraints"),
        ((*INT8, "--nodes_to_exclude", "stage1/conf1"), "stage1/conv1, stage1/conv"),
        ((*INT8, "--cal_select", "val.json"), "--cal_source_dir"),
        (
            (*INT8, "--cal_select", "val.json", "--cal_source_dir", "photos"),
            "--cal_select val.json",
        ),
        (
            (
                *INT8,
                "--cal_select",
                "v.json",
                "--cal_source_dir",
                "photos",
                "--cal_cache_file",
                "photos/a.png",
            ),
            "--cal_cache_file photos/a.png",
        ),
    ],
)
def test_invalid_options_are_reported_before_any_work(
    export, tmp_path, monkeypatch, flags, message
):
    monkeypatch.setattr("bodyposenet.exporting.onnx.export_onnx", None)  # cannot be called
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    cv2.imwrite("photos/a.png", np.zeros((8, 8, 3), np.uint8))
    done = export(*flags)
    assert done.code == 2
    assert message in done.err
    assert {path.name for path in tmp_path.iterdir()} <= {"photos", "status.json"}


@pytest.mark.parametrize(
    ("runtime", "package", "message"),
    [
        ("tensorrt", "tensorrt", "tensorrt is not installed"),
        ("openvino", "openvino", "openvino is not installed"),
        ("auto", "openvino", "neither works"),
    ],
)
def test_missing_runtime_is_reported_before_any_work(
    export, tmp_path, monkeypatch, runtime, package, message
):
    monkeypatch.setattr("bodyposenet.exporting.onnx.export_onnx", None)
    monkeypatch.setitem(sys.modules, package, None)
    done = export("--engine_file", tmp_path / "m.engine", "--engine_runtime", runtime)
    assert done.code == 2
    assert message in done.err
    assert not list(tmp_path.iterdir())


def test_broken_runtime_is_reported_before_any_work(export, tmp_path, monkeypatch):
    monkeypatch.setattr("bodyposenet.exporting.onnx.export_onnx", None)
    (tmp_path / "openvino.py").write_text("raise ImportError('libopenvino.so is missing')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "openvino", raising=False)
    flags = "--engine_file", tmp_path / "m.engine", "--engine_runtime"
    error = export(*flags, "openvino").err
    assert "openvino" in error and "libopenvino.so is missing" in error
    assert "neither works" in export(*flags, "auto").err


def test_missing_tensorrt_is_an_error_after_the_model_was_written(export, tmp_path, monkeypatch):
    """OpenVINO is available, but is only used with --engine_runtime."""
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    done = export(
        "--engine_file", tmp_path / "m.engine", "--deployment_bundle", tmp_path / "bundle"
    )
    assert done.code == 2
    assert f"written: {tmp_path / 'm.onnx'}" in done.out
    assert "m.engine" in done.err
    assert "tensorrt is not installed" in done.err
    assert "--engine_runtime openvino" in done.err
    assert {path.name for path in tmp_path.iterdir()} == {"m.onnx", "bundle", "status.json"}
    assert (
        json.loads((tmp_path / "status.json").read_text().splitlines()[-1])["status"] == "FAILURE"
    )


def test_failed_engine_build_in_python_raises_after_the_model(exported, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "bodyposenet.exporting.onnx.export_onnx",
        lambda *_: (exported / "model.onnx").read_bytes(),
    )
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(BodyPoseNetError, match=r"m\.engine.*tensorrt"):
        bodyposenet.export(
            model=exported / "model.tlt", key="key", output_file=tmp_path / "m.onnx",
            input_dims="96,128,3", engine_file=tmp_path / "m.engine",
        )  # fmt: skip
    assert (tmp_path / "m.onnx").is_file()


def test_failed_engine_build_keeps_the_model(export, tmp_path, monkeypatch):
    def fail(*_):
        raise BodyPoseNetError("m.engine: no kernel fits")

    monkeypatch.setattr("bodyposenet.commands.export.build_engine_file", fail)
    done = export("--engine_file", tmp_path / "m.engine", "--engine_runtime", "openvino")
    assert done.code == 2
    assert "no kernel fits" in done.err
    assert {path.name for path in tmp_path.iterdir()} == {"m.onnx", "status.json"}


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, "int8-cpu"),
        ({"sdk_compatible_model": True}, "int8-tensorrt"),
        ({"engine_file": "m.engine"}, "int8-tensorrt"),
        ({"engine_file": "m.engine", "engine_runtime": "openvino"}, "int8-cpu"),
        ({"int8_target": "tensorrt"}, "int8-tensorrt"),
    ],
)
def test_default_int8_target(options, expected):
    assert ExportOptions(model="m.tlt", data_type="int8", **options).exported_type == expected


@pytest.mark.parametrize("flag", ["-o", "--engine_file", "--deployment_bundle"])
def test_unwritable_folder_is_reported_before_any_work(export, tmp_path, monkeypatch, flag):
    monkeypatch.setattr("bodyposenet.exporting.onnx.export_onnx", None)
    (tmp_path / "file").write_text("no folder")
    name = {"-o": "m.onnx", "--engine_file": "m.engine", "--deployment_bundle": "bundle"}[flag]
    done = export(flag, tmp_path / "file" / name)
    assert done.code == 2
    assert f"{tmp_path / 'file'}: " in done.err


def test_folder_in_place_of_the_output_is_an_error(export, tmp_path):
    (tmp_path / "m.onnx").mkdir()
    assert "m.onnx is a folder" in export("--overwrite").err


def test_flags_without_effect_are_logged(export):
    done = export("--cal_image_dir", "photos", "--no-float_outputs", "-u", 2, "--force_ptq",
                  "--engine_runtime", "openvino", "--opt_batch_size", 4, "--batch_size", 4,
                  "--seal_engine")  # fmt: skip
    assert done.code == 0
    ignored = re.findall(r"--(\w+) has no effect without (.*)", done.err)
    assert dict(ignored) == {
        "cal_image_dir": "--data_type int8",
        "float_outputs": "--data_type int8",
        "force_ptq": "--data_type int8",
        "upsample_ratio": "--sdk_compatible_model",
        "engine_runtime": "--engine_file",
        "seal_engine": "--engine_file",
        "opt_batch_size": "--engine_file or --deployment_bundle",
        "batch_size": "--data_type int8, --engine_file or --deployment_bundle",
    }


def test_train_spec_must_match(export, write_train_spec):
    spec = write_train_spec(**{"dataloader.normalization_params": {"image_scale": [255.0] * 3}})
    done = export("-e", spec)
    assert done.code == 2
    assert "differ in image_scale" in done.err


@pytest.mark.parametrize("dims", ["96,128", "a,b,c", "8,8,3,"])
def test_dimensions_are_three_sizes(run_bpnet, dims):
    done = run_bpnet("export", "-m", "m.tlt", "-d", dims)
    assert done.code == 2
    assert "--input_dims" in done.err


@pytest.mark.parametrize("flag", ["--upsample_ratio", "--batches", "--max_workspace_size"])
def test_counts_are_whole_numbers(run_bpnet, flag):
    done = run_bpnet("export", "-m", "m.tlt", flag, "0")
    assert f"{flag} 0" in done.err


def test_options_survive_the_command_line_of_export():
    options = ExportOptions(
        model="m.tlt", input_dims=(288, 384, 3), nodes_to_exclude=("stage1/conv1", "stage2/*"),
        float_outputs=False,
    )  # fmt: skip
    values = cli.make_parser("export").parse(to_argv(options))
    assert cli.build_options("export", values, progress=False) == options


def test_export_from_python_returns_what_was_written(exported, tmp_path, capfd, monkeypatch):
    monkeypatch.setattr(
        "bodyposenet.exporting.onnx.export_onnx",
        lambda *_: (exported / "model.onnx").read_bytes(),
    )
    result = bodyposenet.export(
        model=exported / "model.tlt", key="key", output_file=tmp_path / "m.onnx",
        input_dims=(64, 96, 3), engine_file=tmp_path / "m.engine", engine_runtime="openvino",
        deployment_bundle=tmp_path / "bundle",
    )  # fmt: skip
    assert isinstance(result, ExportResult)
    assert result.model.read_bytes() == (exported / "model.onnx").read_bytes()
    assert result.size == result.model.stat().st_size
    assert (result.data_type, result.bundle) == ("fp32", tmp_path / "bundle")
    assert result.engine_header == read_engine(result.engine)[0]
    assert [each.shape for each in result.verification.comparisons[::2]] == [
        (64, 96), (136, 200), (96, 64),
    ]  # fmt: skip
    assert result.verification.matched_share == 1.0
    assert result.error is None
    for path in (result.model, result.engine, result.bundle):
        assert str(path) in result.summary()
    assert capfd.readouterr().out == ""


def test_inaccurate_export_is_not_written(export, tmp_path, monkeypatch):
    tolerance = verification.Tolerance(pixels=0.1, remedy="", error=-1.0)
    monkeypatch.setattr(verification, "TOLERANCES", {"fp32": tolerance})
    done = export(
        "--engine_file", tmp_path / "m.engine", "--deployment_bundle", tmp_path / "bundle"
    )
    assert done.code == 2
    assert "m.onnx: not written" in done.err
    assert list(tmp_path.iterdir()) == [tmp_path / "status.json"]


def test_unreadable_photos_are_an_error(export, tmp_path):
    (tmp_path / "photos").mkdir()
    cv2.imwrite(str(tmp_path / "photos" / "a.png"), np.zeros((8, 8, 3), np.uint8))
    (tmp_path / "photos" / "b.png").write_text("no image")
    done = export("--verify_images", tmp_path / "photos")
    assert done.code == 2
    assert "b.png" in done.err
    assert not (tmp_path / "m.onnx").exists()
