"""Reading and writing ``.pt2`` files without running anything that is in them.

``torch.export.load`` trusts its file: it unpickles sample inputs, tensors and objects, evaluates shapes as Python,
loads compiled libraries, and calls whatever function of Python's standard library a graph names. Here an archive is
read with ``zipfile``, every part is looked at, and only raw tensors and a graph of ATen operators are handed on, in a
new archive, to ``torch.export.load``. What cannot be handed on is refused in one line.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from typing import Any

import torch
from torch.export import ExportedProgram
from torch.export.pt2_archive import PT2ArchiveWriter

from edge_apps.chatter import hushed
from edge_apps.errors import first_line
from pipeline.checkpoints import zip_archives
from pipeline.compat.torch import is_operator
from pipeline.errors import BadCheckpoint, LoweringFailed

ABOUT = "extra/edge_pipeline"
"""The member with our own JSON: what the network is, as in a checkpoint."""

GRAPH, WEIGHTS, CONSTANTS = "models/model.json", "data/weights/", "data/constants/"
INDEXES = (WEIGHTS + "model_weights_config.json", CONSTANTS + "model_constants_config.json")
TENSOR = re.compile(r"data/weights/weight_\d+|data/constants/tensor_\d+")
OPERATOR = re.compile(r"torch\.ops\.aten\.([A-Za-z_0-9]+)\.([A-Za-z_0-9]+)")
INTEGER_ARITHMETIC = frozenset(
    f"_operator.{name}"
    for name in ("getitem", "add", "sub", "mul", "floordiv", "mod", "eq", "ne", "le", "lt", "ge", "gt")
)
SHAPE = re.compile(
    r"(?:'[su]\d++'|[su]\d++|Symbol|Integer|Add|Mul|Max|Min|Mod|PythonMod|FloorDiv|CeilDiv|CleanDiv"
    r"|positive|nonnegative|integer|True|[-=(), \d])*+"
)
"""Words of a shape. What a repetition has taken it keeps (++ and *+): digits may be read in 2^k ways otherwise."""

FOURIER = [f"{kind}fft{rank}" for kind in ("", "r", "i", "ir", "h", "ih") for rank in ("", "2", "n")]
STRINGS = {
    **{(f"conv{rank}d", "padding"): re.compile("same|valid") for rank in (1, 2, 3)},
    **{(f"fft_{name}", "norm"): re.compile("backward|forward|ortho") for name in FOURIER},
    ("einsum", "equation"): re.compile(r"[A-Za-z., ]{1,100}(->[A-Za-z. ]{0,30})?"),
    ("gelu", "approximate"): re.compile("none|tanh"),
    ("pad", "mode"): re.compile("constant|reflect|replicate|circular"),
    ("div", "rounding_mode"): re.compile("trunc|floor"),
    ("meshgrid", "indexing"): re.compile("ij|xy"),
    ("scatter_reduce", "reduce"): re.compile("sum|prod|mean|amax|amin"),
    ("linalg_matrix_norm", "ord"): re.compile("fro|nuc"),
}
"""Operators' arguments that are words, and which. Elsewhere a word may be the name of a file."""

CONTAINERS = frozenset({None, "builtins.tuple", "builtins.list", "builtins.dict"})
HIDDEN = frozenset({"as_graph", "as_operator", "as_custom_obj", "as_strings", "custom_obj"})
"""Arguments that are no numbers or tensors."""

KEPT_METADATA = "nn_module_stack"
LONGEST_SHAPE = 1000

LARGEST_GRAPH = 12_000_000
"""Bytes of the JSON of a program, which take 30 times as much when they are read. EfficientNet-B7 has 3 MB."""


def read(data: bytes, where: str) -> tuple[ExportedProgram, str | None]:
    """The program in an archive, and the text that ``write`` put beside it.

    Raises:
        BadCheckpoint: no ``.pt2`` archive of one program, or one that holds more than ATen operators and tensors.
    """
    members = _members(data, where)
    size = sum(len(members.get(name, b"")) for name in (GRAPH, *INDEXES))
    if size > LARGEST_GRAPH:
        raise BadCheckpoint(
            f"{where} is not read: its graph has {size:,} bytes, and at most {LARGEST_GRAPH:,} are read."
        )
    clean, about = _clean(members, where)
    try:
        with hushed():
            program = torch.export.load(io.BytesIO(clean))
    except Exception as error:  # a hostile or damaged file can make the reader fail in any way
        raise BadCheckpoint(f"{where} cannot be read as an exported program: {first_line(error)}.") from error
    return program, about


def write(program: ExportedProgram, about: str | None = None) -> bytes:
    """Return an archive of the program alone: no sample inputs, no stack traces, nothing pickled.

    Raises:
        LoweringFailed: a program with an operator that ``read`` would refuse.
    """
    stream = io.BytesIO()
    with hushed():
        torch.export.save(program, stream, extra_files={} if about is None else {ABOUT.removeprefix("extra/"): about})
    try:
        return _clean(_members(stream.getvalue(), "the program"), "the program")[0]
    except BadCheckpoint as error:  # its words are for those who brought a file
        reason = str(error).removeprefix("the program ").partition(": only tensors")[0]
        raise LoweringFailed(
            f"The network cannot be recorded as a program: it {reason}. Write that part with plain torch operators."
        ) from error


