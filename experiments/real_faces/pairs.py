"""python experiments/real_faces/pairs.py IN OUT: photographs of faces and their label maps, as
CelebAMask-HQ has them, made a data set of one's own (data=own) in the folder OUT.

IN: images/NAME.jpg and masks/NAME.png, whose values are CelebAMask-HQ's numbers of regions. OUT
holds links to them, so that nothing is copied; regions.csv, which says what the numbers mean and
that left and right swap in a mirrored image; and labels.csv with the parts: the first 500 by name
to train on, the other 100 to test.
"""

import csv
import sys
from pathlib import Path

from cfexp.worlds.face_names import MIRRORED_REGIONS, REGIONS

TO_TRAIN = 500


def main(source: Path, out: Path) -> None:
    """Write OUT; what is there already is left."""
    out.mkdir(parents=True, exist_ok=True)
    for name, folder in (("images", "images"), ("label_maps", "masks")):
        if not (out / name).exists():
            (out / name).symlink_to((source / folder).resolve(), target_is_directory=True)
    with (out / "regions.csv").open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(("value", "name", "mirrored"))
        swapped = [REGIONS[number] for number in MIRRORED_REGIONS]
        rows.writerows(zip(range(len(REGIONS)), REGIONS, swapped, strict=True))
    with (out / "labels.csv").open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(("file", "part"))
        for place, path in enumerate(sorted((source / "images").iterdir())):
            rows.writerow((path.name, "train" if place < TO_TRAIN else "test"))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
