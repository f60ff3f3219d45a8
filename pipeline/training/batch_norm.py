"""Re-estimate batch-norm statistics with the final weights, so that the saved network is the one that was trained.

In training a batch norm normalises with the statistics of its batch; once saved, with running ones. Those are a moving
average over the last steps: after few steps they still hold their initial values (mean 0, variance 1), and for averaged
weights they belong to other weights. "Precise batch norm" replaces them by the statistics of many training images under
the weights that are saved. Wu and Johnson, "Rethinking 'Batch' in BatchNorm", 2021, section 3.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

IMAGES = 1024
"""How many images are enough; the paper finds 1,000 to 10,000 sufficient."""

BATCH = 256
"""Images that are normalised together. Large, because statistics of small batches differ from the population's."""


@torch.no_grad()
def reestimate(network: nn.Module, batches: Iterable[torch.Tensor]) -> int:
    """Replace the running statistics of ``network`` by those of ``batches``; return how many layers were changed.

    ``batches`` are normalised images float32 ``[n, 3, H, W]``, n ≥ 2, each a mixture of all classes. They pass through
    the network in evaluation mode (no dropout, as on a device), except that each batch norm normalises with the
    statistics of its batch. Then, over all n values of a channel that a layer has seen, nᵦ of them in batch b:

        mean ← Σ nᵦ μᵦ / n        variance ← Σ nᵦ (σᵦ² + (μᵦ − mean)²) / (n − 1)

    The call to ``batch_norm`` is observed, not the module, so that batch norms of the user's own and of other libraries
    count too. Left as they are: layers that stay in evaluation mode while the network trains (frozen ones), layers
    without running statistics, and layers that the images do not reach. The network is in evaluation mode afterwards.
    """
    network.train()
    learning = [module for module in network.modules() if module.training]
    network.eval()
    buffers = {id(buffer) for module in learning for buffer in module.buffers(recurse=False)}
    if not buffers:
        return 0
    with _BatchStatistics(buffers) as observed:
        for batch in batches:
            network(batch)
    for layer in observed.layers.values():
        layer.store()
    return len(observed.layers)


@dataclass
class _Layer:
    """The statistics of one layer over all its batches, in float64: pixels are many.

    ``mean`` and ``variance`` are where the network keeps its running ones. ``squares`` is the sum of squared deviations
    from ``centre``.
    """

    mean: torch.Tensor
    variance: torch.Tensor
    count: int = 0
    centre: torch.Tensor | float = 0.0
    squares: torch.Tensor | float = 0.0

    def add(self, values: torch.Tensor) -> None:
        """Take in a layer's input ``[n, C, …]``. Chan, Golub and LeVeque, "Updating formulae", 1979, equation 2.1."""
        axes = [axis for axis in range(values.dim()) if axis != 1]
        variance, mean = torch.var_mean(values.float(), axes, correction=0)
        seen, count = self.count, values.numel() // values.shape[1]
        self.count = seen + count
        apart = mean.double() - self.centre
        self.squares = self.squares + variance.double() * count + apart.square() * (seen * count / self.count)
        self.centre = self.centre + apart * (count / self.count)

    def store(self) -> None:
        """Write the result where the network reads it; the variance is unbiased, as batch norm keeps it."""
        self.mean.copy_(torch.as_tensor(self.centre))
        self.variance.copy_(torch.as_tensor(self.squares) / max(self.count - 1, 1))


class _BatchStatistics(TorchFunctionMode):
    """Let batch norms whose running mean is one of ``buffers``, by ``id``, normalise with their batch; observe them."""

    def __init__(self, buffers: set[int]) -> None:
        super().__init__()
        self.layers: dict[int, _Layer] = {}
        self._buffers = buffers

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        named = {**dict(zip(_PARAMETERS.get(func, ()), args, strict=False)), **(kwargs or {})}
        key = id(named.get("running_mean"))
        if func not in _PARAMETERS or key not in self._buffers:
            return func(*args, **(kwargs or {}))
        values = named["input"]
        self.layers.setdefault(key, _Layer(named["running_mean"], named["running_var"])).add(values)
        return functional.batch_norm(
            values, None, None, named.get("weight"), named.get("bias"), training=True, eps=named.get("eps", 1e-5)
        )


_PARAMETERS: dict[Any, tuple[str, ...]] = {
    functional.batch_norm: ("input", "running_mean", "running_var", "weight", "bias", "training", "momentum", "eps"),
    torch.batch_norm: ("input", "weight", "bias", "running_mean", "running_var", "training", "momentum", "eps"),
}
"""The functions that normalise, with the order of their parameters."""
