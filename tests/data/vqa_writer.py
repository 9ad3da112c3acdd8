"""A handful of questions about a handful of pictures, in VQAv1's layout, small enough to damage in
every way.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

TRAIN_IMAGES, VAL_IMAGES, QUESTIONS_PER_IMAGE = 8, 4, 3
COLORS = {"red": [200, 40, 40], "green": [40, 180, 60], "blue": [40, 60, 200]}
Json = dict[str, Any]


def write_vqa(root: Path, scene_graphs: bool = True) -> Path:
    """Train images 11..18, val images 91..94 of 48 x 32 pixels: a coloured square of 8 x 8 on grey,
    off-centre.
    """
    for split, first, count in (("train2014", 11, TRAIN_IMAGES), ("val2014", 91, VAL_IMAGES)):
        (root / split).mkdir(parents=True)
        questions: list[Json] = []
        annotations: list[Json] = []
        scenes: list[Json] = []
        asked: dict[str, list[int]] = {}
        for image_id in range(first, first + count):
            color = list(COLORS)[image_id % 3]
            _write_image(root / split / f"COCO_{split}_{image_id:012d}.jpg", COLORS[color])
            texts = (
                ("What color is the square?", "what color is the", "other", color),
                ("Is there a circle?", "is there a", "yes/no", "no"),
                # One answer a picture: most are not among the frequent ones.
                (
                    f"How many squares-like things are in picture {image_id}?",
                    "how many",
                    "number",
                    str(image_id),
                ),
            )
            for k, (text, question_type, answer_type, answer) in enumerate(texts):
                keys = {"question_id": image_id * 10 + k, "image_id": image_id}
                questions.append({**keys, "question": text})
                people = [
                    {"answer": answer, "answer_confidence": "yes", "answer_id": n}
                    for n in range(1, 11)
                ]
                annotations.append(
                    {
                        **keys,
                        "question_type": question_type,
                        "answer_type": answer_type,
                        "multiple_choice_answer": answer,
                        "answers": people,
                    }
                )
            asked[str(image_id * 10)], asked[str(image_id * 10 + 1)] = [0], []
            # Columns 12..19, rows 4..11 of a 32-row picture, column by column.
            counts = [12 * 32 + 4, *[8, 24] * 7, 8, 32 * 48 - 19 * 32 - 12]
            mask = {"size": [32, 48], "counts": counts}
            thing = {
                "shape": "square",
                "color": color,
                "size": "small",
                "box": [12, 4, 8, 8],
                "mask": mask,
            }
            scenes.append({"image_id": image_id, "objects": [thing]})
        header = {"info": {}, "data_type": "mscoco", "data_subtype": split, "license": {}}
        dump(root / f"OpenEnded_mscoco_{split}_questions.json", {**header, "questions": questions})
        dump(root / f"mscoco_{split}_annotations.json", {**header, "annotations": annotations})
        if scene_graphs:
            graph = {"info": {"palette": COLORS}, "scenes": scenes, "questions": asked}
            dump(root / f"scene_graphs_{split}.json", graph)
    return root


def dump(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content), encoding="utf-8")


def load(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _write_image(path: Path, rgb: list[int]) -> None:
    pixels = np.full((32, 48, 3), 128, dtype=np.uint8)
    pixels[4:12, 12:20] = rgb
    Image.fromarray(pixels).save(path, quality=95, subsampling=0)
