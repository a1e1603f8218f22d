"""The original of an image that a source gives from memory, as a split keeps it; reads and writes no files."""

from steps.common.images.dataset import png_original
from steps.common.images.png import encode_png
from steps.common.parameters import ImageFormat
from steps.preprocess.sources.source import Part


def original(part: Part, row: int, image_format: ImageFormat) -> str:
    """An image without a file of its own, as its source gave it; empty if the split has just that."""
    image = part.get(row)
    if isinstance(image, bytes):
        return png_original(image)
    side = image_format.image_size
    is_kept = image.shape == (side, side) and image_format.channels == 1
    return "" if is_kept else png_original(encode_png(image))
