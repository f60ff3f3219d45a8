"""Re-estimate the statistics of norms with the final weights, so that the saved network is the one that was trained.

In training a batch norm normalises with the statistics of its batch; once saved, with running ones. Those are a moving
average over the last steps: after few steps they still hold their initial values (mean 0, variance 1), and for averaged
weights they belong to other weights. "Precise batch norm" replaces them by the statistics of many training images under
the weights that are saved. Wu and Johnson, "Rethinking 'Batch' in BatchNorm", 2021, section 3.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

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

    An instance norm that keeps running statistics normalises each image with its own; its mean and variance become the
    means of the images' means and (unbiased) variances, as it averages them itself.

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


class OtherStatistics(NamedTuple):
    """Modules, by their paths, that compute differently in evaluation mode whatever their statistics are.

    by_formula: they keep statistics in a way of their own, which ``reestimate`` does not see. of_instances: instance
    norms with running statistics, which normalise each image with its own while they train.
    """

    by_formula: tuple[str, ...] = ()
    of_instances: tuple[str, ...] = ()


@torch.no_grad()
def other_statistics(network: nn.Module, batch: torch.Tensor) -> OtherStatistics:
    """Find the modules that ``reestimate`` cannot help.

    A copy of the network computes ``batch`` (float ``[n, 3, H, W]``) in training mode. Modules whose float buffers
    change without a call that is observed have a formula of their own. The vectors of spectral norm are not counted:
    evaluation does not depend on them.
    """
    trial = copy.deepcopy(network).train()
    before = {name: buffer.clone() for name, buffer in trial.named_buffers() if buffer.is_floating_point()}
    path_of = {id(buffer): name for name, buffer in trial.named_buffers()}
    with _BatchStatistics(set(path_of)) as observed:
        trial(batch)
    after = dict(trial.named_buffers())
    changed = [name for name, buffer in before.items() if name in after and not torch.equal(buffer, after[name])]
    own = [name for name in changed if not name.rpartition(".")[2].endswith(("_u", "_v"))]
    instances = [path_of[key] for key, layer in observed.layers.items() if isinstance(layer, _InstanceLayer)]
    return OtherStatistics(_modules(own), _modules(instances))


def _modules(buffers: Iterable[str]) -> tuple[str, ...]:
    """The paths of the modules that have these buffers, each once."""
    return tuple(dict.fromkeys(name.rpartition(".")[0] or "the network itself" for name in buffers))


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


@dataclass
class _InstanceLayer:
    """The same of an instance norm: sums over images, in float64."""

    mean: torch.Tensor
    variance: torch.Tensor
    count: int = 0
    means: torch.Tensor | float = 0.0
    variances: torch.Tensor | float = 0.0

    def add(self, values: torch.Tensor) -> None:
        """Take in a layer's input ``[n, C, …]``."""
        axes = list(range(2, values.dim()))
        variance, mean = torch.var_mean(values.float(), axes, correction=1)
        self.count += len(values)
        self.means = self.means + mean.double().sum(0)
        self.variances = self.variances + variance.double().sum(0)

    def store(self) -> None:
        """Write the result where the network reads it."""
        self.mean.copy_(torch.as_tensor(self.means) / self.count)
        self.variance.copy_(torch.as_tensor(self.variances) / self.count)


class _BatchStatistics(TorchFunctionMode):
    """Let norms whose running mean is one of ``buffers``, by ``id``, normalise with what they see; observe them."""

    def __init__(self, buffers: set[int]) -> None:
        super().__init__()
        self.layers: dict[int, _Layer | _InstanceLayer] = {}
        self._buffers = buffers

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        named = {**dict(zip(_PARAMETERS.get(func, ()), args, strict=False)), **(kwargs or {})}
        key = id(named.get("running_mean"))
        if func not in _PARAMETERS or key not in self._buffers:
            return func(*args, **(kwargs or {}))
        values, affine = named["input"], (named.get("weight"), named.get("bias"))
        of_instances = func in _INSTANCE_NORMS
        kind = _InstanceLayer if of_instances else _Layer
        self.layers.setdefault(key, kind(named["running_mean"], named["running_var"])).add(values)
        if of_instances:
            return functional.instance_norm(values, None, None, *affine, eps=named.get("eps", 1e-5))
        return functional.batch_norm(values, None, None, *affine, training=True, eps=named.get("eps", 1e-5))


_INSTANCE_NORMS = (functional.instance_norm, torch.instance_norm)

_STATISTICS = ("running_mean", "running_var")
_PARAMETERS: dict[Any, tuple[str, ...]] = {
    functional.batch_norm: ("input", *_STATISTICS, "weight", "bias", "training", "momentum", "eps"),
    torch.batch_norm: ("input", "weight", "bias", *_STATISTICS, "training", "momentum", "eps"),
    functional.instance_norm: ("input", *_STATISTICS, "weight", "bias", "use_input_stats", "momentum", "eps"),
    torch.instance_norm: ("input", "weight", "bias", *_STATISTICS, "use_input_stats", "momentum", "eps"),
}
"""The functions that normalise, with the order of their parameters."""
