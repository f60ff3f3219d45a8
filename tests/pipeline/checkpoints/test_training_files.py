"""Checkpoints as training scripts leave them: the network's weights are found, and how they were found is said."""

from __future__ import annotations

import argparse
import collections
import datetime
import io
import pathlib
import sys
import types
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from pipeline.checkpoints import checkpoint
from pipeline.checkpoints.load import load as read_checkpoint
from pipeline.checkpoints.state_dicts import is_averaged
from pipeline.errors import BadCheckpoint

SOURCE = '''
from torch import nn


def plain(num_classes=3):
    pool = nn.AdaptiveAvgPool2d(1)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), pool, nn.Flatten(), nn.Linear(4, num_classes))


class Wrapped(nn.Module):
    """A network with a child of its own called `module`."""

    def __init__(self):
        super().__init__()
        self.module = plain()

    def forward(self, x):
        return self.module(x)


def wrapped(num_classes=3):
    return Wrapped()


class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.head = nn.Linear(4, 3)

    def forward(self, x):
        return self.head(self.encoder(x))


def two(num_classes=3):
    return Two()
'''

State = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("nets") / "nets.py"
    path.write_text(SOURCE)
    return path


@pytest.fixture
def load(source: Path) -> Callable[..., checkpoint.Checkpoint]:
    def loaded(path: Path, factory: str = "plain", **given: Any) -> checkpoint.Checkpoint:
        side = {"height": 16, "width": 16}
        return read_checkpoint(path, model=f"{source}:{factory}", labels=("a", "b", "c"), preprocess=side, **given)

    return loaded


def weights(seed: int = 0) -> State:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)
    ).state_dict()


def under(prefix: str, state: State | None = None) -> State:
    return {prefix + name: tensor for name, tensor in (state or weights()).items()}


def same(loaded: checkpoint.Checkpoint, state: State) -> bool:
    return all(torch.equal(tensor, state[name]) for name, tensor in loaded.state.items())


RAW, EMA = weights(0), weights(1)
LIGHTNING = {"epoch": 3, "global_step": 99, "pytorch-lightning_version": "2.4.0", "optimizer_states": [{}]}

FOUND: dict[str, tuple[Any, str]] = {
    "lightning": (
        {**LIGHTNING, "state_dict": under("model."), "hyper_parameters": {"lr": 0.1}},
        "In the checkpoint the weights are under 'state_dict', and 'model.' was taken off the names of the tensors.",
    ),
    "lightning with a loss and a teacher": (
        {"state_dict": {**under("net."), "criterion.weight": torch.ones(3), **under("teacher.", EMA)}},
        "Left out of the checkpoint, not part of the network: criterion.weight.",
    ),
    "torch.compile": (under("_orig_mod."), "'_orig_mod.' was taken off the names of the tensors"),
    "DataParallel of a compiled one": (under("module._orig_mod."), "'module._orig_mod.' was taken off"),
    "any attribute": (under("my_net."), "'my_net.' was taken off"),
    "averaged model": (
        {"n_averaged": torch.tensor(3), **under("module.")},
        "These are averaged weights (EMA) under 'module'; the checkpoint holds no raw ones.",
    ),
    "tutorial": (
        {"model_state_dict": RAW, "optimizer_state_dict": {}, "epoch": 5, "loss": 0.1},
        "the weights are under 'model_state_dict'.",
    ),
    "a part that is compiled": (
        {name.replace("1.", "1._orig_mod.", 1): tensor for name, tensor in RAW.items()},
        "'_orig_mod.' was taken off the names",
    ),
    "composer": ({"state": {"model": under("module."), "rank_zero_seed": 1}, "rng": []}, "under 'state.model'"),
    "thop": (
        {**RAW, "total_ops": torch.zeros(1), "0.total_params": torch.zeros(1)},
        "Left out of the checkpoint, not part of the network: total_ops, 0.total_params.",
    ),
    "numbers beside the weights": ({**RAW, "epoch": 3}, "not part of the network: epoch."),
    "gan": ({"net": RAW, "discriminator": {"0.weight": torch.zeros(2)}}, "under 'net'"),
    "only averaged": ({"params_ema": RAW}, "averaged weights (EMA) under 'params_ema'; the checkpoint holds no raw"),
}


@pytest.mark.parametrize("name", FOUND)
def test_the_weights_are_found_and_said(name: str, load: Any, tmp_path: Path) -> None:
    content, note = FOUND[name]
    torch.save(content, tmp_path / "x.pt")
    loaded = load(tmp_path / "x.pt")
    assert same(loaded, RAW)
    assert any(note in said for said in loaded.notes), loaded.notes
    assert all("\n" not in said for said in loaded.notes)


