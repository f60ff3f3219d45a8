"""The exact figures of the zoo, typed in by hand: a wrong number in a spec is not its own witness."""

from __future__ import annotations

import pytest

from pipeline import zoo
from pipeline.zoo.complexity.check import millions
from pipeline.zoo.complexity.count import count_model
from pipeline.zoo.spec import Value

Options = dict[str, Value]

# Model, options, input side, parameters, mult-adds in millions with the decimals that are held; each for the
# number of classes that the model has by itself: 1,000, and 10 for pictures of 32×32.
EXACT: tuple[tuple[str, Options, int, int, str], ...] = (
    ("alexnet", {}, 227, 60_965_224, "724.4"),
    ("alexnet_one_tower", {}, 224, 61_100_840, "714.2"),
    ("vgg_a", {}, 224, 132_863_336, "7,609.1"),
    ("vgg_b", {}, 224, 133_047_848, "11,308.5"),
    ("vgg_c", {}, 224, 133_638_952, "11,770.9"),
    ("vgg_d", {}, 224, 138_357_544, "15,470.3"),
    ("vgg_e", {}, 224, 143_667_240, "19,632.1"),
    ("googlenet", {}, 224, 6_998_552, "1,582.7"),
    ("googlenet_bn", {}, 224, 7_005_832, "1,582.7"),
    ("resnet18", {}, 224, 11_689_512, "1,814"),
    ("resnet34", {}, 224, 21_797_672, "3,664"),
    ("resnet50", {}, 224, 25_557_032, "3,858"),
    ("resnet101", {}, 224, 44_549_160, "7,570"),
    ("resnet152", {}, 224, 60_192_808, "11,282"),
    ("resnet50", {"stride_on": "3x3"}, 224, 25_557_032, "4,089"),
    ("resnet101", {"stride_on": "3x3"}, 224, 44_549_160, "7,801"),
    ("resnet152", {"stride_on": "3x3"}, 224, 60_192_808, "11,514"),
    # 3×3 convolutions by hand: 442,368 of the stem, 12n − 2 of 2,359,296 and two of 1,179,648; 640 of the classifier.
    ("resnet_cifar", {}, 32, 269_722, "40.6"),
    ("resnet_cifar", {"units": 18}, 32, 1_727_962, "252.9"),
    ("se_resnet18", {}, 224, 11_778_592, "1,814"),
    # 3,857.973 M of ResNet-50 and 2.515 M of squeeze and excitation; elsewhere printed as 3,861.
    ("se_resnet50", {}, 224, 28_088_024, "3,860.49"),
    ("se_resnext50_32x4d", {}, 224, 27_559_896, "4,233"),
    ("squeezenet_1_0", {}, 224, 1_248_424, "818.9"),
    ("squeezenet_1_1", {}, 224, 1_235_496, "349.2"),
    ("mobilenet_v1", {}, 224, 4_231_976, "568.7"),
    ("mobilenet_v1", {"width": 0.75}, 224, 2_585_560, "325.4"),
    ("mobilenet_v1", {"width": 0.5}, 224, 1_331_592, "149.5"),
    ("mobilenet_v1", {"width": 0.25}, 224, 470_072, "41.0"),
    ("mobilenet_v1", {"width": 0.5}, 160, 1_331_592, "76.5"),
    ("mobilenet_v1", {"width": 0.25}, 128, 470_072, "13.6"),
    ("mobilenet_v2", {}, 224, 3_504_872, "300.8"),
    ("mobilenet_v2", {"width": 0.35}, 96, 1_677_128, "11.9"),
    ("shufflenet_v1", {"groups": 3}, 224, 1_865_728, "137.5"),
    ("effnet", {}, 32, 151_146, "5.6"),
    ("fd_mobilenet", {}, 224, 2_901_288, "144.5"),
    ("fd_mobilenet", {"width": 0.5}, 224, 993_928, "40"),
    ("fd_mobilenet", {"width": 0.25}, 224, 383_160, "12"),
    ("efficientnet_b0", {}, 224, 5_288_548, "386"),
    ("efficientnet_b1", {}, 240, 7_794_184, "687"),
    ("efficientnet_b2", {}, 260, 9_109_994, "994"),
    ("efficientnet_b3", {}, 300, 12_233_232, "1,827"),
    ("efficientnet_b4", {}, 380, 19_341_616, "4,394"),
    ("efficientnet_b5", {}, 456, 30_389_784, "10,266"),
    ("efficientnet_b6", {}, 528, 43_040_704, "19,068"),
    ("efficientnet_b7", {}, 600, 66_347_960, "37,746"),
)
TEN_CLASSES = (("mobilenet_v2", 2_236_682, 8.947), ("efficientnet_b0", 4_020_358, 16.081))


@pytest.mark.parametrize(("model", "options", "side", "params", "mult_adds"), EXACT)
def test_exact_counts(model: str, options: Options, side: int, params: int, mult_adds: str) -> None:
    cost = count_model(zoo.get(model), options, side)
    assert cost.params == params
    assert millions(cost.mult_adds, mult_adds) == mult_adds


@pytest.mark.parametrize(("model", "params", "megabytes"), TEN_CLASSES)
def test_the_two_networks_that_the_project_starts_from(model: str, params: int, megabytes: float) -> None:
    cost = count_model(zoo.get(model), classes=10)
    assert (cost.params, cost.size_mb) == (params, megabytes)


def test_the_default_input_is_the_published_one() -> None:
    sides = {model: side for model, options, side, _, _ in EXACT if not options}
    assert {model: zoo.get(model).input_size for model in sides} == sides


def test_a_spec_holds_every_exact_figure() -> None:
    """What is typed in above is also a row of ``pipeline models --check``."""
    for model, options, side, params, _ in EXACT:
        spec = zoo.get(model)
        chosen = spec.with_defaults(options)
        held = [
            figure
            for figure in spec.figures
            if spec.with_defaults(figure.options) == chosen
            and (figure.input_size or spec.input_size) == side
            and figure.classes in (None, spec.classes)
        ]
        assert params in {figure.params for figure in held}, f"{model} {options} at {side}"
        assert any(figure.mult_adds for figure in held), f"{model} {options} at {side}"
