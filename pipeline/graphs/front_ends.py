"""From a network to graphs: normalisation inside, one front end per kind of picture input."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.export import Dim, ExportedProgram, export

from calibration.ranges import Range
from edge_apps.runtime.manifest import OutputKind
from edge_apps.runtime.preprocess import Preprocess
from pipeline.graphs.half import half


class ImageInput(nn.Module):
    """Float pixels 0…255, ``[N, 3, H, W]`` RGB → logits ``[N, K]``: what Core ML hands over, and what calibrates."""

    scale: torch.Tensor
    offset: torch.Tensor

    def __init__(self, network: nn.Module, preprocess: Preprocess) -> None:
        super().__init__()
        self.network = network
        mean, std = torch.tensor(preprocess.mean), torch.tensor(preprocess.std)
        self.register_buffer("scale", (1 / (255 * std)).view(1, 3, 1, 1))
        self.register_buffer("offset", (-mean / std).view(1, 3, 1, 1))

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """(pixel / 255 − mean) / std, then the network."""
        logits: torch.Tensor = self.network(pixels * self.scale + self.offset)
        return logits


class BytesInput(ImageInput):
    """Raw bytes uint8 ``[1, H, W, 3]`` RGB → logits ``[1, K]``: what ``.pte`` and ``.tflite`` take."""

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Channels first, as float, then as ``ImageInput``."""
        return super().forward(pixels.permute(0, 3, 1, 2).to(self.scale.dtype))


class ClassifierInput(ImageInput):
    """As ``ImageInput``, with the probabilities before the network's output: a Core ML classifier's two outputs."""

    def __init__(self, network: nn.Module, preprocess: Preprocess, output: OutputKind = "logits") -> None:
        super().__init__(network, preprocess)
        self.output = output

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:  # type: ignore[override]
        """``(probabilities, output)``, both ``[N, K]``; the network's own probabilities are not put through softmax."""
        output = super().forward(pixels)
        if self.output == "logits":
            return torch.softmax(output, dim=-1), output
        return output, output * 1.0  # two tensors: coremltools takes the one that it classifies by from the outputs


class _HalfPrecision(nn.Module):
    """Bytes in, float32 logits out, float16 between."""

    def __init__(self, front: nn.Module) -> None:
        super().__init__()
        self.front = front

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.front(pixels)
        return logits.float()


def in_half(front: nn.Module) -> nn.Module:
    """A copy that computes in float16."""
    return _HalfPrecision(half(front))


def input_range(preprocess: Preprocess) -> Range:
    """The interval of the normalised image: pixel 0 to 255 through every channel's mean and std."""
    channels = list(zip(preprocess.mean, preprocess.std, strict=True))
    return Range(min(-m / s for m, s in channels), max((1 - m) / s for m, s in channels))


def capture_images(front: ImageInput, preprocess: Preprocess, batch: int | None = None) -> ExportedProgram:
    """The graph for batches of any size, or of one size: calibration and simulation."""
    if batch is not None:
        return export(front, (torch.zeros(batch, 3, preprocess.height, preprocess.width),), strict=False)
    example = torch.zeros(2, 3, preprocess.height, preprocess.width)
    return export(front, (example,), dynamic_shapes=({0: Dim("batch", min=1, max=4096)},), strict=False)


def capture_image(front: nn.Module, preprocess: Preprocess) -> ExportedProgram:
    """The graph for one picture as float ``[1, 3, H, W]``."""
    return export(front, (torch.zeros(1, 3, preprocess.height, preprocess.width),), strict=False)


def capture_bytes(front: nn.Module, preprocess: Preprocess) -> ExportedProgram:
    """The graph for one picture as bytes uint8 ``[1, H, W, 3]``."""
    example = torch.zeros(1, preprocess.height, preprocess.width, 3, dtype=torch.uint8)
    return export(front, (example,), strict=False)


def graph_of(program: ExportedProgram) -> Any:
    """The program's graph as a module, which is what PT2E prepares."""
    return program.module(check_guards=False)