@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod."])
def test_safetensors_are_read_alike(prefix: str, load: Any, tmp_path: Path) -> None:
    save_file(under(prefix), tmp_path / "x.safetensors")
    loaded = load(tmp_path / "x.safetensors")
    assert same(loaded, RAW)
    assert (loaded.notes == ()) == (not prefix)


def test_a_child_called_module_stays(load: Any, tmp_path: Path) -> None:
    for number, (prefix, noted) in enumerate({"module.": False, "module.module.": True}.items()):
        path = tmp_path / f"{number}.pt"
        torch.save(under(prefix), path)
        loaded = load(path, "wrapped")
        assert same(loaded, under("module."))
        assert bool(loaded.notes) == noted
    torch.save(RAW, tmp_path / "bare.pt")
    with pytest.raises(BadCheckpoint, match=r"module\.0\.weight is missing"):
        load(tmp_path / "bare.pt", "wrapped")


def test_a_part_in_parallel_is_read(load: Any, tmp_path: Path) -> None:
    state = {"encoder.module.0.weight": torch.ones(4, 3, 3, 3), "encoder.module.0.bias": torch.ones(4)}
    torch.save({**state, "head.weight": torch.ones(3, 4), "head.bias": torch.ones(3)}, tmp_path / "x.pt")
    loaded = load(tmp_path / "x.pt", "two")
    assert "encoder.0.weight" in loaded.state
    assert "'module.' was taken off" in loaded.notes[0]


AVERAGES: dict[str, tuple[Any, str, str]] = {
    "timm": ({"state_dict": RAW, "state_dict_ema": EMA, "metric": 1.0}, "state_dict", "state_dict_ema"),
    "torchvision": (
        {"model": RAW, "model_ema": {"n_averaged": torch.tensor(2), **under("module.", EMA)}},
        "model",
        "model_ema",
    ),
    "BasicSR": ({"params": RAW, "params_ema": EMA}, "params", "params_ema"),
    "nested": ({"model": RAW, "ema": {"module": EMA, "decay": 0.99}}, "model", "ema.module"),
    "in one state dict": ({"state_dict": {**under("model."), **under("model_ema.module.", EMA)}}, "model", "model_ema"),
    "ema-pytorch": (
        {**under("online_model."), **under("ema_model.", EMA), "initted": torch.tensor(True), "step": torch.tensor(1)},
        "online_model",
        "ema_model",
    ),
    **{
        name: ({"model": RAW, name: EMA}, "model", name)
        for name in ("EMA", "modelEma", "EMAModel", "modelema", "avg_model", "shadow", "polyak", "moving-average")
    },
    "by prefixes": ({**under("net."), **under("avgNet.", EMA)}, "net", "avgNet"),
}


@pytest.mark.parametrize("name", AVERAGES)
def test_averaged_weights_can_be_chosen_and_the_taken_ones_are_said(name: str, load: Any, tmp_path: Path) -> None:
    content, raw_place, ema_place = AVERAGES[name]
    torch.save(content, tmp_path / "x.pth.tar")
    loaded, raw, ema = (load(tmp_path / "x.pth.tar", ema=ema) for ema in (None, False, True))
    assert same(loaded, RAW)
    assert same(raw, RAW)
    assert same(ema, EMA)
    said = " ".join(loaded.notes)
    assert "The raw weights under" in said
    assert "`ema` takes the averaged weights (EMA)" in said
    assert raw_place in said
    assert ema_place in said
    assert "`ema=False` takes the raw weights" in " ".join(ema.notes)
    assert ema.training == {"weights": ema.training["weights"]}
    assert ema_place in ema.training["weights"]
    assert loaded.training == {}
    assert loaded.sha256 == raw.sha256 != ema.sha256  # ranges of the one are not those of the other


def test_averages_without_names_are_said(load: Any, tmp_path: Path) -> None:
    """torch_ema keeps them as a list in the order of the parameters."""
    content = {"model": RAW, "ema": {"decay": 0.99, "shadow_params": list(EMA.values()), "collected_params": None}}
    torch.save(content, tmp_path / "x.pt")
    loaded = load(tmp_path / "x.pt")
    assert same(loaded, RAW)
    assert loaded.notes[-1] == (
        "The averaged weights (EMA) under 'ema.shadow_params' are a list of tensors without names, not read "
        "(torch_ema: save network.state_dict() within ema.average_parameters() to use it): left out."
    )
    refused(load, tmp_path / "x.pt", "cannot be read with `ema`. The averaged weights .EMA. under", ema=True)
    torch.save({"shadow_params": list(EMA.values())}, tmp_path / "only.pt")
    refused(load, tmp_path / "only.pt", "is not a state dict: 'shadow_params' is not a tensor")


@pytest.mark.parametrize("name", ["schema", "avgpool", "lemma", "shadows"])
def test_names_that_say_nothing_of_averages(name: str) -> None:
    assert not is_averaged(name)


