"""A user's own images, in every mode that files come in, and all that is wrong with some."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from cfexp.data.own.images import OwnImages, drawn_regions, fit_image
from cfexp.data.questions.vqa import VQADataModule
from cfexp.data.streets.bdd100k import REGIONS, BDD100kDataModule
from cfexp.errors import InputError
from cfexp.worlds.face_names import REGIONS as FACE_REGIONS

REAL = Path(__file__).parents[4] / "shared" / "real" / "bdd100k"
SIZE = (32, 64)  # of the networks: height, width
ORIENTATION = 0x0112


def picture(width: int = 128, height: int = 64) -> Image.Image:
    """A bright left half, and a red upper right quarter."""
    pixels = np.full((height, width, 3), 20, dtype=np.uint8)
    pixels[:, : width // 2] = 220
    pixels[: height // 2, width // 2 :] = (200, 30, 30)
    return Image.fromarray(pixels)


def own(images: list[Path], **settings: Any) -> OwnImages:
    data_set = BDD100kDataModule(image_size=SIZE, **settings.pop("data_set", {}))
    return OwnImages([str(path) for path in images], data_set, **settings)


def pixels_of(image: Image.Image) -> list[list[int]]:
    """Of the fitted image: in the left half, upper right and lower right."""
    rgb = np.asarray(fit_image(image, SIZE, "it")[0])
    return [rgb[16, 8].tolist(), rgb[4, 56].tolist(), rgb[28, 56].tolist()]


MODES: dict[str, tuple[Callable[[Image.Image], Image.Image], str]] = {
    "RGB": (lambda image: image, "128x64, reduced to 64x32"),
    "L": (lambda image: image.convert("L"), "128x64, L made RGB, reduced to 64x32"),
    "P": (lambda image: image.quantize(8), "128x64, P made RGB, reduced to 64x32"),
    "CMYK": (lambda image: image.convert("CMYK"), "128x64, CMYK made RGB, reduced to 64x32"),
    "1": (lambda image: image.convert("1"), "128x64, 1 made RGB, reduced to 64x32"),
    "RGBA": (lambda image: image.convert("RGBA"), "128x64, RGBA over white, reduced to 64x32"),
}


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_becomes_rgb_and_it_is_said(mode: str) -> None:
    convert, told = MODES[mode]
    image = convert(picture())
    assert fit_image(image, SIZE, "it")[1] == told
    bright, red, dark = pixels_of(image)
    if mode == "1":  # dithered
        return
    assert min(bright) > 200
    assert max(dark) < 40
    if mode != "L":
        assert (red[0] > 180, red[1] < 60) == (True, True)


def test_16_bits_are_scaled_and_wider_values_refused() -> None:
    grey = np.full((64, 128), 20 * 257, dtype=np.uint16)
    grey[:, :64] = 65535
    for values in (grey, grey.astype(np.int32)):
        image, told = fit_image(Image.fromarray(values), SIZE, "it")
        assert told == "128x64, 16-bit grey made RGB, reduced to 64x32"
        assert (image.getpixel((8, 16)), image.getpixel((56, 16))) == ((255,) * 3, (20,) * 3)
    with pytest.raises(
        InputError, match=r"^it: grey values must be of 8 or 16 bits, got 0\.\.70000$"
    ):
        fit_image(Image.fromarray(np.array([[0, 70000]], dtype=np.int32)), SIZE, "it")
    with pytest.raises(
        InputError, match=r"^it: an image must have 8 or 16 bits a channel, got mode F$"
    ):
        fit_image(Image.fromarray(np.zeros((64, 128), dtype=np.float32)), SIZE, "it")


def test_what_is_transparent_is_white(tmp_path: Path) -> None:
    rgba = picture().convert("RGBA")
    rgba.putalpha(Image.new("L", rgba.size, 0))
    assert pixels_of(rgba) == [[255, 255, 255]] * 3
    indexed = picture().quantize(3)
    transparent = indexed.getpixel((8, 16))  # the bright half's colour
    indexed.save(tmp_path / "indexed.png", transparency=transparent)
    with Image.open(tmp_path / "indexed.png") as opened:
        assert pixels_of(opened)[0] == [255, 255, 255]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_photograph_is_put_upright(orientation: int, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    # What is seen upright is turned so that the tag undoes it: Pillow's own reading is the
    # reference.
    stored = picture() if orientation < 5 else picture(64, 128)
    stored.save(tmp_path / "photo.png", exif=exif)
    with Image.open(tmp_path / "photo.png") as opened:
        seen, told = fit_image(opened, SIZE, "it")
        expected = ImageOps.exif_transpose(opened)
    assert seen.tobytes() == expected.resize((64, 32), Image.Resampling.BICUBIC).tobytes()
    assert (
        told
        == f"128x64{'' if orientation == 1 else ', turned as its EXIF data says'}, reduced to 64x32"
    )


def test_stretching_and_enlarging_are_said_and_too_few_pixels_refused() -> None:
    told = [
        fit_image(picture(*size), SIZE, "it")[1]
        for size in ((640, 480), (64, 32), (40, 20), (129, 64))
    ]
    assert told == [
        "640x480, reduced to 64x32, its sides stretched by 1.50 against each other",
        "64x32",
        "40x20, enlarged to 64x32",
        "129x64, reduced to 64x32",
    ]
    with pytest.raises(
        InputError,
        match=r"^it: is 640x15 pixels, too small for networks of 64x32; give at least 32x16$",
    ):
        fit_image(picture(640, 15), SIZE, "it")


def test_files_folders_and_lists_are_a_data_set(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    (folder / "inner").mkdir(parents=True)
    (folder / "notes.txt").write_text("")
    for name in ("b.jpg", "A.PNG"):
        picture().save(folder / name)
    picture(64, 64).convert("L").save(tmp_path / "b.png")
    data = own([folder, tmp_path / "b.png"])
    data.setup("predict")
    (batch,) = data.predict_dataloader()
    assert batch.image_id == (
        "A",
        str(folder / "b.jpg"),
        str(tmp_path / "b.png"),
    )  # two are called b
    assert (batch.image.shape, batch.key.tolist()) == ((3, 3, *SIZE), [0, 1, 2])
    assert batch.labels.isnan().all()
    assert data.describe(2)["labels"]["forward"] is None
    assert data.facts == {"num_regions": 20, "num_classes": 4, "height": 32, "width": 64}
    first, second = data.check()
    assert first == f"{folder / 'A.PNG'} and 1 more: 128x64, reduced to 64x32"
    assert second.startswith(
        f"{tmp_path / 'b.png'}: 64x64, L made RGB, reduced to 64x32, its sides stretched by 2.00"
    )
    kept = data.fingerprint
    assert own([folder, tmp_path / "b.png"]).fingerprint == kept
    picture(66, 64).save(tmp_path / "b.png")
    assert own([folder, tmp_path / "b.png"]).fingerprint != kept
    assert own([folder], fingerprint="given").fingerprint == "given"
    assert len(own([folder], data_set={"max_test_images": 1}).check()) == 1


def test_a_bad_image_among_others_can_be_skipped(tmp_path: Path) -> None:
    picture().save(tmp_path / "a.png")
    (tmp_path / "b.jpg").write_bytes(b"<html>404</html>")
    with pytest.raises(InputError, match=r"b\.jpg: not a readable image .*; is it an image\?"):
        own([tmp_path]).check()
    data = own([tmp_path], data_set={"on_bad_sample": "skip"})
    assert len(data.check()) == 1
    data.setup("predict")
    assert [batch.image_id for batch in data.predict_dataloader()] == [("a",)]


def test_a_drawn_layout_holds_the_data_sets_own_numbers(tmp_path: Path) -> None:
    picture().save(tmp_path / "photo.png")
    drawn = np.zeros((16, 32), dtype=np.uint8)
    drawn[:8, 16:], drawn[8:, 16:] = 6, 255
    Image.fromarray(drawn).save(tmp_path / "mask.png")
    data = own([tmp_path / "photo.png"], label_maps=[str(tmp_path / "mask.png")])
    label_map = data.dataset("test")[0].label_map[0]
    expected = (
        torch.from_numpy(np.where(drawn == 255, 19, drawn))
        .repeat_interleave(2, 0)
        .repeat_interleave(2, 1)
    )
    assert torch.equal(label_map, expected.long())
    palette = Image.fromarray(drawn).convert("P")
    palette.putpalette([7] * 768)  # whatever the colours
    (tmp_path / "masks").mkdir()
    palette.save(tmp_path / "masks" / "photo.png")
    data = own([tmp_path / "photo.png"], label_maps=[str(tmp_path / "masks")])
    assert data.check() == [f"{tmp_path / 'photo.png'}: 128x64, reduced to 64x32"]


def test_regions_are_numbered_as_the_data_sets_number_them() -> None:
    streets, faces = drawn_regions(REGIONS), drawn_regions(FACE_REGIONS)
    assert [streets[value] for value in (0, 18, 19, 20, 255)] == [0, 18, 19, 255, 19]
    assert [faces[value] for value in (0, 18, 19, 255)] == [0, 18, 255, 255]


def test_a_layout_is_drawn_over_the_upright_image_to_within_a_pixel(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    picture(64, 128).save(tmp_path / "photo.jpg", exif=exif)
    for size, fits in (((128, 64), True), ((51, 26), True), ((64, 128), False), ((64, 48), False)):
        Image.new("L", size, 3).save(tmp_path / "mask.png")
        data = own([tmp_path / "photo.jpg"], label_maps=[str(tmp_path / "mask.png")])
        if fits:
            done, odd = data.check()
            assert "turned as its EXIF data says" in done
            assert odd == f"label_map={tmp_path / 'mask.png'}: holds one region only, wall 100 %"
        else:
            with pytest.raises(
                InputError,
                match=f"mask.png: the label map is {size[0]}x{size[1]}, its image 128x64",
            ):
                data.check()


@pytest.mark.parametrize(
    ("mask", "line"),
    [
        (
            Image.new("L", (128, 64), 20),
            r"mask\.png: label id 20 is none of 0\.\.19, 255; see docs/own_images_and_",
        ),
        (
            Image.new("RGB", (128, 64)),
            r"mask\.png: a label map must be 8-bit grey or with a palette .* got mode RGB",
        ),
        (None, r"label_map=.*mask\.png: no such file"),
    ],
    ids=["out of range", "in colours", "missing"],
)
def test_a_layout_that_cannot_be_used_is_one_line(
    mask: Image.Image | None, line: str, tmp_path: Path
) -> None:
    picture().save(tmp_path / "photo.png")
    if mask is not None:
        mask.save(tmp_path / "mask.png")
    with pytest.raises(InputError, match=line) as raised:
        own([tmp_path / "photo.png"], label_maps=[str(tmp_path / "mask.png")]).check()
    assert "\n" not in str(raised.value)


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^image=.*no\.jpg: no such file or folder$"):
        own([tmp_path / "no.jpg"])
    with pytest.raises(InputError, match=r"^image=.*: no image in this folder \(\.jpg, "):
        own([tmp_path])
    with pytest.raises(InputError, match=r"^image=\[\] names no image$"):
        own([])
    picture().save(tmp_path / "photo.png")
    with pytest.raises(
        InputError, match=r"^label_map= must be one for each image: 2 for 1; or give a folder$"
    ):
        own([tmp_path / "photo.png"], label_maps=["a.png", "b.png"])
    with pytest.raises(
        InputError,
        match="image= is for experiments that search in label maps, not for VQADataModule",
    ):
        OwnImages([str(tmp_path / "photo.png")], VQADataModule())  # type: ignore[arg-type]


@pytest.mark.skipif(not REAL.is_dir(), reason="../shared/real is not here")
def test_real_files_are_read_as_the_data_set_reads_them() -> None:
    data_set = BDD100kDataModule(str(REAL), image_size=(128, 256), holdout_images=0)
    dataset = data_set.dataset("train")
    images, masks = (
        REAL / "images" / "10k" / "train",
        REAL / "labels" / "sem_seg" / "masks" / "train",
    )
    data = OwnImages([str(images)], data_set, label_maps=[str(masks)])
    data.setup("predict")
    (batch,) = data.predict_dataloader()
    assert len(dataset) == len(batch.image) > 10
    for row, image_id in enumerate(batch.image_id):
        expected = dataset[row]
        assert expected.image_id == (image_id,)
        assert torch.equal(batch.image[row], expected.image[0])
        assert torch.equal(batch.label_map[row], expected.label_map[0])
    assert len(data.check()) == 1


def test_the_training_part_is_the_data_sets(tmp_path: Path) -> None:
    picture().save(tmp_path / "photo.png")
    world = {"train_scenes": 2, "val_scenes": 1}
    settings = {"world": world, "cache_dir": str(tmp_path), "holdout_images": 1}
    data = own([tmp_path / "photo.png"], data_set=settings)
    assert [record.image_id for record in data.dataset("test").records] == ["photo"]
    (record,) = data.dataset("train").records
    assert record.image_id != "photo"
    with pytest.raises(InputError, match="of the train part of the data set: say where it lies"):
        own([tmp_path / "photo.png"], has_root=False).dataset("train")
