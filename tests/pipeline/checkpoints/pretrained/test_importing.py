"""Imported networks compute what the source's own implementation computes, on the same weights."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from edge_apps.runtime.preprocess import Preprocess
from pipeline import zoo
from pipeline.checkpoints import checkpoint
from pipeline.checkpoints.checkpoint import Checkpoint
from pipeline.checkpoints.key_mappings import SPELLINGS, importable
from pipeline.checkpoints.load import load
from pipeline.checkpoints.pretrained.importing import _check_published, classifier_tensors, import_file
from pipeline.checkpoints.pretrained.published import sets_of
from pipeline.data import imagenet
from pipeline.errors import BadCheckpoint, BadInput

# The model of the zoo, the source's name for it, an input side that keeps the comparison short; an option that no name
# shows, and a wrong value for it, which the comparison must see.
SMALL: tuple[tuple[str, str, int, dict[str, Any]], ...] = (
    ("alexnet_one_tower", "torchvision alexnet", 224, {}),
    ("vgg_a", "torchvision vgg11", 224, {}),
    ("vgg_a", "torchvision vgg11_bn", 224, {}),
    ("googlenet_bn", "torchvision googlenet", 224, {}),
    ("resnet18", "torchvision resnet18", 97, {}),
    ("resnet50", "torchvision resnet50", 64, {"stride_on": "1x1"}),
    ("squeezenet_1_0", "torchvision squeezenet1_0", 224, {"bypass": "simple"}),
    ("squeezenet_1_1", "torchvision squeezenet1_1", 97, {}),
    ("mobilenet_v2", "torchvision mobilenet_v2", 64, {}),
    ("efficientnet_b0", "torchvision efficientnet_b0", 64, {"eps": 1e-3}),
    ("efficientnet_b5", "torchvision efficientnet_b5", 64, {"eps": 1e-5}),
    ("se_resnet18", "timm legacy_seresnet18", 97, {"rectified": False}),
    ("se_resnet50", "timm seresnet50", 64, {"stride_on": "1x1"}),
    ("se_resnet50", "timm legacy_seresnet50", 97, {"stem_pool": "padded"}),
    ("se_resnext50_32x4d", "timm seresnext50_32x4d", 64, {"stem_pool": "ceil"}),
    ("se_resnext50_32x4d", "timm legacy_seresnext50_32x4d", 64, {"stride_on": "1x1"}),
)
VGG = [("a", 11), ("b", 13), ("d", 16), ("e", 19)]
EFFICIENTNET_SIDES = (224, 240, 288, 300, 380, 456, 528, 600)
# Every member, at the input it was published for.
ALL = (
    *((model, name, 224) for model, name, _, _ in SMALL if not name.startswith(("torchvision vgg", "torchvision eff"))),
    *((f"vgg_{letter}", f"torchvision vgg{layers}{norm}", 224) for letter, layers in VGG for norm in ("", "_bn")),
    *((f"resnet{depth}", f"torchvision resnet{depth}", 224) for depth in (34, 101, 152)),
    *(
        (f"efficientnet_b{scale}", f"torchvision efficientnet_b{scale}", side)
        for scale, side in enumerate(EFFICIENTNET_SIDES)
    ),
)
NARROW = 8
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def _normalised(pixels: torch.Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> torch.Tensor:
    return (pixels - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]


def _pictures(count: int, side: int) -> torch.Tensor:
    chance = torch.Generator().manual_seed(1)
    coarse = torch.rand(count, 3, 8, 8, generator=chance)
    smooth = nn.functional.interpolate(coarse, size=(side, side), mode="bicubic")
    return (smooth + 0.2 * torch.randn(count, 3, side, side, generator=chance)).clamp(0, 1)


def _narrowed(network: nn.Module) -> nn.Module:
    """AlexNet or VGG with an eighth of the channels: whole they have half a gigabyte."""
    for parent in (network.features, network.classifier):
        for name, module in parent.named_children():
            if isinstance(module, nn.Conv2d):
                inputs = module.in_channels if module.in_channels == 3 else module.in_channels // NARROW
                shape = module.kernel_size, module.stride, module.padding
                setattr(parent, name, nn.Conv2d(inputs, module.out_channels // NARROW, *shape))
            elif isinstance(module, nn.BatchNorm2d):
                setattr(parent, name, nn.BatchNorm2d(module.num_features // NARROW))
            elif isinstance(module, nn.Linear):
                outputs = module.out_features if module.out_features == 1000 else module.out_features // NARROW
                setattr(parent, name, nn.Linear(module.in_features // NARROW, outputs))
    return network


def _lively(network: nn.Module, side: int) -> nn.Module:
    """Random weights whose signal reaches the logits, and the batch-norm statistics that go with them.

    Every tensor differs from every other and from what a new network has, so that one in the wrong place is seen. The
    statistics are those of pictures of ``side``: with others the logits grow until float32 alone differs by 1e-4.
    """
    torch.manual_seed(0)
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.Linear | nn.Conv2d):
                module.weight.normal_(0, (2 / module.weight[0].numel()) ** 0.5)
                if module.bias is not None:
                    module.bias.uniform_(-0.1, 0.1)
        for norm in norms:
            norm.reset_running_stats()
            norm.weight.uniform_(0.7, 1.3)
            norm.bias.normal_(0, 0.1)
            norm.momentum = None  # a plain mean over the batches
        network.eval()
        for norm in norms:
            norm.train()
        for batch in _pictures(16 if side <= 224 else 8, side).split(8 if side <= 224 else 4) if norms else ():
            network(_normalised(batch, IMAGENET_MEAN, IMAGENET_STD))
    return network.eval()


@pytest.fixture
def source(torchvision_models, timm_create):
    """``source("torchvision resnet18", 64)``: the library's network as for its published weights, lively at a size."""

    def make(name: str, side: int, narrow: bool = False, **more) -> nn.Module:
        library, _, model = name.partition(" ")
        if model == "googlenet":
            more |= {"transform_input": True, "init_weights": False}
        with torch.device("meta"):  # its own initialisation takes longer than everything else
            made = timm_create(model, **more) if library == "timm" else getattr(torchvision_models, model)(**more)
            made = _narrowed(made) if narrow else made
        return _lively(made.to_empty(device="cpu"), side)

    return make


