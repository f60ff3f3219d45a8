"""``pipeline gate`` as a CI job runs it: exit status, and the files that it leaves for others."""

import json
import shutil
import tarfile
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from edge_apps.runtime.manifest import MANIFEST
from pipeline.cli import main

pytestmark = pytest.mark.usefixtures("opened", "fake_targets")


def run(*arguments: Any) -> Result:
    return CliRunner().invoke(main, ["gate", "--threads", "1", *map(str, arguments)])


@pytest.fixture
def bundle(laboratory: Any, make_bundle: Any) -> Path:
    """One file as good as the float network, one that lost 10 of 120 images, and one that runs elsewhere."""
    answers = {
        "same.fake": laboratory.answers(),
        "worse.fake": laboratory.answers(10),
        "mac.fake": laboratory.answers(),
    }
    targets = {"worse.fake": "executorch", "mac.fake": "coreml"}
    root: Path = make_bundle(answers, targets=targets, **{"mac.fake": {"open": "not here"}})
    return root


@pytest.mark.parametrize(
    ("limit", "more", "status", "verdict"),
    [
        (20, ["--allow-not-run", "coreml"], 0, "passed"),
        (20, ["--allow-not-run", "mlpackage"], 0, "passed"),  # an alias
        (20, [], 4, "undecided"),
        (20, ["--allow-not-run", "tflite"], 4, "undecided"),
        (8, ["--allow-not-run", "coreml"], 4, "undecided"),
        (1, ["--allow-not-run", "coreml"], 3, "failed"),
        (1, [], 3, "failed"),
    ],
)
def test_exit_status(laboratory: Any, bundle: Path, limit: float, more: list[str], status: int, verdict: str) -> None:
    result = run(bundle, "--data", laboratory.images.name, "--max-drop", limit, *more)
    assert result.exit_code == status, result.output
    assert result.stdout.splitlines()[-1].startswith(f"Gate {verdict} at")


def test_nothing_ran_never_passes(laboratory: Any, make_bundle: Any) -> None:
    root = make_bundle(
        {"a.fake": laboratory.answers()}, targets={"a.fake": "coreml"}, **{"a.fake": {"open": "not here"}}
    )
    result = run(root, "--data", laboratory.images.name, "--max-drop", 100, "--allow-not-run", "coreml")
    assert result.exit_code == 2
    assert "--allow-not-run names every target of the bundle (coreml)" in result.stderr
    allowed_less = run(root, "--data", laboratory.images.name, "--max-drop", 100)
    assert allowed_less.exit_code == 4
    assert "Nothing ran" in allowed_less.stdout


def test_reports(laboratory: Any, bundle: Path, tmp_path: Path) -> None:
    junit, markdown = tmp_path / "new" / "gate.xml", tmp_path / "gate.md"
    before = (bundle / MANIFEST).read_bytes()
    arguments = [bundle, "--data", laboratory.images.name, "--max-drop", 1, "--json"]
    result = run(*arguments, "--junit", junit, "--markdown", markdown)
    assert result.exit_code == 3
    said = json.loads(result.stdout)
    assert said["verdict"] == "failed"
    assert {file["path"]: file["verdict"] for file in said["files"]} == {
        "same.fake": "undecided",
        "worse.fake": "failed",
        "mac.fake": "not run",
    }
    suite = ET.parse(junit).find("testsuite")
    assert suite is not None
    assert {name: suite.get(name) for name in ("tests", "failures", "errors", "skipped")} == {
        "tests": "3",
        "failures": "1",
        "errors": "2",
        "skipped": "0",
    }
    assert markdown.read_text().startswith("## ❌ Gate failed at 1.0 points of top-1")
    assert (bundle / MANIFEST).read_bytes() == before
    assert sorted(path.name for path in tmp_path.glob("**/.*tmp*")) == []


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--max-drop", "nan"], "0 to 100"),
        (["--max-drop", "inf"], "0 to 100"),
        (["--max-drop", "-1"], "0 to 100"),
        (["--max-drop", "101"], "0 to 100"),
        (["--max-drop", "80"], "would pass a file that lost half of what the network knows"),
        (["--max-drop", "much"], "not a valid float"),
        (["--class-drop", "100"], "--no-class-flags"),
        (["--class-drop", "nan"], "0 to below 100"),
        (["--class-drop", "20", "--no-class-flags"], "contradict each other"),
        (["--allow-not-run", "tflite,executorch,coreml"], "names every target of the bundle"),
        (["--against", "nowhere"], "'nowhere' is not a bundle"),
        (["--allow-not-run", "coreml2"], "Unknown target 'coreml2'. Did you mean 'coreml'?"),
        (["--junit", "/proc/nowhere/gate.xml"], "Cannot write"),
        (["--junit", "/"], "is a directory"),
    ],
)
def test_bad_options(laboratory: Any, bundle: Path, more: list[str], words: str) -> None:
    result = run(bundle, "--data", laboratory.images.name, *more)
    assert result.exit_code == 2, result.output
    assert words in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_file_is_no_bundle(laboratory: Any, bundle: Path) -> None:
    result = run(bundle / "same.fake", "--data", laboratory.images.name)
    assert result.exit_code == 2
    assert "is not a bundle" in result.stderr


