"""A user's own network as a file, its weights, its program and pictures of its two classes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

SOURCE = '''
import torch
from torch import nn
from torch.nn import functional as F


class Net(nn.Module):
    """Functional calls, and layers that are defined in another order than they are executed."""

    def __init__(self, count):
        super().__init__()
        self.head = nn.Linear(16, count)
        self.bn2 = nn.BatchNorm2d(16)
        self.conv1 = nn.Conv2d(3, 16, 3, 2, 1)
        self.bn1 = nn.BatchNorm2d(16)
        self.conv2 = nn.Conv2d(16, 16, 3, padding=1, bias=False)
        self.conv3 = nn.Conv2d(8, 16, 1)
        self.before = nn.BatchNorm2d(8)

    def forward(self, x):
        x = F.silu(self.bn1(self.conv1(x)), inplace=True)
        x = self.bn2(self.conv2(x)) + x
        a, b = torch.chunk(F.hardswish(x), 2, 1)
        x = self.before(a * torch.sigmoid(b))
        x = F.relu(self.conv3(F.avg_pool2d(x, 3, 2, 1)))
        x = F.max_pool2d(x, 3, 2, ceil_mode=True)
        return self.head(F.adaptive_avg_pool2d(x, 2).mean((2, 3)))


def build(classes=2):
    return Net(classes)


def counted(num_classes):
    return Net(num_classes)


def fixed():
    return Net(2)


def planes():
    return nn.Conv2d(3, 2, 1)


def listed(classes):
    return [Net(classes)]


def failing(classes):
    raise RuntimeError("no weights here\\nsecond line")


class Dictionary(nn.Module):
    def forward(self, x):
        return {"logits": x.mean((2, 3))}


class Single(nn.Module):
    """It has learned nothing, and never sees a batch."""

    def forward(self, x):
        return x.mean((2, 3))[:, :2].reshape(1, 2)


answer = 42
'''


@dataclass(frozen=True)
class Own:
    """What a user has."""

    source: Path
    weights: Path
    program: Path
    labels: Path

    @property
    def model(self) -> str:
        """The reference that they type."""
        return f"{self.source}:build"


@pytest.fixture(scope="session")
def own(tmp_path_factory: pytest.TempPathFactory) -> Own:
    """Trained on nothing; its batch norms have seen noise, and its logits differ from picture to picture."""
    import torch

    from pipeline.checkpoints.user_networks import own as spec_of

    folder = tmp_path_factory.mktemp("own")
    made = Own(folder / "net.py", folder / "w.pt", folder / "mine.pt2", folder / "labels.txt")
    made.source.write_text(SOURCE)
    made.labels.write_text("blue\nred\n")
    torch.manual_seed(0)
    network = spec_of(made.model).build(2)
    with torch.no_grad():
        for _ in range(20):
            network(torch.randn(16, 3, 32, 32))
        for parameter in network.head.parameters():
            parameter.normal_()
        network.eval()
        torch.save(network.state_dict(), made.weights)
        torch.export.save(torch.export.export(network, (torch.zeros(1, 3, 32, 32),)), made.program)
    return made