def test_weights_that_lightning_averaged(load: Any, tmp_path: Path) -> None:
    """Its `state_dict` is what it validates with, and the average."""
    content = {
        **LIGHTNING,
        "state_dict": under("model.", EMA),
        "current_model_state": under("model."),
        "averaging_state": {},
    }
    torch.save(content, tmp_path / "x.ckpt")
    assert same(load(tmp_path / "x.ckpt"), EMA)
    assert "The averaged weights (EMA) under 'state_dict.model' are taken" in " ".join(load(tmp_path / "x.ckpt").notes)
    assert same(load(tmp_path / "x.ckpt", ema=False), RAW)


def refused(load: Any, path: Path, match: str, **given: Any) -> None:
    with pytest.raises(BadCheckpoint, match=match) as caught:
        load(path, **given)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_status == 2


def test_averages_that_are_still_equal_can_be_chosen(load: Any, tmp_path: Path) -> None:
    torch.save({"state_dict": RAW, "state_dict_ema": RAW}, tmp_path / "x.pt")
    assert "The averaged weights (EMA) under 'state_dict_ema' are taken" in " ".join(
        load(tmp_path / "x.pt", ema=True).notes
    )


def test_a_copy_is_not_listed_as_left_out(load: Any, tmp_path: Path) -> None:
    torch.save({**under("model."), **under("model_ema.", EMA), "loss.weight": torch.ones(3)}, tmp_path / "x.pt")
    assert load(tmp_path / "x.pt").notes[-1] == "Left out of the checkpoint, not part of the network: loss.weight."


def test_another_place_fits_where_the_first_does_not(load: Any, tmp_path: Path) -> None:
    torch.save({"state_dict": {**under("model."), "head.x": torch.ones(3)}, "best": EMA}, tmp_path / "x.pt")
    assert same(load(tmp_path / "x.pt"), EMA)


def test_what_is_asked_for_and_not_there_is_refused(load: Any, tmp_path: Path) -> None:
    torch.save(RAW, tmp_path / "raw.pt")
    torch.save({"model_ema": RAW}, tmp_path / "ema.pt")
    refused(load, tmp_path / "raw.pt", "holds no averaged weights .EMA.: leave `ema` out", ema=True)
    refused(load, tmp_path / "ema.pt", "only, under 'model_ema': leave `ema=False` out", ema=False)
    assert same(load(tmp_path / "raw.pt", ema=False), RAW)
    assert same(load(tmp_path / "ema.pt", ema=True), RAW)


def test_two_that_fit_equally_well_are_refused(load: Any, tmp_path: Path) -> None:
    torch.save({**under("encoder_q."), **under("encoder_k.", EMA)}, tmp_path / "x.pt")
    refused(
        load, tmp_path / "x.pt", "more than once, under 'encoder_.' and 'encoder_.': save the state dict of the one"
    )
    torch.save({**under("encoder_q."), **under("encoder_k.")}, tmp_path / "same.pt")
    assert same(load(tmp_path / "same.pt"), RAW)


def test_a_prefix_stays_where_the_rest_does_not_fit(load: Any, tmp_path: Path) -> None:
    torch.save({**under("model."), "head.weight": torch.ones(3)}, tmp_path / "more.pt")
    refused(
        load, tmp_path / "more.pt", "fits once 'model.' is taken off its names, but it also holds head.weight, which"
    )
    less = {name: tensor for name, tensor in under("model.").items() if name != "model.4.bias"}
    torch.save(less, tmp_path / "less.pt")
    refused(load, tmp_path / "less.pt", r"is no nets.py:plain \(3 classes\): 4.bias is missing\.")


TRAINED = {
    "namespace": argparse.Namespace(lr=0.1, model="plain", nested=argparse.Namespace(a=[1, (2, None)])),
    "numpy float": np.float64(0.5),
    "numpy int": np.int64(3),
    "numpy bool": np.bool_(True),
    "numpy array": np.zeros((2, 2), np.float32),
    "numpy type": np.dtype("float32"),
    "path": pathlib.PurePosixPath("/data"),
    "date": datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC),
    "queue": collections.deque([1.0, 2.0], maxlen=5),
    "torch's version": torch.__version__,
    "default dictionary": collections.defaultdict(list, {"loss": [1.0]}),
}


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("name", TRAINED)
def test_settings_and_numbers_beside_the_weights_are_passed_over(
    name: str, zipped: bool, load: Any, tmp_path: Path
) -> None:
    content = {"model": RAW, "optimizer": {}, "epoch": 3, "args": TRAINED[name]}
    torch.save(content, tmp_path / "x.pth", _use_new_zipfile_serialization=zipped)
    assert same(load(tmp_path / "x.pth"), RAW)


