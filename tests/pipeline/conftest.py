"""A family of one small network, known to the tests that ask for it: every verb does its real work in seconds."""

from __future__ import annotations

import copy
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from edge_apps.images import write_png
from edge_apps.runtime import registry
from edge_apps.runtime.content import Content
from edge_apps.runtime.preprocess import Preprocess
from pipeline import zoo
from pipeline.cli import main
from pipeline.zoo.spec import ModelSpec, Option

# operator_chains.py, fake_files.py and source_networks.py, which tests of several rooms use
sys.path.insert(0, str(Path(__file__).parent))
from fake_files import (  # noqa: F401
    fake_files,
    fake_targets,
    laboratory,
    make_bundle,
    make_images,
    one_hot_fixture,
    opened,
)
from source_networks import enliven, timm_create, torchvision_models  # noqa: F401

if TYPE_CHECKING:
    from torch import nn

    from edge_apps.runtime.manifest import FileManifest
    from pipeline.exporting.job import ExportJob
    from pipeline.quantization.captured import Captured
    from pipeline.targets.base import Census, Source

CLASSES = ("blue", "red")
PER_CLASS = 20


def build_small(classes: int, bottleneck_width: int) -> nn.Module:
    """A convolution, an inverted residual with its shortcut, and a linear layer."""
    from torch import nn

    from pipeline.zoo.units.blocks import ConvBatchNorm, FeatureClassifier, initialise
    from pipeline.zoo.units.inverted_residual import InvertedResidual

    width = bottleneck_width
    features = nn.Sequential(ConvBatchNorm(3, width, stride=2), InvertedResidual(width, width, 1, 2))
    return initialise(FeatureClassifier(features, nn.Sequential(nn.Linear(width, classes))))


SMALL = ModelSpec(
    name="small",
    title="Small",
    paper="none",
    introduced="Nothing.",
    builder=build_small,
    smallest=2,
    # A name that other models have: commands make their options when they are first imported, with this family or not.
    options={"bottleneck_width": Option(8, "of every layer", 1, 64)},
    input_size=32,
    classes=2,
)


@pytest.fixture(scope="session")
def small_spec() -> ModelSpec:
    """The zoo does not know it."""
    return SMALL


@pytest.fixture
def small_family(monkeypatch: pytest.MonkeyPatch) -> ModelSpec:
    """The zoo knows it while the test runs."""
    monkeypatch.setitem(zoo.specs(), SMALL.name, SMALL)
    return SMALL


@pytest.fixture(scope="session")
def small_network() -> nn.Module:
    """It tells blue pictures from red ones, and its batch norms have seen pictures."""
    import torch

    torch.manual_seed(0)
    network = SMALL.build()
    with torch.no_grad():
        for _ in range(20):
            network(torch.randn(16, 3, 32, 32))
        for parameter in network.classifier.parameters():
            parameter.normal_()
    return network.eval()


