"""`bpnet init`: projects from annotations or joint names; the printed commands run as printed."""

import json
import shlex
from pathlib import Path
from xml.etree import ElementTree

import pytest
import yaml

from bodyposenet.skeleton import COCO_JOINTS
from bodyposenet.specs.dataset import DatasetSpec
from bodyposenet.specs.inference import InferenceSpec
from bodyposenet.specs.pose import load_skeleton
from bodyposenet.specs.training import TrainSpec

PROJECT = Path("project")


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    """The working directory of a user."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def annotations(drawn_dataset):
    """Annotation file of the drawn training images, and their folder."""
    return drawn_dataset.folder / "annotations" / "train.json", drawn_dataset.folder / "train"


def printed_commands(result) -> list[list[str]]:
    lines = [line.strip() for line in result.out.splitlines()]
    return [shlex.split(line)[1:] for line in lines if line.startswith("bpnet ")]


def label_studio_export(annotations: Path) -> list[dict]:
    """An export of the same people, whose keypoints have names with spaces and capitals."""
    content = json.loads(annotations.read_text())
    tasks = []
    for image in content["images"]:
        size = {"original_width": image["width"], "original_height": image["height"]}
        scale = 100 / image["width"], 100 / image["height"]
        results = []
        for person in content["annotations"]:
            if person["image_id"] != image["id"] or person["iscrowd"]:
                continue
            x, y, width, height = (v * s for v, s in zip(person["bbox"], scale * 2, strict=True))
            box = {"x": x, "y": y, "width": width, "height": height, "rotation": 0}
            region = f"box{person['id']}"
            value = box | {"rectanglelabels": ["Worker"]}
            results.append(size | {"id": region, "type": "rectanglelabels", "value": value})
            points = zip(*[iter(person["keypoints"])] * 3, strict=True)
            for joint, (x, y, flag) in zip(COCO_JOINTS, points, strict=True):
                name = joint.replace("_", " ").title()
                value = {"x": x * scale[0], "y": y * scale[1], "keypointlabels": [name]}
                point = {"id": f"{region}-{name}", "type": "keypointlabels", "value": value}
                if flag:
                    results.append(size | point | {"parentID": region})
        data = {"image": f"/data/upload/1/1a2b3c4d-{image['file_name']}"}
        tasks.append({"id": image["id"], "data": data, "annotations": [{"result": results}]})
    return tasks


def test_the_printed_commands_train_a_model(run_bpnet, workplace, annotations):
    file, images = annotations
    result = run_bpnet("init", "-a", file, "-i", images, "--epochs", 1, "--device", "cpu")
    assert result.code == 0, result.err
    commands = printed_commands(result)
    assert [words[0] for words in commands] == ["dataset_convert", "train", "evaluate"]
    for words in commands:
        result = run_bpnet(*words)
        assert result.code == 0, result.err
    assert (PROJECT / "results" / "bpnet_model.tlt").is_file()
    assert "Average Precision" in result.out
    assert (PROJECT / "results" / "evaluation" / "report.html").is_file()
    assert {path.name for path in workplace.iterdir()} == {"project"}


def test_specs_of_a_label_studio_export(run_bpnet, workplace, annotations):
    file, images = annotations
    export = workplace / "export.json"
    export.write_text(json.dumps(label_studio_export(file)))
    result = run_bpnet("init", "-a", export, "-i", images, "-o", "mine", "--device", "cpu")
    assert result.code == 0, result.err

    spec = TrainSpec.load("mine/train.yaml")
    assert spec.pretrained_weights == "default" and spec.load_graph
    assert spec.dataloader.augmentation_config.spatial_aug_params.flip_lr_prob == 0.5
    assert spec.skeleton.derived == {"neck": ("Left Shoulder", "Right Shoulder")}
    default = load_skeleton("bpnet_18joints.json")
    assert None not in default.match(spec.skeleton.joints)
    assert len(spec.skeleton.limbs) == len(default.limbs)
    assert InferenceSpec.load("mine/inference.yaml").input_shape[0] % 8 == 0

    dataset = DatasetSpec.load("mine/dataset.json")
    assert dataset.dataset == "mine" and dataset.person.name == "Worker"
    parts = [json.loads(dataset.annotations(mode).read_text()) for mode in ("train", "test")]
    names = [{image["file_name"] for image in part["images"]} for part in parts]
    assert names[0].isdisjoint(names[1])
    listed = json.loads(file.read_text())["images"]
    assert names[0] | names[1] == {image["file_name"] for image in listed}

    convert = printed_commands(result)[0]
    result = run_bpnet(*convert)
    assert result.code == 0, result.err


def test_split_is_the_same_every_time_and_keeps_all_annotations(run_bpnet, workplace, annotations):
    file, images = annotations
    flags = ("-a", file, "-i", images, "--val_share", 0.25, "--device", "cpu")
    for folder in ("one", "two"):
        assert run_bpnet("init", *flags, "-o", folder).code == 0
    for part, count in (("train", 9), ("val", 3)):
        one, two = (
            json.loads(Path(folder, "annotations", f"{part}.json").read_text())
            for folder in ("one", "two")
        )
        assert one == two and len(one["images"]) == count
    original = {entry["id"]: entry for entry in json.loads(file.read_text())["annotations"]}
    written = [
        entry
        for part in ("train", "val")
        for entry in json.loads(Path("one", "annotations", f"{part}.json").read_text())[
            "annotations"
        ]
    ]
    assert {entry["id"] for entry in written} == set(original)
    for entry in written:
        assert entry["keypoints"] == pytest.approx(original[entry["id"]]["keypoints"], abs=0.01)
        assert entry["bbox"] == original[entry["id"]]["bbox"]


def test_the_split_keeps_the_crowd_index_of_images(run_bpnet, workplace, annotations):
    file, images = annotations
    content = json.loads(file.read_text())
    content["images"][0]["crowdIndex"] = 0.4
    (workplace / "crowd.json").write_text(json.dumps(content))
    assert run_bpnet("init", "-a", "crowd.json", "-i", images, "--device", "cpu").code == 0
    written = [
        image
        for part in ("train", "val")
        for image in json.loads((PROJECT / "annotations" / f"{part}.json").read_text())["images"]
    ]
    assert [image.get("crowdIndex") for image in written].count(0.4) == 1


def test_separate_validation_annotations_are_used_as_they_are(
    run_bpnet, workplace, annotations, drawn_dataset
):
    file, images = annotations
    val = drawn_dataset.folder / "annotations" / "test.json"
    flags = ("--val_annotations", val, "--val_images", drawn_dataset.folder / "test")
    result = run_bpnet("init", "-a", file, "-i", images, *flags, "--device", "cpu")
    assert result.code == 0, result.err
    dataset = DatasetSpec.load(PROJECT / "dataset.json")
    assert dataset.annotations("train") == file and dataset.annotations("test") == val
    assert not (PROJECT / "annotations").exists()


def test_joints_to_use_can_be_chosen(run_bpnet, workplace, annotations):
    file, images = annotations
    joints = "nose,left_wrist,right_wrist"
    result = run_bpnet("init", "-a", file, "-i", images, "--joints", joints, "--device", "cpu")
    assert result.code == 0, result.err
    assert DatasetSpec.load(PROJECT / "dataset.json").person.keypoints == tuple(joints.split(","))
    assert run_bpnet(*printed_commands(result)[0]).code == 0


def test_joints_to_use_are_found_in_the_notation_of_the_file(run_bpnet, workplace, annotations):
    file, images = annotations
    export = workplace / "export.json"
    export.write_text(json.dumps(label_studio_export(file)))
    flags = ("init", "-a", export, "-i", images, "--device", "cpu", "--joints")
    result = run_bpnet(*flags, "nose,left_wrist,tail")
    assert result.code == 2
    assert "tail" in result.err and "Left Wrist" in result.err
    assert run_bpnet(*flags, "nose,left_wrist").code == 0
    assert DatasetSpec.load(PROJECT / "dataset.json").person.keypoints == ("Nose", "Left Wrist")


def test_keypoints_without_names_are_named(run_bpnet, workplace, annotations):
    file, images = annotations
    content = json.loads(file.read_text())
    del content["categories"][0]["keypoints"]
    nameless = workplace / "nameless.json"
    nameless.write_text(json.dumps(content))
    result = run_bpnet("init", "-a", nameless, "-i", images, "--device", "cpu")
    assert result.code == 0, result.err
    assert DatasetSpec.load(PROJECT / "dataset.json").person.keypoints == COCO_JOINTS
    assert "please check" in result.out


def test_joint_names_are_sufficient(run_bpnet, workplace):
    result = run_bpnet("init", "--joints", "nose,left_hip,right_hip,tail", "--device", "gpu")
    assert result.code == 0, result.err
    skeleton = TrainSpec.load(PROJECT / "train.yaml").skeleton
    assert skeleton.joints == ("nose", "left_hip", "right_hip", "tail")
    assert len(skeleton.limbs) >= 3
    dataset = DatasetSpec.load(PROJECT / "dataset.json")
    assert dataset.train_data.annotation_root_dir_path in result.out
    names = [words[0] for words in printed_commands(result)]
    assert names == ["init", "dataset_convert", "train", "evaluate"]
    labels = ElementTree.parse(PROJECT / "label_studio.xml").iterfind(".//KeyPointLabels/Label")
    assert [label.get("value") for label in labels] == list(skeleton.joints)


def test_files_are_only_replaced_with_overwrite(run_bpnet, workplace):
    flags = ("--joints", "nose,neck", "--device", "cpu")
    assert run_bpnet("init", *flags).code == 0
    for name in ("train.yaml", "label_studio.xml"):
        file, others = PROJECT / name, [path for path in PROJECT.iterdir() if path.name != name]
        before = file.read_text()
        file.write_text("mine")
        for path in others:
            path.unlink()
        result = run_bpnet("init", *flags)
        assert result.code == 2 and name in result.err and "--overwrite" in result.err
        assert file.read_text() == "mine"
        assert run_bpnet("init", *flags, "--overwrite").code == 0
        assert file.read_text() == before


def test_annotations_are_never_replaced_by_a_part_of_them(run_bpnet, workplace, annotations):
    file, images = annotations
    train = PROJECT / "annotations" / "train.json"
    train.parent.mkdir(parents=True)
    train.write_bytes(file.read_bytes())
    result = run_bpnet("init", "-a", file, "-i", images)
    assert result.code == 2 and str(train) in result.err and "--overwrite" in result.err
    for source in (train, train.parent, PROJECT):
        result = run_bpnet("init", "-a", source, "-i", images, "--overwrite")
        assert result.code == 2 and str(source) in result.err and "-o" in result.err
    assert train.read_bytes() == file.read_bytes()
    assert [path for path in PROJECT.rglob("*") if path.is_file()] == [train]


def test_templates_are_listed_and_copied(run_bpnet, workplace):
    listed = run_bpnet("init", "--template", "list")
    assert listed.code == 0
    names = [
        line.split()[0] for line in listed.out.splitlines() if ".yaml" in line or ".json" in line
    ]
    for name in names:
        assert run_bpnet("init", "--template", name).code == 0
    assert {path.name for path in workplace.iterdir()} == set(names)
    assert TrainSpec.parse(Path("bpnet_train_m1_coco.yaml").read_text())
    again = run_bpnet("init", "--template", names[0])
    assert again.code == 2 and "--overwrite" in again.err
    unknown = run_bpnet("init", "--template", "coco_spec.jsn")
    assert unknown.code == 2 and "coco_spec.json" in unknown.err


def broken(change):
    """Return a function that writes a changed copy of an annotation file."""

    def write(file: Path, target: Path) -> Path:
        content = json.loads(file.read_text())
        change(content)
        target.write_text(json.dumps(content))
        return target

    return write


def add_category(content):
    content["categories"] = [
        {"id": 1, "name": "cat", "keypoints": list(COCO_JOINTS)},
        {"id": 2, "name": "dog", "keypoints": list(COCO_JOINTS)},
    ]


@pytest.mark.parametrize(
    ("change", "facts"),
    [
        (add_category, ["cat", "dog", "--category"]),
        (lambda content: content.update(annotations=[]), ["labeled people"]),
        (lambda content: content["images"][0].update(file_name="../a.jpg"), ["../a.jpg"]),
        (lambda content: content.update(categories=[], annotations=[]), ["categories"]),
    ],
)
def test_annotations_that_cannot_be_used_are_an_error(
    run_bpnet, workplace, annotations, change, facts
):
    file, images = annotations
    bad = broken(change)(file, workplace / "bad.json")
    result = run_bpnet("init", "-a", bad, "-i", images, "--device", "cpu")
    assert result.code == 2, result.out
    assert all(fact in result.err for fact in facts), result.err
    assert not PROJECT.exists()


def test_a_folder_without_the_images_is_an_error(run_bpnet, workplace, annotations):
    (workplace / "photos").mkdir()
    result = run_bpnet("init", "-a", annotations[0], "-i", "photos", "--device", "cpu")
    assert result.code == 2 and "photos" in result.err and "-i" in result.err


@pytest.mark.parametrize(
    "flags", [(), ("--joints", "nose,neck", "--category", "dog"), ("--joints", "nose")]
)
def test_flags_that_do_not_fit_are_an_error(run_bpnet, workplace, flags):
    result = run_bpnet("init", *flags, "--device", "cpu")
    assert result.code == 2 and not list(workplace.iterdir())


def test_train_spec_has_no_keys_without_effect(run_bpnet, workplace):
    run_bpnet("init", "--joints", "nose,neck", "--device", "cpu")
    text = (PROJECT / "train.yaml").read_text()
    spec = TrainSpec.load(PROJECT / "train.yaml")
    assert not spec.ignored_keys()
    assert set(yaml.safe_load(text)) <= set(TrainSpec.model_fields)