@pytest.fixture
def saved(tmp_path):
    """A state dict as a file that goes when the test ends: some have 500 MB."""
    path = tmp_path / "source.pth"

    def save(state) -> Path:
        torch.save(state, path)
        return path

    yield save
    path.unlink(missing_ok=True)
    (tmp_path / "imported.safetensors").unlink(missing_ok=True)


def _difference(a: nn.Module, b: nn.Module, pixels: torch.Tensor, preprocess: Preprocess) -> float:
    """Between the logits of the source's network and of ours, each with its own normalisation."""
    with torch.no_grad():
        expected = a(_normalised(pixels, IMAGENET_MEAN, IMAGENET_STD))
        found = b(_normalised(pixels, preprocess.mean, preprocess.std))
    assert (expected[0] - expected[1]).abs().max() > 0.05, "these logits could not differ"
    return float((found - expected).abs().max())


def _compare(pipeline, saved, network: nn.Module, model: str, name: str, side: int, *arguments) -> Checkpoint:
    """Import through the command; equal logits to 1e-4 of pictures that the network tells apart."""
    path = saved(network.state_dict())
    out = path.with_name("imported.safetensors")
    done = pipeline("import-weights", path, "--as", model, "--out", out, *arguments)
    assert done.status == 0, done.err
    spelling = re.match("timm (legacy_)?seresne|torchvision", name)[0]
    assert re.search(f"Tensors named as by {spelling}t?;", done.out)
    loaded = load(out)
    assert _difference(network, loaded.network(), _pictures(2, side), loaded.preprocess) <= 1e-4
    assert loaded.labels == imagenet.labels()
    assert loaded.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert loaded.preprocess in [row.preprocess for row in sets_of(model)]
    return loaded


@pytest.mark.parametrize(
    ("model", "name", "side", "wrong"), SMALL, ids=[f"{model}-{name.split()[1]}" for model, name, _, _ in SMALL]
)
def test_equal_logits(model, name, side, wrong, source, saved, pipeline):
    narrow = model.startswith(("alexnet", "vgg"))
    network = source(name, side, narrow)
    loaded = _compare(pipeline, saved, network, model, name, side, *(("--width", 1 / NARROW) if narrow else ()))
    if not wrong:
        return
    other = loaded.spec.build(1000, **{**loaded.options, **wrong}).eval()
    other.load_state_dict(loaded.state)
    assert _difference(network, other, _pictures(2, side), loaded.preprocess) > 1e-3


