"""Checkpoints: what is written comes back; what is none is refused in one line."""

import hashlib
import io
import json
import pickle
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from edge_apps.runtime.preprocess import Preprocess, to_batch
from pipeline import zoo
from pipeline.checkpoints import checkpoint
from pipeline.checkpoints.load import load
from pipeline.data import open_data
from pipeline.data.reading import digest
from pipeline.errors import BadCheckpoint, BadInput

ROOT = Path(__file__).resolve().parents[3]
SPEC = zoo.get("mobilenet_v2")
LABELS = ("cat", "dog", "eel")
PREPROCESS = Preprocess(height=32, width=40)
GIVEN = {"model": "mobilenet_v2", "options": {"width": 0.1}, "labels": LABELS, "preprocess": PREPROCESS}


@pytest.fixture(scope="module")
def network():
    """Random weights, and batch-norm statistics that are not those of a fresh network."""
    torch.manual_seed(0)
    network = SPEC.build(3, width=0.1)
    network(torch.randn(4, 3, 32, 40))
    return network.eval()


def _save(path, network, **changes):
    values = {"options": {"width": 0.1}, "labels": LABELS, "preprocess": PREPROCESS, "training": {"seed": 3}}
    checkpoint.save(path, network, spec=SPEC, **{**values, **changes})
    return path


def _refused(path, match, **given):
    with pytest.raises(BadCheckpoint, match=match) as caught:
        load(path, **given)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_status == 2
    return str(caught.value)


def test_it_knows_the_pictures_that_trained_it(network, tmp_path):
    digits = open_data("digits", "train")
    trained = load(_save(tmp_path / "a", network, training={"settings": {"data": digest(digits)}}))
    assert trained.trained_on(digits)
    assert not trained.trained_on(open_data("digits", "test"))
    assert not load(_save(tmp_path / "b", network)).trained_on(digits)
    record = {"settings": {"data": "another"}, "earlier_data": [digest(digits)]}
    assert load(_save(tmp_path / "c", network, training=record)).trained_on(digits)


def test_what_is_written_comes_back(network, tmp_path):
    path = _save(tmp_path / "new" / "x.safetensors", network)
    loaded = load(path)
    assert (loaded.spec, loaded.options, loaded.labels) == (SPEC, SPEC.with_defaults({"width": 0.1}), LABELS)
    assert (loaded.preprocess, loaded.training, loaded.path) == (PREPROCESS, {"seed": 3}, path)
    assert loaded.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    again, x = loaded.network(), torch.randn(2, 3, 32, 40)
    assert not again.training
    assert torch.equal(again(x), network(x))
    assert [p.name for p in path.parent.iterdir()] == ["x.safetensors"]


def test_other_tools_can_read_it(network, tmp_path):
    path = _save(tmp_path / "x.safetensors", network)
    with safe_open(path, "pt") as file:
        metadata = json.loads(file.metadata()["edge_pipeline"])
    assert metadata["model"] == "mobilenet_v2"
    assert (metadata["classes"], metadata["labels"]) == (3, list(LABELS))
    assert metadata["preprocess"]["width"] == 40
    plain = SPEC.build(3, width=0.1)
    plain.load_state_dict(load_file(path), strict=True)


def test_fp16_weights_are_rounded_once_and_load_as_float32(network, tmp_path):
    with torch.no_grad():
        network.features[0][1].running_var[0] = 1e-9  # float16 would make it 0
    path = _save(tmp_path / "x.safetensors", network, dtype=torch.float16)
    stored, loaded = load_file(path), load(path)
    assert stored["classifier.1.weight"].dtype == torch.float16
    assert stored["classifier.1.bias"].dtype == torch.float32
    assert all(t.dtype == torch.float32 for n, t in loaded.state.items() if "num_batches" not in n)
    for name, tensor in network.state_dict().items():
        expected = tensor.numpy().astype(np.float16).astype(np.float32) if tensor.dim() > 1 else tensor.numpy()
        assert (loaded.state[name].numpy() == expected).all(), name


