"""BDD100k's 10k segmented images (Yu et al., CVPR 2020) with BDD-OIA's actions, or the embedded
streets.
"""

import hashlib
import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cfexp.data.base import Part
from cfexp.data.label_maps.cache import LabelMapCache
from cfexp.data.label_maps.dataset import NO_REGION, LabelMapRecord, PngLabelMaps
from cfexp.data.label_maps.module import LabelMapDataModule
from cfexp.data.label_maps.plausible import STREETS
from cfexp.data.reading.archives import list_files
from cfexp.data.reading.records import OFFICIAL_REMEDY, PREDICTED_REMEDY, read_json
from cfexp.data.reading.settings import check_at_least
from cfexp.data.streets.bdd_oia import ACTIONS, Frame, Split, find_actions, read_frames
from cfexp.data.streets.edits import street_says_go
from cfexp.data.streets.segmentation import SegmentationFolders, find_segmentation, images_by_stem
from cfexp.errors import InputError
from cfexp.worlds import street_factors
from cfexp.worlds.factors import Factor, Scene
from cfexp.worlds.streets import StreetParameters, cached_streets

Source = Literal["segmentation", "classification"]
REGIONS = (
    *(
        "road",
        "sidewalk",
        "building",
        "wall",
        "fence",
        "pole",
        "traffic_light",
        "traffic_sign",
        "vegetation",
    ),
    *(
        "terrain",
        "sky",
        "person",
        "rider",
        "car",
        "truck",
        "bus",
        "train",
        "motorcycle",
        "bicycle",
        "unlabeled",
    ),
)
UNLABELED = len(REGIONS) - 1  # 255 in the files
SPLITS: tuple[Split, ...] = ("train", "val")
# Heights of an image: 16:9 as shipped, 2:1 as the paper shows it and as the embedded streets are
# drawn.
WIDTHS = (1.7, 2.1)
_NAN = (float("nan"),) * len(ACTIONS)
_log = logging.getLogger(__name__)