@pytest.mark.long
@pytest.mark.parametrize(("model", "name", "side"), ALL, ids=[f"{model}-{name.split()[1]}" for model, name, _ in ALL])
def test_equal_logits_of_every_member_at_its_published_input(model, name, side, source, saved, pipeline):
    _compare(pipeline, saved, source(name, side), model, name, side)


def test_every_importable_model_is_compared():
    assert {model for model, _, _ in ALL} == set(importable())
    compared = {(model, name.startswith("timm legacy"), name.startswith("timm se")) for model, name, _ in ALL}
    assert compared == {
        (model, spelling.name == "timm legacy_seresnet", spelling.name == "timm seresnet")
        for spelling in SPELLINGS
        for model in spelling.models
    }


@pytest.fixture
def resnet(source):
    return source("torchvision resnet18", 64)


def _refused(path: Path, match: str, model: str = "resnet18", kind=BadCheckpoint, **given) -> None:
    with pytest.raises(kind, match=match) as caught:
        import_file(path, zoo.get(model), **given)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_status == 2


def test_an_option_that_the_source_fixes_must_not_be_contradicted(source, saved):
    path, spec = saved(source("timm legacy_seresnet18", 64).state_dict()), zoo.get("se_resnet18")
    with pytest.raises(BadInput, match="timm legacy_seresnet have stem_pool ceil, but padded was given: leave it out"):
        import_file(path, spec, options={"stem_pool": "padded"})
    assert import_file(path, spec, options={"stem_pool": "ceil"}).checkpoint.options["stem_pool"] == "ceil"


def test_strictly_every_tensor_and_every_parameter(resnet, saved):
    whole = resnet.state_dict()
    without = {name: tensor for name, tensor in whole.items() if name != "layer3.1.bn2.running_var"}
    _refused(saved(without), r"\(torchvision\) is no resnet18 .*: layer3.1.bn2.running_var is missing\.")
    _refused(saved({**whole, "head.weight": torch.zeros(1)}), "head.weight is unknown")
    _refused(saved({**whole, "conv1.weight": torch.zeros(64, 1, 7, 7)}), r"conv1.weight is \[64, 1, 7, 7\], expected")
    _refused(saved({**whole, "bn1.bias": torch.full((64,), torch.nan)}), "bn1.bias has NaN values")
    _refused(saved({**whole, "fc.weight": torch.tensor(1.0)}), r"fc.weight is \[\], expected")
    _refused(saved(whole), "resnet34 .*layer1.2.conv1.weight is missing", "resnet34")
    _refused(saved(whole), "no 'mobilenet_v2' in a known spelling.*'features.18.0.weight'", "mobilenet_v2")
    _refused(saved(whole), "cannot be imported as 'shufflenet_v1'.*alexnet_one_tower", "shufflenet_v1")


def test_batch_counters_may_be_absent(resnet, saved):
    state = {name: tensor for name, tensor in resnet.state_dict().items() if not name.endswith("num_batches_tracked")}
    x = _normalised(_pictures(2, 64), IMAGENET_MEAN, IMAGENET_STD)
    with torch.no_grad():
        assert torch.equal(import_file(saved(state), zoo.get("resnet18")).checkpoint.network()(x), resnet(x))


def test_safetensors_are_read_too(resnet, tmp_path):
    save_file(resnet.state_dict(), tmp_path / "model.safetensors")
    imported = import_file(tmp_path / "model.safetensors", zoo.get("resnet18"))
    assert all(torch.equal(tensor, resnet.state_dict()[name]) for name, tensor in imported.checkpoint.state.items())


def test_auxiliary_heads_are_left_out_and_said(source, saved, pipeline):
    path = saved(source("torchvision googlenet", 64).state_dict())
    done = pipeline("import-weights", path, "--as", "googlenet_bn", "--out", path.with_name("imported.safetensors"))
    assert "Left out, of use in training only: 20 tensors aux1.*, aux2.*." in done.out
    loaded = load(path.with_name("imported.safetensors"))
    assert len(loaded.training["imported"]["left_out"]) == 20
    assert loaded.options["branch5_kernel"] == 3
    assert (loaded.preprocess.mean, loaded.preprocess.std) == ((0.5,) * 3, (0.5,) * 3)