def test_settings_of_lightning_are_passed_over(load: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A dictionary of a class of its own, which need not be installed to read it."""
    module = types.ModuleType("lightning.fabric.utilities.data")
    exec("class AttributeDict(dict): pass", vars(module))
    module.AttributeDict.__module__ = module.__name__
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, module.__name__, module)
        patch.setitem(sys.modules, "lightning", types.ModuleType("lightning"))
        content = {**LIGHTNING, "state_dict": RAW, "hyper_parameters": module.AttributeDict(lr=0.1)}
        torch.save(content, tmp_path / "x.ckpt")
    assert same(load(tmp_path / "x.ckpt"), RAW)


def test_nothing_that_is_passed_over_is_made(tmp_path: Path) -> None:
    from pipeline.checkpoints.pickles import Inert, unpickled

    torch.save({"args": TRAINED["namespace"], "best": TRAINED["numpy float"]}, tmp_path / "x.pt")
    content = unpickled((tmp_path / "x.pt").read_bytes(), tmp_path / "x.pt")
    assert isinstance(content["args"], Inert)
    assert isinstance(content["best"], Inert)
    assert vars(content["args"]) == {}


class Bomb:
    """Writes a file when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.mark,))


@pytest.mark.parametrize("wrap", [lambda b: {"args": b}, lambda b: {"args": argparse.Namespace(a=b)}])
def test_a_bomb_among_the_settings_does_not_go_off(wrap: Callable[[Any], Any], load: Any, tmp_path: Path) -> None:
    torch.save({"model": RAW, **wrap(Bomb(tmp_path / "mark"))}, tmp_path / "x.pt")
    refused(load, tmp_path / "x.pt", "was not executed")
    assert not (tmp_path / "mark").exists()


def archive(*names: str) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as opened:
        for name in names:
            opened.writestr(name, b"x")
    return stream.getvalue()


FOREIGN = {
    "TorchScript": (archive("m/data.pkl", "m/constants.pkl", "m/code/__torch__.py"), "is a TorchScript program"),
    "ONNX": (b"\x08\x08\x12\x07pytorch\x1a\x032.1" + bytes(64), "is an ONNX model"),
    "HDF5": (b"\x89HDF\r\n\x1a\n" + bytes(64), "is an HDF5 file, as Keras writes"),
    "Keras": (archive("metadata.json", "config.json", "model.weights.h5"), "is a Keras archive"),
    "NumPy": (archive("conv.npy", "fc.npy"), "is a NumPy archive"),
    "TFLite": (b"\x1c\0\0\0TFL3" + bytes(64), "is a TFLite model"),
    "ExecuTorch": (b"\x1c\0\0\0ET12" + bytes(64), "is an ExecuTorch program"),
    "gzip": (b"\x1f\x8b\x08" + bytes(64), "is compressed with gzip"),
    "Git LFS": (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 3\n", "git lfs pull"),
    "JSON": (b'{"weight_map": {}}', "is a JSON file"),
    "web page": (b"<!DOCTYPE html><html></html>", "is a web page"),
}


@pytest.mark.parametrize("suffix", [".pt", ".safetensors", ".onnx", ""])
@pytest.mark.parametrize("name", FOREIGN)
def test_files_of_other_programs_are_called_what_they_are(name: str, suffix: str, load: Any, tmp_path: Path) -> None:
    content, match = FOREIGN[name]
    (tmp_path / f"x{suffix}").write_bytes(content)
    refused(load, tmp_path / f"x{suffix}", match)


@pytest.mark.parametrize("suffix", [".pt", ".ckpt", ".safetensors", ".pt2", ".bin", ".weights", ""])
def test_the_content_decides_and_not_the_suffix(suffix: str, load: Any, tmp_path: Path) -> None:
    path = tmp_path / f"x{suffix}"
    for write in (torch.save, save_file, lambda *it: torch.save(*it, _use_new_zipfile_serialization=False)):
        write(RAW, path)
        assert same(load(path), RAW)


def test_a_program_of_another_name_is_a_program(tmp_path: Path) -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)).eval()
    stream = io.BytesIO()
    torch.export.save(torch.export.export(network, (torch.zeros(1, 3, 8, 8),)), stream)
    (tmp_path / "mine.pt").write_bytes(stream.getvalue())
    loaded = read_checkpoint(tmp_path / "mine.pt", labels=("a", "b", "c"))
    assert loaded.spec.name == "mine.pt2"
    with pytest.raises(BadCheckpoint, match="one set of weights: leave `ema` out"):
        read_checkpoint(tmp_path / "mine.pt", labels=("a", "b", "c"), ema=True)


def test_a_dictionary_in_itself_ends(load: Any, tmp_path: Path) -> None:
    content: dict[str, Any] = {"model": RAW}
    content["again"] = content
    torch.save(content, tmp_path / "x.pt")
    assert same(load(tmp_path / "x.pt"), RAW)
