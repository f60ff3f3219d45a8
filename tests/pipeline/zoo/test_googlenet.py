"""GoogLeNet against its paper's table, and its batch-norm form against torchvision's."""

from types import ModuleType
from typing import Any

import pytest
import torch
from torch import nn

from pipeline import zoo
from pipeline.zoo.complexity.count import count
from pipeline.zoo.units.inception import Convolution
from pipeline.zoo.units.normalisation import LocalResponseNorm
from pipeline.zoo.units.pooling import GridPool
from pipeline.zoo.units.training_heads import TrainingHeads, training_heads

SPEC, BN = zoo.get("googlenet"), zoo.get("googlenet_bn")

# Table 1, from the paper: output size and channels, operations in millions.
TABLE_1 = {
    "inception3a": ((256, 28, 28), 128),
    "inception3b": ((480, 28, 28), 304),
    "inception4a": ((512, 14, 14), 73),
    "inception4b": ((512, 14, 14), 88),
    "inception4c": ((512, 14, 14), 100),
    "inception4d": ((528, 14, 14), 119),
    "inception4e": ((832, 14, 14), 170),
    "inception5a": ((832, 7, 7), None),  # 54 there, but its own columns of channels make 51
    "inception5b": ((1024, 7, 7), 71),
}


def meta(spec: zoo.ModelSpec, classes: int = 1000, **options: Any) -> nn.Module:
    with torch.device("meta"):
        return spec.build(classes, **options)


def heads_on_meta(side: int, spec: zoo.ModelSpec = SPEC, **options: Any) -> tuple[nn.Module, TrainingHeads]:
    network = meta(spec, **options)
    with torch.device("meta"):
        heads = training_heads(network, side)
    assert heads is not None
    return network, heads


def test_costs() -> None:
    for spec, options, params, millions in (
        (SPEC, {}, 6_998_552, 1_582.7),
        (BN, {"branch5_kernel": 3}, 6_624_904, 1_498.4),
        (BN, {}, 6_998_552 - 7_280 + 2 * 7_280, 1_582.7),  # a scale and a shift instead of each bias
    ):
        cost = count(meta(spec, **options), 224, 224)
        assert (cost.params, round(cost.mult_adds / 1e6, 1)) == (params, millions)


def test_table_1() -> None:
    units = {unit.path: unit for unit in count(meta(SPEC), 224, 224).units}
    for path, (output, millions) in TABLE_1.items():
        assert units[path].output == output
        assert millions is None or units[path].mult_adds / 1e6 == pytest.approx(millions, abs=0.7), path
    assert units["conv3"].output == (192, 56, 56)
    assert round((units["conv2"].mult_adds + units["conv3"].mult_adds) / 1e6) == 360
    assert units["conv1"].output == (64, 112, 112)
    assert round(units["conv1"].mult_adds / 1e6) == 118  # 34 in the table
    assert units["fc"].mult_adds == 1024 * 1000


def test_the_order_of_the_stem_is_that_of_figure_3() -> None:
    names = [type(module).__name__ for module in meta(SPEC).children()][:7]
    norm = "LocalResponseNorm"
    assert names == ["Convolution", "MaxPool2d", norm, "Convolution", "Convolution", norm, "MaxPool2d"]
    assert not any(isinstance(module, nn.BatchNorm2d) for module in meta(SPEC).modules())
    assert not any(isinstance(module, LocalResponseNorm) for module in meta(BN).modules())
    pools = [m for m in meta(SPEC).children() if isinstance(m, nn.MaxPool2d)]
    assert [(pool.kernel_size, pool.stride, pool.ceil_mode) for pool in pools] == [(3, 2, True)] * 4


def test_a_reduction_makes_a_5_by_5_affordable() -> None:
    """1×1 256→64 then 5×5 64→64 against 5×5 256→64 at once."""

    def weights(*layers: Convolution) -> int:
        return sum(p.numel() for layer in layers for p in layer.parameters() if p.dim() == 4)

    with torch.device("meta"):
        assert weights(Convolution(256, 64, 1), Convolution(64, 64, 5)) == 118_784
        assert weights(Convolution(256, 64, 5)) == 409_600


