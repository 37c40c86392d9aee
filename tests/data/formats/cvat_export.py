"""XML as CVAT exports it."""

from .people import JOINTS

FILE = """<?xml version="1.0" encoding="utf-8"?>
<annotations>
  <version>1.1</version>
  <meta>
    <task>
      <id>5</id>
      <name>people</name>
      <size>2</size>
      <mode>annotation</mode>
      <labels>
{labels}
      </labels>
    </task>
    <dumped>2026-01-10 12:00:00.000000+00:00</dumped>
  </meta>
{images}
</annotations>
"""


LABEL = """        <label>
          <name>{name}</name>
          <color>#c06060</color>
          <type>{type}</type>
          <attributes>
          </attributes>
{more}
        </label>"""


def label(name, kind, more=""):
    return LABEL.format(name=name, type=kind, more=more)


def skeleton_labels(name="person"):
    """The labels of a task with a skeleton, whose edges connect the head with the other joints."""
    circle = '&lt;circle cx="1" data-node-id="{}" data-label-name="{}"&gt;&lt;/circle&gt;'
    line = '&lt;line x1="1" data-type="edge" data-node-to="{}" data-node-from="1"&gt;&lt;/line&gt;'
    nodes = "".join(circle.format(number, joint) for number, joint in enumerate(JOINTS, 1))
    edges = "".join(line.format(number) for number in range(2, len(JOINTS) + 1))
    parent = f"          <parent>{name}</parent>"
    drawn = label(name, "skeleton", f"          <svg>{edges}{nodes}</svg>")
    return "\n".join([drawn, *(label(joint, "points", parent) for joint in JOINTS)])


def points(name, x, y, flag, group=""):
    return (
        f'<points label="{name}" source="manual" outside="{int(flag == 0)}" '
        f'occluded="{int(flag == 1)}" points="{x:.2f},{y:.2f}"{group}></points>'
    )


def box(person, name="box", attributes=""):
    left, top, width, height = person.box
    return (
        f'<box label="{name}" source="manual" occluded="0" xtl="{left:.2f}" ytl="{top:.2f}" '
        f'xbr="{left + width:.2f}" ybr="{top + height:.2f}" z_order="0"{attributes}></box>'
    )


def skeleton(person, group=0):
    """A skeleton, with all joints, and the box of its group."""
    grouped = f' group_id="{group}"' if group else ""
    joints = [points(n, *person.keypoints.get(n, (3.0, 4.0, 0))) for n in JOINTS]
    lines = [f'<skeleton label="person" source="manual" z_order="0"{grouped}>', *joints]
    return "\n".join([*lines, "</skeleton>", box(person, attributes=grouped) if group else ""])


def image(labels, shapes, number=0):
    size = f'width="{labels.width}" height="{labels.height}"'
    start = f'<image id="{number}" name="{labels.name}" {size}>'
    return "\n".join([start, *shapes, "</image>"])
