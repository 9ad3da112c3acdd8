"""STEEX (Jacob et al., ECCV 2022, "STEEX: steering counterfactual explanations with semantics"): a
search a query, in the style codes of a frozen semantic-synthesis GAN.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import repeat
from typing import Any

import torch
from torch import Tensor, nn

from cfexp import losses
from cfexp.data.base import QueryDataModule
from cfexp.data.batch import ImageBatch
from cfexp.declaration import Declaration
from cfexp.errors import InputError
from cfexp.explainers.base import Explanation, eight_bit
from cfexp.explainers.classifier import ClassifierExplainer
from cfexp.explainers.memory import check_budget
from cfexp.explainers.steex.columns import COLUMNS
from cfexp.explainers.steex.decoder import Decoder, Frame, frame_of, redrawn
from cfexp.explainers.steex.objective import StyleSearch
from cfexp.explainers.steex.refine import refine_some
from cfexp.explainers.steex.region_sweep import sweep_regions
from cfexp.explainers.steex.regions import region_mask, unit_masks
from cfexp.explainers.steex.search import (
    OPTIMIZERS,
    candidate_columns,
    nothing_moved,
    search_candidates,
    search_style_codes,
)
from cfexp.explainers.steex.start import Start
from cfexp.models.loading.pretrained import freeze
from cfexp.models.sean.fast import FastSEAN, PreparedLabelMaps
from cfexp.models.sean.sean import SEAN


class STEEX(ClassifierExplainer):
    """Encodes the query, moves its style codes until the decision model decides otherwise, and
    decodes them.

    decision_model, head, class_names, counter_class, label: see `ClassifierExplainer`.
    autoencoder: frozen here, too.
    segmenter: images -> logits (B, R, H, W), predicts the label maps; None = those of the data set.
    regions: names of the regions that may change; None = all.
    keep_outside: outside of these the image stays the reconstruction, pixel by pixel (published:
        False). What decodes the codes of one region also touches its neighbours' rims, the more
        the farther the codes go, so that a lamp may be painted over by the background beside it.
    refine_steps: where the reconstruction is not decided as the query is, so many steps fit the
        codes to the query's pixels first, see `refine_codes` (published: 0).
    noise: each query's generator noise comes from a seed of its own, and is kept; False leaves
        noise out.
    resample_noise: draw it anew at every step, as published; from the query's seed still.
    num_candidates: how many different answers to look for, see `search_candidates`; the first is
        the counterfactual.
    sweep_regions: search each query in every region that it has by itself, too, and in
        `region_groups`, names to lists of regions; whatever `regions` says. It takes some ten times
        as long: see `region_sweep.sweep_regions`.
    optimizer, num_steps, learning_rate, proximity_weight, early_stop: see `search_style_codes`.
    memory_budget: explain so many queries of a batch at once as one step of the search fits into
        it: bytes, "8GiB", "auto" for a share of what is free; None = the whole batch. A sweep takes
        its own beside it.
    """

    called = "STEEX"
    starts_from = "reconstruction"
    columns = COLUMNS
    needs_label_map = True
    # Of 16-mixed's gradients no scale keeps the small ones here.
    precisions = ("64-true", "32-true", "bf16-true", "bf16-mixed")

    def __init__(
        self,
        decision_model: nn.Module,
        autoencoder: SEAN,
        segmenter: nn.Module | None = None,
        head: int | None = None,
        class_names: Sequence[str] | None = None,
        regions: Sequence[str] | None = None,
        counter_class: str | int | None = None,
        optimizer: str = "adam",
        num_steps: int = 100,
        learning_rate: float = 0.01,
        proximity_weight: float = 0.3,
        early_stop: bool = False,
        noise: bool = True,
        resample_noise: bool = False,
        num_candidates: int = 1,
        sweep_regions: bool = False,
        region_groups: Mapping[str, Sequence[str]] | None = None,
        memory_budget: str | int | None = None,
        label: str | None = None,
        keep_outside: bool = False,
        refine_steps: int = 0,
    ) -> None:
        """Raises InputError for a counter class that there is not, an unknown optimizer, no
        candidate, no noise to redraw, or groups that nothing sweeps.
        """
        super().__init__(decision_model, head, class_names, counter_class, label)
        # The generator's images are channels_last; with weights of another format each convolution
        # reorders its own.
        self.decision_model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.autoencoder = freeze(autoencoder)
        self.segmenter = None if segmenter is None else freeze(segmenter)
        if optimizer not in OPTIMIZERS:
            known = " or ".join(OPTIMIZERS)
            raise InputError(f"explainer.optimizer must be {known}, got {optimizer!r}")
        for name, count in {"num_steps": num_steps, "refine_steps": refine_steps}.items():
            if type(count) is not int or count < 0:
                raise InputError(f"{name} must be a whole number of at least 0, got {count!r}")
        _check_finite("learning_rate", learning_rate)
        _check_finite("proximity_weight", proximity_weight)
        switches = {"early_stop": early_stop, "noise": noise, "keep_outside": keep_outside}
        switches |= {"resample_noise": resample_noise, "sweep_regions": sweep_regions}
        for name, value in switches.items():
            if type(value) is not bool:
                raise InputError(f"explainer.{name} must be true or false, got {value!r}")
        if resample_noise and not noise:
            problem = "resample_noise=true needs noise=true: without noise there is none to redraw"
            raise InputError(problem)
        if resample_noise and optimizer != "adam":
            problem = "resample_noise=true needs optimizer=adam"
            raise InputError(f"{problem}: {optimizer} compares what one noise gives")
        if type(num_candidates) is not int or num_candidates < 1:
            problem = "num_candidates must be a whole number of at least 1"
            raise InputError(f"{problem}, got {num_candidates!r}")
        if region_groups and not sweep_regions:
            problem = "region_groups are for sweep_regions=true"
            raise InputError(f"{problem}: regions=[...] says what one search may change")
        self.optimizer = optimizer
        self.num_steps, self.refine_steps = num_steps, refine_steps
        self.learning_rate = learning_rate
        self.proximity_weight = proximity_weight
        self.early_stop, self.noise, self.keep_outside = early_stop, noise, keep_outside
        self.resample_noise, self.num_candidates = resample_noise, num_candidates
        self.sweep_regions, self.region_groups = sweep_regions, dict(region_groups or {})
        check_budget(memory_budget)
        self.memory_budget = memory_budget
        self.regions = None if regions is None else list(regions)
        self.region_mask: Tensor | None = None
        self.units: Tensor | None = None
        self.generator: FastSEAN | None = None

    @property
    def declaration(self) -> Declaration:
        """As always, with what was chosen for this run."""
        return super().declaration._replace(
            regions=None if self.regions is None else tuple(self.regions),
            region_groups=tuple(self.region_groups),
        )

    def looks(self, image: Tensor, label_map: Tensor) -> dict[str, Callable[[], object]]:
        """Of each network, by its attribute: what it does with images; see `ScoredStage.looks`."""
        seen: dict[str, Callable[[], object]] = {
            "decision_model": lambda: self.decision_model(image),
            "autoencoder": lambda: self.autoencoder(image, label_map),
        }
        if self.segmenter is not None:
            segmenter = self.segmenter
            seen["segmenter"] = lambda: segmenter(image)
        return seen

    def settle(self, data: QueryDataModule) -> None:
        """Look the regions up; raises InputError as `let_change` and `unit_masks`."""
        super().settle(data)
        names = data.region_names
        if self.sweep_regions:
            self.units = unit_masks(names, self.region_groups)
        self.let_change(self.regions, names)

    def let_change(self, regions: Sequence[str] | None, region_names: Sequence[str]) -> None:
        """Choose the regions that may change, as in the constructor; raises InputError for one that
        there is not.
        """
        mask = None if regions is None else region_mask(regions, region_names).to(self.device)
        self.regions, self.region_mask = None if regions is None else list(regions), mask

    def queries_that_fit(self, batch: ImageBatch) -> int:
        """As many as `memory_budget` allows; raises InputError for a budget that is too small for
        one.
        """
        if self.memory_budget is not None:
            self._folded()  # once, and not while memory is measured
        return super().queries_that_fit(batch)

    def explain_briefly(self, batch: ImageBatch) -> None:
        """Explain by one step, without what follows the first answer."""
        brief: dict[str, Any] = {"num_steps": 1, "num_candidates": 1, "refine_steps": 0}
        brief |= {"units": None, "region_mask": None}
        kept = {name: vars(self)[name] for name in brief}
        vars(self).update(brief)
        try:
            self.explain(batch)
        finally:
            vars(self).update(kept)

    @torch.enable_grad()
    def explain(self, batch: ImageBatch) -> Explanation:
        """One counterfactual for each image of the batch.

        Beside the contract's: `label_map` (B, H, W) int64; `query_codes` and `style_codes` (B, R,
        D), before and after (of a `CellSEAN` each cell's); `code_distance` (B,), the l2 norm of the
        codes' change; `region_change` (B, R), of each region's; `flip_step` (B,);
        `reconstruction_class` (B,), what the decision model says of the reconstruction: where that
        is not the query's decision, there is nothing to explain; the two curves of `StyleSearch`;
        with `refine_steps`, `refined` (B,) bool, whose codes were fitted to the pixels first.
        Of N > 1 candidates, the others: `candidates` (B, N - 1, 3, H, W), and
        `candidate_code_distance`, `candidate_flip_step` and `candidate_cosine` (B, N - 1), the last
        of an edit with the nearest before it; and `candidate_pairwise_cosine` (B,), the mean of all
        pairs. Of a sweep: the fields of `RegionSweep`, as `sweep_success` and so on.

        Where some `regions` may change alone, also `regions_absent` (B,) bool, of queries without
        any: their counterfactual is the reconstruction. A batch of such queries takes no step.

        Raises InputError for a counter class that the decision model does not have.
        """
        generator = self._folded()
        start = self._start(generator, batch)
        codes, counter_class = start.codes, self.asked_for(start.query_logits)
        absent = self._regions_absent(start.label_map)
        found, *further = self._candidates(generator, start, counter_class, absent, batch.key)
        change = (found.style_codes - codes).norm(dim=2)
        return Explanation(
            query=batch.image,
            reconstruction=start.reconstruction,
            counterfactual=found.image,
            query_logits=self.exclusive(start.query_logits),
            counterfactual_logits=self.exclusive(found.logits),
            counter_class=counter_class,
            extras={
                "label_map": start.label_map,
                "query_codes": codes,
                "style_codes": found.style_codes,
                "reconstruction_class": self.exclusive(start.logits).argmax(1),
                "code_distance": change.norm(dim=1),
                "region_change": self.autoencoder.by_region(change),
                **({"refined": start.refined} if self.refine_steps else {}),
                "flip_step": found.flip_step,
                "evaluations": found.evaluations,
                "decision_curve": found.decision_curve,
                "proximity_curve": found.proximity_curve,
                **({} if self.region_mask is None else {"regions_absent": absent}),
                **(candidate_columns(found, further, codes) if further else {}),
                **self._sweep(generator, start, counter_class, batch.key.tolist()),
            },
        )

    def _start(self, generator: FastSEAN, batch: ImageBatch) -> Start:
        """Encode the queries; refine the codes of those whose reconstruction is decided otherwise
        than they are, if `refine_steps` says so.
        """
        with torch.no_grad():
            label_map = batch.label_map
            if self.segmenter is not None:
                label_map = self.segmenter(batch.image).argmax(1)
            # Codes of eight bits are not the query's.
            with torch.autocast(self.device.type, enabled=False):
                codes = self.autoencoder.encode(batch.image, label_map)
            prepared = generator.prepare(label_map, batch.key.tolist() if self.noise else None)
            reconstruction = generator.decode(codes, prepared)
            query_logits, logits = map(self.decide, (batch.image, reconstruction))
        query_class, reconstruction_class = (
            self.exclusive(each).argmax(1) for each in (query_logits, logits)
        )
        refined = (reconstruction_class != query_class) & (self.refine_steps > 0)
        if refined.any():
            settings = self.refine_steps, self.learning_rate
            codes = refine_some(generator, prepared, batch.image, codes, refined, *settings)
            with torch.no_grad():
                reconstruction = generator.decode(codes, prepared)
                logits = self.decide(reconstruction)
        return Start(label_map, prepared, codes, reconstruction, query_logits, logits, refined)

    def _candidates(
        self,
        generator: FastSEAN,
        start: Start,
        counter_class: Tensor,
        absent: Tensor,
        keys: Tensor,
    ) -> list[StyleSearch]:
        """`num_candidates` searches of each query; those that are `absent` (B,) stay as they are.

        keys: (B,) int64, the queries' own seeds.
        """
        still = nothing_moved(
            start.codes,
            start.reconstruction,
            start.logits,
            counter_class,
            self.head,
            self.num_steps,
        )
        if absent.all():
            return [still] * self.num_candidates
        frame = mask = None
        if self.region_mask is not None:
            allowed = self.region_mask.to(absent.device) & ~absent[:, None]
            mask = self.autoencoder.codes_of(allowed)
            if self.keep_outside:
                frame = frame_of(start.label_map, self.region_mask, start.reconstruction)
        decoder = self._decoder(generator, start.prepared, keys.tolist(), frame)
        candidates = search_candidates(
            decoder,
            self.decision_model,
            start.codes,
            counter_class,
            narrowed=self._narrowed(decoder),
            num_candidates=self.num_candidates,
            seeds=keys,
            region_mask=mask,
            **self._settings,
        )
        if absent.any():  # noise that is redrawn would move their images
            candidates = [still.where(absent, candidate) for candidate in candidates]
        return candidates

    def _folded(self) -> FastSEAN:
        """The generator, folded at the first call."""
        if self.generator is None:
            self.generator = FastSEAN(self.autoencoder)
        return self.generator

    @property
    def _settings(self) -> dict[str, Any]:
        """What all searches share."""
        names = "head", "optimizer", "num_steps", "learning_rate", "proximity_weight", "early_stop"
        return {name: getattr(self, name) for name in names}

    def _sweep(
        self,
        generator: FastSEAN,
        start: Start,
        counter_class: Tensor,
        keys: list[int],
    ) -> dict[str, Tensor]:
        """What `sweep_regions` finds, if asked for; each search is what `regions` alone would make
        of the query.
        """
        if self.units is None:
            return {}
        label_map, codes = start.label_map, start.codes

        def search(row: int, masks: Tensor) -> StyleSearch:
            same = [row] * len(masks)
            of_row = [keys[row]] * len(masks)
            prepared = generator.prepare(label_map[same], of_row if self.noise else None)
            frame = None
            if self.keep_outside:
                frame = frame_of(label_map[same], masks, start.reconstruction[same])
            decoder = self._decoder(generator, prepared, of_row, frame)
            return search_style_codes(
                decoder,
                self.decision_model,
                codes[same],
                counter_class[same],
                narrowed=self._narrowed(decoder),
                region_mask=self.autoencoder.codes_of(masks),
                **self._settings,
            )

        @torch.no_grad()
        def margin(image: Tensor, row: int) -> Tensor:
            logits = self.decide(eight_bit(image))
            return losses.decision_margin(logits, counter_class[[row] * len(image)], self.head)

        present = self.autoencoder.by_region((codes != 0).any(2).to(codes.dtype)) > 0
        found = sweep_regions(search, margin, codes, self.units, present)
        return {f"sweep_{name}": values for name, values in found._asdict().items()}

    def _regions_absent(self, label_map: Tensor) -> Tensor:
        """(B,) bool: of queries in which none of the regions that may change has a pixel."""
        if self.region_mask is None:
            return torch.zeros(len(label_map), dtype=torch.bool, device=label_map.device)
        return ~self.region_mask.to(label_map.device)[label_map].flatten(1).any(1)

    def _decoder(
        self,
        generator: FastSEAN,
        prepared: PreparedLabelMaps,
        keys: Sequence[int],
        frame: Frame | None,
    ) -> Decoder:
        steps = redrawn(generator, prepared, keys) if self.resample_noise else repeat(prepared)
        return Decoder(generator, steps, frame)

    def _narrowed(self, decoder: Decoder) -> Callable[[Tensor], Decoder] | None:
        """Of noise that is redrawn every query takes all steps: the last image has the last's."""
        return None if self.resample_noise else decoder.of


def _check_finite(name: str, value: object) -> None:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not 0 <= value < float("inf"):  # type: ignore[operator]  # it is a number
        raise InputError(f"{name} must be a finite number of at least 0, got {value!r}")
