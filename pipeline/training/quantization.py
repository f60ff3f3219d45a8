"""Quantization-aware training: a network's logits as its int8 files will compute them, from its float parameters."""

from __future__ import annotations

import torch
from torch import nn
from torch.func import functional_call

from calibration.fake_quantize import fake_quantize
from calibration.recipe import Recipe
from calibration.tensor_keys import NETWORK
from edge_apps.chatter import hushed
from edge_apps.images import ImageSet
from pipeline.checkpoints.checkpoint import Checkpoint
from pipeline.graphs.front_ends import ImageInput, capture_images, graph_of
from pipeline.quantization.calibrate import Calibration, calibrate, draw, effects, remarks
from pipeline.quantization.captured import Captured, capture


class NormalisedInput(ImageInput):
    """Normalised pictures, float32 ``[N, 3, H, W]`` → logits ``[N, K]``: what a training hands over."""

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """The network as it is."""
        logits: torch.Tensor = self.network(pixels)
        return logits


class Simulation:
    """The graph that will be quantized, with int8 simulated; its tensors are computed from a network's at every call.

    So the parameters that learn are those of the network as its family defines it, and what is simulated are the
    weights that files hold: W · γ / √(σ² + ε) and β + (b − μ) · γ / √(σ² + ε), times what equalisation scales them
    with, rounded. Gradients reach W, b, γ and β. Batch norms use, and keep, the statistics that they were trained with,
    as files do; and there is no dropout.

    Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference", 2018,
    sections 3 and 3.2. Deviations: statistics of batches are not used, as Krishnamoorthi, "Quantizing deep
    convolutional networks for efficient inference", 2018, section 3.2.2, advises for the end of a training; and ranges
    of activations stay those of one calibration: the training is too short to move them far.
    """

    def __init__(self, captured: Captured, calibration: Calibration, device: torch.device) -> None:
        self._flat = captured.network
        ranges, int8 = calibration.ranges, calibration.applied(captured)
        with hushed():
            front = NormalisedInput(int8.network, ranges.preprocess).eval()
            program = capture_images(front, ranges.preprocess, int8.network.batch)
            self._graph = fake_quantize(graph_of(program), ranges).to(device)
        # Whatever the network computes with and its state dict does not hold.
        self._constants = {name: torch.as_tensor(held).to(device) for name, held in captured.original.constants.items()}
        self._factors = {path: factor.to(device) for path, factor in _factors(captured, calibration).items()}

    def __call__(self, network: nn.Module, images: torch.Tensor) -> torch.Tensor:
        """Logits ``[N, K]`` of normalised pictures ``[N, 3, H, W]``; ``network`` is one as was captured."""
        tensors = self._flat.derived({**self._constants, **network.state_dict(keep_vars=True)})
        for path, factor in self._factors.items():
            tensors[path] = tensors[path] * factor
        held = {f"{NETWORK}.{path}": tensor for path, tensor in tensors.items()}
        parts = torch.split(images, self._flat.batch or len(images))
        return torch.cat([functional_call(self._graph, held, (part,)) for part in parts])


def simulate(
    checkpoint: Checkpoint, images: ImageSet, recipe: Recipe, device: torch.device
) -> tuple[Simulation, list[str]]:
    """Calibrate a checkpoint on some of the pictures, as an export would, and simulate int8 with what that gives.

    The only repair that a recipe may have here is ``equalize``. Also returns what a user should know, a line each.

    Raises:
        BadInput: a network that cannot be captured. BadCalibration: too few pictures, or pictures that cannot
            calibrate. BadRecipe: a pattern that matches nothing.
    """
    captured = capture(checkpoint, images.image(0))
    pictures = draw(captured, images, recipe)
    calibration = calibrate(captured, pictures, recipe)
    notes = [*remarks(pictures.chosen), *effects(calibration.ranges)]
    return Simulation(captured, calibration, device), notes


def _factors(captured: Captured, calibration: Calibration) -> dict[str, torch.Tensor]:
    """What equalisation multiplies the network's tensors with, value by value; it leaves nothing but zeros at zero."""
    before = captured.network.state_dict()
    return {
        path: torch.where(before[path] == 0, 1.0, after.double() / before[path].double()).float()
        for path, after in calibration.repairs.tensors.items()
    }
