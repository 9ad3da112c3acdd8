"""What commands in tests are given, and the types of the fixtures that run them."""

from collections.abc import Callable

# Arguments -> exit code, lines of stdout, of stderr: of a command, and of a command's main.
Main = Callable[..., tuple[int, list[str], list[str]]]
InProcess = Callable[..., tuple[int, list[str], list[str]]]

VQA_SMOKE = [
    *("+experiment=vqa_color", "+overlay=smoke", "data.image_size=32"),
    *("num_threads=1", "logger=csv"),
]