def test_two_names_for_one_place_are_refused(source, saved):
    state = source("timm legacy_seresnet18", 64).state_dict()
    state["fc.weight"] = state["last_linear.weight"]
    _refused(saved(state), "has two tensors for 'fc.weight': 'fc.weight' is one too many", "se_resnet18")


def test_another_class_count_needs_labels(torchvision_models, saved):
    path = saved(torchvision_models.resnet18(num_classes=3).state_dict())
    _refused(path, "tells 3 classes apart, ImageNet has 1,000: name them with `labels` FILE", kind=BadInput)
    _refused(path, "tells 3 classes apart, and 2 labels were given", kind=BadInput, labels=("a", "b"))
    made = import_file(path, zoo.get("resnet18"), labels=("a", "b", "c")).checkpoint
    assert made.labels == ("a", "b", "c")
    assert made.network()(torch.zeros(1, 3, 64, 64)).shape == (1, 3)


def test_a_published_file_is_recognised_by_its_hash(resnet, saved, monkeypatch):
    path = saved(resnet.state_dict())
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    rows = {row.name: row for row in sets_of("resnet50")}
    row = rows["IMAGENET1K_V1"]
    monkeypatch.setattr(
        "pipeline.checkpoints.pretrained.importing.of_sha256", lambda sha256: row if sha256 == digest else None
    )
    _refused(path, "is the published file of 'resnet50', not of 'resnet18'")


def test_the_set_decides_on_the_preprocessing(torchvision_models, saved, monkeypatch):
    path, spec = saved(torchvision_models.resnet50(num_classes=2).state_dict()), zoo.get("resnet50")
    labels = ("a", "b")
    default = import_file(path, spec, labels=labels)
    assert (default.published.name, default.checkpoint.preprocess.resize_to) == ("IMAGENET1K_V2", 232)
    assert any("assumed, the file is none that was published" in note for note in default.notes())
    named = import_file(path, spec, labels=labels, set_name="IMAGENET1K_V1")
    assert named.checkpoint.preprocess.resize_to == 256
    _refused(path, "Unknown weight set 'V1'.*IMAGENET1K_V2, IMAGENET1K_V1", "resnet50", BadInput, set_name="V1")
    monkeypatch.setattr("pipeline.checkpoints.pretrained.importing.of_sha256", lambda _: named.published)
    known = import_file(path, spec, labels=labels)
    assert known.recognised
    assert known.checkpoint.preprocess.resize_to == 256
    assert known.checkpoint.training["imported"]["url"] == named.published.url
    _refused(
        path, "is the published set 'IMAGENET1K_V1'", "resnet50", BadInput, labels=labels, set_name="IMAGENET1K_V2"
    )


def test_a_checkpoint_needs_no_import(tmp_path):
    spec = zoo.get("squeezenet_1_1")
    checkpoint.save(
        tmp_path / "x.safetensors",
        spec.build(2),
        spec=spec,
        options={},
        labels=("a", "b"),
        preprocess=Preprocess(height=64, width=64),
        training={},
    )
    _refused(tmp_path / "x.safetensors", "already is a checkpoint of this program", "squeezenet_1_1")


def test_an_option_that_the_names_show_can_be_given(torchvision_models, saved):
    path = saved(torchvision_models.mobilenet_v2(width_mult=0.5).state_dict())
    assert import_file(path, zoo.get("mobilenet_v2"), options={"width": 0.5}).checkpoint.options["width"] == 0.5
    _refused(path, "is no mobilenet_v2 .*expected", "mobilenet_v2")


def test_the_classifier_is_found_by_what_depends_on_the_classes():
    assert classifier_tensors(zoo.get("resnet18"), {}) == ("fc.weight", "fc.bias")
    assert classifier_tensors(zoo.get("squeezenet_1_1"), {}) == ("classifier.1.weight", "classifier.1.bias")
    assert classifier_tensors(zoo.get("vgg_a"), {}) == ("classifier.6.weight", "classifier.6.bias")


def test_a_hostile_pickle_is_not_executed(tmp_path):
    class Hostile:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "executed",))

    torch.save({"fc.weight": Hostile()}, tmp_path / "x.pth")
    _refused(tmp_path / "x.pth", "was not executed")
    assert not (tmp_path / "executed").exists()