def test_torchvisions_state_dict_fits_key_by_key(torchvision_models: ModuleType) -> None:
    with torch.device("meta"):
        theirs = torchvision_models.googlenet(aux_logits=False, init_weights=False, transform_input=False)
    ours = meta(BN, branch5_kernel=3)
    shapes = [[(key, t.shape) for key, t in network.state_dict().items()] for network in (ours, theirs)]
    assert shapes[0] == shapes[1]
    eps = [[m.eps for m in network.modules() if isinstance(m, nn.BatchNorm2d)] for network in (ours, theirs)]
    assert eps[0] == eps[1] == [1e-3] * 57


def test_torchvisions_logits(torchvision_models: ModuleType) -> None:
    """With the same weights and lively statistics, at sides that halve evenly and at sides that do not."""
    torch.manual_seed(0)
    theirs = torchvision_models.googlenet(
        num_classes=7, aux_logits=False, init_weights=False, transform_input=False
    ).eval()
    ours = BN.build(7, branch5_kernel=3)
    with torch.no_grad():
        for _ in range(5):
            ours(torch.randn(8, 3, 64, 64))
        nn.init.normal_(ours.get_parameter("fc.weight"))
        theirs.load_state_dict(ours.eval().state_dict())
        for height, width in ((64, 64), (97, 75), (32, 130)):
            x = torch.randn(2, 3, height, width)
            expected = theirs(x)
            assert expected.std() > 0.5
            assert torch.allclose(ours(x), expected, atol=1e-4)


def test_signals_neither_fade_nor_grow_without_batch_norm() -> None:
    torch.manual_seed(0)
    x, spread = torch.randn(4, 3, 64, 64), []
    with torch.no_grad():
        for name, layer in SPEC.build(10, width=0.5).eval().named_children():
            x = layer(x)
            if name.startswith("inception"):
                spread.append(x.std().item())
    assert len(spread) == 9
    assert max(spread) < 4 * min(spread)


def test_heads_are_no_part_of_the_network() -> None:
    """Neither counted nor stored, whatever their weight; asking for them changes nothing."""
    for spec in (SPEC, BN):
        with_heads, without = meta(spec), meta(spec, auxiliary_weight=0.0)
        before = list(with_heads.state_dict())
        assert training_heads(with_heads, 224) is not None
        assert training_heads(without, 224) is None
        assert before == list(with_heads.state_dict()) == list(without.state_dict())
        assert count(with_heads, 224, 224).params == count(without, 224, 224).params
    assert training_heads(zoo.get("mobilenet_v2").build(2, width=0.1), 64) is None


def test_the_published_heads() -> None:
    """§5: 5×5 / 3 to 4×4×512 and 4×4×528, 1×1 to 128, 1,024, dropout 0.7, K classes; on 4a and 4d, weighed 0.3."""
    _, heads = heads_on_meta(224)
    assert (heads.units, heads.weight) == (("inception4a", "inception4d"), 0.3)
    for head, channels in zip(heads.heads, (512, 528), strict=True):
        pool, convolution, _, hidden, _, dropout, last = head.children()
        assert isinstance(pool, GridPool)
        assert pool(torch.empty(1, channels, 14, 14, device="meta")).shape == (1, channels, 4, 4)
        assert dropout.p == 0.7
        weights = [tuple(layer.weight.shape) for layer in (convolution.conv, hidden, last)]
        assert weights == [(128, channels, 1, 1), (1024, 2048), (1000, 1024)]
    _, others = heads_on_meta(224, auxiliary_dropout=0.25, auxiliary_weight=0.5)
    assert others.weight == 0.5
    assert {m.p for m in others.modules() if isinstance(m, nn.Dropout)} == {0.25}


@pytest.mark.parametrize("side", [32, 33, 47, 48, 63, 64, 65, 79, 97, 127, 128, 223, 224, 225, 448])
def test_heads_fit_every_side(side: int) -> None:
    for spec in (SPEC, BN):
        network, heads = heads_on_meta(side, spec, width=0.25)
        with heads.listening(network) as heard:
            network(torch.empty(2, 3, side, side, device="meta"))
        assert [logits.shape for logits in heads(heard)] == [(2, 1000), (2, 1000)]
