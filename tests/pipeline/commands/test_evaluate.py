"""``pipeline evaluate`` as it is typed: what it prints, its exit status, what it leaves in the bundle."""

import importlib.util
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from edge_apps.runtime.manifest import MANIFEST, load_bundle
from pipeline.cli import main

pytestmark = pytest.mark.usefixtures("opened", "fake_targets")


def run(*arguments: Any) -> Result:
    return CliRunner().invoke(main, ["evaluate", "--threads", "1", *map(str, arguments)])


def error(result: Result) -> str:
    """The one line of a refusal."""
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    line, rest = result.stderr.split("\n", 1)
    assert rest == ""
    assert line.startswith("Error: ")
    return line


def test_a_bundle_is_measured_and_remembers_it(laboratory: Any, make_bundle: Any) -> None:
    root = make_bundle({"a.fake": laboratory.answers(3)})
    result = run(root, "--data", laboratory.images.name)
    assert result.exit_code == 0, result.output
    assert "a.fake" in result.stdout
    assert "+2.50" in result.stdout
    bundle = load_bundle(root)
    recorded = json.loads(bundle.read(bundle.file("evaluation")).path.read_text())
    assert recorded["files"][0]["comparison"]["lost"] == 3
    assert recorded["data"] == laboratory.images.name
    written = json.loads(
        (root / MANIFEST).read_text()
    )  # as format 1 has it: {}, not null, for a record that is not there
    assert written["search"] == {}
    assert [file["delegated"] for file in written["files"]] == [{}] * len(written["files"])


def test_json_is_all_of_stdout_and_what_is_recorded(laboratory: Any, make_bundle: Any) -> None:
    root = make_bundle({"a.fake": laboratory.answers(3)})
    result = run(root, "--data", laboratory.images.name, "--json")
    assert json.loads(result.stdout) == json.loads((root / "evaluation.json").read_text())


def test_no_record_leaves_the_bundle_alone(laboratory: Any, make_bundle: Any) -> None:
    root = make_bundle({"a.fake": laboratory.answers()})
    before = (root / MANIFEST).read_bytes()
    assert run(root, "--data", laboratory.images.name, "--no-record").exit_code == 0
    assert (root / MANIFEST).read_bytes() == before
    assert not (root / "evaluation.json").exists()


