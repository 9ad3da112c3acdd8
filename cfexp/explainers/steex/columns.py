"""What STEEX tells of each query beside the contract's."""

from cfexp.declaration import EVALUATIONS, RECONSTRUCTION_CLASS, Column, Shown

_SEARCHES = "searches"

COLUMNS = (
    Column("query_codes", "the style codes of the query", ("R", "D")),
    Column("style_codes", "the style codes of the counterfactual", ("R", "D")),
    RECONSTRUCTION_CLASS,
    Column(
        "refined",
        "the codes were fitted to the query's pixels: the encoder's were decided otherwise",
        summary="rate",
    ),
    Column(
        "code_distance",
        "the l2 norm of the codes' change",
        summary="mean",
        counted=_SEARCHES,
        shown=Shown("code\ndistance", 2, panel="distance of the codes"),
    ),
    Column(
        "flip_step",
        "after how many steps the decision is the one asked for; -1 = never, or by the last step",
        unit="steps",
        summary="mean",
        counted="successful searches",
        successes_only=True,
        known_from=0,
        shown=Shown("steps to\nflip"),
    ),
    EVALUATIONS,
    Column(
        "region_change",
        "the l2 norm of the change of each region's code, in the order of `region_names`",
        ("R",),
        by_region="region_codes_",
    ),
    Column("decision_curve", "the decision loss before each step", ("T",)),
    Column("proximity_curve", "the proximity loss before each step, without its weight", ("T",)),
    Column(
        "regions_absent",
        "the query has none of the regions that may change",
        counted_apart=True,
    ),
    Column("candidate_code_distance", "`code_distance` of each further candidate", ("N",)),
    Column("candidate_flip_step", "`flip_step` of each further candidate", ("N",)),
    Column("candidate_cosine", "the cosine of its edit with the nearest before it", ("N",)),
    Column("candidate_pairwise_cosine", "the mean cosine of the edits of all pairs of candidates"),
    Column(
        "sweep_success",
        "of each region alone, then each group: 1 = flips as stored, 0 = does not, -1 = absent",
        ("U",),
    ),
    Column("sweep_distance", "`code_distance` of those searches", ("U",)),
    Column("sweep_flip_step", "`flip_step` of those searches", ("U",)),
    Column("sweep_smallest_set", "which regions together suffice; none where all do not", ("R",)),
)
