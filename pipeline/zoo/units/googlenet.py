"""GoogLeNet's network, and the heads that it is trained with."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence

from torch import nn

from pipeline.zoo.units.blocks import GlobalAveragePool, initialise, make_divisible
from pipeline.zoo.units.inception import Convolution, Inception
from pipeline.zoo.units.pooling import GridPool
from pipeline.zoo.units.training_heads import TrainingHeads

STEM = (64, 64, 192)
HEAD_UNITS = ("inception4a", "inception4d")
HEAD_GRID, HEAD_CHANNELS, HEAD_HIDDEN = 4, 128, 1024

Stages = Sequence[Sequence[tuple[int, ...]]]
"""The widths of each inception unit, by stage: 3a, 3b; 4a … 4e; 5a, 5b."""


class GoogLeNet(nn.Sequential):
    """A stem, nine inception units in three stages, one linear layer; names as in torchvision's state dict.

    ``normalise`` makes a layer of response normalisation for a channel count, and two are used, as published. With
    None every convolution has batch norm instead, and the last pooling is 2×2, as torchvision has it.
    """

    def __init__(
        self,
        classes: int,
        stages: Stages,
        width: float,
        dropout: float,
        auxiliary_weight: float,
        auxiliary_dropout: float,
        normalise: Callable[[int], nn.Module] | None,
        branch5_kernel: int = 5,
    ) -> None:
        super().__init__()
        self.classes, self.width = classes, width
        self.auxiliary_weight, self.auxiliary_dropout = auxiliary_weight, auxiliary_dropout
        self.batch_norm = normalise is None
        first, second, channels = (make_divisible(base * width) for base in STEM)
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        layers["conv1"] = Convolution(3, first, 7, 2, batch_norm=self.batch_norm)
        layers["maxpool1"] = nn.MaxPool2d(3, 2, ceil_mode=True)
        if normalise is not None:
            layers["normalise1"] = normalise(first)
        layers["conv2"] = Convolution(first, second, 1, batch_norm=self.batch_norm)
        layers["conv3"] = Convolution(second, channels, 3, batch_norm=self.batch_norm)
        if normalise is not None:
            layers["normalise2"] = normalise(channels)
        for stage, units in enumerate(stages, 3):
            kernel = 2 if self.batch_norm and stage == 5 else 3
            layers[f"maxpool{stage - 1}"] = nn.MaxPool2d(kernel, 2, ceil_mode=True)
            for letter, base in zip("abcde", units, strict=False):
                widths = tuple(make_divisible(number * width) for number in base)
                unit = Inception(channels, widths, branch5_kernel, self.batch_norm)
                layers[f"inception{stage}{letter}"] = unit
                channels = unit.outputs
        layers["avgpool"] = GlobalAveragePool()
        layers["dropout"] = nn.Dropout(dropout)
        layers["fc"] = nn.Linear(channels, classes)
        for name, layer in layers.items():
            self.add_module(name, layer)

    def training_heads(self, side: int) -> TrainingHeads | None:
        """The heads on 4a and 4d (§5) for pictures of this side; None where their weight is 0.

        As published: 5×5 / 3 average pooling, which leaves 4×4 of 14×14 positions, a 1×1 convolution to 128 channels,
        a layer of 1,024, dropout, a linear layer. Deviation: at other sides the pooling is the one that leaves
        4×4 positions, or all of them where there are fewer.
        """
        if self.auxiliary_weight == 0:
            return None
        positions = (side + 1) // 2 // 8  # a convolution of stride 2, rounded up; three poolings, rounded down
        heads = {name: self._head(name, min(HEAD_GRID, positions)) for name in HEAD_UNITS}
        made = TrainingHeads(heads, self.auxiliary_weight)
        initialise(made)
        return made

    def _head(self, name: str, grid: int) -> nn.Module:
        unit = self.get_submodule(name)
        assert isinstance(unit, Inception)
        channels, hidden = (make_divisible(base * self.width) for base in (HEAD_CHANNELS, HEAD_HIDDEN))
        return nn.Sequential(
            GridPool(grid),
            Convolution(unit.outputs, channels, 1, batch_norm=self.batch_norm),
            nn.Flatten(),
            nn.Linear(channels * grid**2, hidden),
            nn.ReLU(),
            nn.Dropout(self.auxiliary_dropout),
            nn.Linear(hidden, self.classes),
        )

    def extra_repr(self) -> str:
        """For ``repr``."""
        return f"auxiliary_weight={self.auxiliary_weight:g}, auxiliary_dropout={self.auxiliary_dropout:g}"
