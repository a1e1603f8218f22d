"""The baseline for training: a PyTorch loop like those in tutorials, for the same network.

A DataLoader with two workers over the files of pixels, batches of 16, SGD with momentum, float32, no augmentation.
"""

import time

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from steps.common.images.dataset import Split
from steps.common.models.network import Network
from steps.train.arcface import ArcFace
from steps.train.auto import Numbers
from steps.train.parameters import Train


class Images(Dataset[tuple[NDArray[np.uint8], int]]):
    """The images of a split, read one at a time from the file of pixels."""

    def __init__(self, split: Split) -> None:
        self.split = split

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, row: int) -> tuple[NDArray[np.uint8], int]:
        return np.array(self.split.images[row]), int(self.split.labels[row])


def train_plainly(split: Split, parameters: Train, chosen: Numbers, epochs: int) -> tuple[Network, float]:
    """Train on a split.

    Args:
        split: Training images uint8 [N, height, width, channels] and their labels.
        parameters: The size of embeddings, and the seed.
        chosen: Channels of the network's convolutions, and the scale and margin of ArcFace.
        epochs: Passes over the split.

    Returns:
        The network in evaluation mode, and images per second over all epochs.
    """
    torch.manual_seed(parameters.seed)
    network = Network(split.images.shape[-1], chosen.widths, parameters.embedding_size)
    network.mean.fill_(float(split.images[:].mean()))
    network.std.fill_(float(split.images[:].std()))
    arcface = ArcFace(len(split.classes), parameters.embedding_size, chosen.scale, chosen.margin)
    optimizer = torch.optim.SGD([*network.parameters(), *arcface.parameters()], lr=0.01, momentum=0.9)
    loader = DataLoader(Images(split), batch_size=16, shuffle=True, num_workers=2)
    began = time.perf_counter()
    for _ in range(epochs):
        for images, labels in loader:
            optimizer.zero_grad()
            arcface(network(images), labels).backward()
            optimizer.step()
    return network.eval(), epochs * len(split) / (time.perf_counter() - began)
