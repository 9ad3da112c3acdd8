"""What CelebA and CelebAMask-HQ call things, in their own order: the one place that says so."""

# Region i of a CelebAMask-HQ label map is the i-th. Left is the person's left, at the right of the
# picture.
REGIONS = (
    *(
        "background",
        "skin",
        "nose",
        "glasses",
        "left_eye",
        "right_eye",
        "left_brow",
        "right_brow",
        "left_ear",
    ),
    *(
        "right_ear",
        "mouth",
        "upper_lip",
        "lower_lip",
        "hair",
        "hat",
        "earring",
        "necklace",
        "neck",
        "cloth",
    ),
)
# How the part files of regions 1..18 are called, in the order of painting: a later part covers an
# earlier one.
PARTS = (
    *("skin", "nose", "eye_g", "l_eye", "r_eye", "l_brow", "r_brow", "l_ear", "r_ear"),
    *("mouth", "u_lip", "l_lip", "hair", "hat", "ear_r", "neck_l", "neck", "cloth"),
)
MOUTH, LIPS = "mouth", ("upper_lip", "lower_lip")
# The same with mouth and lips as one region.
ONE_MOUTH_REGIONS = tuple(name for name in REGIONS if name not in LIPS)


def mirrored(regions: tuple[str, ...]) -> tuple[int, ...]:
    """What takes the place of each region in a mirrored picture: left and right swap."""
    swapped = {"left": "right", "right": "left"}
    sides = (name.partition("_") for name in regions)
    return tuple(
        regions.index(f"{swapped.get(side, side)}{dash}{rest}") for side, dash, rest in sides
    )


MIRRORED_REGIONS = mirrored(REGIONS)
# The columns of list_attr_celeba.txt and of CelebAMask-HQ-attribute-anno.txt.
CELEBA_ATTRIBUTES = (
    *(
        "5_o_Clock_Shadow",
        "Arched_Eyebrows",
        "Attractive",
        "Bags_Under_Eyes",
        "Bald",
        "Bangs",
        "Big_Lips",
    ),
    *(
        "Big_Nose",
        "Black_Hair",
        "Blond_Hair",
        "Blurry",
        "Brown_Hair",
        "Bushy_Eyebrows",
        "Chubby",
        "Double_Chin",
    ),
    *(
        "Eyeglasses",
        "Goatee",
        "Gray_Hair",
        "Heavy_Makeup",
        "High_Cheekbones",
        "Male",
        "Mouth_Slightly_Open",
    ),
    *(
        "Mustache",
        "Narrow_Eyes",
        "No_Beard",
        "Oval_Face",
        "Pale_Skin",
        "Pointy_Nose",
        "Receding_Hairline",
    ),
    *(
        "Rosy_Cheeks",
        "Sideburns",
        "Smiling",
        "Straight_Hair",
        "Wavy_Hair",
        "Wearing_Earrings",
        "Wearing_Hat",
    ),
    *("Wearing_Lipstick", "Wearing_Necklace", "Wearing_Necktie", "Young"),
)
# The numbers of the first images of CelebA's validation and test parts; list_eval_partition.txt
# says 0, 1, 2.
FIRST_VALIDATION_NUMBER, FIRST_TEST_NUMBER = 162_771, 182_638
CELEBA_IMAGES = 202_599
