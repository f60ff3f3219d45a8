"""Where a layer's output is looked at, and what its weights meet there: convolution as a product of matrices."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn import functional

from calibration.layers import Layer


class Positions:
    """So many positions of every picture's map, drawn once: a layer's outputs there, and the patches they come from."""

    def __init__(self, layer: Layer, per_picture: int, seed: int) -> None:
        self._layer = layer
        self._per_picture = per_picture
        self._chance = torch.Generator().manual_seed(seed)
        self._drawn: list[torch.Tensor] = []
        self._outputs: list[torch.Tensor] = []

    def note(self, output: torch.Tensor) -> None:
        """Draw the positions of a batch and keep the layer's output there."""
        values = self._by_position(output)
        pictures, positions, channels = values.shape
        kept = min(self._per_picture, positions)
        drawn = torch.rand(pictures, positions, generator=self._chance).topk(kept).indices
        self._drawn.append(drawn)
        self._outputs.append(values.gather(1, drawn[..., None].expand(-1, -1, channels)))

    def outputs(self) -> torch.Tensor:
        """``[pictures, positions, outputs]``."""
        return torch.cat(self._outputs)

    def inputs(self, sources: Sequence[torch.Tensor], kernel: Sequence[int]) -> torch.Tensor:
        """The patches of the layer's input, batch by batch: ``[pictures, positions, groups, weights of an output]``.

        ``kernel`` is the weight's shape behind its channels; a linear layer has none.
        """
        patches = [self._patches(*batch, kernel) for batch in zip(sources, self._drawn, strict=True)]
        return torch.cat(patches)

    def _by_position(self, values: torch.Tensor) -> torch.Tensor:
        """``[pictures, positions, channels]``."""
        last = values.movedim(1, -1) if self._layer.is_convolution else values
        return last.reshape(len(last), -1, last.shape[-1])

    def _patches(self, source: torch.Tensor, drawn: torch.Tensor, kernel: Sequence[int]) -> torch.Tensor:
        picture = torch.arange(len(source))[:, None]
        if not self._layer.is_convolution:
            return self._by_position(source)[picture, drawn][:, :, None]
        (stride, padding, dilation), groups = self._layer.window, self._layer.groups
        padded = functional.pad(source, (padding[1], padding[1], padding[0], padding[0]))
        across = (padded.shape[3] - dilation[1] * (kernel[1] - 1) - 1) // stride[1] + 1
        down = (drawn // across * stride[0])[..., None, None] + (torch.arange(kernel[0]) * dilation[0])[:, None]
        right = (drawn % across * stride[1])[..., None, None] + torch.arange(kernel[1]) * dilation[1]
        values = padded.movedim(1, -1)[picture[..., None, None], down, right]  # [pictures, positions, h, w, channels]
        by_group = values.view(*values.shape[:4], groups, -1).permute(0, 1, 4, 5, 2, 3)
        return by_group.flatten(3)
