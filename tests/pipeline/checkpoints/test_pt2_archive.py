"""``.pt2`` files: what is in them is read, and nothing of it is run."""

from __future__ import annotations

import io
import json
import pickle
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from pipeline.checkpoints import pt2_archive
from pipeline.errors import BadCheckpoint

GRAPH = "models/model.json"
WEIGHTS = "data/weights/model_weights_config.json"


class Marker:
    """Unpickled, it leaves a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


def exported(free: bool = True) -> bytes:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 2)).eval()
    shapes = ({0: torch.export.Dim("batch", max=64)},) if free else None
    stream = io.BytesIO()
    torch.export.save(torch.export.export(network, (torch.zeros(2, 3, 8, 8),), dynamic_shapes=shapes), stream)
    return stream.getvalue()


def members(data: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as opened:
        return {name: opened.read(name) for name in opened.namelist()}


def packed(content: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as opened:
        for name, value in content.items():
            opened.writestr(name, value)
    return stream.getvalue()


def changed(name: str, change: Callable[[Any], None], data: bytes | None = None) -> bytes:
    """An archive with one JSON member changed."""
    content = members(data or exported())
    document = json.loads(content[f"archive/{name}"])
    change(document)
    content[f"archive/{name}"] = json.dumps(document).encode()
    return packed(content)


@pytest.mark.parametrize("free", [True, False])
def test_a_program_comes_back(free: bool) -> None:
    data = exported(free)
    program, about = pt2_archive.read(data, "it")
    x = torch.randn(2, 3, 8, 8)
    expected = torch.export.load(io.BytesIO(data)).module()(x)
    assert torch.equal(program.module(check_guards=False)(x), expected)
    assert about is None
    again, about = pt2_archive.read(pt2_archive.write(program, '{"a": 1}'), "it")
    assert torch.equal(again.module(check_guards=False)(x), expected)
    assert about == '{"a": 1}'


def test_what_is_written_holds_no_pickle_and_no_path_of_this_machine() -> None:
    written = pt2_archive.write(pt2_archive.read(exported(), "it")[0])
    assert members(written)["archive/data/sample_inputs/model.pt"] == b""
    assert str(Path(__file__).parent).encode() not in written
    assert b"site-packages" not in written


def test_pickled_sample_inputs_are_never_looked_at(tmp_path: Path) -> None:
    content = members(exported())
    content["archive/data/sample_inputs/model.pt"] = pickle.dumps(Marker(tmp_path / "ran"))
    pt2_archive.read(packed(content), "it")
    assert not (tmp_path / "ran").exists()


def _first(document: Any) -> Any:
    return document["graph_module"]["graph"]["nodes"][0]


def _aim_at(target: str) -> Callable[[Any], None]:
    return lambda document: _first(document).update(target=target)


def _with_argument(
    argument: dict[str, Any], target: str | None = None, name: str = "filename"
) -> Callable[[Any], None]:
    def change(document: Any) -> None:
        node = _first(document)
        node["inputs"].append({"name": name, "arg": argument, "kind": 1})
        node["target"] = target or node["target"]

    return change


def _with_shape(text: str) -> Callable[[Any], None]:
    def change(document: Any) -> None:
        sizes = next(iter(document["graph_module"]["graph"]["tensor_values"].values()))["sizes"]
        sizes[0] = {"as_expr": {"expr_str": text, "hint": None}}

    return change


def _with_specification(specification: dict[str, Any]) -> Callable[[Any], None]:
    def change(document: Any) -> None:
        call = document["graph_module"]["module_call_graph"][0]["signature"]
        call["in_spec"] = json.dumps([1, specification])

    return change


EVIL = "().__class__.__base__.__subclasses__()"
FACTORY = {"default_factory_module": "antigravity", "default_factory_name": "x", "dict_context": []}
DEFAULTDICT = {"type": "collections.defaultdict", "context": json.dumps(FACTORY), "children_spec": []}


def _in_the_table(**entry: Any) -> Callable[[Any], None]:
    return lambda document: document["config"]["0.weight"].update(entry)


def _too_large(document: Any) -> None:
    document["config"]["0.weight"]["tensor_meta"]["sizes"] = [{"as_int": 10**6}]


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        (GRAPH, _aim_at("torch.os.system"), "the operator 'torch.os.system', which is none of ATen's"),
        (GRAPH, _aim_at("_operator.attrgetter"), "the operator '_operator.attrgetter'"),
        (GRAPH, _aim_at("torch.ops.aten.add.__class__"), "the operator 'torch.ops.aten.add.__class__'"),
        (GRAPH, _aim_at("torch.ops.aten.no_such.default"), "the operator 'torch.ops.aten.no_such.default'"),
        (GRAPH, _aim_at("torch.ops.quantized_decomposed.add.default"), "none of ATen's"),
        (GRAPH, _aim_at("torch.ops.higher_order.cond"), "holds control flow.*without torch.cond"),
        (GRAPH, _with_argument({"as_string": "/etc/passwd"}, "torch.ops.aten.from_file.default"), "with a word for"),
        (GRAPH, _with_argument({"as_string": "/etc"}, "torch.ops.aten.einsum.default", "equation"), "with a word"),
        (GRAPH, _with_argument({"as_string": "../x"}, "torch.ops.aten.conv2d.padding", "padding"), "with a word for"),
        (GRAPH, _with_argument({"as_string": "same"}, "torch.ops.aten.from_file.default", "padding"), "with a word"),
        (GRAPH, _with_argument({"as_operator": "torch.os.system"}), "an argument of another kind"),
        (GRAPH, _with_shape(EVIL), "the shape '"),
        (GRAPH, _with_shape("exec(chr(49))"), "the shape 'exec"),
        (GRAPH, _with_shape("__import__('os')"), "the shape '__import__"),
        (GRAPH, _with_specification(DEFAULTDICT), "inputs or outputs in a collections.defaultdict"),
        (GRAPH, lambda document: document["range_constraints"].update({EVIL: {"min_val": 1, "max_val": 2}}), "no size"),
        (GRAPH, lambda document: document.pop("graph_module"), "is no .pt2 archive of one program"),
        (WEIGHTS, _in_the_table(use_pickle=True), "'0.weight' as a pickled"),
        (WEIGHTS, _in_the_table(path_name="../model.pt"), "'0.weight' as a"),
        (WEIGHTS, _too_large, "cannot be read as an exported program"),
    ],
)  # fmt: skip
def test_what_could_run_or_read_something_is_refused(name: str, change: Callable[[Any], None], message: str) -> None:
    with pytest.raises(BadCheckpoint, match=message) as refused:
        pt2_archive.read(changed(name, change), "'x.pt2'")
    assert "\n" not in str(refused.value)


def test_python_that_checks_inputs_is_not_run(tmp_path: Path) -> None:
    code = f"open({str(tmp_path / 'ran')!r}, 'w')"
    data = changed(GRAPH, lambda document: document.update(guards_code=[code]))
    program, _ = pt2_archive.read(data, "it")
    program.module()(torch.randn(2, 3, 8, 8))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["data/aotinductor/model/evil.so", "data/weights/model.pt", "data/constants/model.pt"])
def test_compiled_and_legacy_parts_are_refused(name: str) -> None:
    with pytest.raises(BadCheckpoint, match="compiled or pickled parts"):
        pt2_archive.read(packed({**members(exported()), f"archive/{name}": b""}), "it")


def test_what_is_no_archive_is_refused() -> None:
    data = exported()
    for wrong, message in {
        b"": "is not a whole .pt2 file",
        data[: len(data) // 2]: "is not a whole .pt2 file",
        packed(members(data), zipfile.ZIP_DEFLATED): "is compressed",
        packed({"archive/version": b"8.8"}): "is no .pt2 archive of one program",
        packed({**members(data), "other/models/model.json": b"{}"}): "two members of one name",
    }.items():
        with pytest.raises(BadCheckpoint, match=message):
            pt2_archive.read(wrong, "it")


def test_a_program_of_another_device_computes_here() -> None:
    def on_cuda(document: Any) -> None:
        for meta in document["graph_module"]["graph"]["tensor_values"].values():
            meta["device"] = {"type": "cuda", "index": 0}

    program, _ = pt2_archive.read(changed(GRAPH, on_cuda), "it")
    assert program.module(check_guards=False)(torch.randn(2, 3, 8, 8)).shape == (2, 2)


@pytest.mark.parametrize("text", ["s" + "1" * 900 + "!", "'s1'" * 200 + "!", "Mod" * 300 + "x", "s11" * 300 + "?"])
def test_a_shape_is_checked_in_linear_time(text: str) -> None:
    started = time.process_time()
    with pytest.raises(BadCheckpoint, match="the shape"):
        pt2_archive.read(changed(GRAPH, _with_shape(text)), "it")
    assert time.process_time() - started < 2


@pytest.mark.parametrize(
    "text", ["s0", "Mod(s0, 2)", "Max(1, s12)", "FloorDiv(Symbol('u7', integer=True), 2)", "2 - s3"]
)
def test_shapes_of_torch_match(text: str) -> None:
    assert pt2_archive.SHAPE.fullmatch(text)


def test_a_graph_of_many_megabytes_is_refused() -> None:
    """60 MB of empty lists took 1.7 GB and 10 s."""
    content = members(exported())
    content["archive/models/model.json"] += b" " * pt2_archive.LARGEST_GRAPH
    with pytest.raises(BadCheckpoint, match=r"it is not read: its graph has [\d,]+ bytes"):
        pt2_archive.read(packed(content), "it")


def test_a_graph_that_nests_too_deeply_is_refused() -> None:
    deep = {**members(exported()), f"archive/{GRAPH}": b'{"graph_module":' + b"[" * 100_000}
    with pytest.raises(BadCheckpoint, match="is no .pt2 archive of one program"):
        pt2_archive.read(packed(deep), "it")
