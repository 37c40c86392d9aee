"""`bpnet check`: each usual mistake is found, and correct data has no errors or warnings."""

import json
import os
import shutil

import cv2
import pytest
import yaml

from bodyposenet.commands.check import check_specs
from bodyposenet.data.findings import Severity


@pytest.fixture
def project(converted, tmp_path):
    """A copy of the drawn dataset with records, and a train spec."""
    folder = tmp_path / "copy"
    shutil.copytree(converted, folder)
    spec = json.loads((folder / "dataset.json").read_text())
    spec["root_directory_path"] = str(folder)
    (folder / "dataset.json").write_text(json.dumps(spec))
    for file in (folder / "records").iterdir():
        file.touch()
    train = {
        "dataloader": {
            "dataset_config": {
                "train_records_path": [str(folder / "records" / "train-fold-000-of-001")],
                "dataset_specs": {"drawn": str(folder / "dataset.json")},
            }
        },
        "pretrained_weights": "default",
        "load_graph": True,
    }
    (folder / "train.yaml").write_text(yaml.safe_dump(train))
    return folder


def change_json(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def problems(folder, severity=Severity.WARNING):
    result = check_specs(experiment_spec_file=folder / "train.yaml")
    return [problem for problem in result.problems if problem.severity <= severity]


def test_correct_data_has_no_errors_and_no_warnings(project, run_bpnet):
    assert not problems(project)
    result = run_bpnet("check", "-e", project / "train.yaml", "-r", project / "report")
    assert result.code == 0, result.out
    assert "12 images" in result.out and "6 images" in result.out
    assert (project / "report" / "check.json").is_file()


def people(change, count=None):
    """Return a function that changes the first annotations of the training data, or all."""

    def change_all(folder):
        def run(content):
            for person in content["annotations"][:count]:
                change(person)

        change_json(folder / "annotations" / "train.json", run)

    return change_all


def to_corners(person):
    x, y, width, height = person["bbox"]
    person["bbox"] = [x, y, x + width, y + height]


def swap_sides(content):
    (category,) = content["categories"]
    other = {"left": "right", "right": "left"}
    category["keypoints"] = [
        "_".join(other.get(word, word) for word in name.split("_"))
        for name in category["keypoints"]
    ]


def set_keypoint(joint, x, y, flag):
    def change(person):
        person["keypoints"][3 * joint : 3 * joint + 3] = [x, y, flag]

    return change


def remove_images(folder):
    for file in sorted((folder / "train").iterdir())[:3]:
        file.unlink()


def resize_images(folder):
    for file in sorted((folder / "train").iterdir()):
        cv2.imwrite(str(file), cv2.resize(cv2.imread(str(file)), (64, 64)))


def damage_image(folder):
    next(iter(sorted((folder / "train").iterdir()))).write_text("not an image")


def copy_to_test(folder):
    shutil.copy(folder / "train" / "000000.jpg", folder / "test" / "000000.jpg")


def rename_joints(folder):
    def change(content):
        content["categories"][0]["keypoints"] = [f"joint{number}" for number in range(17)]

    change_json(folder / "dataset.json", change)
    for part in ("train", "test"):
        change_json(folder / "annotations" / f"{part}.json", change)


def remove_annotations(folder):
    (folder / "annotations" / "train.json").unlink()


def use_tight_filters(folder):
    change_json(
        folder / "dataset.json",
        lambda spec: spec["data_filtering_params"].update(min_acceptable_kpts=18),
    )


def misspell_key(folder):
    path = folder / "train.yaml"
    path.write_text(path.read_text().replace("pretrained_weights", "pretrained_weight"))


def use_missing_weights(folder):
    path = folder / "train.yaml"
    path.write_text(path.read_text().replace("default", "nowhere.tlt"))


def use_missing_inference_spec(folder):
    path = folder / "train.yaml"
    path.write_text(path.read_text() + "inference_spec: nowhere.yaml\n")


@pytest.mark.parametrize(
    ("break_it", "severity", "facts"),
    [
        (people(to_corners), Severity.ERROR, ["x1, y1, x2, y2"]),
        (
            lambda folder: change_json(folder / "annotations" / "train.json", swap_sides),
            Severity.ERROR, ["left", "right"],
        ),
        (people(set_keypoint(9, 0, 0, 0)), Severity.WARNING, ["never", "left_wrist"]),
        (people(set_keypoint(9, 400, 60, 2), 1), Severity.WARNING, ["outside of the image"]),
        (remove_images, Severity.ERROR, ["3 of 12", "not found", "000000.jpg"]),
        (resize_images, Severity.ERROR, ["12 of 12", "size"]),
        (damage_image, Severity.ERROR, ["1 of 12", "not images"]),
        (copy_to_test, Severity.WARNING, ["train and test", "000000.jpg"]),
        (rename_joints, Severity.ERROR, ["no joint of the skeleton"]),
        (remove_annotations, Severity.ERROR, ["train.json"]),
        (use_tight_filters, Severity.ERROR, ["filters", "keypoints"]),
        (misspell_key, Severity.ERROR, ["pretrained_weight", "did you mean"]),
        (use_missing_weights, Severity.ERROR, ["nowhere.tlt"]),
        (use_missing_inference_spec, Severity.ERROR, ["nowhere.yaml"]),
    ],
)  # fmt: skip
def test_mistakes_are_found(project, break_it, severity, facts):
    break_it(project)
    found = [f"{p.place}: {p.text}" for p in problems(project) if p.severity is severity]
    assert any(all(fact in text for fact in facts) for text in found), problems(project)


@pytest.mark.parametrize(
    ("change", "fact"),
    [
        (lambda person: person.update(id=str(person["id"])), "text"),
        (
            lambda person: person.update(
                keypoints=[
                    min(value, 1) if number % 3 == 2 else value
                    for number, value in enumerate(person["keypoints"])
                ]
            ),
            "0 and 1",
        ),
    ],
)
def test_harmless_differences_are_notes(project, change, fact):
    people(change)(project)
    notes = [p for p in problems(project, Severity.NOTE) if p.severity is Severity.NOTE]
    assert any(fact in note.text for note in notes), notes


def test_errors_end_with_exit_code_2_and_say_what_to_do(project, run_bpnet):
    people(to_corners)(project)
    result = run_bpnet("check", "-e", project / "train.yaml")
    assert result.code == 2
    assert "width, height" in result.out
    assert result.out.index("ERROR") < result.out.index("found:")


def test_joints_without_labels_in_the_test_data_are_a_note(project):
    def unlabel(content):
        for person in content["annotations"]:
            person["keypoints"][27:30] = [0, 0, 0]

    change_json(project / "annotations" / "test.json", unlabel)
    assert not problems(project)
    (note,) = [each for each in problems(project, Severity.NOTE) if "left_wrist" in each.text]
    assert "test data" in note.place and "dataset spec" not in note.remedy


def test_missing_records_are_a_note_with_the_command(project, run_bpnet):
    shutil.rmtree(project / "records")
    result = run_bpnet("check", "-e", project / "train.yaml")
    assert result.code == 0, result.out
    assert f"bpnet dataset_convert -d {project / 'dataset.json'}" in result.out


def test_records_older_than_the_annotations_are_a_warning(project):
    annotations = project / "annotations" / "train.json"
    content = annotations.read_text()
    annotations.unlink()
    annotations.write_text(content + "\n")
    record = project / "records" / "train-fold-000-of-001"
    newest = annotations.stat().st_mtime_ns
    os.utime(record, ns=(newest - 10**9, newest - 10**9))
    assert any("records" in problem.text for problem in problems(project))


def test_other_specs_are_checked_alone(project, run_bpnet):
    result = run_bpnet("check", "-d", project / "dataset.json")
    assert result.code == 0 and "12 images" in result.out
    (project / "infer.yaml").write_text("input_shap: [64, 64]\n")
    result = run_bpnet("check", "-i", project / "infer.yaml")
    assert result.code == 2 and "did you mean input_shape?" in result.out
    assert run_bpnet("check").code == 2


def test_labels_of_data_for_training_and_test_are_listed_once(project):
    def use_train_data(spec):
        spec["test_data"] = spec["train_data"]

    change_json(project / "dataset.json", use_train_data)
    people(set_keypoint(9, 400, 60, 2), 1)(project)
    found = problems(project)
    assert [p.place for p in found if "outside of the image" in p.text] == ["drawn, train data"]
    assert len([p for p in found if "train data" in p.text or "other data" in p.text]) == 1
