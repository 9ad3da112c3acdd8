"""Opening image files, checked."""

import struct
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

from PIL import ExifTags, Image, UnidentifiedImageError

from cfexp.data.reading.records import OFFICIAL_REMEDY
from cfexp.errors import InputError

PICTURES = (".jpg", ".jpeg", ".png")  # how the names of data sets' images end, in lower case


def read_picture(
    path: Path,
    formats: Sequence[str] = ("JPEG", "PNG"),
    content: bytes | None = None,
    remedy: str = OFFICIAL_REMEDY,
) -> Image.Image:
    """A whole image file, decoded, in its own mode; raises InputError if it is not a complete one
    of `formats`.

    content: its bytes, where they are known already (`path` is then a name for messages). remedy:
    how messages end.
    """
    try:
        # The formats are named because Pillow opens others with external programs.
        with Image.open(
            path if content is None else BytesIO(content), formats=tuple(formats)
        ) as image:
            image.load()
            return image
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; {remedy}") from None
    except UnidentifiedImageError:  # whose own message is the file's name
        problem = f"not a readable image (no {' or '.join(formats)})"
        raise InputError(f"{path}: {problem}; {remedy}") from None
    # Pillow's own decoders raise nearly anything for damaged bytes; memory and interrupts are not
    # theirs.
    except (
        OSError,
        ValueError,
        SyntaxError,
        ArithmeticError,
        LookupError,
        Image.DecompressionBombError,
    ) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path}: not a readable image ({reason}); {remedy}") from None


# Of eight bits a channel: what `convert` makes RGB of without loss but for transparency. COCO holds
# grey photographs.
EIGHT_BIT_MODES = ("RGB", "L", "P", "1", "LA", "PA", "RGBA", "CMYK", "YCbCr")


def read_rgb(path: Path, content: bytes | None = None) -> Image.Image:
    """A whole JPEG or PNG, RGB; raises InputError if it is damaged or has other than eight bits a
    channel.
    """
    picture = read_picture(path, content=content)
    if picture.mode not in EIGHT_BIT_MODES:
        problem = f"an image must have 8 bits a channel, got mode {picture.mode}"
        raise InputError(f"{path}: {problem}; {OFFICIAL_REMEDY}")
    return picture if picture.mode == "RGB" else picture.convert("RGB")  # which copies


def is_turned(picture: Image.Image) -> bool:
    """Whether a picture's EXIF says that it is to be turned or mirrored to be shown; no where that
    cannot be read.
    """
    try:
        orientation = picture.getexif().get(ExifTags.Base.Orientation, 1)
    except (OSError, ValueError, SyntaxError, LookupError, struct.error):
        return False
    return orientation in range(2, 9)