def test_a_channels_last_network_is_written_like_any_other(network, tmp_path):
    other = SPEC.build(3, width=0.1).to(memory_format=torch.channels_last)
    other.load_state_dict(network.state_dict())
    a, b = _save(tmp_path / "a.safetensors", network), _save(tmp_path / "b.safetensors", other)
    assert a.read_bytes() == b.read_bytes()


@pytest.mark.parametrize("wrap", [lambda s: s, lambda s: {"state_dict": s, "epoch": 3}])
@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("suffix", [".pt", ".pth"])
def test_a_pickled_state_dict_is_read(network, tmp_path, wrap, prefix, suffix):
    path = tmp_path / f"x{suffix}"
    torch.save(wrap({prefix + name: t for name, t in network.state_dict().items()}), path)
    loaded, x = load(path, **GIVEN), torch.randn(2, 3, 32, 40)
    assert (loaded.labels, loaded.training) == (LABELS, {})
    assert torch.equal(loaded.network()(x), network(x))


def test_a_prefix_on_some_keys_only_is_a_difference(network, tmp_path):
    state = {("module." if i else "") + name: t for i, (name, t) in enumerate(network.state_dict().items())}
    torch.save(state, tmp_path / "x.pt")
    _refused(tmp_path / "x.pt", "features.0.1.weight is missing", **GIVEN)


def test_older_files_without_batch_counters_are_read(network, tmp_path):
    state = {name: t for name, t in network.state_dict().items() if not name.endswith("num_batches_tracked")}
    save_file(state, tmp_path / "x.safetensors")
    loaded, x = load(tmp_path / "x.safetensors", **GIVEN), torch.randn(2, 3, 32, 40)
    assert torch.equal(loaded.network()(x), network(x))


def test_a_file_without_metadata_needs_model_and_labels(network, tmp_path):
    path = tmp_path / "x.safetensors"
    save_file(network.state_dict(), path)
    _refused(path, "name its model and its labels")
    _refused(path, "name its model and its labels", model="mobilenet_v2")
    default = load(path, model="mobilenet_v2", labels=LABELS, options={"width": 0.1}).preprocess
    assert (default.height, default.width) == (224, 224)
    with pytest.raises(BadInput, match="Did you mean 'mobilenet_v2'"):
        load(path, model="mobilenet_v3", labels=LABELS)
    with pytest.raises(BadInput, match="no option 'depth'"):
        load(path, model="mobilenet_v2", labels=LABELS, options={"depth": 2})


def test_what_the_caller_says_must_not_contradict_the_file(network, tmp_path):
    path = _save(tmp_path / "x.safetensors", network)
    assert load(path, **GIVEN).labels == LABELS
    _refused(path, "says labels .* was given", labels=("a", "b", "c"))
    _refused(path, "says options .*0.1.* was given", options={"width": 1.0})
    _refused(path, "says model 'mobilenet_v2', but 'other' was given", model="other")
    _refused(path, "says preprocess", preprocess=Preprocess(height=64, width=64))


def test_the_first_three_differences_are_named(network, tmp_path):
    state = dict(network.state_dict())
    del state["features.0.0.weight"], state["features.1.conv.2.weight"]
    state["extra"] = torch.zeros(1)
    state["classifier.1.weight"] = torch.zeros(7, 1280)
    save_file(state, tmp_path / "x.safetensors")
    message = _refused(tmp_path / "x.safetensors", r"no mobilenet_v2 \(width 0.1, .*3 classes\)", **GIVEN)
    assert "features.0.0.weight is missing; features.1.conv.2.weight is missing; " in message
    assert "classifier.1.weight is [7, 1280], expected [3, 1280]; and 1 more" in message


