"""The contract of a data module, whatever it reads: what training, explaining and storing may ask
of it.
"""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Literal, cast

from lightning import LightningDataModule, LightningModule, Trainer
from numpy.typing import NDArray

from cfexp.worlds.factors import Factor, Scene

Part = Literal["train", "val", "test"]
Palette = Mapping[str, tuple[int, int, int]]  # colour name -> RGB in 0..255


class QueryDataModule(LightningDataModule):
    """Queries that a model decides about, in three parts; each has an integer key that tells it
    from every other.

    A subclass gives what raises NotImplementedError here, and Lightning's loaders. Its batches are
    named tuples of tensors, see `cfexp.data.batch`.
    """

    asks_questions = False  # whether a query is an image with a question about it
    batches_seen = 0  # of the epoch that a training goes on with, which was stopped amid it
    root: Path | None = None  # where the files lie; None = an embedded world
    region_names: tuple[str, ...] = ()  # R names; region i of a label map is the i-th
    # settings of a config that every stage on the same data shares, beside where they lie
    shared_settings: tuple[str, ...] = ()

    def __init__(self) -> None:
        super().__init__()
        self.allow_zero_length_dataloader_with_multiple_devices = True  # of few queries
        self._left_out: set[int] = set()

    @property
    def folder(self) -> Path:
        """Where the files lie: `root`; an embedded world is written now if it is not there."""
        if self.root is None:
            raise NotImplementedError
        return self.root

    @property
    def class_names(self) -> tuple[str, ...]:
        """K names: of the labels, or the answers of a VQA model of this vocabulary."""
        raise NotImplementedError

    @property
    def palette(self) -> Palette | None:
        """The colours that a drawn world is painted in; None for photographs."""
        return None

    @property
    def facts(self) -> dict[str, int]:
        """What sizes the networks: `num_regions`, `num_classes`, `num_words` and so on, as the data
        determine it.
        """
        raise NotImplementedError

    @property
    def fingerprint(self) -> str:
        """Which data this is: a short hash over the files that say it, or the embedded world's own
        key.
        """
        raise NotImplementedError

    @property
    def description(self) -> dict[str, Any]:
        """What is stored once beside the explanations of a run, as JSON takes it."""
        raise NotImplementedError

    def dataset(self, part: Part) -> Any:
        """The data set of one part, made on first use; raises InputError for whatever is wrong with
        the files.
        """
        raise NotImplementedError

    def class_name(self, index: int) -> str:
        """What output `index` of a model of these labels says of a query."""
        return self.class_names[index]

    def leave_out(self, keys: Collection[int]) -> None:
        """Explain the other queries only: these are explained already."""
        self._left_out = set(keys)

    def describe(self, key: int) -> dict[str, Any]:
        """What is known of a query, as JSON takes it, for its record: `image_id`, and what else the
        data set says.
        """
        raise NotImplementedError

    def truth_mask(self, key: int) -> NDArray[Any] | None:
        """(H, W) bool, where what the query asks about, or the cause, is in its picture; None =
        nobody says.
        """
        return None

    def labels_of_edit(self, key: int, picture: NDArray[Any]) -> dict[str, int]:
        """What an edit of a query, (H, W, 3) uint8, is by the truth of the world it was drawn from:
        labels by name, 0 or 1.

        Those that nobody can tell are left out: all of them of photographs, and of pictures in
        which a cause is half turned.
        """
        return {}

    @property
    def factors(self) -> tuple[Factor, ...]:
        """What can be drawn otherwise in an embedded world whose causes are known; () = nothing."""
        return ()

    def scene(self, image_id: str, names: Collection[str] | None = None) -> Scene:
        """The scene of an image as it is and under each intervention, where there are `factors`.

        names: of the factors that are drawn; None = all. The label map is of `region_names`.
        """
        raise NotImplementedError

    def save_vocabulary(self, folder: Path) -> None:
        """Leave in `folder` what numbers words and answers, for whoever uses a network that was
        trained on this.
        """


def data_of(owner: LightningModule | Trainer) -> QueryDataModule:
    """The data module that a module, or a trainer, is at work on."""
    trainer = owner.trainer if isinstance(owner, LightningModule) else owner
    return cast(QueryDataModule, getattr(trainer, "datamodule"))  # noqa: B009  # Lightning sets it, and declares it nowhere