def test_calibration_images_are_refused(laboratory: Any, make_bundle: Any) -> None:
    root = make_bundle({"a.fake": laboratory.answers()}, calibrated=laboratory.images)
    result = run(root, "--data", laboratory.images.name)
    assert result.exit_code == 2
    assert "were used for calibration" in result.stderr


@pytest.mark.parametrize("option", ["--junit", "--markdown"])
def test_a_report_never_lands_in_the_bundle(laboratory: Any, bundle: Path, option: str) -> None:
    before = (bundle / MANIFEST).read_bytes()
    result = run(bundle, "--data", laboratory.images.name, option, bundle / MANIFEST)
    assert result.exit_code == 2
    assert "lies inside the bundle" in result.stderr
    assert (bundle / MANIFEST).read_bytes() == before


def test_two_reports_are_two_files(laboratory: Any, bundle: Path, tmp_path: Path) -> None:
    """However they are named; what lies there stays."""
    report = tmp_path / "gate.xml"
    report.write_text("before")
    (tmp_path / "link.md").symlink_to(report)
    for other in (report, tmp_path / "sub" / ".." / "gate.xml", tmp_path / "link.md"):
        result = run(bundle, "--data", laboratory.images.name, "--junit", report, "--markdown", other)
        assert result.exit_code == 2, result.output
        assert f"--junit and --markdown are both '{report}': one would replace the other." in result.stderr
    assert report.read_text() == "before"


def test_a_report_does_not_replace_the_pictures(laboratory: Any, bundle: Path, tmp_path: Path) -> None:
    """An old report is removed first: here that would be the data."""
    data = tmp_path / "test.tar"
    with tarfile.open(data, "w") as tar:
        tar.add(laboratory.images.root, "")
    result = run(bundle, "--data", data, "--junit", data)
    assert result.exit_code == 2, result.output
    assert "is the --data to gate on" in result.stderr
    assert tarfile.is_tarfile(data)


def test_targets_that_need_not_run_may_be_separated_by_commas(laboratory: Any, bundle: Path) -> None:
    more = ["--max-drop", 20, "--allow-not-run", "tflite,ios"]
    assert run(bundle, "--data", laboratory.images.name, *more).exit_code == 0


@pytest.fixture
def lost_class(laboratory: Any, make_bundle: Any) -> Path:
    """One class of six gone; top-1 fell 13 points, within a limit of 30."""
    answers = laboratory.answers()
    answers[:20] = np.roll(answers[:20], 1, axis=1)
    return Path(make_bundle({"a.fake": answers}))


def test_a_lost_class_fails_the_gate_unless_it_is_told_not_to_look(laboratory: Any, lost_class: Path) -> None:
    arguments = [lost_class, "--data", laboratory.images.name, "--max-drop", 30]
    failed = run(*arguments)
    assert failed.exit_code == 3
    assert "1 class fell more than 10 points: 'class0' 80.0 (80.0 → 0.0, n = 20" in failed.stdout
    assert run(*arguments, "--class-drop", 79).exit_code == 3
    assert run(*arguments, "--class-drop", 81).exit_code == 0
    off = run(*arguments, "--no-class-flags")
    assert off.exit_code == 0
    assert "Classes were not looked at (--no-class-flags)" in off.stdout


def test_against_the_last_release(laboratory: Any, make_bundle: Any) -> None:
    last = make_bundle({"a.fake": laboratory.answers(12)}, name="last")
    root = make_bundle({"a.fake": laboratory.answers(12)})
    data = laboratory.images.name
    same = run(root, "--data", data, "--against", last, "--max-drop", 4)
    assert same.exit_code == 0, same.output
    assert same.stdout.splitlines()[-1] == f"Gate passed at 4.0 points of top-1 against '{last}': 1 passed."
    assert run(root, "--data", data, "--max-drop", 4).exit_code == 3  # of the float network's, both lost ten points
    assert "is the bundle itself" in run(root, "--data", data, "--against", root).stderr
    report = last / "gate.xml"
    assert "lies inside the bundle" in run(root, "--data", data, "--against", last, "--junit", report).stderr


