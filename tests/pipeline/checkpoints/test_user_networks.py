"""A user's own network by reference."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from edge_apps.runtime.preprocess import Preprocess
from pipeline.checkpoints import checkpoint
from pipeline.checkpoints import user_networks as networks
from pipeline.checkpoints.load import load
from pipeline.errors import BadCheckpoint, BadInput

SIZE = Preprocess(height=32, width=32)


def test_a_file_gives_a_spec_that_is_named_after_it(own: Any) -> None:
    spec = networks.own(own.model)
    assert spec.name == "net.py:build"
    assert spec.build(5).head.out_features == 5
    assert networks.own(f"{own.source}:counted").build(3).head.out_features == 3
    assert networks.own(f"{own.source}:fixed").build(2).head.out_features == 2


def test_a_factory_builds_real_tensors_where_others_are_only_counted(own: Any) -> None:
    with torch.device("meta"):
        network = networks.own(own.model).build(2)
    assert not network.head.weight.is_meta


def test_a_module_is_imported_from_the_folder_that_the_user_is_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "some_package").mkdir()
    (tmp_path / "some_package" / "__init__.py").touch()
    (tmp_path / "some_package" / "nets.py").write_text("from torch import nn\ndef linear(): return nn.Flatten()\n")
    monkeypatch.chdir(tmp_path)
    before = list(sys.path)
    spec = networks.own("some_package.nets:linear")
    assert spec.name == "some_package.nets:linear"
    assert isinstance(spec.build(7), torch.nn.Flatten)
    assert sys.path == before


def test_what_lies_beside_a_file_can_be_imported(tmp_path: Path) -> None:
    (tmp_path / "beside_it.py").write_text("from torch import nn\nLayer = nn.Flatten\n")
    (tmp_path / "net.py").write_text("import beside_it\ndef build(): return beside_it.Layer()\n")
    assert isinstance(networks.own(f"{tmp_path}/net.py:build").build(2), torch.nn.Flatten)


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("net.py:build", "net-build"),
        ("some.package.nets:tiny", "nets-tiny"),
        ("mine.pt2", "mine"),
        ("mobilenet_v2", "mobilenet_v2"),
        ("some/folder/net.py:build", "net-build"),
        ("../../x", "x"),
        ("../../x.py:..", "x-.."),
        ("..", "network"),
        ("/", "network"),
        ("", "network"),
        (".pt2", "network"),
        ("a\x1b[1m\nb", "a__1m_b"),
        ("ü" * 300, "ü" * 50),
    ],
)
def test_file_stems_stay_in_their_folder(name: str, stem: str) -> None:
    assert networks.file_stem(name) == stem
    assert Path(stem).name == stem


@pytest.mark.parametrize("name", ["../../x", "/tmp/x", "", "..", ".x", "a/b", "net\n", "a\x1b[31mb", "a b", "x" * 101])
def test_what_is_no_name_becomes_one(name: str) -> None:
    assert not networks.is_name(name)
    assert networks.is_name(networks.as_name(name))


def test_a_file_with_an_odd_name_can_be_trained_and_read_again(own: Any, tmp_path: Path) -> None:
    odd = tmp_path / "my net (1).py"
    odd.write_text(own.source.read_text())
    assert networks.own(f"{odd}:build").name == "my_net__1_.py:build"
    assert networks.is_name("größe.py:build")


@pytest.mark.parametrize(
    ("factory", "message"),
    [
        ("nothing", "has no factory 'nothing'. It has: Net, build, counted"),
        ("answer", "has no factory 'answer'"),
        ("failing", r"'net.py:failing' failed with RuntimeError: no weights here\.$"),
        ("listed", "'net.py:listed' returned a list, not a torch.nn.Module"),
        ("planes", r"'net.py:planes' returns float32 \[1, 2, 32, 32\] for one picture; logits \[1, 2\]"),
        ("Dictionary", r"'net.py:Dictionary' returns a dict in evaluation mode; logits \[N, 2\] are needed"),
    ],
)
def test_what_is_no_classifier_is_refused_in_one_line(own: Any, factory: str, message: str) -> None:
    def look() -> None:
        spec = networks.own(f"{own.source}:{factory}")
        networks.check_logits(spec.build(2), spec.name, 2, SIZE)

    with pytest.raises(BadInput, match=message) as refused:
        look()
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("reference", [":build", "net.py:", "net.py:a b", "net.py:1"])
def test_what_is_no_reference_is_refused(reference: str) -> None:
    with pytest.raises(BadInput, match="write file.py:factory or package.module:factory"):
        networks.own(reference)


def test_files_that_cannot_be_run_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"Cannot read '.*none.py': No such file"):
        networks.own(f"{tmp_path}/none.py:build")
    (tmp_path / "broken.py").write_text("def build(:\n")
    with pytest.raises(BadInput, match=r"broken.py' failed with SyntaxError: "):
        networks.own(f"{tmp_path}/broken.py:build")
    (tmp_path / "leaving.py").write_text("import sys\nsys.exit(3)\n")
    with pytest.raises(BadInput, match="leaving.py' failed with SystemExit: 3"):
        networks.own(f"{tmp_path}/leaving.py:build")
    with pytest.raises(BadInput, match="No module 'no_such_package.nets' here or installed"):
        networks.own("no_such_package.nets:build")


def test_another_size_or_class_count_is_refused(own: Any) -> None:
    labels = ("a", "b")
    with pytest.raises(BadInput, match=r"fails on one picture \[1, 3, 2, 2\] with .*Another size is `input`"):
        load(own.weights, model=own.model, labels=labels, preprocess={"height": 2, "width": 2})
    with pytest.raises(
        BadCheckpoint, match=r"is no net.py:build \(3 classes\): head.weight is \[2, 16\], expected \[3"
    ):
        load(own.weights, model=own.model, labels=("a", "b", "c"), preprocess=SIZE)


def test_a_checkpoint_names_its_network_but_never_has_it_run(own: Any, tmp_path: Path) -> None:
    given = load(own.weights, model=own.model, labels=("a", "b"), preprocess={"height": 32, "width": 32})
    path = tmp_path / "x.safetensors"
    checkpoint.save(
        path,
        given.network(),
        spec=given.spec,
        options={},
        labels=given.labels,
        preprocess=given.preprocess,
        training={},
    )
    assert str(own.source).encode() not in path.read_bytes()
    with pytest.raises(BadCheckpoint, match=r"of your own network: say where that is, as in `model=…/net.py:build`"):
        load(path)
    again = load(path, model=own.model)
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(again.network()(x), given.network()(x))
    with pytest.raises(BadCheckpoint, match="says model 'net.py:build', but 'net.py:counted' was given"):
        load(path, model=f"{own.source}:counted")


def test_single_settings_of_the_preprocessing(own: Any) -> None:
    chosen = {"height": 32, "width": 32, "mean": (0.5, 0.5, 0.5), "resize": "crop", "resize_to": 40}
    loaded = load(own.weights, model=own.model, labels=("a", "b"), preprocess=chosen)
    assert loaded.preprocess == Preprocess(height=32, width=32, mean=(0.5, 0.5, 0.5), resize="crop", resize_to=40)
    with pytest.raises(BadInput, match="Preprocessing: resize_to is 20; a crop to 32×32 needs at least that"):
        load(own.weights, model=own.model, labels=("a", "b"), preprocess={**chosen, "resize_to": 20})