class BDD100kDataModule(LabelMapDataModule):
    """Trains on the train split less its last `holdout_images`, which validate; tests on the val
    split, as the paper.

    `root`: BDD100k in its current or its old layout; None = the embedded streets of the parameters
    `world`, kept in `cache_dir`. `oia_root`: where BDD-OIA's JSON files lie; None = in `root`, if
    they are there. Labels are joined by file name; images that BDD-OIA does not know have NaN
    labels, or with `require_labels` are left out. `source`: `segmentation` = the 10k images;
    `classification` = all of BDD-OIA's images (lastframe/data), which have no masks. `layouts`:
    `ground_truth` masks, `none` (every pixel unlabeled), or a folder of predicted ones. Other
    settings as in LabelMapDataModule. Raises InputError for settings out of range, and for what is
    wrong with the files.
    """

    region_names = REGIONS
    class_names = ACTIONS
    mirrored_labels = (0, 1, 3, 2)  # left and right swap
    looks = STREETS

    def __init__(
        self,
        root: str | None = None,
        oia_root: str | None = None,
        world: StreetParameters | Mapping[str, Any] | None = None,
        cache_dir: str = "~/.cache/cfexp",
        image_size: Sequence[int] = (64, 128),
        source: Source = "segmentation",
        layouts: str = "ground_truth",
        require_labels: bool = False,
        holdout_images: int = 200,
        **settings: Any,
    ) -> None:
        super().__init__(image_size=image_size, **settings)
        check_at_least(0, holdout_images=holdout_images)
        if source not in get_args(Source):
            raise InputError(f"data.source must be segmentation or classification, got {source!r}")
        if not isinstance(layouts, str):
            raise InputError(
                f"data.layouts must be ground_truth, none or a folder of masks, got {layouts!r}"
            )
        if root is None and oia_root is not None:
            if source != "classification":
                problem = "data.oia_root is given and data.root is not"
                raise InputError(f"{problem}: the embedded streets have actions already")
            root = oia_root  # BDD-OIA alone is enough
        self.root = None if root is None else Path(root).expanduser()
        self.oia_root = None if oia_root is None else Path(oia_root).expanduser()
        self.world = _street_parameters(world)
        self.cache_dir = Path(cache_dir).expanduser()
        self.source, self.layouts = source, layouts
        self.require_labels, self.holdout_images = require_labels, holdout_images
        self._records: dict[Split, list[LabelMapRecord]] = {}

    @cached_property
    def folder(self) -> Path:
        """The folder in BDD100k's layout; the embedded streets are written now if they are not
        there.
        """
        return self.root if self.root is not None else cached_streets(self.world, self.cache_dir)

    def _folder_of(self, split: Split) -> Path:
        """The folder with a split; of the embedded streets no other is written."""
        if self.root is not None:
            return self.root
        return cached_streets(self.world, self.cache_dir, split)

    def prepare_data(self) -> None:
        """Nothing: a split of the embedded streets is written when it is first read."""

    @property
    def reader(self) -> PngLabelMaps:
        """Train ids 0..18 and 255; masks that a segmenter wrote may say 19 for unlabeled."""
        return self._reader(predicted=self.layouts not in ("ground_truth", "none"))

    def _reader(self, predicted: bool) -> PngLabelMaps:
        regions = np.full(256, NO_REGION, dtype=np.uint8)
        regions[:UNLABELED] = np.arange(UNLABELED)
        regions[255] = UNLABELED
        if predicted:
            regions[UNLABELED] = UNLABELED
        reader = PngLabelMaps(regions, UNLABELED, LabelMapCache(self.cache_dir / "label_maps"))
        reader.remedy = PREDICTED_REMEDY if predicted else OFFICIAL_REMEDY
        return reader

    def own_label_map(self, record: LabelMapRecord) -> Image.Image | None:
        """The data set's mask; None where `layouts` are these or none, or the image is of BDD-OIA
        alone.
        """
        if self.layouts in ("ground_truth", "none") or self.source != "segmentation":
            return None
        split: Split = "val" if record.image.parent.name == "val" else "train"
        folders = find_segmentation(self._folder_of(split), split)
        mask = folders.masks / (record.image_id + folders.suffix)
        return self._reader(predicted=False).label_map(record._replace(label_map=mask))

    def size_problem(self, size: tuple[int, int]) -> str | None:
        """Copies of other sizes are as good as long as they are as wide."""
        if not WIDTHS[0] <= size[0] / size[1] <= WIDTHS[1]:
            return "BDD100k's images have 1280x720: the sides are stretched against each other"
        return super().size_problem(size)

    def records(self, part: Part) -> list[LabelMapRecord]:
        """The images of a part by name; raises InputError."""
        if part == "test":
            return self._split("val")
        records = self._split("train")
        count = len(records) - self.holdout_images
        if count < 1:
            if not records:
                raise InputError(f"{self.folder}: no image is of the train part; {OFFICIAL_REMEDY}")
            problem = f"leaves no image to train on: there are {len(records)}"
            raise InputError(f"data.holdout_images={self.holdout_images} {problem}; lower it")
        return records[:count] if part == "train" else records[count:]

    @cached_property
    def frames(self) -> dict[Split, dict[str, Frame]]:
        """What BDD-OIA says, by split and stem; empty where its files are not there and need not
        be. A split of the embedded streets is read when it is asked for.
        """
        frames = _BySplit(self._read_frames)
        needed = self.oia_root is not None or self.require_labels or self.source == "classification"
        # Of files all are read at once: what is wrong with them is said at the start.
        known = [] if self.root is None else [frames[split] for split in SPLITS]
        if self.root is not None and needed and not any(known):
            root = self.root if self.oia_root is None else self.oia_root
            named = "root" if self.oia_root is None else "oia_root"
            expected = f"expected {root / 'train_25k_images_actions.json'}"
            problem = f"BDD-OIA not found in data.{named}={root}: {expected}"
            raise InputError(f"{problem}. See docs/data_sets.md")
        return frames

    def _read_frames(self, split: Split) -> dict[str, Frame]:
        root = self._folder_of(split) if self.oia_root is None else self.oia_root
        path = find_actions(root, split)
        return {} if path is None else read_frames(path)

    @cached_property
    def fingerprint(self) -> str:
        """A short hash over names and sizes of the images and masks and the action files; or the
        streets' own key.
        """
        if self.root is None:
            return f"streets-{self.world.key}"
        digest = hashlib.sha256()
        for split in SPLITS:
            try:
                records = self._split(split)
            except InputError:
                continue  # a root with one split is one too
            for record in records:
                for path in (record.image, record.label_map):
                    if path is not None and path.exists():
                        digest.update(
                            f"{path.name} {path.stat().st_size} {record.labels}\n".encode()
                        )
        return digest.hexdigest()[:12]

    def describe(self, key: int) -> dict[str, Any]:
        """As always, and the reasons and the truth, where files say them."""
        described = super().describe(key)
        image_id = described["image_id"]
        frame = self._frame(image_id)
        if frame is not None and frame.reasons is not None:
            described["reasons"] = list(frame.reasons)
        truth = self.truth(image_id)
        return described if truth is None else {**described, "truth": truth}

    def truth(self, image_id: str) -> dict[str, Any] | None:
        """What the embedded world says of an image; `pixels` of its lamps are indices into the
        batch's image.

        None for photographs.
        """
        # Explained are those of the val split, as a rule.
        scene = self._truths["val"].get(image_id) or self._truths["train"].get(image_id)
        if scene is None or scene["size"] == list(self.image_size):
            return scene
        lamps = [
            {**lamp, "pixels": self._resized(lamp["pixels"], scene["size"])}
            for lamp in scene["lamps"]
        ]
        return {**scene, "size": list(self.image_size), "lamps": lamps}

    def truth_mask(self, key: int) -> NDArray[np.bool_] | None:
        """(H, W) bool, the lamps that the decision of an embedded street hangs on; None for
        photographs.
        """
        scene = self.truth(self.explained(key).image_id)
        if scene is None:
            return None
        mask = np.zeros(self.image_size, dtype=bool)
        for lamp in scene["lamps"]:
            if lamp["causal"]:
                mask.ravel()[lamp["pixels"]] = True
        return mask

    def labels_of_edit(self, key: int, picture: NDArray[Any]) -> dict[str, int]:
        """Whether one may go, by the lamps of an embedded street: see `street_says_go`."""
        scene = self.truth(self.explained(key).image_id)
        go = None if scene is None else street_says_go(picture, scene)
        return {} if go is None else {"forward": int(go), "stop": int(not go)}

    @property
    def factors(self) -> tuple[Factor, ...]:
        """What can be drawn otherwise in the embedded streets."""
        return street_factors.FACTORS if self.root is None else ()

    def scene(self, image_id: str, names: Collection[str] | None = None) -> Scene:
        """A street under interventions, see `QueryDataModule.scene`."""
        scene = street_factors.street_scene(self.world, image_id, names)
        return scene._replace(label_map=np.minimum(scene.label_map, UNLABELED))

    @cached_property
    def _truths(self) -> dict[Split, dict[str, dict[str, Any]]]:
        def read(split: Split) -> dict[str, dict[str, Any]]:
            path = self._folder_of(split) / f"streets_truth_{split}.json"
            scenes = read_json(path)["scenes"] if path.exists() else []
            return {Path(scene["file_name"]).stem: scene for scene in scenes}

        return _BySplit(read)

    def _resized(self, pixels: list[int], size: list[int]) -> list[int]:
        mask = np.zeros(size, dtype=np.uint8)
        mask.ravel()[pixels] = 1
        height, width = self.image_size
        resized = Image.fromarray(mask).resize((width, height), Image.Resampling.NEAREST)
        return np.flatnonzero(np.asarray(resized)).tolist()

    def _frame(self, stem: str, split: Split = "val") -> Frame | None:
        # The 10k subset was split otherwise than BDD-OIA; the embedded streets were not.
        first, other = ("train", "val") if self.root is None and split == "train" else SPLITS[::-1]
        return self.frames[first].get(stem) or self.frames[other].get(stem)

    def _split(self, split: Split) -> list[LabelMapRecord]:
        """The images of a split of the files, by name."""
        if split not in self._records:
            read = self._classification if self.source == "classification" else self._segmentation
            self._records[split] = read(split)
        return self._records[split]

    def _segmentation(self, split: Split) -> list[LabelMapRecord]:
        folders = find_segmentation(self._folder_of(split), split)
        images = images_by_stem(folders.images)
        labels = {
            stem: frame.actions
            for stem in images
            if (frame := self._frame(stem, split)) is not None
        }
        if self.require_labels:
            _log.info("%d of %d %s images are in BDD-OIA", len(labels), len(images), split)
            images = {stem: path for stem, path in images.items() if stem in labels}
            if not images:
                problem = (
                    f"none of the images is in BDD-OIA's files in {self.oia_root or self.folder}"
                )
                raise InputError(f"{folders.images}: {problem}, and data.require_labels=true")
        masks = self._masks(split, list(images), folders)
        return [
            LabelMapRecord(stem, path, masks[stem], labels.get(stem, _NAN))
            for stem, path in images.items()
        ]

    def _classification(self, split: Split) -> list[LabelMapRecord]:
        frames = self.frames[split]
        root = self._folder_of(split) if self.oia_root is None else self.oia_root
        candidates = (root / "lastframe" / "data", root / "data", root / "images" / "10k" / split)
        folder = next((each for each in candidates if each.is_dir()), candidates[0])
        present = images_by_stem(folder)
        missing = [frame.file_name for stem, frame in frames.items() if stem not in present]
        if missing and self.on_bad_sample == "raise":
            more = f" (nor are {len(missing) - 1} more)" if len(missing) > 1 else ""
            problem = f"the image of an action is no file there{more}"
            raise InputError(f"{folder / missing[0]}: {problem}; {OFFICIAL_REMEDY}")
        stems = sorted(frames)
        masks = self._masks(split, stems, None)
        paths = {stem: present.get(stem, folder / frames[stem].file_name) for stem in stems}
        return [
            LabelMapRecord(stem, paths[stem], masks[stem], frames[stem].actions) for stem in stems
        ]

    def _masks(
        self, split: Split, stems: list[str], folders: SegmentationFolders | None
    ) -> dict[str, Path | None]:
        """The mask of each image: the data set's own, a predicted one, or none; raises InputError
        if one is missing.
        """
        if self.layouts == "none" or (self.layouts == "ground_truth" and folders is None):
            return dict.fromkeys(stems)
        if self.layouts == "ground_truth":
            assert folders is not None
            folder, suffix = folders.masks, folders.suffix
        else:
            folder, suffix = Path(self.layouts).expanduser(), ".png"
            folder = folder / split if (folder / split).is_dir() else folder
        present = list_files(folder)
        missing = [stem for stem in stems if stem + suffix not in present]
        if missing and self.on_bad_sample == "raise":
            more = f" (nor are {len(missing) - 1} more)" if len(missing) > 1 else ""
            remedy = OFFICIAL_REMEDY if self.layouts == "ground_truth" else PREDICTED_REMEDY
            problem = f"the mask of an image is no file there{more}; {remedy}"
            raise InputError(
                f"{folder / (missing[0] + suffix)}: {problem}, or set data.on_bad_sample=skip"
            )
        return {stem: folder / (stem + suffix) for stem in stems}


class _BySplit(dict[Split, Any]):
    """What `read` makes of a split, read when it is first asked for."""

    def __init__(self, read: Callable[[Split], Any]) -> None:
        super().__init__()
        self._read = read

    def __missing__(self, split: Split) -> Any:
        self[split] = self._read(split)
        return self[split]


def _street_parameters(world: StreetParameters | Mapping[str, Any] | None) -> StreetParameters:
    if isinstance(world, StreetParameters):
        return world
    try:
        return StreetParameters(**(world or {}))
    except TypeError as error:
        raise InputError(f"data.world: {error}") from None
