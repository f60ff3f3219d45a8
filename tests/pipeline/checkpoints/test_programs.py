"""Exported programs as checkpoints, and the way of both kinds of own network through the pipeline."""

from __future__ import annotations

import dataclasses
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from edge_apps.images import write_png
from edge_apps.runtime.preprocess import Preprocess
from pipeline.checkpoints import programs, pt2_archive
from pipeline.checkpoints.load import load
from pipeline.errors import BadCheckpoint, BadInput, BadManifest

LABELS = ("blue", "red")


def saved(path: Path, network: nn.Module, *shape: int, eval_mode: bool = True, **options: Any) -> Path:
    """What torch.export.save writes of it."""
    program = torch.export.export(network.train(not eval_mode), (torch.zeros(*shape),), **options)
    stream = io.BytesIO()
    torch.export.save(program, stream)
    path.write_bytes(stream.getvalue())
    return path


def plain(view: Callable[[torch.Tensor], torch.Tensor]) -> nn.Module:
    """A classifier of 8×8 pictures that flattens in its own way."""

    class Plain(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm, self.head = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(144, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(view(self.norm(self.conv(x))))

    torch.manual_seed(0)
    return Plain()


def test_a_program_is_a_checkpoint_with_its_own_size(own: Any) -> None:
    loaded = load(own.program, labels=LABELS, preprocess={"mean": (0.5, 0.5, 0.5)})
    assert loaded.preprocess == Preprocess(height=32, width=32, mean=(0.5, 0.5, 0.5))
    assert (loaded.spec.name, loaded.labels, loaded.describes_itself) == ("mine.pt2", LABELS, False)
    weights = load(own.weights, model=own.model, labels=LABELS, preprocess=loaded.preprocess)
    x = torch.randn(5, 3, 32, 32)
    with torch.no_grad():
        assert torch.allclose(loaded.network()(x), weights.network()(x), atol=1e-5)


def test_it_describes_itself_once_written_by_us(own: Any, tmp_path: Path) -> None:
    loaded = load(own.program, labels=LABELS)
    path = tmp_path / "other.pt2"
    path.write_bytes(programs.save(pt2_archive.read(own.program.read_bytes(), "it")[0], loaded))
    again = load(path)
    assert (again.spec.name, again.labels, again.sha256) == ("mine.pt2", LABELS, loaded.sha256)
    assert again.describes_itself
    with pytest.raises(BadCheckpoint, match="says labels .* was given: leave it out"):
        load(path, labels=("a", "b"))


@pytest.mark.parametrize(
    ("batch", "view", "taken"),
    [
        (1, lambda x: x.flatten(1), None),
        (8, lambda x: x.flatten(1), None),
        (1, lambda x: x.reshape(1, -1), 1),
        (1, lambda x: x.view(x.size(0), -1), 1),  # noted as 1 when it was captured
    ],
    ids=["one, any", "eight, any", "one, fixed", "one, noted"],
)
def test_a_fixed_batch_is_any_batch_where_that_changes_nothing(
    tmp_path: Path, batch: int, view: Callable[[torch.Tensor], torch.Tensor], taken: int | None
) -> None:
    network = plain(view)
    loaded = load(saved(tmp_path / "x.pt2", network, batch, 3, 8, 8), labels=LABELS).network()
    x = torch.randn(5, 3, 8, 8)
    with torch.no_grad():
        expected = torch.cat([network.eval()(picture[None]) for picture in x])
        assert torch.allclose(loaded(x), expected, atol=1e-5)
        assert torch.allclose(loaded(x.to(memory_format=torch.channels_last)), expected, atol=1e-5)
    assert getattr(loaded, "batch", 0) == taken


def test_what_is_no_classifier_of_pictures_is_refused(tmp_path: Path) -> None:
    def refused(network: nn.Module, *shape: int, **options: Any) -> str:
        path = saved(tmp_path / "x.pt2", network, *shape, **options)
        with pytest.raises((BadCheckpoint, BadInput)) as error:
            load(path, labels=LABELS)
        assert "\n" not in str(error.value)
        return str(error.value)

    assert "takes float32 [1, 7]; one float32 picture tensor [N, 3, height, width]" in refused(nn.Linear(7, 2), 1, 7)
    assert "takes exactly 4 pictures at once" in refused(plain(lambda x: x.reshape(4, -1)), 4, 3, 8, 8)
    assert "returns float32 [1, 4, 6, 6] for one picture" in refused(nn.Conv2d(3, 4, 3), 1, 3, 8, 8)
    assert "as in training: call network.eval() before torch.export.export" in refused(
        plain(lambda x: x.flatten(1)), 2, 3, 8, 8, eval_mode=False
    )
    free = {0: torch.export.Dim("n"), 2: torch.export.Dim("h", min=4), 3: torch.export.Dim("w", min=4)}
    everywhere = nn.Sequential(nn.Conv2d(3, 2, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    assert "of fixed sides is needed" in refused(everywhere, 2, 3, 8, 8, dynamic_shapes=(free,))
    broken = plain(lambda x: x.flatten(1))
    with torch.no_grad():
        broken.head.weight[0, 0] = torch.nan  # type: ignore[union-attr, index]
    assert "has weights that are NaN or infinite" in refused(broken, 1, 3, 8, 8)


def test_what_the_caller_says_must_fit(own: Any) -> None:
    for given, message in {
        (("model", own.model), ("labels", LABELS)): "brings its network along: leave `model` and its options out",
        (): "does not say what its classes are: give `labels`",
        (("labels", ("a", "b", "c")),): r"returns float32 \[1, 2\] for one picture; logits \[1, 3\]",
        (("labels", LABELS), ("preprocess", (("height", 16), ("width", 16)))): "takes pictures of 32×32, not 16×16",
    }.items():
        values = {name: dict(value) if name == "preprocess" else value for name, value in given}
        with pytest.raises((BadCheckpoint, BadInput), match=message):
            load(own.program, **values)


@pytest.fixture(scope="module")
def held_out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures that are not among those that calibrate."""
    root = tmp_path_factory.mktemp("held-out") / "set"
    chance = np.random.default_rng(1)
    for label, tint in zip(LABELS, ((0, 0, 60), (60, 0, 0)), strict=True):
        (root / label).mkdir(parents=True)
        for i in range(20):
            coarse = chance.integers(0, 196, (6, 6, 3)) + tint
            write_png(root / label / f"{i:02d}.png", np.kron(coarse, np.ones((6, 6, 1))).astype(np.uint8))
    return root


def whole(root: Path) -> dict[str, dict[str, Any]]:
    """The files of a bundle; each is near its network and all of it runs in one piece."""
    manifest = json.loads((root / "manifest.json").read_text())
    files = {file["path"]: file for file in manifest["files"] if file["role"] == "model"}
    for file in files.values():
        compared = file["comparison"]
        assert (file["delegated"]["partitions"], file["delegated"]["share"], file["delegated"]["left_out"]) == (
            1,
            1,
            {},
        )
        assert compared["sqnr_float_db"] >= (60 if file["precision"] == "fp32" else 20), file
        assert compared.get("sqnr_graph_db", 200) >= 40
    return files


def test_an_own_network_goes_all_the_way_and_its_bundle_needs_no_file_of_its_own(
    own: Any, small_pictures: Path, held_out: Path, tmp_path: Path, pipeline: Callable[..., Any]
) -> None:
    root = tmp_path / "bundle"
    described = ("--model", own.model, "--labels", own.labels, "--input", 32, "--mean", "0.5,0.5,0.5")
    made = pipeline(
        "export", own.weights, *described, "--data", small_pictures, "--calibration-size", 40,
        "--target", "executorch,tflite", "--out", root, "--require-delegated",
    )  # fmt: skip
    assert made.status == 0, made.err
    stems = {Path(name).stem for name in whole(root)}
    assert stems == {"net-build-fp32", "net-build-int8"}
    manifest = json.loads((root / "manifest.json").read_text())
    assert manifest["model"] == "net.py:build"
    assert manifest["preprocess"]["mean"] == [0.5, 0.5, 0.5]
    assert all(str(own.source.parent) not in path.read_text(errors="replace") for path in root.rglob("*.*"))

    hidden = own.source.with_suffix(".hidden")
    own.source.rename(hidden)
    try:
        measured = pipeline("evaluate", root, "--data", held_out, "--json")
        assert measured.status == 0, measured.err
        # It was not trained: it is right on 2.5 points more than one that always says "blue".
        gated = pipeline("gate", root, "--data", held_out, "--max-drop", 1)
        assert gated.status in (0, 3, 4), gated.err
    finally:
        hidden.rename(own.source)
    result = json.loads(measured.out)
    assert result["reference"]["path"] == "float/network.pt2"
    assert {file["status"] for file in result["files"]} == {"run"}
    # The float reference is the network as the user wrote it.
    loaded = load(own.weights, model=own.model, labels=LABELS, preprocess={"height": 32, "width": 32})
    kept = load(root / "float" / "network.pt2")
    x = torch.randn(3, 3, 32, 32)
    with torch.no_grad():
        assert torch.allclose(kept.network()(x), loaded.network()(x), atol=1e-5)
    assert kept.sha256 == loaded.sha256


def test_a_program_goes_all_the_way(
    own: Any, small_pictures: Path, held_out: Path, tmp_path: Path, pipeline: Callable[..., Any]
) -> None:
    root = tmp_path / "bundle"
    made = pipeline(
        "export", own.program, "--labels", own.labels, "--data", small_pictures, "--calibration-size", 40,
        "--target", "executorch", "--out", root, "--require-delegated",
    )  # fmt: skip
    assert made.status == 0, made.err
    assert set(whole(root)) == {"mine-fp32.pte", "mine-int8.pte"}
    measured = pipeline("evaluate", root, "--data", held_out)
    assert measured.status == 0, measured.err
    again = pipeline(
        "export", root / "float" / "network.pt2", "--data", small_pictures, "--calibration-size", 40,
        "--target", "executorch", "--precision", "int8", "--out", tmp_path / "again",
    )  # fmt: skip
    assert again.status == 0, again.err
    assert (tmp_path / "again" / "float" / "network.pt2").read_bytes() == (root / "float" / "network.pt2").read_bytes()


def test_a_program_of_single_pictures_is_calibrated_one_by_one(
    small_pictures: Path, tmp_path: Path, pipeline: Callable[..., Any]
) -> None:
    path = saved(tmp_path / "single.pt2", plain(lambda x: x.view(x.size(0), -1)), 1, 3, 8, 8)
    (tmp_path / "labels.txt").write_text("blue\nred\n")
    made = pipeline(
        "export", path, "--labels", tmp_path / "labels.txt", "--data", small_pictures, "--calibration-size", 40,
        "--target", "executorch", "--out", tmp_path / "bundle",
    )  # fmt: skip
    assert made.status == 0, made.err
    assert len(whole(tmp_path / "bundle")) == 2


def test_an_own_network_is_trained(
    own: Any, small_pictures: Path, tmp_path: Path, pipeline: Callable[..., Any]
) -> None:
    out = tmp_path / "trained.safetensors"
    trained = pipeline(
        "train", own.model, "--data", small_pictures, "--out", out, "--epochs", 1, "--batch-size", 8, "--input", 32,
        "--precision", "fp32",
    )  # fmt: skip
    assert trained.status == 0, trained.err
    assert load(out, model=own.model).labels == LABELS
    refused = pipeline("export", out, "--data", small_pictures, "--out", tmp_path / "bundle").error()
    assert "is of your own network: say where that is, as in --model …/net.py:build" in refused
    other = tmp_path / "other.safetensors"
    single = pipeline("train", f"{own.source}:Single", "--data", small_pictures, "--out", other, "--epochs", 1).error()
    assert "fails on 2 pictures [2, 3, " in single
    refused = pipeline("train", own.program, "--data", small_pictures, "--out", out, "--epochs", 1).error()
    assert "is an exported program, which cannot be trained" in refused


def test_a_manifest_cannot_have_a_file_run(
    small_pictures: Path, small_checkpoint: Path, held_out: Path, tmp_path: Path, small_family: Any, fake_family: Any,
    pipeline: Callable[..., Any],
) -> None:  # fmt: skip
    """A bundle of a zoo network whose manifest says that its network is a file here."""
    from pipeline.data import open_data
    from pipeline.evaluation.bundle import evaluate_bundle

    del small_family, fake_family
    root = tmp_path / "bundle"
    made = pipeline(
        "export",
        small_checkpoint,
        "--data",
        small_pictures,
        "--calibration-size",
        40,
        "--target",
        "fake",
        "--out",
        root,
    )
    assert made.status == 0, made.err
    source = tmp_path / "evil.py"
    source.write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    manifest = json.loads((root / "manifest.json").read_text())
    manifest["model"] = f"{source}:build"
    (root / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(BadManifest, match="holds no program of its network"):
        evaluate_bundle(root, open_data(str(held_out), "test"))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["../../x", "/tmp/x", "", "..", "net\n", "a\x1b[31mb"])
def test_a_program_cannot_choose_where_files_go(own: Any, tmp_path: Path, name: str) -> None:
    loaded = load(own.program, labels=LABELS)
    hostile = dataclasses.replace(loaded, spec=dataclasses.replace(loaded.spec, name=name))
    program = torch.export.load(own.program)
    (tmp_path / "x.pt2").write_bytes(programs.save(program, hostile))
    with pytest.raises(BadCheckpoint, match="is no model's name") as refused:
        load(tmp_path / "x.pt2")
    assert str(refused.value).isprintable()


def test_a_program_may_lie_under_any_name(own: Any, tmp_path: Path) -> None:
    odd = tmp_path / "my net (1).pt2"
    odd.write_bytes(own.program.read_bytes())
    loaded = load(odd, labels=LABELS)
    assert loaded.spec.name == "my_net__1_.pt2"
    odd.write_bytes(programs.save(torch.export.load(own.program), loaded))
    assert load(odd).spec.name == "my_net__1_.pt2"


def test_what_cannot_be_captured_is_not_trained(
    pipeline: Callable[..., Any], small_pictures: Path, tmp_path: Path
) -> None:
    (tmp_path / "net.py").write_text(
        "import torch\nfrom torch import nn\n"
        "class Net(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.head = nn.Linear(3, 2)\n"
        "    def forward(self, x):\n"
        "        x = x.mean((2, 3))\n"
        "        return self.head(x) if x.sum() > 0 else self.head(-x)\n"
    )
    given = ["--data", small_pictures, "--epochs", 1, "--input", 32, "--out", tmp_path / "x.safetensors"]
    said = pipeline("train", f"{tmp_path}/net.py:Net", *given).error()
    assert "cannot be captured by torch.export" in said
    assert [path.name for path in tmp_path.glob("x.*")] == []