def _members(data: bytes, where: str) -> dict[str, bytes]:
    """The members of the archive by name, without its root folder."""
    try:
        members = zip_archives.members(data)
    except zip_archives.Unread as error:
        raise BadCheckpoint(
            f"{where} is not read: {error}. Save it again with torch.export.save(program, …)."
        ) from None
    except ValueError as error:
        raise BadCheckpoint(
            f"{where} is not a whole .pt2 file ({first_line(error)}); it may be truncated. "
            "Save one with torch.export.save(program, …)."
        ) from error
    if members.get("archive_format") != b"pt2" or GRAPH not in members:
        raise BadCheckpoint(
            f"{where} is no .pt2 archive of one program, as torch.export.save of torch 2.8 and later writes it."
        )
    return members


def _clean(members: dict[str, bytes], where: str) -> tuple[bytes, str | None]:
    """A new archive of what is safe in this one, and our own text in it."""
    for name in members:
        if name.startswith(("data/aotinductor/", WEIGHTS + "model.pt", CONSTANTS + "model.pt")):
            raise _refused(where, f"compiled or pickled parts ('{name}')")
    stream = io.BytesIO()
    try:
        with PT2ArchiveWriter(stream) as writer:
            for name in INDEXES:
                writer.write_bytes(name, _checked_index(members[name], where))
            for name in filter(TENSOR.fullmatch, members):
                writer.write_bytes(name, members[name])
            writer.write_bytes(GRAPH, _checked_graph(members[GRAPH], where))
            writer.write_bytes("data/sample_inputs/model.pt", b"")
            if ABOUT in members:
                writer.write_bytes(ABOUT, members[ABOUT])
        about = members[ABOUT].decode() if ABOUT in members else None
    except (KeyError, TypeError, AttributeError, ValueError, RecursionError) as error:
        raise BadCheckpoint(f"{where} is no .pt2 archive of one program: {first_line(error)}.") from error
    return stream.getvalue(), about


def _checked_index(text: bytes, where: str) -> bytes:
    """The table of the tensors: only raw ones, on the CPU."""
    index = json.loads(text)
    for name, entry in index["config"].items():
        if entry["use_pickle"] or not re.fullmatch(r"(weight|tensor)_\d+", entry["path_name"]):
            raise _refused(where, f"'{name}' as a pickled object")
    _on_the_cpu(index)
    return json.dumps(index).encode()


def _checked_graph(text: bytes, where: str) -> bytes:
    """The graph: ATen operators, shapes that are arithmetic, plain containers."""
    program = json.loads(text)
    for found in _dictionaries(program):
        if HIDDEN & found.keys():
            raise _refused(where, f"an argument of another kind ({', '.join(HIDDEN & found.keys())})")
        shape = found.get("expr_str")
        if shape is not None and not (len(shape) <= LONGEST_SHAPE and SHAPE.fullmatch(shape)):
            raise _refused(where, f"the shape '{shape[:60]}'")
        if "target" in found:
            _check_operator(found, where)
            metadata = found["metadata"]
            found["metadata"] = {KEPT_METADATA: metadata[KEPT_METADATA]} if KEPT_METADATA in metadata else {}
    module = program["graph_module"]
    for call in module["module_call_graph"]:
        for specification in ("in_spec", "out_spec"):
            if call["signature"] is not None:
                _check_containers(json.loads(call["signature"][specification])[1], where)
    if not all(re.fullmatch(r"[su]\d+", symbol) for symbol in program["range_constraints"]):
        raise _refused(where, "a range of something that is no size")
    module["metadata"], module["treespec_namedtuple_fields"], program["guards_code"] = {}, {}, []
    _on_the_cpu(program)
    return json.dumps(program).encode()


def _check_operator(node: dict[str, Any], where: str) -> None:
    target = node["target"]
    if target in INTEGER_ARITHMETIC:
        return
    match = OPERATOR.fullmatch(target)
    packet = getattr(torch.ops.aten, match[1], None) if match else None
    overload = getattr(packet, match[2], None) if match else None
    if target.startswith("torch.ops.higher_order."):
        raise BadCheckpoint(
            f"{where} holds control flow, or a change of gradient mode ('{target}'): export it inside "
            "'with torch.no_grad():', and without torch.cond."
        )
    if match is None or not is_operator(overload):
        raise _refused(where, f"the operator '{target[:60]}', which is none of ATen's")
    for given in node["inputs"]:
        word = given["arg"].get("as_string")
        allowed = STRINGS.get((match[1].removesuffix("_"), given["name"]))
        if word is not None and not (allowed is not None and allowed.fullmatch(word)):
            raise _refused(where, f"the operator '{target}' with a word for '{given['name'][:40]}'")


def _check_containers(specification: dict[str, Any], where: str) -> None:
    context = specification["context"]
    plain = context is None or all(isinstance(key, str) for key in json.loads(context) or [])
    if specification["type"] not in CONTAINERS or not plain:
        raise _refused(where, f"inputs or outputs in a {str(specification['type'])[:60]}")
    for child in specification["children_spec"]:
        _check_containers(child, where)


def _on_the_cpu(value: Any) -> None:
    """A program that was captured on another device computes here."""
    for found in _dictionaries(value):
        for key in ("device", "as_device"):
            if isinstance(found.get(key), dict):
                found[key] = {"type": "cpu", "index": None}


def _dictionaries(value: Any) -> Iterator[dict[str, Any]]:
    """All dictionaries in a JSON document."""
    left = [value]
    while left:
        here = left.pop()
        if isinstance(here, dict):
            yield here
            left.extend(here.values())
        elif isinstance(here, list):
            left.extend(here)


def _refused(where: str, what: str) -> BadCheckpoint:
    return BadCheckpoint(f"{where} holds {what}: only tensors and ATen operators are read from a .pt2 file.")
