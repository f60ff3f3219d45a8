"""The front ends compute what the network computes."""

import numpy as np
import pytest
import torch
from torch import nn

from edge_apps.runtime.manifest import OutputKind
from edge_apps.runtime.preprocess import Preprocess
from pipeline import zoo
from pipeline.graphs.front_ends import (
    BytesInput,
    ClassifierInput,
    ImageInput,
    capture_bytes,
    capture_image,
    capture_images,
    graph_of,
    in_half,
    input_range,
)

OTHER = Preprocess(height=20, width=36, mean=(0.1, 0.5, 0.9), std=(0.2, 1.0, 0.05))


@pytest.fixture(scope="module")
def unfolded() -> nn.Module:
    """MobileNetV2 whose batch norms have statistics and affine parameters far from the identity."""
    torch.manual_seed(0)
    network = zoo.get("mobilenet_v2").build(4, width=0.1)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.weight.uniform_(0.5, 2)
                module.bias.normal_()
        for _ in range(10):
            network(torch.randn(8, 3, 32, 32))
    return network.eval()


def relative(expected: torch.Tensor, answered: torch.Tensor) -> float:
    return float((expected - answered).abs().max() / expected.abs().max())


@pytest.mark.parametrize("given", [None, OTHER], ids=["square", "other"])
def test_every_front_end_is_the_network_on_the_normalised_picture(
    unfolded: nn.Module, preprocess: Preprocess, given: Preprocess | None
) -> None:
    chosen = given or preprocess
    picture = np.random.default_rng(0).integers(0, 256, (1, chosen.height, chosen.width, 3), dtype=np.uint8)
    by_hand = (picture.astype(np.float64) / 255 - chosen.mean) / chosen.std
    pixels = torch.from_numpy(picture)
    with torch.no_grad():
        expected = unfolded(torch.from_numpy(by_hand).float().permute(0, 3, 1, 2))
        from_bytes = BytesInput(unfolded, chosen).eval()(pixels)
        from_floats = ImageInput(unfolded, chosen).eval()(pixels.permute(0, 3, 1, 2).float())
        probabilities, logits = ClassifierInput(unfolded, chosen).eval()(pixels.permute(0, 3, 1, 2).float())
    assert torch.equal(from_bytes, from_floats)
    assert torch.equal(logits, from_floats)
    assert relative(expected, from_bytes) <= 1e-4  # (p/255 − m)/s and p·(1/255s) − m/s round differently
    assert torch.allclose(probabilities.sum(1), torch.ones(1))
    assert torch.equal(probabilities.argmax(1), logits.argmax(1))


@pytest.mark.parametrize("kind", ["probabilities", "independent-probabilities"])
def test_a_classifier_of_a_networks_own_probabilities_has_no_second_softmax(
    unfolded: nn.Module, preprocess: Preprocess, kind: OutputKind
) -> None:
    network = nn.Sequential(unfolded, nn.Sigmoid())
    pixels = 255 * torch.rand(3, 3, preprocess.height, preprocess.width)
    with torch.no_grad():
        probabilities, output = ClassifierInput(network, preprocess, kind).eval()(pixels)
        assert torch.equal(probabilities, ImageInput(network, preprocess).eval()(pixels))
    assert torch.equal(output, probabilities)


def test_the_input_range_is_that_of_black_and_white() -> None:
    """Channels of mean 0.1, 0.5, 0.9 and std 0.2, 1, 0.05."""
    assert tuple(input_range(OTHER)) == pytest.approx((-0.9 / 0.05, 0.9 / 0.2))


def test_half_precision_computes_in_float16_and_answers_in_float32(unfolded: nn.Module, preprocess: Preprocess) -> None:
    front = BytesInput(unfolded, preprocess).eval()
    pixels = torch.randint(0, 256, (4, 32, 32, 3), dtype=torch.uint8)
    half = in_half(front)
    with torch.no_grad():
        expected, answered = front(pixels), half(pixels)
    assert answered.dtype == torch.float32
    assert {parameter.dtype for parameter in half.parameters()} == {torch.float16}
    assert {parameter.dtype for parameter in front.parameters()} == {torch.float32}
    assert 0 < relative(expected, answered) < 0.05


def test_the_batch_of_a_captured_graph_is_free(
    unfolded: nn.Module, preprocess: Preprocess, pictures: torch.Tensor
) -> None:
    front = ImageInput(unfolded, preprocess).eval()
    graph = graph_of(capture_images(front, preprocess))
    with torch.no_grad():
        for size in (1, 2, 7, 40):
            assert torch.allclose(graph(pictures[:size]), front(pictures[:size]), atol=1e-5), size


def test_a_graph_of_one_picture_at_a_time(unfolded: nn.Module, preprocess: Preprocess, pictures: torch.Tensor) -> None:
    front = ImageInput(unfolded, preprocess).eval()
    program = capture_images(front, preprocess, batch=1)
    with torch.no_grad():
        assert torch.allclose(graph_of(program)(pictures[:1]), front(pictures[:1]), atol=1e-5)
    given = next(node.meta["val"] for node in program.graph.nodes if node.name == "pixels")
    assert list(given.shape) == [1, 3, 32, 32]


def test_single_pictures_are_captured_oblong(unfolded: nn.Module) -> None:
    pixels = torch.randint(0, 256, (1, OTHER.height, OTHER.width, 3), dtype=torch.uint8)
    front, image = BytesInput(unfolded, OTHER).eval(), ImageInput(unfolded, OTHER).eval()
    with torch.no_grad():
        expected = front(pixels)
        by_bytes = graph_of(capture_bytes(front, OTHER))(pixels)
        by_floats = graph_of(capture_image(image, OTHER))(pixels.permute(0, 3, 1, 2).float())
    assert torch.allclose(by_bytes, expected, atol=1e-5)
    assert torch.allclose(by_floats, expected, atol=1e-5)
