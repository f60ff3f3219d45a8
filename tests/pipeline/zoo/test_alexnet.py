"""AlexNet against its paper, and its one-tower form against torchvision's."""

from types import ModuleType
from typing import Any

import pytest
import torch
from torch import nn

from pipeline import zoo
from pipeline.errors import BadInput
from pipeline.zoo.complexity.count import count
from pipeline.zoo.units.normalisation import LocalResponseNorm

TWO, ONE = zoo.get("alexnet"), zoo.get("alexnet_one_tower")


def meta(spec: zoo.ModelSpec, classes: int = 1000, **options: Any) -> nn.Module:
    with torch.device("meta"):
        return spec.build(classes, **options)


def test_costs() -> None:
    for spec, params, millions in ((TWO, 60_965_224, 724.4), (ONE, 61_100_840, 714.2)):
        cost = count(meta(spec), spec.input_size, spec.input_size)
        assert (cost.params, round(cost.mult_adds / 1e6, 1)) == (params, millions)


def test_the_layers_of_figure_2() -> None:
    """Both GPUs together: 55×55×96, 27×27×256, 13×13×384 twice, 13×13×256; then 4096, 4096, 1000.

    Kernels as §3.5 writes them: 11×11×3, 5×5×48, 3×3×256, 3×3×192, 3×3×192.
    """
    network = meta(TWO)
    outputs = [layer.output for layer in count(network, 227, 227).layers]
    maps = [(96, 55, 55), (256, 27, 27), (384, 13, 13), (384, 13, 13), (256, 13, 13)]
    assert outputs == [*maps, (4096,), (4096,), (1000,)]
    kernels = [tuple(m.weight.shape[1:]) for m in network.modules() if isinstance(m, nn.Conv2d)]
    assert kernels == [(3, 11, 11), (48, 5, 5), (256, 3, 3), (192, 3, 3), (192, 3, 3)]


def test_layers_of_normalisation_and_pooling_are_where_the_paper_has_them() -> None:
    """§3.5: normalisation after the first and second convolution, pooling after both and after the fifth."""
    order = [type(module).__name__ for module in meta(TWO).get_submodule("features").children()]
    first = ["Conv2d", "ReLU", "LocalResponseNorm", "MaxPool2d"]
    assert order == [*first, *first, *["Conv2d", "ReLU"] * 3, "MaxPool2d"]
    pools = [module for module in meta(TWO).modules() if isinstance(module, nn.MaxPool2d)]
    assert {(pool.kernel_size, pool.stride) for pool in pools} == {(3, 2)}
    drops = [module.p for module in meta(TWO, dropout=0.3).modules() if isinstance(module, nn.Dropout)]
    assert drops == [0.3, 0.3]


def test_response_normalisation_is_the_papers() -> None:
    """k = 2, n = 5, α = 1e-4 not divided by n: what torch calls α is five times that."""
    layer = next(m for m in TWO.build(2, width=0.1).modules() if isinstance(m, LocalResponseNorm))
    x = 50 * torch.rand(1, layer.band.shape[0], 4, 4)
    assert torch.allclose(layer(x), nn.LocalResponseNorm(5, 5e-4, 0.75, 2.0)(x), rtol=1e-5)


def test_the_two_halves_meet_in_the_third_convolution_only() -> None:
    """Without normalisation across them, gradients show which maps see which."""
    network = TWO.build(2, width=0.25, grid=1, lrn_alpha=0.0).eval()
    layers = list(network.get_submodule("features").children())
    for start, end, channels, meets in ((2, 8, 24, False), (8, 9, 64, True), (10, 14, 96, False)):
        x = torch.rand(1, channels, 35, 35, requires_grad=True)
        y = nn.Sequential(*layers[start:end])(x)
        (seen,) = torch.autograd.grad(y[:, : y.shape[1] // 2].abs().sum(), x)
        assert seen[:, : channels // 2].any()
        assert bool(seen[:, channels // 2 :].any()) is meets, (start, end)


def test_the_smallest_input_leaves_the_grid_and_one_less_does_not() -> None:
    for spec, smallest in ((TWO, {6: 227, 1: 67, 14: 483}), (ONE, {6: 223, 1: 63, 14: 479})):
        for grid, size in smallest.items():
            assert spec.check_input(size, {"grid": grid}) == size
            with pytest.raises(BadInput, match=f"takes {size} to 2048"):
                spec.check_input(size - 1, {"grid": grid})
            features = meta(spec, 2, grid=grid).get_submodule("features")
            assert features(torch.empty(1, 3, size, size + 31, device="meta")).shape[2:] == (grid, grid)
            if grid > 1:
                short = features(torch.empty(1, 3, size - 1, size, device="meta"))
                assert short.shape[2:] == (grid - 1, grid)


def test_224_is_refused_for_the_network_of_2012() -> None:
    """The paper's 224 leaves 5×5 positions, not 6×6."""
    with pytest.raises(BadInput, match="Input size is 224; 'alexnet' takes 227 to 2048"):
        TWO.check_input(224, {})


def test_torchvisions_state_dict_fits_key_by_key(torchvision_models: ModuleType) -> None:
    with torch.device("meta"):
        theirs = torchvision_models.alexnet()
    shapes = [{name: t.shape for name, t in network.state_dict().items()} for network in (meta(ONE), theirs)]
    assert shapes[0] == shapes[1]
    assert list(shapes[0]) == list(shapes[1])
    assert zoo.get("alexnet_owt") is ONE


@pytest.mark.parametrize("size", [224, 256])
def test_torchvisions_logits(torchvision_models: ModuleType, size: int) -> None:
    """With the same weights; at 256 the map is 7×7, and torchvision's adaptive pooling has regular bins there."""
    with torch.device("meta"):
        theirs = torchvision_models.alexnet(num_classes=3).eval()
    ours = meta(ONE, 3).eval()
    chance = torch.Generator().manual_seed(0)
    scales = {name: (2 / max(1, t[0].numel())) ** 0.5 for name, t in ours.state_dict().items()}
    state = {
        name: torch.empty(tensor.shape).uniform_(-1, 1, generator=chance) * scales[name]
        for name, tensor in ours.state_dict().items()
    }
    for network in (ours, theirs):
        network.load_state_dict(state, assign=True)
    x = torch.randn(2, 3, size, size, generator=chance)
    with torch.no_grad():
        logits, expected = ours(x), theirs(x)
    assert expected.std() > 0.1
    assert torch.allclose(logits, expected, atol=1e-4)