def test_another_width_or_class_count_is_refused(network, tmp_path):
    save_file(network.state_dict(), tmp_path / "x.safetensors")
    _refused(tmp_path / "x.safetensors", "expected", **{**GIVEN, "options": {"width": 0.35}})
    _refused(tmp_path / "x.safetensors", r"\[3, 1280\], expected \[4, 1280\]", **{**GIVEN, "labels": tuple("abcd")})


def test_integer_weights_are_refused(network, tmp_path):
    state = {name: t.to(torch.int8) if t.dim() > 1 else t for name, t in network.state_dict().items()}
    save_file(state, tmp_path / "x.safetensors")
    _refused(tmp_path / "x.safetensors", "features.0.0.weight is int8, expected float32", **GIVEN)


def test_weights_without_plain_values_are_refused(network, tmp_path):
    for kind in (lambda t: t.to_sparse(), lambda t: t.to("meta"), lambda t: t.to(torch.complex64)):
        state = dict(network.state_dict())
        state["classifier.1.weight"] = kind(state["classifier.1.weight"])
        torch.save(state, tmp_path / "x.pt")
        _refused(tmp_path / "x.pt", "classifier.1.weight is ", **GIVEN)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64, torch.float8_e4m3fn])
def test_other_floating_formats_load_as_float32(network, tmp_path, dtype):
    state = {n: t.to(dtype) if t.dim() > 1 else t for n, t in network.state_dict().items()}
    save_file(state, tmp_path / "x.safetensors")
    loaded = load(tmp_path / "x.safetensors", **GIVEN).state
    assert all(torch.equal(loaded[n], t.float()) for n, t in state.items() if t.is_floating_point())


@pytest.mark.parametrize(("value", "word"), [(float("nan"), "NaN"), (float("inf"), "infinite")])
def test_weights_that_are_no_numbers_are_refused(network, tmp_path, value, word):
    state = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    state["features.3.conv.1.1.running_var"][2] = value
    save_file(state, tmp_path / "x.safetensors")
    _refused(tmp_path / "x.safetensors", f"features.3.conv.1.1.running_var has {word} values", **GIVEN)
    broken = SPEC.build(3, width=0.1)
    broken.load_state_dict(state)
    with pytest.raises(BadCheckpoint, match="not written"):
        _save(tmp_path / "y.safetensors", broken)
    assert [p.name for p in tmp_path.iterdir()] == ["x.safetensors"]


def test_weights_too_large_for_fp16_are_not_written(tmp_path):
    large = SPEC.build(3, width=0.1)
    with torch.no_grad():
        large.classifier[1].weight[0, 0] = 1e5
    with pytest.raises(BadCheckpoint, match=r"classifier.1.weight has infinite values"):
        _save(tmp_path / "x.safetensors", large, dtype=torch.float16)
    assert not list(tmp_path.iterdir())
    _save(tmp_path / "x.safetensors", large)


