"""The training loop: forward, loss, backward, step, average; one epoch at a time."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from edge_apps.runtime.preprocess import Preprocess
from pipeline.data.reading import Pixels
from pipeline.errors import EdgeError
from pipeline.graphs.normalise import Normalise
from pipeline.training.augment import AUGMENTATIONS
from pipeline.training.average import MovingAverage
from pipeline.training.batch_norm import BATCH, IMAGES, OtherStatistics, other_statistics, reestimate
from pipeline.training.hardware import autocast
from pipeline.training.schedule import learning_rate
from pipeline.training.settings import Settings
from pipeline.zoo.units.training_heads import TrainingHeads

CHECK_EVERY = 20
"""Steps between two looks at the loss: each look makes a GPU wait."""

EVALUATION_BATCH = 256

Forward = Callable[[nn.Module, torch.Tensor], torch.Tensor]
"""A network and normalised pictures ``[N, 3, H, W]`` to its logits ``[N, K]``."""


def as_it_is(network: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """The network's own logits."""
    logits: torch.Tensor = network(images)
    return logits


@dataclass(frozen=True)
class EpochResult:
    """Means over an epoch's augmented pictures; ``lr`` is that of its last step, ``top1`` a share 0…1.

    ``loss`` is what was minimised, with that of auxiliary heads; ``top1`` is of the network alone.
    """

    loss: float
    top1: float
    lr: float


class Diverged(EdgeError):
    """The loss or a weight is no number any more."""


