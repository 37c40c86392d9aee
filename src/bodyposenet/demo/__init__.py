"""Synthetic images of drawn people with annotations, for the demo, tests and self-checks.

- `dataset`: writes images, annotations and a dataset spec.
- `scene`: draws one image and annotates its people.
- `pose`: random poses, as points of the body in space.
- `figure`: a person in the image, with clothes.
- `background`: backgrounds, objects in front of people, camera effects.
- `canvas`: shaded shapes and the body part that each pixel shows.

The command `bpnet demo` is in `commands.demo`.
"""

from bodyposenet.demo.dataset import DATASET_NAME, write_drawn_dataset
from bodyposenet.demo.scene import draw_scene

__all__ = ["DATASET_NAME", "draw_scene", "write_drawn_dataset"]