def test_every_truncation_is_refused(network, tmp_path):
    data = _save(tmp_path / "x.safetensors", network).read_bytes()
    cut = tmp_path / "cut.safetensors"
    for length in (0, 4, 8, 100, 5000, len(data) // 2, len(data) - 1):
        cut.write_bytes(data[:length])
        _refused(cut, "not a whole safetensors file")
    torch.save(network.state_dict(), tmp_path / "x.pt")
    data = (tmp_path / "x.pt").read_bytes()
    for length in (0, 100, len(data) // 2, len(data) - 1):
        (tmp_path / "cut.pt").write_bytes(data[:length])
        _refused(tmp_path / "cut.pt", "not a state dict", **GIVEN)


@pytest.mark.parametrize("content", [b"GIF89a", b"\xff" * 64, b"PK\x03\x04", struct.pack("<Q", 2) + b"{]"])
@pytest.mark.parametrize("suffix", [".safetensors", ".pt", ".bin"])
def test_foreign_files_are_refused(tmp_path, content, suffix):
    path = tmp_path / f"x{suffix}"
    path.write_bytes(content)
    _refused(path, "not a", **GIVEN)


@pytest.mark.parametrize("content", [[1, 2], {"a": 1}, {}, {1: torch.zeros(1)}, torch.zeros(3)])
def test_pickles_of_something_else_are_refused(tmp_path, content):
    torch.save(content, tmp_path / "x.pt")
    _refused(tmp_path / "x.pt", "not a state dict", **GIVEN)


class _Bomb:
    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return (open, (self.mark, "w"))


@pytest.mark.parametrize("wrap", [lambda b: b, lambda b: {"features.0.0.weight": b}, lambda b: {"state_dict": b}])
def test_a_pickle_bomb_does_not_go_off(tmp_path, wrap):
    torch.save(wrap(_Bomb(str(tmp_path / "gone off"))), tmp_path / "x.pt")
    _refused(tmp_path / "x.pt", "was not executed", **GIVEN)
    assert not (tmp_path / "gone off").exists()


@pytest.mark.parametrize("zipped", [True, False])
def test_a_whole_pickled_network_is_refused(network, tmp_path, zipped):
    torch.save(network, tmp_path / "x.pt", _use_new_zipfile_serialization=zipped)
    _refused(tmp_path / "x.pt", r"not executed \(it holds pickled objects that are not tensors\)", **GIVEN)


def _archive():
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("a/b", "c")
    return stream.getvalue()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "it is empty"),
        (b"GIF89a", "it is no file of torch.save"),
        (b"\xff" * 64, "it is no file of torch.save"),
        (b"PK\x03\x04", "it is truncated or damaged"),
        (b"\x80\x02\x8a", "it is truncated or damaged"),
        (pickle.dumps(print), "it is a plain pickle, of the pickle module or joblib, and not a file of torch.save"),
        (pickle.dumps({"a": torch.zeros(2)}, protocol=2), "it is a plain pickle, of the pickle module or joblib, and"),
        (_archive(), "it is an archive of something else, such as TorchScript"),
    ],
)
def test_why_a_pickle_is_refused_is_said_in_our_words(tmp_path, content, reason):
    (tmp_path / "x.pt").write_bytes(content)
    said = _refused(tmp_path / "x.pt", f"was not executed .{reason}.*. Save it", **GIVEN)
    assert "\x1b" not in said
    assert "weights_only" not in said


def _with_metadata(path, network, **changes):
    _save(path, network)
    with safe_open(path, "pt") as file:
        metadata = json.loads(file.metadata()["edge_pipeline"]) | changes
    save_file(network.state_dict(), path, {"edge_pipeline": json.dumps(metadata)})
    return path


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"format": 2}, "format 2; this version reads up to 1"),
        ({"labels": ["a"]}, "says 3 classes and lists 1 labels"),
        ({"classes": 0, "labels": []}, "0 classes"),
        ({"preprocess": {"height": 0, "width": 32}}, "metadata that cannot be read"),
        ({"model": 3}, "metadata that cannot be read"),
    ],
)
def test_metadata_that_makes_no_sense_is_refused(network, tmp_path, changes, match):
    _refused(_with_metadata(tmp_path / "x.safetensors", network, **changes), match)


HOSTILE_NAMES = ["../../x", "/tmp/x", "", "..", ".x", "a/b", "net\n", "a\x1b[31mb", "a b", "x" * 101]


@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_a_recorded_name_is_a_name(network, tmp_path, name):
    path = _with_metadata(tmp_path / "x.safetensors", network, model=name)
    said = _refused(path, "is no model's name")
    assert said.isprintable()
    assert len(said) < 400