def test_json_says_what_was_made(torchvision_models, saved, pipeline):
    path = saved(torchvision_models.squeezenet1_1().state_dict())
    out = path.with_name("imported.safetensors")
    done = pipeline("import-weights", path, "--as", "squeezenet1_1", "--out", out, "--json")
    said = json.loads(done.out)
    assert (said["model"], said["classes"], said["checkpoint"]) == ("squeezenet_1_1", 1000, str(out))
    assert said["preprocess"]["trained_with"] == {
        "library": "torchvision", "interpolation": "bilinear", "antialias": True, "resize_to": 256,
    }  # fmt: skip
    assert said["imported"]["spelling"] == "torchvision"


def test_a_network_that_may_be_anothers_is_not_taken_for_ours(source, saved) -> None:
    """torchvision's ResNet-50 has our names and shapes, and its stride elsewhere: no tensor shows it."""
    path, labels = saved(source("torchvision resnet50", 64).state_dict()), tuple(map(str, range(1000)))
    with pytest.raises(BadCheckpoint, match="whose stride_on is 3x3, not 1x1. Import it as 'resnet50' with"):
        load(path, model="resnet50", labels=labels)
    for where in ("3x3", "1x1"):
        loaded = load(path, model="resnet50", labels=labels, options={"stride_on": where})
        assert loaded.options["stride_on"] == where


def test_the_file_that_torchvisions_training_writes(resnet, tmp_path) -> None:
    torch.save({"model": resnet.state_dict(), "optimizer": {}, "epoch": 3}, tmp_path / "t.pth")
    imported = import_file(tmp_path / "t.pth", zoo.get("resnet18"))
    assert torch.equal(imported.checkpoint.state["fc.bias"], resnet.state_dict()["fc.bias"])


def test_averaged_weights_of_torchvisions_training(resnet, tmp_path, pipeline) -> None:
    """Its `model_ema` is an AveragedModel, which counts, and names as DataParallel does."""
    raw = resnet.state_dict()
    averaged = {f"module.{name}": tensor + 1 if name == "fc.bias" else tensor for name, tensor in raw.items()}
    file, out = tmp_path / "t.pth", tmp_path / "t.safetensors"
    torch.save({"model": raw, "model_ema": {"n_averaged": torch.tensor(4), **averaged}}, file)
    for option, difference, note in (
        ("--no-ema", 0, "The raw weights under 'model' are taken; --ema takes the averaged weights (EMA) under"),
        ("--ema", 1, "The averaged weights (EMA) under 'model_ema.module' are taken; --no-ema takes the raw weights"),
    ):
        done = pipeline("import-weights", file, "--as", "resnet18", "--out", out, option, "--force")
        assert done.status == 0, done.err
        assert note in done.out
        assert torch.equal(load(out).state["fc.bias"], raw["fc.bias"] + difference)
    torch.save(raw, file)
    refused = pipeline("import-weights", file, "--as", "resnet18", "--out", out, "--ema", "--force")
    assert refused.status == 2
    assert "holds no averaged weights (EMA): leave --ema out" in refused.err


@pytest.mark.parametrize("model", importable())
def test_published_weights_fit_the_default_network(model) -> None:
    """What is checked before a download lets every default through."""
    spec = zoo.get(model)
    for published in sets_of(model):
        _check_published(spec, published, {})


def test_another_normalisation_of_a_file_that_was_not_published(resnet, saved, monkeypatch) -> None:
    path, spec = saved(resnet.state_dict()), zoo.get("resnet18")
    imported = import_file(path, spec, normalisation={"mean": (0.5, 0.5, 0.5)})
    assert (imported.checkpoint.preprocess.mean, imported.checkpoint.preprocess.std) == ((0.5,) * 3, IMAGENET_STD)
    assert "Pixels 0…1 less mean 0.5, 0.5, 0.5, divided by std 0.229, 0.224, 0.225." in imported.notes()
    published = sets_of("resnet18")[0]
    monkeypatch.setattr("pipeline.checkpoints.pretrained.importing.of_sha256", lambda _: published)
    _refused(path, "whose mean and std are known: leave them out", kind=BadInput, normalisation={"mean": (0.5,) * 3})
