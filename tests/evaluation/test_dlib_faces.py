import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cfexp.errors import InputError
from cfexp.evaluation.dlib_faces import DIMENSION, descriptors
from cfexp.evaluation.run_folder import from_pixels

FACES = Path(__file__).parents[3] / "shared" / "real"


def test_a_picture_without_a_face_has_no_descriptor() -> None:
    pytest.importorskip("dlib")
    found = descriptors()(torch.zeros(2, 3, 96, 96))
    assert found.shape == (2, DIMENSION)
    assert found.isnan().all()


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "dlib", None)
    with pytest.raises(InputError, match=r"dlib=true needs dlib: pip install 'cfexp\[face\]'"):
        descriptors()


def test_photographs() -> None:
    pytest.importorskip("dlib")
    photos = sorted((FACES / "CelebA" / "img_align_celeba").glob("*.jpg"))[:4]
    if not photos:
        pytest.skip("the photographs are not there")
    images = from_pixels(
        np.stack([np.asarray(Image.open(photo).convert("RGB")) for photo in photos])
    )
    first, darker = (descriptors()(each) for each in (images, 0.8 * images - 0.1))
    both = ~(first.isnan() | darker.isnan()).any(1)
    assert both.sum() >= 2
    distances = torch.cdist(first[both], darker[both])
    assert distances.diagonal().max() < 0.6  # the same person
    others = distances[~torch.eye(len(distances), dtype=torch.bool)]
    assert others.min() > distances.diagonal().max()
