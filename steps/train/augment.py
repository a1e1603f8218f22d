"""Random affine augmentation of a batch, on the device of the batch. Reads and writes nothing."""

import math

import torch
from torch.nn import functional

_MIRRORED = 0.5


def draw_maps(
    images: int,
    generator: torch.Generator,
    *,
    rotation: float,
    translation: float,
    zoom: float,
    shear: float,
    flip: bool,
) -> torch.Tensor:
    """Draw an affine map for each image.

    Each quantity is drawn uniformly between minus and plus its limit.

    Args:
        images: How many.
        generator: Draws the maps.
        rotation: In degrees.
        translation: A fraction of the side.
        zoom: A fraction of the size.
        shear: A fraction of the side.
        flip: Whether every second image, by chance, is mirrored from left to right.

    Returns:
        Maps float32 [images, 2, 3], for `augment`.
    """

    def draw(limit: float) -> torch.Tensor:
        return (torch.rand(images, generator=generator) * 2 - 1) * limit

    angle, size, slant = draw(math.radians(rotation)), 1 + draw(zoom), draw(shear)
    cos, sin = torch.cos(angle) / size, torch.sin(angle) / size
    right = torch.stack([cos, slant * cos - sin, 2 * draw(translation)], dim=1)
    down = torch.stack([sin, slant * sin + cos, 2 * draw(translation)], dim=1)
    if flip:
        right *= torch.where(torch.rand(images, generator=generator) < _MIRRORED, -1, 1)[:, None]
    return torch.stack([right, down], dim=1)


def augment(images: torch.Tensor, maps: torch.Tensor) -> torch.Tensor:
    """Apply its affine map to each image.

    Pixels outside the image repeat its edge, so that dark and light backgrounds are treated alike.

    Args:
        images: uint8 [N, H, W, C].
        maps: float32 [N, 2, 3], of `draw_maps`.

    Returns:
        Images float32 [N, H, W, C].
    """
    pixels = images.permute(0, 3, 1, 2).float()
    grid = functional.affine_grid(maps.to(images.device), list(pixels.shape), align_corners=False)
    moved = functional.grid_sample(pixels, grid, padding_mode="border", align_corners=False)
    return moved.permute(0, 2, 3, 1)
