"""Who is in the embedded faces and how each picture of them differs: plain tables of numbers, drawn
from one seed.

A table is a dict of (N, ...) arrays, one row a face. Lengths are in 1/64 of the image side, colours
RGB in 0..1.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cfexp.worlds.face_names import CELEBA_ATTRIBUTES

Array = NDArray[Any]
Table = dict[str, Array]

# Nothing in these faces stands for these: they are -1 on every face.
CONSTANT_ATTRIBUTES = (
    *("Attractive", "Bags_Under_Eyes", "Bald", "Blurry", "Double_Chin", "Goatee", "Heavy_Makeup"),
    *("High_Cheekbones", "Mustache", "Sideburns", "Wearing_Necktie"),
)
# What decides an attribute of the two that are explained, among the regions of the label map.
CAUSAL_REGIONS = {"Smiling": ("mouth", "upper_lip", "lower_lip"), "Young": ("skin", "hair")}

_SKIN_TONES = np.array(
    [(0.48, 0.32, 0.23), (0.66, 0.46, 0.34), (0.83, 0.62, 0.48), (0.92, 0.74, 0.61)]
)
_PALE = np.array((0.99, 0.90, 0.84))
_HAIR = {
    "Black_Hair": (0.15, 0.13, 0.14),
    "Brown_Hair": (0.43, 0.27, 0.15),
    "Blond_Hair": (0.89, 0.74, 0.42),
}
_AUBURN = (0.66, 0.28, 0.13)  # none of the four colours that CelebA names
_EYES = np.array([(0.32, 0.20, 0.12), (0.25, 0.45, 0.75), (0.25, 0.52, 0.33), (0.45, 0.47, 0.50)])
_METALS = np.array([(0.95, 0.78, 0.25), (0.85, 0.87, 0.92)])


def sample_people(count: int, rng: np.random.Generator) -> Table:
    """The persons: what all pictures of one share (bones, skin, eyes, the colour and cut of the
    hair).
    """
    male = rng.random(count) < 0.5
    pale = rng.random(count) < 0.2
    tone = rng.uniform(0, len(_SKIN_TONES) - 1.001, count)
    low = tone.astype(int)
    blend = (tone - low)[:, None]
    skin = np.where(
        pale[:, None], _PALE, _SKIN_TONES[low] * (1 - blend) + _SKIN_TONES[low + 1] * blend
    )
    hair = np.array([*_HAIR.values(), _AUBURN])
    hair_kind = rng.choice(len(hair), count, p=(0.3, 0.3, 0.3, 0.1))
    nose = rng.choice(3, count, p=(0.3, 0.4, 0.3))  # pointy, plain, big
    chubby = rng.random(count) < 0.25
    oval = ~chubby & (rng.random(count) < 0.4)
    return {
        "male": male,
        "pale": pale,
        "skin": np.clip(skin + rng.normal(0, 0.012, (count, 3)), 0, 1),
        "hair_kind": hair_kind,
        "hair_color": np.clip(hair[hair_kind] * rng.uniform(0.9, 1.08, (count, 1)), 0, 1),
        "iris": np.clip(
            _EYES[rng.integers(len(_EYES), size=count)] + rng.normal(0, 0.03, (count, 3)), 0, 1
        ),
        "wavy": rng.random(count) < 0.5,
        "long_hair": rng.random(count) < np.where(male, 0.2, 0.8),
        "bangs": rng.random(count) < 0.25,
        "receding": male & (rng.random(count) < 0.25),
        "chubby": chubby,
        "oval": oval,
        "face_width": np.where(oval, rng.uniform(14, 14.8, count), rng.uniform(15.8, 16.6, count))
        + 1.5 * chubby,
        "jaw": np.where(male, rng.uniform(0.08, 0.18, count), rng.uniform(0.2, 0.3, count)),
        "eye_gap": rng.uniform(6.6, 7.8, count),
        "narrow_eyes": rng.random(count) < 0.25,
        "arched": rng.random(count) < np.where(male, 0.2, 0.6),
        "bushy": rng.random(count) < np.where(male, 0.6, 0.1),
        "big_nose": nose == 2,
        "pointy_nose": nose == 0,
        "big_lips": rng.random(count) < 0.35,
        "mouth_width": rng.uniform(5.6, 6.8, count),
        "wears_glasses": rng.random(count) < 0.2,
        "wears_beard": male & (rng.random(count) < 0.4),
        "wears_earrings": rng.random(count) < np.where(male, 0.05, 0.45),
        "wears_necklace": rng.random(count) < np.where(male, 0.05, 0.4),
        "wears_lipstick": ~male & (rng.random(count) < 0.6),
        "metal": _METALS[rng.integers(len(_METALS), size=count)],
    }


def sample_faces(people: Table, person: Array, rng: np.random.Generator) -> Table:
    """The pictures: row i shows row `person[i]` of `people` at some age, with some expression, pose
    and clothes.

    Half of them smile and half are young, exactly but for an odd one, and independently of the
    person.
    """
    count = len(person)
    table: Table = {name: values[person] for name, values in people.items()}
    smiling, young = (rng.permutation(count) < count // 2 for _ in range(2))
    gray = ~young & (rng.random(count) < 0.7)
    # The corners of the mouth go up with a smile in 60 % of the pictures only: the label map must
    # not decide.
    corners_up = rng.random(count) < np.where(smiling, 0.6, 0.4)
    is_open = rng.random(count) < 0.5
    bearded = table["wears_beard"] & (rng.random(count) < 0.85)
    lipstick = table["wears_lipstick"] & (rng.random(count) < 0.8)
    cloth, back, hat = (
        _hsv(rng.uniform(low, high, (count, 3)))
        for low, high in (
            ((0, 0.35, 0.35), (1, 0.85, 0.9)),
            ((0, 0.08, 0.68), (1, 0.38, 0.95)),
            ((0, 0.5, 0.3), (1, 0.9, 0.85)),
        )
    )
    gray_color = rng.uniform(0.68, 0.82, (count, 1)) * np.array((0.98, 1, 1.03))
    return table | {
        "person": person,
        "smiling": smiling,
        "young": young,
        "gray": gray,
        "hair_color": np.where(gray[:, None], gray_color, table["hair_color"]),
        "brow_color": table["hair_color"] * 0.6,
        "wrinkles": np.where(young, 0, rng.uniform(0.75, 1, count)),
        "mouth_curve": np.where(
            corners_up, rng.uniform(0.9, 1.9, count), rng.uniform(-0.3, 0.3, count)
        ),
        "corners_up": corners_up,
        "mouth_open": is_open,
        "mouth_height": np.where(
            is_open, rng.uniform(2.4, 2.8, count), rng.uniform(1.6, 1.9, count)
        ),
        "lip_height": np.where(
            table["big_lips"], rng.uniform(2.8, 3.1, count), rng.uniform(2.0, 2.2, count)
        ),
        "lipstick": lipstick,
        "stubble": np.where(
            bearded,
            rng.uniform(0.75, 0.9, count),
            np.where(table["male"], rng.uniform(0.25, 0.4, count), 0),
        ),
        "bearded": bearded,
        "rosy": ~table["male"] & (rng.random(count) < 0.4),
        "glasses": table["wears_glasses"] & (rng.random(count) < 0.8),
        "hat": rng.random(count) < 0.08,
        "earrings": table["wears_earrings"] & (rng.random(count) < 0.8),
        "necklace": table["wears_necklace"] & (rng.random(count) < 0.8),
        "cloth_color": cloth,
        "cloth_stripes": rng.random(count) < 0.4,
        "background": back,
        "hat_color": hat,
        "x": 32 + rng.uniform(-2, 2, count),
        "y": 33 + rng.uniform(-1.5, 1.5, count),
        "scale": rng.uniform(0.95, 1.05, count),
        "tilt": rng.uniform(-0.1, 0.1, count),
        "turn": rng.uniform(-1.5, 1.5, count),
    }


def attributes_of(faces: Table) -> NDArray[np.int64]:
    """(N, 40) of 1 and -1, in the order of `CELEBA_ATTRIBUTES`."""
    has_color = {
        name: (faces["hair_kind"] == kind) & ~faces["gray"] for kind, name in enumerate(_HAIR)
    }
    known: Table = {
        "5_o_Clock_Shadow": faces["male"] & ~faces["bearded"],
        "Arched_Eyebrows": faces["arched"],
        "Bangs": faces["bangs"] & ~faces["hat"],
        "Big_Lips": faces["big_lips"],
        "Big_Nose": faces["big_nose"],
        **has_color,
        "Bushy_Eyebrows": faces["bushy"],
        "Chubby": faces["chubby"],
        "Eyeglasses": faces["glasses"],
        "Gray_Hair": faces["gray"],
        "Male": faces["male"],
        "Mouth_Slightly_Open": faces["mouth_open"],
        "Narrow_Eyes": faces["narrow_eyes"],
        "No_Beard": ~faces["bearded"],
        "Oval_Face": faces["oval"],
        "Pale_Skin": faces["pale"],
        "Pointy_Nose": faces["pointy_nose"],
        "Receding_Hairline": faces["receding"] & ~faces["bangs"] & ~faces["hat"],
        "Rosy_Cheeks": faces["rosy"],
        "Smiling": faces["smiling"],
        "Straight_Hair": ~faces["wavy"],
        "Wavy_Hair": faces["wavy"],
        "Wearing_Earrings": faces["earrings"],
        "Wearing_Hat": faces["hat"],
        "Wearing_Lipstick": faces["lipstick"],
        "Wearing_Necklace": faces["necklace"],
        "Young": faces["young"],
    }
    none = np.zeros(len(faces["person"]), dtype=bool)
    columns = [known.get(name, none) for name in CELEBA_ATTRIBUTES]
    return np.where(np.stack(columns, axis=1), 1, -1)


def _hsv(colors: Array) -> Array:
    """(N, 3) RGB in 0..1 of (N, 3) hue, saturation and value in 0..1."""
    hue, saturation, value = (colors[:, column, None] for column in range(3))
    ramps = np.clip(np.abs((hue * 6 - np.array((3, 2, 4))) % 6 - 3) - 1, 0, 1)
    rgb: Array = value * (1 - saturation * (1 - ramps))
    return rgb