def test_a_bundle_that_cannot_be_written_is_still_measured(laboratory: Any, make_bundle: Any) -> None:
    root = make_bundle({"a.fake": laboratory.answers()})
    (root / "evaluation.json").mkdir()
    result = run(root, "--data", laboratory.images.name, "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout)["files"][0]["status"] == "run"
    assert result.stderr.startswith("Not kept in the bundle: Cannot write")


def test_single_files(laboratory: Any, make_bundle: Any, tmp_path: Path) -> None:
    root = make_bundle({"a.fake": laboratory.answers(2)})
    alone = shutil.copy(root / "a.fake", tmp_path / "alone.fake")
    without = json.loads(run(alone, "--data", laboratory.images.name, "--json").stdout)
    assert without["files"][0]["top1"] == pytest.approx((len(laboratory.right) - 2) / 120)
    assert without["files"][0]["comparison"] is None
    compared = run(alone, root / "a.fake", "--data", laboratory.images.name, "--reference", laboratory.checkpoint)
    assert compared.exit_code == 0
    assert compared.stdout.count("+1.67") == 2
    assert "No reference" in run(alone, "--data", laboratory.images.name).stdout


def test_a_file_that_answers_nan_is_a_failure(laboratory: Any, make_bundle: Any) -> None:
    root = make_bundle({"a.fake": np.full_like(laboratory.answers(), np.nan), "b.fake": laboratory.answers()})
    result = run(root, "--data", laboratory.images.name)
    assert result.exit_code == 1
    assert "a.fake: failed: NaN or infinite logits for 120 of 120 images" in result.stdout


def test_a_file_that_cannot_run_here(laboratory: Any, make_bundle: Any) -> None:
    elsewhere = {"open": "not here"}
    root = make_bundle({"a.fake": laboratory.answers(), "b.fake": laboratory.answers()}, **{"a.fake": elsewhere})
    result = run(root, "--data", laboratory.images.name)
    assert result.exit_code == 0
    assert "'a.fake' is not run" in result.stdout


def test_nothing_measured_is_no_success(laboratory: Any, make_bundle: Any) -> None:
    root = make_bundle({"a.fake": laboratory.answers()}, **{"a.fake": {"open": "missing"}})
    result = run(root, "--data", laboratory.images.name)
    assert result.exit_code == 1
    assert "pip install" in result.stdout


def test_corrupt_pictures(laboratory: Any, make_bundle: Any, tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(laboratory.images.root, data)
    picture = data / "class2" / "004.png"
    picture.write_bytes(picture.read_bytes()[:-20])
    root = make_bundle({"a.fake": laboratory.answers()})
    assert "class2/004.png" in error(run(root, "--data", data))
    result = run(root, "--data", data, "--skip-corrupt")
    assert result.exit_code == 0
    assert "119 images" in result.stdout
    assert "1 corrupt images left out: class2/004.png." in result.stdout


def test_data_without_some_classes(laboratory: Any, make_bundle: Any, tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(laboratory.images.root, data)
    shutil.rmtree(data / "class2")
    root = make_bundle({"a.fake": laboratory.answers()})
    result = run(root, "--data", data)
    assert result.exit_code == 0, result.output
    assert f"{data}: 100 images, 5 of 6 classes" in result.stdout
    assert "No folder for 1 of 6 classes: class2." in result.stdout
    assert json.loads((root / "evaluation.json").read_text())["absent_classes"] == ["class2"]
    (data / "class3").rename(data / "klasse3")
    assert "No folder for: class2, class3. Unknown folder: klasse3. Did you mean 'class3' by 'klasse3'?" in error(
        run(root, "--data", data)
    )


def test_a_folder_with_train_and_test(laboratory: Any, make_bundle: Any, tmp_path: Path) -> None:
    """Never two classes called train and test."""
    root = make_bundle({"a.fake": laboratory.answers()})
    shutil.copytree(laboratory.images.root, tmp_path / "data" / "Test")
    shutil.copytree(laboratory.images.root / "class0", tmp_path / "data" / "train" / "class0")
    result = run(root, "--data", tmp_path / "data")
    assert result.exit_code == 0, result.output
    place = tmp_path / "data"
    assert result.stderr == f"'{place}' is divided into 'Test', 'train': reading '{place}/Test'.\n"
    assert f"{place}/Test: 120 images, 6 classes" in result.stdout


def test_bad_input(laboratory: Any, make_bundle: Any, make_images: Any, tmp_path: Path) -> None:
    root = make_bundle({"a.fake": laboratory.answers()}, calibrated=make_images(3, 6, seed=8))
    data, file = laboratory.images.name, root / "a.fake"
    (tmp_path / "empty").mkdir()
    (tmp_path / "x.onnx").touch()
    (tmp_path / "no.safetensors").write_bytes(b"no")
    assert "No images in" in error(run(root, "--data", tmp_path / "empty"))
    assert "No such folder" in error(run(root, "--data", tmp_path / "nowhere"))
    assert "is not a bundle" in error(run(tmp_path / "nowhere", "--data", data))
    assert "No such file" in error(run(tmp_path / "nowhere.fake", "--data", data))
    assert "evaluated alone" in error(run(root, file, "--data", data))
    assert "it carries" in error(run(root, "--data", data, "--reference", laboratory.checkpoint))
    assert "for bundles" in error(run(file, "--data", data, "--no-record"))
    assert "safetensors" in error(run(file, "--data", data, "--reference", tmp_path / "no.safetensors"))
    unknown = error(run(root, "--data", make_images(2, 7, seed=4).name))
    assert "Unknown folder: class6." in unknown
    assert "No folder for" not in unknown
    assert "x.onnx" in error(run(tmp_path / "x.onnx", "--data", data))
    assert error(run("--data", data)).endswith("See 'main evaluate --help'.")
    with file.open("a") as stream:
        stream.write(" ")
    assert "changed after export" in error(run(root, "--data", data))
    assert "changed after export" in error(run(file, "--data", data))


def test_without_torch_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "torch" else find(name, *rest))
    assert "pip install '.[export]'" in error(run("x.tflite", "--data", "digits"))


def test_a_file_of_a_bundle_is_not_judged_on_the_bundles_calibration_images(laboratory: Any, make_bundle: Any) -> None:
    root = make_bundle({"a.fake": laboratory.answers()}, calibrated=laboratory.images)
    result = run(root / "a.fake", "--data", laboratory.images.name)
    assert result.exit_code == 2
    assert "were used for calibration" in result.stderr
