"""What calibration relies on in torchao without its promise."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import nn
from torchao.quantization.pt2e import MinMaxObserver
from torchao.quantization.pt2e.quantize_pt2e import prepare_pt2e
from torchao.quantization.pt2e.quantizer import QuantizationSpec, Quantizer

from calibration.compat.torchao import annotate

Contract = Callable[[str, str], AbstractContextManager[None]]

INT8 = QuantizationSpec(torch.int8, MinMaxObserver, qscheme=torch.per_tensor_affine)


class OnlyReLU(Quantizer):
    def annotate(self, model: Any) -> Any:
        for node in model.graph.nodes:
            if node.target == torch.ops.aten.relu.default:
                annotate(node, {node.args[0]: INT8}, INT8)
        return model

    def validate(self, model: Any) -> None:
        del model


def test_preparing_observes_what_is_annotated_and_nothing_else(contract: Contract) -> None:
    network = nn.Sequential(nn.Sigmoid(), nn.ReLU(), nn.Tanh()).eval()
    with contract("torchao", "the key or the form of an annotation (Q_ANNOTATION_KEY, _annotated)"):
        graph = torch.export.export(network, (torch.ones(2),)).module()
        prepared = prepare_pt2e(graph, OnlyReLU())
        observers = [name for name, module in prepared.named_modules() if isinstance(module, MinMaxObserver)]
        assert len(observers) == 2
