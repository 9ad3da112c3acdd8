"""What an edited face shows, read by holding it against drawings of that face."""

import numpy as np

from cfexp.worlds.face_drawing import draw_faces
from cfexp.worlds.face_reading import attributes_shown
from cfexp.worlds.faces import FaceParameters, sample_world


def test_drawn_faces_show_what_they_are_and_what_they_were_made_into() -> None:
    table = sample_world(FaceParameters(faces=24)).table
    other = table | {"smiling": ~table["smiling"]}
    images, turned = (draw_faces(each, 64).images for each in (table, other))
    for row in range(6):
        face = {name: values[row : row + 1] for name, values in table.items()}
        smiling, young = int(table["smiling"][row]), int(table["young"][row])
        assert attributes_shown(images[row], face) == {"Smiling": smiling, "Young": young}
        assert attributes_shown(turned[row], face) == {"Smiling": 1 - smiling, "Young": young}
        half = ((images[row].astype(int) + turned[row]) // 2).astype(np.uint8)
        assert attributes_shown(half, face) == {"Young": young}  # of half a smile nobody can tell
