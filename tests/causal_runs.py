"""Runs over embedded streets of decision models whose causes are known, for they are written down
here.
"""

import json
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf
from torch import Tensor, nn

from cfexp.data.streets.bdd100k import BDD100kDataModule
from cfexp.declaration import Declaration
from cfexp.evaluation.run_folder import RunFolder, from_pixels

CLASSES = ("stop", "go")


class SeesRed(nn.Module):
    """Stops for a pixel of a lamp's bright red: of a light, or of a car that brakes in any lane."""

    factors: tuple[str, ...] = ("light", "brake_lights")

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, images: Tensor) -> Tensor:
        red, green, blue = images.unbind(1)
        is_lamp = (red > 0.8) & (green < -0.3) & (blue < -0.3)
        return self.scale * (10.0 - 20.0 * is_lamp.any(2).any(1))[:, None]


class SeesBlue(SeesRed):
    """Stops for a blue facade."""

    factors = ("facade",)

    def forward(self, images: Tensor) -> Tensor:
        red, green, blue = images[:, :, 20:34].unbind(1)
        is_facade = (blue - red > 0.5) & (blue - green > 0.25) & (blue < 0.5)
        return self.scale * (10.0 - 20.0 * (is_facade.sum((1, 2)) > 40))[:, None]


def write_causal_run(
    folder: Path, network: type[SeesRed], *, count: int = 8, bias: float = 0.0, swept: bool = True
) -> Path:
    """A run whose explanations are true to `network`: they exchange the first of its factors that
    turns the decision, and claim of each region alone what is so.
    """
    data, model = BDD100kDataModule(), network()

    def goes(pixels: Any) -> bool:
        return bool(model(from_pixels(pixels[None]))[0, 0] > 0)

    run, names = RunFolder(folder), data.region_names
    regions = {each.name: each.regions[0] for each in data.factors if each.regions}
    with run.writer() as store:
        for key in range(count):
            scene = data.scene(f"00000001-{key:08x}", network.factors)
            go = goes(scene.image)
            turning = {
                regions[name]: picture
                for name, pair in scene.drawn.items()
                for picture in pair
                if goes(picture) != go
            }
            now = go != bool(turning)
            there = [number in scene.label_map for number in range(len(names))]
            swept_regions = zip(names, there, strict=True)
            sweep = [int(name in turning) if has else -1 for name, has in swept_regions]
            known = {
                "key": key,
                "image_id": f"00000001-{key:08x}",
                **{"query_class": int(go), "counter_class": int(not go)},
                **{"counterfactual_class": int(now), "stored_class": int(now)},
                **{"success": now != go, "stored_success": now != go},
                **{"answer_before": CLASSES[go], "answer_after": CLASSES[now]},
                "has_truth_mask": False,
                **({"sweep_success": sweep} if swept else {}),
            }
            made = next(iter(turning.values()), scene.image)
            pictures = {"query": scene.image, "reconstruction": scene.image, "counterfactual": made}
            store.add(known, {**pictures, "label_map": scene.label_map})
    run.finish()
    run.declare(Declaration("by hand", by_direction=True, class_names=CLASSES, label="forward"))
    (folder / "data.json").write_text(json.dumps({"region_names": names}), encoding="utf-8")
    checkpoint = folder / "explained.ckpt"
    torch.save(model.state_dict(), checkpoint)
    decision_model = {
        "_target_": "cfexp.models.loading.pretrained.load_network",
        "checkpoint": str(checkpoint),
        "network": {"_target_": f"{__name__}.{network.__name__}"},
    }
    streets = {
        "_target_": "cfexp.data.streets.bdd100k.BDD100kDataModule",
        "world": {"planted_bias": bias},
    }
    content = {
        "name": "by_hand",
        "explainer": {"decision_model": decision_model, "head": 0},
        "data": streets,
        "checkpoints": {},
        "requires": {},
    }
    OmegaConf.save(OmegaConf.create(content), folder / "config.yaml")
    return folder
