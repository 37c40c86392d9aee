"""Labels as Sloth saves them."""


def box(person, **more):
    keys = ("x", "y", "width", "height")
    return dict(zip(keys, person.box, strict=True)) | {"class": "person"} | more


def points(person, **more):
    return [{"class": name, "x": x, "y": y} | more for name, (x, y, _) in person.keypoints.items()]


def entry(image, labels=None, **more):
    if labels is None:
        labels = [label for person in image.people for label in (box(person), *points(person))]
    name = f"../photos/{image.name}"
    return {"class": "image", "filename": name, "annotations": labels} | more
