"""What data modules tell of causes that can be drawn otherwise."""

from pathlib import Path

import numpy as np

from cfexp.data.faces.celebamask_hq import CelebAMaskHQDataModule
from cfexp.data.streets.bdd100k import BDD100kDataModule


def test_an_embedded_street_can_be_drawn_otherwise_and_a_photograph_cannot(tmp_path: Path) -> None:
    data = BDD100kDataModule()
    scene = data.scene("00000001-00000000", ["facade"])
    assert set(scene.drawn) == {"facade"}
    changed = (scene.drawn["facade"][0] != scene.drawn["facade"][1]).any(2)
    assert set(np.unique(scene.label_map[changed])) == {data.region_names.index("building")}
    assert scene.label_map.max() < len(data.region_names)
    assert BDD100kDataModule(root=str(tmp_path)).factors == ()


def test_so_can_an_embedded_face(tmp_path: Path) -> None:
    data = CelebAMaskHQDataModule(world={"faces": 40, "image_size": 64})
    scene = data.scene("7", ["smile", "glasses_there"])
    assert set(scene.drawn) == {"smile", "glasses_there"}
    changed = (scene.drawn["smile"][0] != scene.drawn["smile"][1]).any(2)
    mouth = [data.region_names.index(name) for name in ("mouth", "upper_lip", "lower_lip")]
    assert set(np.unique(scene.label_map[changed])) == set(mouth)
    assert CelebAMaskHQDataModule(root=str(tmp_path)).factors == ()
