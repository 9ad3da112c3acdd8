"""Make the project's wandb workspace: `python experiments/dashboards/make_workspace.py --entity
ME`.
"""

import argparse
import sys
from types import ModuleType
from typing import Any

# Settings that are swept and the figures that they trade, an explainer a panel.
VQA = (
    [
        "explainer.l2_weight",
        "explainer.mask_weight",
        "explainer.color_weight",
        "explainer.adversarial_weight",
    ],
    [
        f"test/what color/{metric}"
        for metric in ("accuracy_after", "flip_rate_right", "edit_locality", "rms_change")
    ],
)
STEEX = (
    ["explainer.proximity_weight", "explainer.num_steps", "explainer.learning_rate"],
    [
        f"test/all/{metric}"
        for metric in ("success_kept", "code_distance", "flip_step", "rms_change", "ssim")
    ],
)
CURVES = [
    "val/flip_rate",
    "val/accuracy_after",
    "val/squared_l2",
    "train/l2",
    "train/counterfactual",
]
PICTURES = ["test/counterfactuals", "val/counterfactuals", "test/cards", "test/table"]


def sections(ws: ModuleType, wr: ModuleType) -> list[Any]:
    """The workspace's sections, of wandb-workspaces' classes."""
    sweeps = [
        parallel_coordinates(wr, title, *axes) for title, axes in (("VQA", VQA), ("STEEX", STEEX))
    ]
    return [
        ws.Section(name="Sweeps", panels=sweeps, is_open=True),
        ws.Section(
            name="Training",
            panels=[wr.LinePlot(title=curve, x="Step", y=[curve]) for curve in CURVES],
        ),
        ws.Section(
            name="Explanations",
            panels=[wr.MediaBrowser(media_keys=[key]) for key in PICTURES],
            is_open=True,
        ),
    ]


def parallel_coordinates(
    wr: ModuleType, title: str, settings: list[str], figures: list[str]
) -> Any:
    """A panel with an axis a setting and an axis a figure."""
    axes = [wr.Config(setting) for setting in settings] + [
        wr.SummaryMetric(figure) for figure in figures
    ]
    return wr.ParallelCoordinatesPlot(
        title=title, columns=[wr.ParallelCoordinatesPlotColumn(metric=axis) for axis in axes]
    )


def main() -> None:
    """Build it, and save it to wandb, whose key comes from `wandb login` or WANDB_API_KEY."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split(":")[0])
    parser.add_argument(
        "--entity", required=True, help="the user or team that the project belongs to"
    )
    parser.add_argument("--project", default="cfexp")
    parser.add_argument("--name", default="Counterfactual explanations", help="of the workspace")
    arguments = parser.parse_args()
    try:
        import wandb_workspaces.reports.v2 as wr
        import wandb_workspaces.workspaces as ws
    except ModuleNotFoundError as error:
        remedy = "pip install wandb-workspaces -c constraints.txt"
        print(f"error: {error.name} is not installed: {remedy}", file=sys.stderr)
        sys.exit(2)
    workspace = ws.Workspace(
        entity=arguments.entity,
        project=arguments.project,
        name=arguments.name,
        sections=sections(ws, wr),
    )
    workspace.save()
    print(workspace.url)


if __name__ == "__main__":
    main()
