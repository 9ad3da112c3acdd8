"""Questions about a scene of coloured shapes, in VQAv1's question types, and ten people's answers
to each.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

# Eight names around the colour circle, RGB in [0, 255].
COLORS: dict[str, tuple[int, int, int]] = {
    "red": (205, 55, 50),
    "orange": (230, 130, 45),
    "yellow": (225, 200, 60),
    "green": (75, 165, 75),
    "cyan": (65, 175, 170),
    "blue": (60, 100, 200),
    "purple": (135, 75, 180),
    "pink": (215, 105, 165),
}
# What people also say: synonyms, which the metric counts as other answers.
SHAPES: dict[str, tuple[str, ...]] = {
    "circle": ("ball", "round", "disc"),
    "square": ("box", "rectangle", "block"),
    "triangle": ("pyramid", "arrow"),
    "star": ("starfish", "flower"),
    "cross": ("plus", "plus sign", "x"),
}
_SHADES = ("dark {}", "light {}", "bright {}")
# Radii in pixels of a 64-pixel image.
SIZES: dict[str, float] = {"small": 7.5, "large": 10.5}


class SceneObject(NamedTuple):
    """One object; `x` and `y` are its centre in [0, 1], `doubt` in [0, 1] is how near its colour is
    to another.
    """

    shape: str
    color: str
    size: str
    x: float
    y: float
    doubt: float


class Question(NamedTuple):
    """A question, its true answer, what else annotators say, and the objects (indices) that it asks
    about.
    """

    text: str
    question_type: str
    answer_type: str
    answer: str
    alternatives: tuple[str, ...]
    asked: list[int]
    doubt: float = 0.0


def ask(objects: list[SceneObject], rng: np.random.Generator) -> list[Question]:
    """Up to seven questions about a scene, each with one true answer: at most three about colour,
    then one a kind.
    """
    colors = list(_color_questions(objects))
    kinds = [
        list(kind(objects)) for kind in (_shape_questions, _count_questions, _left_right_questions)
    ]
    chosen = [colors[i] for i in sorted(rng.permutation(len(colors))[:3])]
    chosen += [kind[rng.integers(len(kind))] for kind in kinds if kind]
    chosen.append(_existence_question(objects, rng))
    return chosen


def human_answers(
    question: Question, disagreement: float, rng: np.random.Generator
) -> list[dict[str, str | int]]:
    """Ten answers in VQAv1's form: mostly the true one; the less plain the case, the more of them
    differ.
    """
    share = disagreement * (1 + question.doubt)
    answers: list[dict[str, str | int]] = []
    for answer_id in range(1, 11):
        differs = rng.random() < share
        said = str(rng.choice(question.alternatives)) if differs else question.answer
        confidence = str(
            rng.choice(("yes", "maybe", "no"), p=(0.3, 0.5, 0.2) if differs else (0.85, 0.12, 0.03))
        )
        answers.append({"answer": said, "answer_confidence": confidence, "answer_id": answer_id})
    return answers


def _color_questions(objects: list[SceneObject]) -> Iterator[Question]:
    for shape in dict.fromkeys(thing.shape for thing in objects):
        same = [i for i, thing in enumerate(objects) if thing.shape == shape]
        colors = {objects[i].color for i in same}
        if len(same) == 1:
            yield _color_question(f"What color is the {shape}?", objects, same)
            continue
        if len(colors) == 1:
            yield _color_question(f"What color are the {_plural(shape)}?", objects, same)
        for i in same:
            if [objects[j].size for j in same].count(objects[i].size) == 1:
                yield _color_question(f"What color is the {objects[i].size} {shape}?", objects, [i])


def _color_question(text: str, objects: list[SceneObject], asked: list[int]) -> Question:
    color = objects[asked[0]].color
    names = list(COLORS)
    position = names.index(color)
    neighbours = (names[position - 1], names[(position + 1) % len(names)])
    # Shades are said three times as often as a neighbouring colour.
    alternatives = tuple(shade.format(color) for shade in _SHADES) * 2 + neighbours
    question_type = "what color are the" if len(asked) > 1 else "what color is the"
    return Question(
        text,
        question_type,
        "other",
        color,
        alternatives,
        asked,
        max(objects[i].doubt for i in asked),
    )


def _shape_questions(objects: list[SceneObject]) -> Iterator[Question]:
    for i, thing in enumerate(objects):
        if [other.color for other in objects].count(thing.color) == 1:
            text = f"What shape is the {thing.color} object?"
            yield Question(text, "what", "other", thing.shape, SHAPES[thing.shape], [i])


def _count_questions(objects: list[SceneObject]) -> Iterator[Question]:
    everything = list(range(len(objects)))
    groups = {"objects": everything}
    for shape in SHAPES:
        groups[_plural(shape)] = [i for i in everything if objects[i].shape == shape]
    present = {noun: asked for noun, asked in groups.items() if asked}
    for noun, asked in present.items():
        count = len(asked)
        others = (str(count - 1), str(count + 1))
        yield Question(
            f"How many {noun} are there?", "how many", "number", str(count), others, asked
        )


def _left_right_questions(objects: list[SceneObject]) -> Iterator[Question]:
    for i, thing in enumerate(objects):
        if [other.shape for other in objects].count(thing.shape) > 1:
            continue
        for side, sign in (("left", -1), ("right", 1)):
            # Six pixels of 64: nearer than that, people would not say left or right.
            beside = [
                j
                for j, other in enumerate(objects)
                if j != i and sign * (other.x - thing.x) > 6 / 64
            ]
            unsure = [
                j for j, other in enumerate(objects) if j != i and abs(other.x - thing.x) <= 6 / 64
            ]
            if len(beside) == 1 and not unsure:
                answer = objects[beside[0]].shape
                text = f"What is {side} of the {thing.shape}?"
                yield Question(text, "what is", "other", answer, SHAPES[answer], [beside[0]])


def _existence_question(objects: list[SceneObject], rng: np.random.Generator) -> Question:
    """Yes and no are equally likely, for a shape or a colour."""
    by_shape, present = rng.random() < 0.5, rng.random() < 0.5
    named = [thing.shape if by_shape else thing.color for thing in objects]
    absent = [name for name in (SHAPES if by_shape else COLORS) if name not in named]
    if present or not absent:
        name = str(rng.choice(named))
        asked, answer, other = [i for i, n in enumerate(named) if n == name], "yes", "no"
    else:
        name, asked, answer, other = str(rng.choice(absent)), [], "no", "yes"
    noun = name if by_shape else f"{name} object"
    # the official list has no "is there an": "is there" is the next shorter one
    question_type = "is there a"
    if noun[0] in "aeiou":
        return Question(f"Is there an {noun}?", "is there", "yes/no", answer, (other,), asked)
    return Question(f"Is there a {noun}?", question_type, "yes/no", answer, (other,), asked)


def _plural(shape: str) -> str:
    return f"{shape}es" if shape.endswith("s") else f"{shape}s"