def test_a_gate_that_breaks_leaves_no_earlier_report(laboratory: Any, bundle: Path, tmp_path: Path) -> None:
    """A dashboard would show the old one as the new."""
    junit = tmp_path / "gate.xml"
    green = [bundle, "--data", laboratory.images.name, "--max-drop", 20, "--allow-not-run", "coreml", "--junit", junit]
    assert run(*green).exit_code == 0
    assert junit.exists()
    with (bundle / "same.fake").open("a") as stream:
        stream.write(" ")
    broken = run(*green)
    assert broken.exit_code == 2
    assert "changed after export" in broken.stderr
    assert "changed after export" in only_error(junit)
    junit.write_text("green")
    assert run(*green[:4], "nan", *green[5:]).exit_code == 2
    assert "0 to 100" in only_error(junit)


def only_error(junit: Path) -> str:
    """What the one case of a JUnit report says, which is an error."""
    suite = ET.parse(junit).find("testsuite")
    assert suite is not None
    assert {name: suite.get(name) for name in ("tests", "failures", "errors")} == {
        "tests": "1",
        "failures": "0",
        "errors": "1",
    }
    (error,) = suite.iter("error")
    return str(error.get("message"))


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--against", "nowhere"], "'nowhere' is not a bundle"),
        (["--max-drop", "80"], "would pass a file that lost half of what the network knows"),
        (["--class-drop", "20", "--no-class-flags"], "contradict each other"),
        (["--data", "no-such-data"], "no-such-data"),
    ],
)
def test_a_gate_that_refuses_its_input_reports_the_reason(
    laboratory: Any, bundle: Path, tmp_path: Path, more: list[str], words: str
) -> None:
    junit, markdown = tmp_path / "gate.xml", tmp_path / "gate.md"
    reports = ("--junit", junit, "--markdown", markdown)
    result = run(bundle, "--data", laboratory.images.name, *more, *reports)
    assert result.exit_code == 2
    reason = result.stderr.removeprefix("Error: ").strip()
    assert words in reason
    assert only_error(junit) == reason
    assert markdown.read_text().startswith("## ❌ The gate did not run\n\n")
    assert " ".join(reason.split()) in markdown.read_text()


def test_a_bundle_that_is_none_is_reported(laboratory: Any, tmp_path: Path) -> None:
    """Also one whose manifest says nothing, and a name that XML and Markdown cannot hold as it is."""
    root = tmp_path / "a|b\x01"
    junit, markdown = tmp_path / "gate.xml", tmp_path / "gate.md"
    gated = (root, "--data", laboratory.images.name, "--junit", junit, "--markdown", markdown)
    assert run(*gated).exit_code == 2
    assert "is not a bundle" in only_error(junit)
    root.mkdir()
    (root / MANIFEST).write_text("{")
    assert run(*gated).exit_code == 2
    assert "cannot be read" in only_error(junit)
    assert "a\\|b" in markdown.read_text()


