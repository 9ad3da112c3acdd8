"""`python -m cfexp.reconstruct` as a user calls it."""

from functools import partial
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_module
from PIL import Image

from cfexp import reconstruct
from cfexp.evaluation.report.gallery import region_color, region_colors
from cfexp.run.configuration import register_resolvers
from cfexp.worlds.faces import FaceParameters, write_celebamask_hq
from tests.commands import InProcess, Main
from tests.tiny_streets import untrained_networks

SMALL = [
    "+requires.autoencoder.overrides=['network.base_channels=4','network.style_dim=8']",
    "data.cache_images=false",
]


@pytest.fixture
def main(in_process: InProcess) -> Main:
    """Runs `python -m cfexp.reconstruct ARGUMENTS` within this process."""
    return partial(in_process, reconstruct.main)


def test_images_layouts_and_reconstructions_are_one_picture(main: Main, tmp_path: Path) -> None:
    write_celebamask_hq(FaceParameters(faces=12, image_size=64), tmp_path / "faces")
    register_resolvers()
    torch.manual_seed(0)
    with initialize_config_module("cfexp.conf", version_base="1.3"):
        config = compose(
            "reconstruct", overrides=["+experiment=steex_smile", *SMALL, "+facts.num_regions=19"]
        )
    given = untrained_networks(config, ["autoencoder"], tmp_path)
    command = [
        "+experiment=steex_smile",
        *SMALL,
        f"data.root={tmp_path / 'faces'}",
        f"cache_dir={tmp_path / 'cache'}",
    ]
    command += ["data.first_test_id=8", "data.holdout_images=1", "num_threads=1"]
    command += [*given, "num_images=6"]
    shown = []
    for name in ("a.png", "b.png"):
        code, stdout, stderr = main(*command, f"output={name}")
        assert code == 0, stderr
        assert stdout[-1].startswith("4 images, PSNR ")  # there are no more
        assert stdout[-1].endswith(f" dB: {name}")
        with Image.open(tmp_path / name) as picture:
            shown.append(picture.tobytes())
            assert picture.size == (4 * 166 + 6, 3 * 166 + 6)
            assert picture.getpixel((8, 8 + 166)) == region_color(0)  # the background
    assert shown[0] == shown[1]
    assert not (tmp_path / "cache" / "stages").exists()  # no other network of the search is needed


def test_every_region_has_its_colour() -> None:
    colors = region_colors(torch.tensor([[[0, 3], [18, 0]]]))
    assert colors.shape == (1, 3, 2, 2)
    for (row, column), region in {(0, 0): 0, (0, 1): 3, (1, 0): 18}.items():
        assert ((colors[0, :, row, column] + 1) * 127.5).round().int().tolist() == list(
            region_color(region)
        )


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ((), "error: choose a search, e.g. +experiment=steex_smile (--help lists them)"),
        (
            ("+experiment=steex_smile", "num_images=0"),
            "error: num_images must be a whole number of at least 1, got 0",
        ),
        (
            ("+experiment=steex_smile", "output=no/a.png"),
            "error: output=no/a.png: there is no folder no",
        ),
    ],
)
def test_a_wrong_command_line_is_one_line(
    main: Main, arguments: tuple[str, ...], line: str
) -> None:
    assert main(*arguments) == (2, [], [line])
