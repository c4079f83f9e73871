"""Turns a picture of any size and colour into the 8x8 grid for the classifier."""

import struct

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

Array = NDArray[np.float64]

SIDE = 8
FORMATS = ("PNG", "JPEG", "GIF", "BMP", "WEBP")
MAX_PIXELS = 25_000_000
TOO_LARGE = "image has more than 25 megapixels"
LONGEST_SIDE = 1024
LEAST_CONTRAST = 0.1
LEAST_INK = 0.1


class BadPictureError(ValueError):
    """The upload is not a picture of a digit; the message tells the caller why."""


def read_digit(path: str) -> Array:
    """Read the digit in a picture file as a grid of shape (8, 8): 0 is background, 16 is ink.

    Raises BadPictureError if the file is not a picture, is too large, or has only one colour.
    """
    return to_grid(ink(read_grey(path)))


def read_grey(path: str) -> Array:
    """Read the brightness of a picture, shape (height, width): 0 is black, transparent is white.

    A large picture is scaled down to 1024 pixels on its longer side. Raises BadPictureError.
    """
    try:
        with Image.open(path, formats=FORMATS) as picture:
            if picture.width * picture.height > MAX_PIXELS:
                raise BadPictureError(TOO_LARGE)
            upright: Image.Image = ImageOps.exif_transpose(picture)
            if upright.mode.startswith("I"):  # 16 bits per pixel: "L" would clip them to 8
                return np.asarray(upright, dtype=np.float64)
            if upright.has_transparency_data:
                paper = Image.new("RGBA", upright.size, "white")
                upright = Image.alpha_composite(paper, upright.convert("RGBA"))
            grey = upright.convert("L")
            grey.thumbnail((LONGEST_SIDE, LONGEST_SIDE))  # never enlarges a picture
            return np.asarray(grey, dtype=np.float64)
    except BadPictureError:
        raise
    except Image.DecompressionBombError as error:
        raise BadPictureError(TOO_LARGE) from error
    except (OSError, SyntaxError, ValueError, struct.error) as error:  # raised by Pillow's readers
        raise BadPictureError("image is not a readable PNG, JPEG, GIF, BMP or WebP file") from error


def ink(grey: Array) -> Array:
    """Return the distance of each pixel from the background, 0 to 1, in the same shape.

    The background is the median of the picture's border, so that dark digits on light paper and
    light digits on a dark ground give the same result.
    """
    border = np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])
    distance = np.abs(grey - np.median(border))
    if distance.max() <= LEAST_CONTRAST * grey.max():
        raise BadPictureError("image shows no digit: it is all of one colour")
    strength: Array = distance / distance.max()
    return strength


def to_grid(ink: Array) -> Array:
    """Cut out the digit, scale it to fill the 8x8 grid, keep its proportions, and centre it.

    `ink` has any shape (height, width) and values from 0 to 1; the grid has values from 0 to 16.
    """
    rows = np.flatnonzero(ink.max(axis=1) > LEAST_INK)
    columns = np.flatnonzero(ink.max(axis=0) > LEAST_INK)
    digit = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    scale = SIDE / max(digit.shape)
    height, width = (max(1, round(length * scale)) for length in digit.shape)
    small = Image.fromarray(digit.astype(np.float32)).resize((width, height), Image.Resampling.BOX)
    top, left = (SIDE - height) // 2, (SIDE - width) // 2
    grid = np.zeros((SIDE, SIDE))
    grid[top : top + height, left : left + width] = np.asarray(small)
    return 16 * grid