@pytest.fixture(scope="session")
def small_pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 smooth pictures in the class folders ``blue`` and ``red``. Copy the folder before changing it."""
    root = tmp_path_factory.mktemp("pictures") / "set"
    chance = np.random.default_rng(0)
    for label, tint in zip(CLASSES, ((0, 0, 60), (60, 0, 0)), strict=True):
        (root / label).mkdir(parents=True)
        for i in range(PER_CLASS):
            coarse = chance.integers(0, 196, (6, 6, 3)) + tint
            write_png(root / label / f"{i:02d}.png", np.kron(coarse, np.ones((6, 6, 1))).astype(np.uint8))
    return root


@pytest.fixture(scope="session")
def small_checkpoint(small_network: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """It says what it is."""
    from pipeline.checkpoints import checkpoint

    path = tmp_path_factory.mktemp("float") / "small.safetensors"
    checkpoint.save(
        path,
        small_network,
        spec=SMALL,
        options={},
        labels=CLASSES,
        preprocess=Preprocess(height=32, width=32),
        training={},
    )
    return path


@pytest.fixture(scope="session")
def capture_of() -> Callable[..., Captured]:
    """Capture a network of 32×32 images that is in no file: ``capture_of(network, classes=2)``."""
    from pipeline.checkpoints.checkpoint import Checkpoint
    from pipeline.quantization.captured import capture

    def captured(network: nn.Module, classes: int = 2) -> Captured:
        checkpoint = Checkpoint(
            path=Path("net.py"),
            sha256="",
            content=b"",
            describes_itself=False,
            spec=ModelSpec(
                name="net.py:build", title="", paper="", introduced="", builder=lambda **_: network, smallest=1
            ),
            options={},
            labels=tuple(f"class {number}" for number in range(classes)),
            preprocess=Preprocess(height=32, width=32),
            state=network.state_dict(),
            training={},
        )
        return capture(checkpoint, np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8))

    return captured


@pytest.fixture
def job(small_family: Any, small_checkpoint: Path, small_pictures: Path, tmp_path: Path) -> ExportJob:  # noqa: ARG001
    """The small network as an int8 ``.tflite``; tests change what they are about."""
    from calibration.recipe import Recipe
    from pipeline import targets
    from pipeline.checkpoints.load import load
    from pipeline.data import open_data
    from pipeline.exporting.job import ExportJob

    return ExportJob(
        checkpoint=load(small_checkpoint),
        files=[(targets.targets()["tflite"], "int8")],
        images=open_data(str(small_pictures), "calibration"),
        quantization=Recipe(images=32, observer="minmax"),
        out=tmp_path / "out" / "bundle",
    )


@dataclass(frozen=True)
class Sure:
    """A small network that is right on its pictures, by a margin, as often one class as the other.

    ``draw(seed, per_class)`` makes a folder of other pictures for each seed.
    """

    spec: ModelSpec
    checkpoint: Path
    draw: Callable[[int, int], Path]


@pytest.fixture(scope="session")
def sure(small_network: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Sure:
    """For what needs an accuracy that can fall. The zoo must know the small family."""
    import torch

    from pipeline.checkpoints import checkpoint

    preprocess = Preprocess(height=32, width=32)
    network = copy.deepcopy(small_network)
    root = tmp_path_factory.mktemp("sure")

    def candidates(seed: int, count: int) -> np.ndarray:
        coarse = np.random.default_rng(seed).integers(0, 256, (count, 4, 4, 3), dtype=np.uint8)
        return coarse.repeat(8, axis=1).repeat(8, axis=2)

    def lead(pictures: np.ndarray) -> np.ndarray:
        """Of red over blue."""
        mean, std = (torch.tensor(values).view(3, 1, 1) for values in (preprocess.mean, preprocess.std))
        with torch.no_grad():
            logits = network((torch.from_numpy(pictures).permute(0, 3, 1, 2) / 255 - mean) / std)
        return (logits[:, 1] - logits[:, 0]).numpy()

    leads = lead(candidates(0, 400))
    with torch.no_grad():
        network.classifier[0].bias[1] -= float(np.median(leads))
    margin = float(np.quantile(np.abs(leads - np.median(leads)), 0.4))

    def draw(seed: int, per_class: int) -> Path:
        folder = root / f"{seed}-{per_class}"
        pictures = candidates(1 + seed, 8 * per_class)
        found = lead(pictures)
        for label, chosen in zip(CLASSES, (found < -margin, found > margin), strict=True):
            (folder / label).mkdir(parents=True, exist_ok=True)
            for number, picture in enumerate(pictures[chosen][:per_class]):
                write_png(folder / label / f"{number:03d}.png", picture)
            assert len(list((folder / label).iterdir())) == per_class
        return folder

    path = root / "sure.safetensors"
    checkpoint.save(path, network, spec=SMALL, options={}, labels=CLASSES, preprocess=preprocess, training={})
    return Sure(SMALL, path, draw)


@dataclass(frozen=True)
class FakeTarget:
    """A kind of device file that is written in no time; it fails as it is told to."""

    fails: BaseException | None = None
    absent: str | None = None
    kept_float: int = 0
    meanwhile: Callable[[], None] | None = None
    name: str = "fake"
    suffix: str = ".fake"
    aliases: tuple[str, ...] = ()
    precisions: tuple[Any, ...] = ("fp32", "int8")
    delegate: str | None = None
    summary: str = "nowhere"

    def missing(self) -> str | None:
        """As told."""
        return self.absent

    def lower(self, source: Source, manifest: FileManifest, path: Path) -> tuple[str, ...]:
        """Write a line, do and fail as told; ``faithful`` answers as a right file of this network would."""
        LOWERED[manifest.precision] = source, manifest
        path.write_text(manifest.precision)
        if self.meanwhile is not None:
            self.meanwhile()
        if self.fails is not None:
            raise self.fails
        return ()

    def census(self, content: Content) -> Census:
        """Five layers."""
        from pipeline.targets.base import Census

        assert content.data
        return Census(Counter(conv=5), None, 5 - self.kept_float, self.kept_float, frozenset())


@pytest.fixture
def fake_target() -> type[FakeTarget]:
    """The class, for jobs that are made by hand; ``fake_family`` is for the command line."""
    return FakeTarget


LOWERED: dict[str, tuple[Source, FileManifest]] = {}
"""What was lowered last by the fake target, by precision."""


def faithful(precision: str) -> Callable[[np.ndarray], np.ndarray]:
    """What a file of the fake target should answer: its float network, or its quantized graph, simulated."""
    import torch

    from calibration.quantize import quantize
    from calibration.simulate import Simulator
    from edge_apps.chatter import hushed
    from pipeline.graphs.front_ends import ImageInput, capture_images, graph_of

    source, manifest = LOWERED[precision]
    with hushed():
        front = ImageInput(source.network, manifest.preprocess).eval()
        graph: Any = graph_of(capture_images(front, manifest.preprocess))
        if source.ranges is not None:
            graph = Simulator(quantize(graph, source.ranges, fold_weights=True)[0])

    def answer(batch: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return graph(torch.from_numpy(batch).permute(0, 3, 1, 2).float()).numpy()

    return answer


@dataclass(frozen=True)
class FakeRunner:
    """Answers by a function of the pictures."""

    answer: Callable[[np.ndarray], np.ndarray]
    manifest: FileManifest | None = None
    runtime: str = "fake 1"

    def run(self, batch: np.ndarray) -> np.ndarray:
        """As told."""
        return self.answer(batch)

    def close(self) -> None:
        """Nothing to free."""


@pytest.fixture
def fake_runtime(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """``fake_runtime(answer)``: what files of the fake target say; without, what they should."""
    registry.known_suffixes()  # the real ones first

    def answers_with(answer: Callable[[np.ndarray], np.ndarray] | None = None) -> None:
        def open_fake(content: Content, _threads: int) -> Any:
            precision = content.data.decode()
            _, manifest = LOWERED.get(precision, (None, None))
            return FakeRunner(faithful(precision) if answer is None else answer, manifest)

        monkeypatch.setitem(registry._factories, ".fake", open_fake)

    return answers_with


@pytest.fixture
def fake_family(monkeypatch: pytest.MonkeyPatch, fake_runtime: Callable[..., None]) -> Callable[..., None]:
    """``--target fake``; call it to say how it fails."""
    from pipeline import targets

    fake_runtime()

    def known(**behaviour: Any) -> None:
        monkeypatch.setitem(targets.targets(), "fake", FakeTarget(**behaviour))

    known()
    return known


@dataclass(frozen=True)
class Ended:
    """What a program left: its exit status and what it said."""

    status: int
    out: str
    err: str

    def error(self, status: int = 2) -> str:
        """The one line of a refusal: the last on stderr, after nothing but progress; stdout is empty."""
        assert self.status == status, self.err
        assert self.out == ""
        lines = self.err.splitlines()
        assert [line for line in lines if line.startswith("Error: ")] == lines[-1:], self.err
        assert "Traceback" not in self.err
        assert "fault of the program" not in self.err
        return lines[-1]


@pytest.fixture
def pipeline(capfd: pytest.CaptureFixture[str]) -> Callable[..., Ended]:
    """``pipeline("export", …)`` in this process; what libraries write to the descriptors is seen too."""

    def run(*arguments: object) -> Ended:
        capfd.readouterr()
        with pytest.raises(SystemExit) as end:
            main([str(argument) for argument in arguments])
        said = capfd.readouterr()
        return Ended(int(end.value.code or 0), said.out, said.err)

    return run