def test_an_alias_is_the_model(tmp_path):
    vgg = zoo.get("vgg16")
    spec = zoo.get("shufflenet")
    network = spec.build(3)
    assert (vgg.name, spec.name) != ("vgg16", "shufflenet")
    torch.save(network.state_dict(), tmp_path / "x.pt")
    loaded = load(tmp_path / "x.pt", model="shufflenet", labels=LABELS)
    assert loaded.spec is spec
    checkpoint.save(
        tmp_path / "x.safetensors",
        network,
        spec=spec,
        options={},
        labels=LABELS,
        preprocess=loaded.preprocess,
        training={},
    )
    again = load(tmp_path / "x.safetensors", model="shufflenet", options=spec.with_defaults({}))
    assert again.spec is spec
    _refused(tmp_path / "x.safetensors", f"says model '{spec.name}', but '{vgg.name}' was given", model="vgg16")


def test_metadata_with_an_unknown_model_or_a_tiny_input_is_refused(network, tmp_path):
    with pytest.raises(BadInput, match="Unknown model 'lenet'"):
        load(_with_metadata(tmp_path / "x.safetensors", network, model="lenet"))
    with pytest.raises(BadInput, match="Input size is 8"):
        load(_with_metadata(tmp_path / "x.safetensors", network, preprocess={"height": 8, "width": 99}))


def test_missing_files_and_folders_are_named(tmp_path):
    _refused(tmp_path / "x.safetensors", "Cannot read checkpoint .*No such file")
    _refused(tmp_path, "is a folder")


def test_an_unwritable_folder_is_named(network, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput, match="Cannot write"):
        _save(tmp_path / "file" / "x.safetensors", network)


def test_the_builtin_checkpoint_is_what_it_says():
    """Made by one recorded command from the recorded digits; at least 98 % of the held-out ones right."""
    path = checkpoint.builtin()
    made = load(path)
    assert path.stat().st_size <= 5_000_000
    assert load_file(path)["features.18.0.weight"].dtype == torch.float16
    assert (made.spec.name, made.options, made.labels) == ("mobilenet_v2", SPEC.with_defaults({}), tuple("0123456789"))
    assert (made.preprocess.height, made.preprocess.width) == (96, 96)
    record = made.training
    assert record["settings"]["data"] == digest(open_data("digits:train", ""))
    assert record["command"] in (ROOT / "docs" / "builtin-checkpoint.md").read_text("utf-8")
    held_out, network = open_data("digits:test", ""), made.network()
    batch = to_batch([held_out.image(i) for i in range(len(held_out))], made.preprocess) / np.float32(255)
    batch = ((batch - np.float32(made.preprocess.mean)) / np.float32(made.preprocess.std)).transpose(0, 3, 1, 2)
    with torch.inference_mode():
        logits = torch.cat([network(part) for part in torch.from_numpy(np.ascontiguousarray(batch)).split(50)])
    correct = int((logits.argmax(1).numpy() == held_out.labels).sum())
    assert correct >= 0.98 * 450
    assert abs(correct - record["val"]["correct"]) <= 1  # another CPU may round a tie the other way


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_a_state_dict_that_was_cast_whole_is_read(network, tmp_path, dtype):
    """Its counters of batches too: they are floats then, and may have been too large for float16."""
    state = {name: tensor.to(dtype) for name, tensor in network.state_dict().items()}
    counter = next(name for name in state if name.endswith("num_batches_tracked"))
    if dtype is torch.float16:
        state[counter] = torch.tensor(torch.inf, dtype=dtype)
    torch.save(state, tmp_path / "x.pt")
    loaded = load(tmp_path / "x.pt", **GIVEN)
    for name, tensor in network.state_dict().items():
        assert loaded.state[name].dtype == tensor.dtype
        assert name.endswith("num_batches_tracked") or torch.equal(loaded.state[name], tensor.to(dtype).float())
    assert loaded.state[counter] == (0 if dtype is torch.float16 else 1)
    state["features.0.0.weight"] = state["features.0.0.weight"].long()
    torch.save(state, tmp_path / "x.pt")
    _refused(tmp_path / "x.pt", "features.0.0.weight is int64, expected float32", **GIVEN)
