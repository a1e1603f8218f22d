"""Random affine augmentation of a whole batch at once, on whatever device it is on."""

import math

import torch
from torch.nn import functional


def augment(
    images: torch.Tensor,
    generator: torch.Generator,
    *,
    rotation: float,
    translation: float,
    zoom: float,
    shear: float,
) -> torch.Tensor:
    """Images float32 [N, H, W, C] from uint8 [N, H, W, C], each under an affine map of its own.

    `rotation` is in degrees, `translation` a fraction of the side, `zoom` and `shear` are relative; each is drawn
    evenly from minus to plus its value. What comes in from outside repeats the image's edge, so that dark and light
    backgrounds are treated alike.
    """

    def draw(limit: float) -> torch.Tensor:
        return (torch.rand(len(images), generator=generator) * 2 - 1) * limit

    angle, size, slant = draw(math.radians(rotation)), 1 + draw(zoom), draw(shear)
    cos, sin = torch.cos(angle) / size, torch.sin(angle) / size
    right = torch.stack([cos, slant * cos - sin, 2 * draw(translation)], dim=1)
    down = torch.stack([sin, slant * sin + cos, 2 * draw(translation)], dim=1)
    maps = torch.stack([right, down], dim=1).to(images.device)
    pixels = images.permute(0, 3, 1, 2).float()
    grid = functional.affine_grid(maps, list(pixels.shape), align_corners=False)
    moved = functional.grid_sample(pixels, grid, padding_mode="border", align_corners=False)
    return moved.permute(0, 2, 3, 1)
