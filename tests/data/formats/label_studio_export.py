"""Tasks as Label Studio exports them."""


def result(kind, region, size, value, **changes):
    """A result as Label Studio writes it; size is the height and width of the image."""
    height, width = size
    return {
        "id": region,
        "type": kind,
        "value": value,
        "origin": "manual",
        "to_name": "image",
        "from_name": "keypoint" if kind == "keypointlabels" else "box",
        "image_rotation": 0,
        "original_width": width,
        "original_height": height,
    } | changes


def box(region, person, size, label="person"):
    height, width = size
    left, top, box_width, box_height = person.box
    value = {
        "x": 100 * left / width,
        "y": 100 * top / height,
        "width": 100 * box_width / width,
        "height": 100 * box_height / height,
        "rotation": 0,
        "rectanglelabels": [label],
    }
    return result("rectanglelabels", region, size, value)


def points(region, person, size, **changes):
    height, width = size
    for name, (x, y, flag) in person.keypoints.items():
        value = {"x": 100 * x / width, "y": 100 * y / height, "width": 0.5}
        value["keypointlabels"] = [name]
        yield result("keypointlabels", f"{region}-{name}", size, value, **changes)
        if flag == 1:
            choices = {"type": "choices", "from_name": "visibility"}
            shown = {"choices": ["Occluded"]}
            yield result("", f"{region}-{name}", size, value | shown, **choices)


def shapes(image, link="parentID"):
    """The results of an image, with the keypoints linked to the boxes in one of three ways."""
    size = image.height, image.width
    for number, person in enumerate(image.people):
        region = f"box{number}"
        yield box(region, person, size)
        parent = {"parentID": region} if link == "parentID" else {}
        keypoints = list(points(region, person, size, **parent))
        yield from keypoints
        if link == "relation":
            for keypoint in {keypoint["id"] for keypoint in keypoints}:
                ends = {"from_id": keypoint, "to_id": region}
                yield {"type": "relation", "direction": "right", **ends}


def annotation(results, **changes):
    return {
        "id": 7,
        "completed_by": 1,
        "result": list(results),
        "was_cancelled": False,
        "ground_truth": False,
        "created_at": "2026-01-10T12:00:00.000000Z",
        "updated_at": "2026-01-10T12:00:00.000000Z",
        "lead_time": 12.3,
        "result_count": 0,
        "task": 1,
    } | changes


def task(number, image, *annotations, address="/data/upload/3/1a2b3c4d-{}"):
    data = {"image": address.format(image.name)}
    return {
        "id": number,
        "annotations": list(annotations),
        "file_upload": f"1a2b3c4d-{image.name}",
        "predictions": [],
        "data": data,
        "project": 3,
    }
