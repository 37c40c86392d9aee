"""Conversion, training, evaluation and inference on twelve COCO photos."""

import json

import pytest

pytestmark = pytest.mark.shared_data

JOINTS = (
    "nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_shoulder", "right_shoulder",
    "left_elbow", "right_elbow", "left_wrist", "right_wrist", "left_hip", "right_hip",
    "left_knee", "right_knee", "left_ankle", "right_ankle",
)  # fmt: skip


@pytest.fixture
def smoke(shared, tmp_path):
    """A dataset spec of the photos; masks are written elsewhere: the folder may be read-only."""
    split = {
        "images_root_dir_path": "images",
        "mask_root_dir_path": str(tmp_path / "masks"),
        "annotation_root_dir_path": "annotations/person_keypoints_smoke.json",
    }
    spec = {
        "dataset": "smoke",
        "root_directory_path": str(shared / "data" / "coco-smoke"),
        "train_data": split,
        "test_data": split,
        "categories": [{"name": "person", "num_joints": 17, "keypoints": JOINTS}],
    }
    path = tmp_path / "smoke.json"
    path.write_text(json.dumps(spec))
    return path


def test_convert_train_evaluate_and_infer(smoke, shared, run_bpnet, write_train_spec, tmp_path):
    flags = ("-d", smoke, "-o", tmp_path / "train", "--generate_masks", "--check_files")
    converted = run_bpnet("dataset_convert", *flags, "--num_processes", 1)
    assert converted.code == 0, converted.err
    assert "12 images" in converted.out
    assert len(list((tmp_path / "masks").glob("*.png"))) == 12

    config = "dataloader.dataset_config"
    spec = write_train_spec(
        num_epoch=1,
        **{
            f"{config}.root_data_path": str(shared / "data" / "coco-smoke"),
            f"{config}.train_records_folder_path": str(tmp_path),
            f"{config}.val_records_folder_path": str(tmp_path),
            f"{config}.val_records_path": ["train-fold-000-of-001"],
            f"{config}.dataset_specs": {"smoke": str(smoke)},
        },
    )
    trained = run_bpnet("train", "-e", spec, "-r", tmp_path / "run")
    assert trained.code == 0, trained.err
    assert "no mask file" not in trained.err
    assert "Validation AP on smoke is off" in trained.err

    model = ("-m", tmp_path / "run" / "bpnet_model.tlt", "-r", tmp_path / "found")
    evaluated = run_bpnet("evaluate", "-d", smoke, *model)
    assert evaluated.code == 0, evaluated.err
    assert "Average Precision" in evaluated.out
    photos = ("--input_type", "dir", "--input", shared / "data" / "coco-smoke" / "images")
    inferred = run_bpnet("inference", *photos, *model, "--dump_visualizations")
    assert inferred.code == 0, inferred.err
    assert len(list((tmp_path / "found" / "images_annotated").iterdir())) == 12