def test_a_fault_of_a_library_is_reported(
    laboratory: Any, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks(*_: Any, **__: Any) -> None:
        raise MemoryError("too large")

    monkeypatch.setattr("pipeline.evaluation.bundle.evaluate_bundle", breaks)
    assert run(bundle, "--data", laboratory.images.name, "--junit", tmp_path / "gate.xml").exit_code == 1
    assert only_error(tmp_path / "gate.xml") == "MemoryError: too large"


def test_a_report_that_cannot_be_written_turns_the_other_one_into_an_error(
    laboratory: Any, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The gate passed, but exits with 2: a green report would contradict it."""
    from pipeline.gating import reports as gate_reports

    junit, markdown = tmp_path / "gate.xml", tmp_path / "sub" / "gate.md"

    def full(_result: Any) -> bytes:
        markdown.parent.rmdir()
        markdown.parent.touch()
        return b"green"

    monkeypatch.setattr(gate_reports, "markdown", full)
    gated = [bundle, "--data", laboratory.images.name, "--max-drop", 20, "--allow-not-run", "ios"]
    assert run(*gated, "--junit", junit, "--markdown", markdown).exit_code == 2
    assert "Cannot write" in only_error(junit)


def test_a_diagnosis_that_breaks_leaves_the_verdict(
    laboratory: Any, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks(*_: Any) -> None:
        raise MemoryError("not enough\nfor this")

    monkeypatch.setattr("pipeline.gating.judge.failed_by_rounding", lambda _result: ("worse.fake",))
    monkeypatch.setattr("pipeline.sensitivity.measure.most_damaged", breaks)
    junit = tmp_path / "gate.xml"
    ended = run(bundle, "--data", laboratory.images.name, "--max-drop", 1, "--junit", junit)
    assert ended.exit_code == 3
    assert "The most damaged layer was not found: not enough" in ended.stderr
    assert ended.stdout.splitlines()[-1].startswith("Gate failed at")
    assert "worse.fake" in junit.read_text()


def test_a_report_that_cannot_be_written_in_the_end_is_no_success(
    laboratory: Any, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is full when the verdict is there."""
    from pipeline.gating import reports as gate_reports

    junit = tmp_path / "sub" / "gate.xml"

    def full(_result: Any) -> bytes:
        junit.parent.rmdir()
        junit.parent.touch()
        return b"<testsuites/>"

    monkeypatch.setattr(gate_reports, "junit", full)
    result = run(bundle, "--data", laboratory.images.name, "--max-drop", 20, "--allow-not-run", "ios", "--junit", junit)
    assert result.exit_code == 2
    assert "Cannot write" in result.stderr
    assert result.stdout == ""


def test_one_picture_or_one_class_shows_nothing(laboratory: Any, bundle: Path, tmp_path: Path) -> None:
    """The labels are all there, as folders must be; all but one class have only corrupt pictures."""
    data = Path(shutil.copytree(laboratory.images.root, tmp_path / "data"))
    for picture in data.glob("class[1-5]/*.png"):
        picture.write_bytes(b"")
    for picture in list(data.glob("class0/*.png"))[1:]:
        picture.unlink()
    for _ in range(2):
        result = run(bundle, "--data", data, "--skip-corrupt", "--max-drop", 20)
        assert result.exit_code == 2, result.output
        assert "These images cannot show a drop" in result.stderr
        shutil.copytree(laboratory.images.root / "class0", data / "class0", dirs_exist_ok=True)


def test_other_labels(laboratory: Any, bundle: Path, tmp_path: Path) -> None:
    data = Path(shutil.copytree(laboratory.images.root, tmp_path / "data"))
    (data / "class3").rename(data / "zebra")
    result = run(bundle, "--data", data)
    assert result.exit_code == 2
    assert "No folder for: class3. Unknown folder: zebra." in result.stderr


def test_data_without_some_classes_is_judged_and_the_verdict_says_what_it_covers(
    laboratory: Any, bundle: Path, tmp_path: Path
) -> None:
    data = Path(shutil.copytree(laboratory.images.root, tmp_path / "data"))
    for gone in ("class1", "class4"):
        shutil.rmtree(data / gone)
    junit, markdown = tmp_path / "gate.xml", tmp_path / "gate.md"
    gated = [bundle, "--data", data, "--max-drop", 20, "--allow-not-run", "ios"]
    result = run(*gated, "--junit", junit, "--markdown", markdown)
    assert result.exit_code == 0, result.output
    says = "2 passed, 1 not run (allowed). Covers 4 of 6 classes; not judged: class1, class4."
    assert result.stdout.splitlines()[-1].endswith(says)
    assert says in markdown.read_text().splitlines()[0]
    assert 'name="classes" value="4 of 6 classes"' in junit.read_text()
    assert json.loads(run(*gated, "--json").stdout)["evaluation"]["absent_classes"] == ["class1", "class4"]


def test_a_class_folder_with_only_corrupt_images_is_refused(laboratory: Any, bundle: Path, tmp_path: Path) -> None:
    """Nobody left it out on purpose; also where another class has no folder at all."""
    data = Path(shutil.copytree(laboratory.images.root, tmp_path / "data"))
    shutil.rmtree(data / "class1")
    for picture in data.glob("class4/*.png"):
        picture.write_bytes(b"")
    result = run(bundle, "--data", data, "--max-drop", 20, "--skip-corrupt")
    assert result.exit_code == 2
    assert "has no usable picture of 'class4'" in result.stderr
    shutil.rmtree(data / "class4")
    (data / "class4").mkdir()
    result = run(bundle, "--data", data, "--max-drop", 20)
    assert result.exit_code == 2
    assert result.stderr == f"Error: Class folder 'class4' of '{data}' has no image: fill or remove it.\n"


def test_an_empty_bundle_never_passes(laboratory: Any, make_bundle: Any) -> None:
    result = run(make_bundle({}), "--data", laboratory.images.name)
    assert result.exit_code == 2
    assert "lists no model" in result.stderr
