"""Where a layer's output is looked at, and what its weights meet there: convolution as a product of matrices."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn import functional

from calibration.algorithms.layers import Layer
from calibration.axes import batch_axis, channels_last


class Positions:
    """So many positions of every image, drawn once: a layer's outputs there, and the patches that they come from.

    A position is one pixel of a map, one token, or one value of a batch axis that holds several entries per image
    (windows). ``images`` says how many images each batch has.
    """

    def __init__(self, layer: Layer, images: Sequence[int], per_image: int, seed: int) -> None:
        self._layer = layer
        self._images = images
        self._per_image = per_image
        self._chance = torch.Generator().manual_seed(seed)
        self._drawn: list[torch.Tensor] = []
        self._outputs: list[torch.Tensor] = []

    def note(self, output: torch.Tensor) -> None:
        """Draw the positions of the next batch and store the layer's output there."""
        values = self._by_position(output, self._images[len(self._drawn)])
        images, positions, channels = values.shape
        kept = min(self._per_image, positions)
        drawn = torch.rand(images, positions, generator=self._chance).topk(kept).indices
        self._drawn.append(drawn)
        self._outputs.append(values.gather(1, drawn[..., None].expand(-1, -1, channels)))

    def outputs(self) -> torch.Tensor:
        """``[images, positions, outputs]``."""
        return torch.cat(self._outputs)

    def inputs(self, sources: Sequence[torch.Tensor], kernel: Sequence[int]) -> torch.Tensor:
        """The patches of the layer's input, batch by batch: ``[images, positions, groups, weights of an output]``.

        ``kernel`` is the weight's shape behind its channels; a linear layer has none.
        """
        patches = [self._patches(*batch, kernel) for batch in zip(sources, self._drawn, strict=True)]
        return torch.cat(patches)

    def _by_position(self, values: torch.Tensor, images: int) -> torch.Tensor:
        """``[images, positions, channels]``."""
        last = channels_last(self._layer.node.target, values)
        return last.movedim(batch_axis(self._layer.node), 0).reshape(images, -1, last.shape[-1])

    def _patches(self, source: torch.Tensor, drawn: torch.Tensor, kernel: Sequence[int]) -> torch.Tensor:
        image = torch.arange(len(drawn))[:, None]
        if not self._layer.is_convolution:
            return self._by_position(source, len(drawn))[image, drawn][:, :, None]
        (stride, padding, dilation), groups = self._layer.window, self._layer.groups
        padded = functional.pad(source, (padding[1], padding[1], padding[0], padding[0]))
        axes = zip(padded.shape[2:], kernel, stride, dilation, strict=True)
        high, across = ((side - apart * (taps - 1) - 1) // step + 1 for side, taps, step, apart in axes)
        row = image * (len(source) // len(drawn)) + drawn // (high * across)  # of several maps per image
        drawn = drawn % (high * across)
        down = (drawn // across * stride[0])[..., None, None] + (torch.arange(kernel[0]) * dilation[0])[:, None]
        right = (drawn % across * stride[1])[..., None, None] + torch.arange(kernel[1]) * dilation[1]
        values = padded.movedim(1, -1)[row[..., None, None], down, right]  # [images, positions, h, w, channels]
        by_group = values.view(*values.shape[:4], groups, -1).permute(0, 1, 4, 5, 2, 3)
        return by_group.flatten(3)
