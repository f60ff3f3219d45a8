"""``--trust``: only files of a bundle that the key signed are run, at the start and when the model is replaced."""

import functools
import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from edge_apps.camera import run as camera
from edge_apps.camera.commands.config import options_in
from edge_apps.camera.commands.main import main
from edge_apps.camera.commands.output import ForPrograms
from edge_apps.camera.inference.model_watcher import Watcher, state_of
from edge_apps.camera.service.install import Configured, plan

ed25519 = pytest.importorskip("cryptography.hazmat.primitives.asymmetric.ed25519")
serialization = pytest.importorskip("cryptography.hazmat.primitives.serialization")

FILES = [{"target": "tflite", "precision": "int8"}, {"target": "tflite", "precision": "fp32"}]


@pytest.fixture
def private() -> Any:
    return ed25519.Ed25519PrivateKey.generate()


@pytest.fixture
def key(private: Any, tmp_path: Path) -> Path:
    path = tmp_path / "release.pub"
    kinds = serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    path.write_bytes(private.public_key().public_bytes(*kinds))
    return path


@pytest.fixture
def sign(private: Any) -> Callable[[Path], None]:
    def signed(bundle: Path) -> None:
        (bundle / "manifest.json.sig").write_bytes(private.sign((bundle / "manifest.json").read_bytes()))

    return signed


@pytest.fixture
def bundle(make_bundle: Callable[..., Path], sign: Callable[[Path], None]) -> Path:
    """A signed bundle."""
    root = make_bundle([dict(file) for file in FILES])
    sign(root)
    return root


RUN = ("--source", "test-pattern", "--frames", 2)


def error(ended: Any) -> str:
    assert ended.returncode == 2, ended.stderr
    (line,) = [line for line in ended.stderr.splitlines() if line]
    assert ended.stdout == ""
    return line


def test_a_signed_bundle_runs_and_so_does_a_file_in_it(edge_camera: Any, bundle: Path, key: Path) -> None:
    for model in (bundle, bundle / "1-tflite-fp32.fake"):
        ended = edge_camera("run", "--model", model, "--trust", key, *RUN)
        assert ended.returncode == 0, ended.stderr


@pytest.mark.parametrize("name", ["", "1-tflite-fp32.fake"])
def test_an_unsigned_bundle_does_not(edge_camera: Any, bundle: Path, key: Path, name: str) -> None:
    (bundle / "manifest.json.sig").unlink()
    said = error(edge_camera("run", "--model", bundle / name, "--trust", key, *RUN))
    assert f"'{bundle}' is not signed (it has no 'manifest.json.sig')" in said
    assert edge_camera("run", "--model", bundle / name, *RUN).returncode == 0, "nobody asked for a signature"


def test_a_file_that_stands_alone_does_not(edge_camera: Any, model: Path, key: Path) -> None:
    said = error(edge_camera("run", "--model", model, "--trust", key, *RUN))
    assert f"'{model}' stands alone" in said


def test_a_file_that_the_signed_bundle_does_not_list_does_not(edge_camera: Any, bundle: Path, key: Path) -> None:
    shutil.copy(bundle / "0-tflite-int8.fake", bundle / "other.fake")
    assert "is not listed in the manifest" in error(
        edge_camera("run", "--model", bundle / "other.fake", "--trust", key, *RUN)
    )


def test_a_changed_file_of_a_signed_bundle_does_not(edge_camera: Any, bundle: Path, key: Path) -> None:
    with (bundle / "0-tflite-int8.fake").open("a") as stream:
        stream.write(" ")
    assert "was changed after export" in error(edge_camera("run", "--model", bundle, "--trust", key, *RUN))


def test_a_key_that_is_none_is_told_before_the_model_is_opened(edge_camera: Any, tmp_path: Path) -> None:
    said = error(edge_camera("run", "--model", tmp_path / "none", "--trust", tmp_path / "no.pub", *RUN))
    assert "Cannot read the key" in said


def test_a_benchmark_of_an_unsigned_bundle_is_refused(edge_camera: Any, bundle: Path, key: Path) -> None:
    measured = ("benchmark", "--model", bundle, "--trust", key, "--seconds", 0, "--inferences", 1)
    assert edge_camera(*measured).returncode == 0
    (bundle / "manifest.json.sig").unlink()
    assert "is not signed" in error(edge_camera(*measured))


def test_a_model_that_is_replaced_must_be_signed_too(
    edge_camera: Any, bundle: Path, key: Path, sign: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The new bundle is refused until its signature is there; the key's file may be gone by then."""
    monkeypatch.setattr(camera, "Watcher", functools.partial(Watcher, every=0.01))
    told: list[str] = []

    class Told(ForPrograms):
        def item(self, item: Any, tally: Any) -> None:
            super().item(item, tally)
            if tally.frames == 1 and not told:
                key.unlink()
                replaced(bundle)
                told.append("replaced")
            kind = getattr(item, "kind", None)
            if kind == "model-refused":
                told.append(item.reason)
                sign(bundle)
            elif kind == "model-changed":
                told.append(kind)
                os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr("edge_apps.camera.commands.output.ForPrograms", Told)
    ended = edge_camera("run", "--model", bundle, "--trust", key, "--source", "test-pattern", "--watch", "--json")
    assert ended.returncode == 0, ended.stderr
    assert told[0] == "replaced"
    assert "does not verify with the key" in told[1]
    assert told[-1] == "model-changed"
    sessions = [json.loads(line) for line in ended.stdout.splitlines() if '"type":"session"' in line]
    assert sessions, "the first model ran"


def replaced(bundle: Path) -> None:
    """Another manifest, with the old signature."""
    path = bundle / "manifest.json"
    path.write_text(path.read_text() + " ")


def test_a_new_signature_is_a_change(bundle: Path, sign: Callable[[Path], None]) -> None:
    (bundle / "manifest.json.sig").unlink()
    for path in (bundle, bundle / "0-tflite-int8.fake"):
        before = state_of(path)
        sign(bundle)
        assert state_of(path) != before
        (bundle / "manifest.json.sig").unlink()


def test_the_key_of_a_configuration_counts_from_its_folder(
    edge_camera: Any, bundle: Path, key: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "camera.toml"
    config.write_text(f'model = "{bundle.name}"\ntrust = "{key.name}"\nsource = "test-pattern"\nframes = 2\n')
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    assert edge_camera("run", "--config", "../camera.toml").returncode == 0
    options = options_in(config, main.commands["run"])
    assert options["trust"] == str(key)
    assert f'"{key}"' in plan(config, Configured.of(options)).unit, "its disk is mounted first"
    (bundle / "manifest.json.sig").unlink()
    assert "is not signed" in error(edge_camera("run", "--config", "../camera.toml"))
    assert edge_camera("run", "--config", "../camera.toml", "--without", "trust").returncode == 0


def test_a_service_whose_key_is_none_is_not_installed(bundle: Path, tmp_path: Path) -> None:
    config = tmp_path / "camera.toml"
    config.write_text(f'model = "{bundle.name}"\ntrust = "none.pub"\nsource = "test-pattern"\n')
    ended = CliRunner().invoke(main, ["install-service", str(config)])
    assert ended.exit_code == 2
    assert f"Cannot read the key '{tmp_path}/none.pub'" in ended.stderr
