"""A runtime of our own making, so that every answer of a file is chosen by the test; and bundles of such files."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from edge_apps.errors import MissingExtra, NotRunHere
from edge_apps.images import FileImages, open_images, write_png
from edge_apps.runtime import registry
from edge_apps.runtime.content import Content
from edge_apps.runtime.manifest import FORMAT, FileManifest, Provenance, parse_file_manifest, to_json
from edge_apps.runtime.preprocess import Preprocess
from edge_apps.runtime.registry import check_batch

PREPROCESS = Preprocess(height=32, width=32)
PER_CLASS, RIGHT_PER_CLASS = 20, 16


class FakeRunner:
    """Looks its answers up by the bytes of the picture, so order and threads do not matter."""

    runtime = "fake 1.0"

    def __init__(self, file: Content, threads: int) -> None:
        content, path = json.loads(file.data), file.path
        if content["open"] == "not here":
            raise NotRunHere(f"'{path.name}' is not run: fakes exist on the moon only.")
        if content["open"] == "missing":
            raise MissingExtra("Running fakes needs fakelib: pip install '.[fake]'.")
        self.path, self.threads, self._content = path, threads, content
        self.closed = False
        self.manifest = parse_file_manifest(content["manifest"], path)

    def run(self, batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        check_batch(batch, self.manifest)
        if self._content["run"] != "well":
            raise RuntimeError(self._content["run"])
        return np.array([self._content["answers"][_key(picture)] for picture in batch], np.float32)

    def close(self) -> None:
        self.closed = True


def _key(picture: NDArray[np.uint8]) -> str:
    return hashlib.sha256(picture.tobytes()).hexdigest()


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[FakeRunner]:
    """Every fake runner of a test. ``.fake`` files run in one, ``.fakes`` in as many as there are threads."""
    runners: list[FakeRunner] = []

    def open_fake(content: Content, threads: int) -> FakeRunner:
        runners.append(FakeRunner(content, threads))
        return runners[-1]

    registry.known_suffixes()  # the real ones first
    monkeypatch.setitem(registry._factories, ".fake", open_fake)
    monkeypatch.setitem(registry._factories, ".fakes", open_fake)
    monkeypatch.setattr(registry, "_side_by_side", {".fakes"})
    return runners


class FakeTarget:
    """Knows a real target's names, and counts the operators that a fake file says it has."""

    def __init__(self, real: Any) -> None:
        self.name, self.aliases = real.name, real.aliases

    def missing(self) -> str | None:
        return None

    def census(self, content: Content) -> Any:
        from pipeline.targets.base import Census

        said = json.loads(content.data)
        return Census(Counter(said["operators"]), None, said["integer"], said["float"], frozenset())


@pytest.fixture
def fake_targets(monkeypatch: pytest.MonkeyPatch) -> None:
    """The real targets would not open fake files."""
    from pipeline import targets

    for name, real in list(targets.targets().items()):
        monkeypatch.setitem(targets.targets(), name, FakeTarget(real))


OPERATORS = {"conv": 4, "linear": 1}


@dataclass(frozen=True)
class Fakes:
    """Writes fake files whose logits are those given, in the order of the images."""

    images: FileImages
    checkpoint_sha256: str = "0" * 64

    def write(self, path: Path, logits: NDArray[Any], **changes: Any) -> Path:
        manifest = FileManifest(
            format=FORMAT,
            model="mobilenet_v2",
            options={"width": 0.35},
            target=changes.pop("target", "tflite"),
            precision=changes.pop("precision", "int8"),
            labels=changes.pop("labels", self.images.classes),
            preprocess=changes.pop("preprocess", PREPROCESS),
            provenance=Provenance(checkpoint_sha256=changes.pop("made_of", self.checkpoint_sha256)),
        )
        keys = [_key(self.images.image(i)) for i in range(len(self.images))]
        answers = {key: row.tolist() for key, row in zip(keys, logits, strict=True)}
        path.parent.mkdir(parents=True, exist_ok=True)
        content = {"open": "well", "run": "well", "manifest": to_json(manifest), "answers": answers}
        content |= {"operators": OPERATORS, "integer": 5, "float": 0, **changes}
        path.write_text(json.dumps(content))
        return path


@pytest.fixture(scope="session")
def make_images(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., FileImages]:
    """Noise pictures of 32×32 in class folders: ``make_images(per_class, classes)``."""

    def make(per_class: int, classes: int, seed: int = 0) -> FileImages:
        root = tmp_path_factory.mktemp("pictures")
        noise = np.random.default_rng(seed)
        for c in range(classes):
            folder = root / f"class{c}"
            folder.mkdir()
            for i in range(per_class):
                write_png(folder / f"{i:03d}.png", noise.integers(0, 256, (32, 32, 3), dtype=np.uint8))
        return open_images(root)

    return make


@pytest.fixture(scope="session")
def fake_files() -> type[Fakes]:
    """``fake_files(images).write(path, logits)``."""
    return Fakes


@pytest.fixture(scope="session", name="one_hot")
def one_hot_fixture() -> Callable[..., NDArray[np.float32]]:
    """``one_hot(classes, count)``."""
    return one_hot


def one_hot(classes: list[int] | NDArray[np.int64], count: int) -> NDArray[np.float32]:
    """Logits that say these classes."""
    return np.eye(count, dtype=np.float32)[np.asarray(classes)] * 3