class Training:
    """A network being trained on pictures that lie in memory.

    ``forward`` says how it computes its logits, which may be otherwise than by itself: with int8 simulated. Heads on
    its inside are trained along: ``loss = main + weight · Σ head``. Only the network itself is averaged.

    All chance in an epoch comes from ``(seed, epoch)``, so that a training taken up between two epochs goes on as if
    it had never stopped: bit for bit on a CPU with the same number of threads.
    """

    def __init__(
        self,
        network: nn.Module,
        settings: Settings,
        preprocess: Preprocess,
        data: Pixels,
        device: torch.device,
        heads: TrainingHeads | None = None,
        forward: Forward = as_it_is,
    ) -> None:
        self.settings = settings
        self.forward = forward
        self.device = device
        self.normalise = Normalise(preprocess).to(device)
        self.images = torch.from_numpy(data.images).to(device)
        self.labels = torch.from_numpy(data.labels).to(device)
        self.network: nn.Module = network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average = MovingAverage(self.network, settings.ema)
        self.heads = None if heads is None else heads.to(device)
        trained = [self.network] if self.heads is None else [self.network, self.heads]
        self.optimizer = make_optimizer(nn.ModuleList(trained), settings)
        self.history: list[EpochResult] = []
        self.augment = AUGMENTATIONS[settings.augment]

    @property
    def epochs_done(self) -> int:
        """Whole epochs trained."""
        return len(self.history)

    @property
    def steps_per_epoch(self) -> int:
        """Batches of an epoch. A last batch of one picture is left out: batch norm has no variance of one."""
        whole, rest = divmod(len(self.labels), self.settings.batch_size)
        return whole + (rest > 1)

    def run_epoch(self, on_step: Callable[[float], None]) -> EpochResult:
        """Train one epoch; ``on_step`` gets the latest known mean loss after every step.

        Raises:
            Diverged: the loss or a weight became NaN or infinite.
        """
        settings, epoch = self.settings, self.epochs_done
        seed = epoch_seed(settings.seed, epoch)
        torch.manual_seed(seed)  # dropout draws from the global generators
        generator = torch.Generator().manual_seed(seed)
        order = torch.randperm(len(self.labels), generator=generator).to(self.device)
        batches = torch.split(order, settings.batch_size)[: self.steps_per_epoch]
        total = settings.epochs * len(batches)
        loss_sum, correct = torch.zeros(2, dtype=torch.float64, device=self.device).unbind()
        seen, mean, rate = 0, math.nan, 0.0
        self.network.train()
        for position, chosen in enumerate(batches):
            step = epoch * len(batches) + position
            rate = learning_rate(settings.schedule, step, total, settings.lr)
            images = self.normalise(self.augment(self.images[chosen], generator))
            labels = self.labels[chosen]
            loss, logits = self.step(images, labels, rate)
            self.average.update(self.network, step + 1)
            loss_sum += loss * len(chosen)
            correct += (logits.argmax(1) == labels).sum()
            seen += len(chosen)
            if position % CHECK_EVERY == 0 or position == len(batches) - 1:
                mean = loss_sum.item() / seen
                if not math.isfinite(mean):
                    raise self._diverged(f"The loss became {mean}")
            on_step(mean)
        if not all(bool(torch.isfinite(p).all()) for p in self.average.network.parameters()):
            raise self._diverged("Weights became NaN or infinite")
        result = EpochResult(mean, correct.item() / seen, rate)
        self.history.append(result)
        return result

    def result(self) -> nn.Module:
        """Return a copy of the averaged network as it is handed over: in evaluation mode, batch norms re-estimated.

        The training itself, and so its state, stays untouched.
        """
        network = copy.deepcopy(self.average.network)
        self.reestimate(network)
        return network

    def reestimate(self, network: nn.Module) -> None:
        """Give the norms of ``network`` that keep statistics those of training images under its weights.

        The images are not augmented: a saved network meets images as they are. Which ones is decided by the seed.
        Quantization-aware training keeps the statistics that it computed with in every step.
        """
        if self.settings.recipe is None:
            reestimate(network, self._for_statistics())

    def other_statistics(self, network: nn.Module) -> OtherStatistics:
        """Find the modules of ``network`` that compute differently once saved, whatever ``reestimate`` does."""
        if self.settings.recipe is not None:
            return OtherStatistics()
        return other_statistics(network, next(self._for_statistics()))

    def _for_statistics(self) -> Iterator[torch.Tensor]:
        """Some training images in a random order, in batches of nearly equal size, none of a single image."""
        generator = torch.Generator().manual_seed(epoch_seed(self.settings.seed, 0))
        chosen = torch.randperm(len(self.labels), generator=generator)[:IMAGES].to(self.device)
        for part in torch.tensor_split(chosen, math.ceil(len(chosen) / BATCH)):
            yield self.normalise(self.images[part])

    def count_correct(self, network: nn.Module, data: Pixels, preprocess: Preprocess) -> int:
        """How many images ``network`` classifies as labelled, computed as it is trained."""
        return count_correct(partial(self.forward, network), preprocess, data, self.device)

    def step(self, images: torch.Tensor, labels: torch.Tensor, rate: float) -> tuple[torch.Tensor, torch.Tensor]:
        """One optimizer step on a batch; returns its loss and logits, detached."""
        with autocast(self.device, self.settings.precision):
            logits, loss = self._forward(images, labels)
        self.optimizer.zero_grad()
        torch.autograd.backward(loss)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        return loss.detach(), logits.detach()

    def _forward(self, images: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The network's logits, and the loss of it and of its heads."""
        loss_of = partial(functional.cross_entropy, target=labels, label_smoothing=self.settings.label_smoothing)
        if self.heads is None:
            logits = self.forward(self.network, images)
            return logits, loss_of(logits)
        with self.heads.listening(self.network) as heard:
            logits = self.forward(self.network, images)
        heads = torch.stack([loss_of(head) for head in self.heads(heard)])
        return logits, loss_of(logits) + self.heads.weight * heads.sum()

    def _diverged(self, what: str) -> Diverged:
        kept = f" The state after epoch {self.epochs_done} is kept until then." if self.epochs_done else ""
        or_fp32 = ", or with `precision=fp32`" if self.settings.precision == "bf16" else ""
        return Diverged(
            f"{what} in epoch {self.epochs_done + 1}: train again with `restart` and an `lr` below "
            f"{self.settings.lr:g}{or_fp32}.{kept}"
        )


def make_optimizer(network: nn.Module, settings: Settings) -> torch.optim.Optimizer:
    """AdamW or SGD with Nesterov momentum 0.9. Everything but biases decays.

    Batch-norm scales decay too: a channel that nothing uses then fades out, instead of keeping a scale that would
    stretch the int8 range of its layer.
    """
    decayed = [p for name, p in network.named_parameters() if not name.endswith("bias")]
    free = [p for name, p in network.named_parameters() if name.endswith("bias")]
    groups = [{"params": decayed, "weight_decay": settings.weight_decay}, {"params": free, "weight_decay": 0.0}]
    if settings.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=settings.lr, momentum=0.9, nesterov=True, fused=True)
    return torch.optim.AdamW(groups, lr=settings.lr, fused=True)


def epoch_seed(seed: int, epoch: int) -> int:
    """An independent 64-bit seed for every epoch of every run."""
    return int(np.random.SeedSequence([seed, epoch]).generate_state(1, np.uint64)[0])


@torch.inference_mode()
def count_correct(
    network: Callable[[torch.Tensor], torch.Tensor], preprocess: Preprocess, data: Pixels, device: torch.device
) -> int:
    """How many pictures a float32 network in evaluation mode classifies as labelled."""
    normalise, correct = Normalise(preprocess).to(device), 0
    for start in range(0, len(data), EVALUATION_BATCH):
        images = torch.from_numpy(data.images[start : start + EVALUATION_BATCH]).to(device)
        labels = torch.from_numpy(data.labels[start : start + EVALUATION_BATCH]).to(device)
        correct += int((network(normalise(images)).argmax(1) == labels).sum())
    return correct
