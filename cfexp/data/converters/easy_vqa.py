"""easy-VQA (Zhou 2019), a package of drawn pictures with questions, as VQAv1."""

from pathlib import Path

from PIL import Image
from rich.progress import track

from cfexp.data.converters.folder import whole_folder
from cfexp.data.converters.vqa_files import Origin, Row, save_image, write_split
from cfexp.data.questions.files import SPLITS
from cfexp.errors import InputError


def convert_easy_vqa(out: Path, limit: int | None = None) -> None:
    """Write easy-VQA (Zhou 2019; the PyPI package `easy-vqa`) as VQAv1: its train set as train2014,
    test as val2014.

    PNG images become JPEG of quality 95 without chroma subsampling. Each answer is given ten times,
    as by ten people who agree. `limit` keeps the first images of each split only. `out` is complete
    or absent. Raises InputError if it exists with something in it, or if easy-vqa is not installed.
    """
    try:
        import easy_vqa
    except ImportError:
        raise InputError("easy-vqa is not installed; run: pip install 'cfexp[convert]'") from None
    sources = (
        (easy_vqa.get_train_questions(), easy_vqa.get_train_image_paths()),
        (easy_vqa.get_test_questions(), easy_vqa.get_test_image_paths()),
    )
    home = "https://github.com/vzhou842/easy-VQA"
    origin = Origin("easy-VQA as VQA v1.0", home, "MIT", f"{home}/blob/master/LICENSE")
    with whole_folder(out) as folder:
        for split, ((texts, answers, numbers), paths) in zip(SPLITS, sources, strict=True):
            kept = set(sorted(paths)[:limit])
            rows = (
                Row(number, text, [answer])
                for text, answer, number in zip(texts, answers, numbers, strict=True)
                if number in kept
            )
            write_split(folder, split, rows, origin)
            for number in track(sorted(kept), description=f"writing {split}"):
                with Image.open(paths[number]) as image:
                    save_image(folder, split, number, image)
