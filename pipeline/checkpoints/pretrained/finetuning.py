"""Starting a training from weights that were trained for other classes."""

from __future__ import annotations

from torch import nn

from pipeline.checkpoints.checkpoint import Checkpoint
from pipeline.checkpoints.pretrained.importing import classifier_tensors


def start_from(network: nn.Module, weights: Checkpoint) -> tuple[str, ...]:
    """Put the weights into a network of the same model and options; which tensors stay as they were.

    Those are the classifier's where the number of classes differs, and none where it is the same.
    """
    own = network.state_dict()
    classifier = classifier_tensors(weights.spec, weights.options)
    kept = tuple(name for name in classifier if own[name].shape != weights.state[name].shape)
    network.load_state_dict({name: own[name] if name in kept else tensor for name, tensor in weights.state.items()})
    return kept
