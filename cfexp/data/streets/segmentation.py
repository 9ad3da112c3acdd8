"""Where BDD100k's 10k images and their masks lie."""

from pathlib import Path
from typing import NamedTuple

from cfexp.data.reading.archives import list_names
from cfexp.data.streets.bdd_oia import Split
from cfexp.errors import InputError


class SegmentationFolders(NamedTuple):
    """Where a split's images and masks lie."""

    images: Path
    masks: Path
    suffix: str  # what follows an image's stem in its mask's name


def find_segmentation(root: Path, split: Split) -> SegmentationFolders:
    """The folders of a split, in the current layout or in the old one; raises InputError if neither
    is there.
    """
    for base in (root, root / "bdd100k", root / "BDD" / "bdd100k"):
        current = base / "images" / "10k" / split
        if current.is_dir():
            return SegmentationFolders(
                current, base / "labels" / "sem_seg" / "masks" / split, ".png"
            )
        old = base / "seg" / "images" / split
        if old.is_dir():
            return SegmentationFolders(old, base / "seg" / "labels" / split, "_train_id.png")
    expected = f"expected {root / 'images' / '10k' / split} (or {root / 'seg' / 'images' / split})"
    remedy = "See docs/data_sets.md; or leave data.root unset for the embedded streets"
    raise InputError(f"BDD100k not found in data.root={root}: {expected}. {remedy}")


def images_by_stem(folder: Path) -> dict[str, Path]:
    """The images of a folder by stem, in the order of their names; raises InputError."""
    # Folders of such names, too: they are met as images that cannot be read.
    names = sorted(
        name for name in list_names(folder) if name.lower().endswith((".jpg", ".jpeg", ".png"))
    )
    images: dict[str, Path] = {}
    for name in names:
        stem = Path(name).stem
        if stem in images:
            raise InputError(
                f"{folder / name}: {images[stem].name} has the same name; keep one of them"
            )
        images[stem] = folder / name
    return images