@dataclass(frozen=True)
class Laboratory:
    """Pictures, a small trained-by-nobody MobileNetV2, and what it says about them, computed here by torch alone."""

    images: FileImages
    checkpoint: Path
    said: NDArray[np.int64]

    @property
    def right(self) -> NDArray[np.int64]:
        """The pictures that the float network gets right, one of each class in turn."""
        right = np.flatnonzero(self.said == np.asarray(self.images.labels))
        return right[np.argsort(right % PER_CLASS, kind="stable")]

    def answers(self, lost: int = 0, gained: int = 0) -> NDArray[np.float32]:
        """Logits like the float network's, but wrong on the first of its right ones and right on some wrong ones."""
        said, labels = self.said.copy(), np.asarray(self.images.labels)
        wrong = np.flatnonzero(said != labels)
        said[self.right[:lost]] = (said[self.right[:lost]] + 1) % len(self.images.classes)
        said[wrong[:gained]] = labels[wrong[:gained]]
        return one_hot(said, len(self.images.classes))


@pytest.fixture(scope="session")
def laboratory(tmp_path_factory: pytest.TempPathFactory) -> Laboratory:
    """120 pictures in six classes, 16 of 20 of each right: the network is asked before they get their names."""
    import torch

    from pipeline import zoo
    from pipeline.checkpoints import checkpoint
    from pipeline.zoo.spec import ModelSpec

    spec: ModelSpec = zoo.get("mobilenet_v2")
    torch.manual_seed(0)
    network = spec.build(6, width=0.35)
    pool = np.random.default_rng(0).integers(0, 256, (400, 32, 32, 3), dtype=np.uint8)
    pixels = torch.from_numpy(pool).permute(0, 3, 1, 2) / 255.0
    normal = (pixels - torch.tensor(PREPROCESS.mean).view(3, 1, 1)) / torch.tensor(PREPROCESS.std).view(3, 1, 1)
    with torch.no_grad():
        # Untrained, its logits are 1e-9 and the same class is said to everything. With the statistics of these
        # pictures in its batch norms, and centred, it says each class to some, by margins far above rounding.
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.momentum = None
        network.train()(normal)
        final = [module for module in network.eval().modules() if isinstance(module, torch.nn.Linear)][-1]
        final.bias -= network(normal).mean(0)
        logits = network(normal)
        best = logits.topk(2).values
        said = np.where(best[:, 0] - best[:, 1] > 1e-5, logits.argmax(1).numpy(), -1)  # not those that are close
    right = [list(np.flatnonzero(said == c)[:PER_CLASS]) for c in range(6)]
    assert min(map(len, right)) == PER_CLASS
    wrong = [pictures[RIGHT_PER_CLASS:] for pictures in right]
    chosen = [[*right[c][:RIGHT_PER_CLASS], *wrong[(c + 1) % 6]] for c in range(6)]
    root = tmp_path_factory.mktemp("pictures")
    for c, pictures in enumerate(chosen):
        (root / f"class{c}").mkdir()
        for i, picture in enumerate(pictures):
            write_png(root / f"class{c}" / f"{i:03d}.png", pool[picture])
    images = open_images(root)
    path = tmp_path_factory.mktemp("float") / "small.safetensors"
    checkpoint.save(
        path, network, spec=spec, options={"width": 0.35}, labels=images.classes, preprocess=PREPROCESS, training={}
    )
    return Laboratory(images, path, said[np.concatenate(chosen)])


MakeBundle = Callable[..., Path]


@pytest.fixture
def make_bundle(laboratory: Laboratory, tmp_path: Path) -> MakeBundle:
    """A bundle of fake files: ``make_bundle({"a.fake": logits}, calibrated=other_images)``.

    They are fp32 files: int8 ones would be held against a graph that is not there.
    """
    from calibration.dataset.dataset import choose
    from calibration.recipe import Recipe
    from edge_apps.runtime.content import sha256_of
    from pipeline.bundles.write import describe, write_manifest

    fakes = Fakes(laboratory.images, sha256_of(laboratory.checkpoint))

    def make(
        files: dict[str, NDArray[Any]],
        calibrated: FileImages | None = None,
        targets: dict[str, str] | None = None,
        name: str = "bundle",
        listed: dict[str, Any] | None = None,
        **changes: Any,
    ) -> Path:
        root = tmp_path / name
        (root / "float").mkdir(parents=True)
        copy = root / "float" / "checkpoint.safetensors"
        copy.write_bytes(laboratory.checkpoint.read_bytes())
        entries = [describe(root, copy, "checkpoint")]
        for number, (file, logits) in enumerate(files.items()):
            target = (targets or {}).get(file, ("tflite", "executorch", "coreml")[number])
            fakes.write(root / file, logits, **{"target": target, "precision": "fp32", **changes.get(file, {})})
            facts = {"target": target, "precision": "fp32", "operators": OPERATORS, **(listed or {})}
            entries.append(describe(root, root / file, "model", **facts))
        if calibrated is not None:
            used, _ = choose(calibrated, Recipe(images=12))
            (root / "calibration-set.json").write_bytes(msgspec.json.encode(used))
            entries.append(describe(root, root / "calibration-set.json", "calibration-set"))
        about = FileManifest(
            format=FORMAT,
            model="mobilenet_v2",
            options={"width": 0.35},
            target="",
            precision="fp32",
            labels=laboratory.images.classes,
            preprocess=PREPROCESS,
            provenance=Provenance(checkpoint_sha256=fakes.checkpoint_sha256),
        )
        write_manifest(root, about, entries)
        return root

    return make
