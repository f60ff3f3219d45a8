"""``export --search`` from end to end, with a target whose files the simulator computes."""

from __future__ import annotations

import json
import pickle
import re
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import numpy as np
import pytest
from rich.console import Console

from calibration.quantize import quantize
from calibration.ranges import Range, Ranges
from calibration.recipe import Recipe
from calibration.simulate import Simulator
from edge_apps.console import print_parts
from edge_apps.images import open_images
from edge_apps.runtime import registry
from edge_apps.runtime.content import Content
from edge_apps.runtime.manifest import FileManifest, load_bundle, parse_file_manifest, to_json
from edge_apps.runtime.search_record import SearchRecord
from pipeline import targets, zoo
from pipeline.benchmarking import latency
from pipeline.checkpoints import pt2_archive
from pipeline.checkpoints.checkpoint import Checkpoint
from pipeline.checkpoints.load import load
from pipeline.data import open_data
from pipeline.data.hashes import hash_images
from pipeline.data.subset import Subset
from pipeline.errors import BadInput, MissingExtra, NotRunHere
from pipeline.exporting import prepare as preparing
from pipeline.graphs.front_ends import graph_of
from pipeline.precision_search import job
from pipeline.precision_search.show import show_search
from pipeline.quantization.calibrate import Calibration, calibrate, draw, load_calibration, save_calibration
from pipeline.quantization.captured import Captured, answers, capture, split
from pipeline.targets.base import Census, Source


@cache
def opened_once(content: bytes) -> Any:
    """The graph of a file, quantized if it is int8."""
    parts = pickle.loads(content)  # noqa: S301 - written by this test
    graph = graph_of(pt2_archive.read(parts["program"], "a file")[0])
    if parts["ranges"] is None:
        return graph
    ranges = msgspec.json.decode(parts["ranges"], type=Ranges)
    return Simulator(quantize(graph, ranges, fold_weights=True)[0])


class Simulated:
    """Writes the captured network itself, and the ranges beside it."""

    name, suffix, aliases, precisions, delegate = "fake", ".fake", (), ("fp32", "int8"), None
    summary = "in this test"
    layers = 5

    def missing(self) -> str | None:
        return None

    def lower(self, source: Source, manifest: FileManifest, path: Path) -> tuple[str, ...]:
        (program,) = [captured.program for captured in CAPTURED if captured.network is source.network]
        int8 = manifest.precision == "int8"
        in_float = source.required_ranges.recipe.float_layers if int8 else ()
        content = {
            "manifest": to_json(manifest),
            "program": pt2_archive.write(program),
            "ranges": source.required_ranges.to_json() if int8 else None,
            "float": len(in_float),
        }
        path.write_bytes(pickle.dumps(content))
        return in_float

    def census(self, content: Content) -> Census:
        in_float = pickle.loads(content.data)["float"]  # noqa: S301 - written by this test
        return Census(Counter(conv=self.layers), None, self.layers - in_float, in_float, frozenset())


class SimulatedRunner:
    """Counts how many pictures each kind of file has seen."""

    runtime, threads = "simulated 1", 1
    seen: ClassVar[Counter[str]] = Counter()

    def __init__(self, file: Content, threads: int) -> None:
        del threads
        content, path = file.data, file.path
        if not content:
            raise BadInput(f"'{path}' is no file of this test.")
        self.path = path
        self.manifest = parse_file_manifest(pickle.loads(content)["manifest"], path)  # noqa: S301 - as above
        self._run = opened_once(content)

    def run(self, batch: np.ndarray) -> np.ndarray:
        self.seen[self.manifest.precision] += len(batch)
        return answers(self._run, split(batch, 16))

    def close(self) -> None:
        """Nothing to free."""


CAPTURED: list[Captured] = []


@pytest.fixture(scope="module")
def loaded(sure: Any) -> Iterator[Calibration]:
    """Captured and calibrated once, for all tests here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(zoo.specs(), "small", sure.spec)
        images = open_data(str(sure.draw(0, 20)), "calibration")
        captured = capture(load(sure.checkpoint), images.image(0))
        CAPTURED.append(captured)
        recipe = Recipe(images=40, observer="minmax")
        yield calibrate(captured, draw(captured, images, recipe), recipe)
    CAPTURED.clear()


@pytest.fixture
def laboratory(monkeypatch: pytest.MonkeyPatch, small_family: Any, loaded: Calibration) -> None:  # noqa: ARG001
    """The target and its runtime; nothing is captured again, and latency is measured in no time."""
    registry.known_suffixes()
    monkeypatch.setitem(registry._factories, ".fake", SimulatedRunner)
    monkeypatch.setitem(targets.targets(), "fake", Simulated())
    monkeypatch.setattr(preparing, "capture", lambda _checkpoint, _image: CAPTURED[0])
    monkeypatch.setattr(job, "measure", partial(job.measure, seconds=0.001, least=2))
    monkeypatch.setattr(latency, "BLOCK_SECONDS", 0.001)
    SimulatedRunner.seen.clear()


@pytest.fixture
def ranges(laboratory: None, loaded: Calibration, tmp_path: Path) -> Callable[..., Path]:  # noqa: ARG001
    """Ranges of the sure network; one of them may be so wide that it has a few steps left."""

    def make(ruined: str | None) -> Path:
        found = loaded.ranges
        if ruined is not None:
            (key,) = [key for key in found.values if key.startswith(f"{ruined}:")]
            wide = Range(*(400 * value for value in found.values[key]))
            found = msgspec.structs.replace(found, values={**found.values, key: wide})
        save_calibration(tmp_path / "ranges.json", Calibration(found))
        return tmp_path / "ranges.json"

    return make


@pytest.fixture
def export(pipeline: Any, sure: Any, tmp_path: Path) -> Callable[..., Any]:
    """Search with ranges, for a limit that 160 pictures can show."""

    def run(ranges: Path, *more: Any, judge: Path | None = None, data: Path | None = None) -> Any:
        given = ["--data", data or sure.draw(1, 60), "--target", "fake", "--ranges", ranges, "--out", tmp_path / "b"]
        gate = ["--search", "--max-drop", 4, "--judge", judge or sure.draw(2, 80)]
        return pipeline("export", sure.checkpoint, *given, *gate, *more)

    return run


def test_a_ruined_layer_is_kept_in_float(export: Any, ranges: Any, tmp_path: Path) -> None:
    """And the bundle says how that was found, that it was judged, and what it costs."""
    ended = export(ranges("classifier.0"))
    assert ended.status == 0, ended.err
    assert "In float: 1 of 5 convolution and linear layers: classifier.0 (" in ended.out
    assert "Judged once, on 160 images" in ended.out
    bundle = load_bundle(tmp_path / "b")
    assert {file.path: file.float_layers for file in bundle.models()} == {
        "small-fp32.fake": (),
        "small-int8.fake": ("classifier.0",),
    }
    noted = bundle.manifest.search
    assert noted is not None
    assert noted.found.float_layers == ("classifier.0",)
    assert noted.found.plain.drop_points > 20
    assert noted.found.chosen.expected_upper_points <= 4
    assert (noted.judge.images, noted.rank.images) == (160, 90)  # 30 of the 120 are held back to judge the files
    assert [(file.path, file.verdict) for file in noted.judged] == [
        ("small-fp32.fake", "passed"),
        ("small-int8.fake", "passed"),
    ]
    (cost,) = noted.cost
    assert set(cost.bytes) == set(cost.median_ms) == {"fp32", "int8", "mixed"}
    assert cost.bytes["mixed"] == (tmp_path / "b" / "small-int8.fake").stat().st_size
    for file in bundle.manifest.files:
        bundle.read(file)
    (evaluation,) = [file for file in bundle.manifest.files if file.role == "evaluation"]
    kept = json.loads((bundle.root / evaluation.path).read_bytes())
    assert kept["images"] == 160
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b", "ranges.json"]
    assert load_calibration(bundle.root / "ranges.json").ranges.recipe.float_layers == ("classifier.0",)
    # Judged once: beside 160 images, int8 files see the 30 that export judges each of the two on, and latency's.
    assert 160 + 2 * 30 <= SimulatedRunner.seen["int8"] < 160 + 2 * 30 + 160


def test_a_gate_that_fails_by_rounding_names_the_layer(pipeline: Any, sure: Any, ranges: Any, tmp_path: Path) -> None:
    ruined, out = ranges("classifier.0"), tmp_path / "b"
    given = ["--data", sure.draw(1, 60), "--target", "fake", "--ranges", ruined, "--out", out]
    made = pipeline("export", sure.checkpoint, *given)
    assert made.status == 0, made.err
    failed = pipeline("gate", out, "--data", sure.draw(2, 80), "--max-drop", 4)
    assert failed.status == 3, failed.err
    (reason,) = (line for line in failed.out.splitlines() if line.startswith("small-int8.fake: "))
    assert re.fullmatch(
        r"small-int8.fake: Top-1 fell .*; limit 4.0\..* Most damaged layer: classifier.0 \(-?\d+\.\d dB\)\.", reason
    )


def test_a_sound_network_stays_in_int8(export: Any, ranges: Any) -> None:
    """``--rank-images`` limits what is searched on; class by class."""
    ended = export(ranges(None), "--json", "--rank-images", 10)
    assert ended.status == 0, ended.err
    manifest = json.loads(ended.out)
    assert manifest["search"]["found"]["float_layers"] == []
    assert manifest["search"]["rank"]["images"] == 10
    assert [file["float_layers"] for file in manifest["files"] if file["role"] == "model"] == [[], []]
    console = Console(record=True, width=80)
    print_parts(show_search(msgspec.convert(manifest["search"], SearchRecord)), console)
    assert "None of the 5 convolution and linear layers has to stay in float." in console.export_text()


def test_what_the_gate_does_not_pass_is_not_written(
    export: Any, ranges: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here the files go wrong where the simulation did not: every second answer is turned round."""
    run = SimulatedRunner.run

    def worse(self: SimulatedRunner, batch: np.ndarray) -> np.ndarray:
        logits = run(self, batch)
        if self.manifest.precision == "int8":
            logits[::2] = logits[::2, ::-1]
        return logits

    monkeypatch.setattr(SimulatedRunner, "run", worse)
    ended = export(ranges(None))
    assert ended.status == 3, ended.err
    assert "small-int8.fake: Top-1 fell" in ended.out
    assert "No bundle was written. These pictures have judged" in ended.out
    assert [path.name for path in tmp_path.iterdir()] == ["ranges.json"]


def test_no_layer_would_be_enough(export: Any, ranges: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is built or judged."""
    from pipeline.precision_search.search import Search

    monkeypatch.setattr(Search, "_reference_right", np.ones(90, bool))
    monkeypatch.setattr("pipeline.quantization.calibrate.keep_float", lambda _graph, found, _layers: found)
    refused = export(ranges("classifier.0")).error(1)
    assert "Even with every convolution and linear layer in float the drop is expected to reach" in refused
    assert SimulatedRunner.seen == Counter()
    assert [path.name for path in tmp_path.iterdir()] == ["ranges.json"]


def test_a_search_that_leaves_nothing_to_int8_makes_no_int8_file(
    export: Any, ranges: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here every trial fails but that with all layers in float."""
    from pipeline.precision_search.search import Search

    attempt = Search.attempt

    def fails(self: Search, layers: Any) -> Any:
        upper = 0.0 if len(layers) == Simulated.layers else 99.0
        return msgspec.structs.replace(attempt(self, layers), expected_upper_points=upper)

    monkeypatch.setattr(Search, "attempt", fails)
    refused = export(ranges(None)).error(1)
    assert "No int8 file was found that holds the limit: only with every convolution and linear layer" in refused
    assert "expected to stay within 4 points on the judging pictures. Nothing was judged or written" in refused
    assert SimulatedRunner.seen == Counter()
    assert [path.name for path in tmp_path.iterdir()] == ["ranges.json"]


def test_a_recipe_that_leaves_nothing_to_int8_is_not_searched_with(
    pipeline: Any,
    laboratory: None,  # noqa: ARG001
    sure: Any,
    tmp_path: Path,
) -> None:
    (tmp_path / "recipe.toml").write_text('float_layers = ["features.*", "classifier.*"]')
    given = ["--data", sure.draw(1, 60), "--target", "fake", "--recipe", tmp_path / "recipe.toml"]
    gate = ["--search", "--max-drop", 4, "--judge", sure.draw(2, 80), "--out", tmp_path / "b", "--calibration-size", 40]
    refused = pipeline("export", sure.checkpoint, *given, *gate).error(2)
    assert "every convolution and linear layer is to stay in float (float_layers: 'features.*', 'cl" in refused


def test_pictures_that_were_used_do_not_judge(export: Any, ranges: Any, sure: Any) -> None:
    made = ranges(None)
    calibrated = export(made, "--max-drop", 10, judge=sure.draw(0, 20)).error(2)
    assert "40 of 40 evaluation images in" in calibrated
    assert "were used for calibration" in calibrated
    both = export(made, judge=sure.draw(1, 60)).error(2)
    assert "Layers would be ranked on pictures that judge" in both
    assert "Judge on pictures that were used for nothing else." in both
    given = export(made, "--rank", sure.draw(2, 80)).error(2)
    assert "Layers would be ranked on pictures that judge" in given
    assert SimulatedRunner.seen == Counter()


def test_the_pictures_that_trained_the_network_do_not_judge(
    export: Any, ranges: Any, sure: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures = sure.draw(2, 80)
    with monkeypatch.context() as patch:
        patch.setattr(Checkpoint, "trained_on", lambda _self, images: images.name == str(pictures))
        assert "The network was trained on --judge" in export(ranges(None), judge=pictures).error(2)
    some = Subset(open_images(pictures), [1, 2])  # a part of them, known by content
    monkeypatch.setattr(Checkpoint, "hashes", (hash_images(some),))
    refused = export(ranges(None), judge=pictures).error(2)
    assert f"The network was trained on 2 images of '{pictures}', by content (first: '{some.item_name(0)}')" in refused
    assert SimulatedRunner.seen == Counter()


def test_files_that_run_elsewhere_are_not_searched_for(
    export: Any, ranges: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(registry._elsewhere, ".fake", lambda: "fakes run on the moon only")
    refused = export(ranges(None)).error(2)
    assert "Nothing can be judged here: fakes run on the moon only. Add another --target." in refused


class Lunar(Simulated):
    """The same, under another name."""

    name, suffix = "lunar", ".lunar"


@pytest.fixture
def second(laboratory: None, monkeypatch: pytest.MonkeyPatch) -> Callable[[Exception], None]:  # noqa: ARG001
    """``second(error)``: there is another target, and opening a file of it fails so."""

    def fails(error: Exception) -> None:
        def factory(_path: Path, _threads: int) -> Any:
            raise error

        monkeypatch.setitem(targets.targets(), "lunar", Lunar())
        monkeypatch.setitem(registry._factories, ".lunar", factory)

    return fails


def test_a_runtime_that_is_not_installed_is_no_leave_to_skip_its_files(
    export: Any, ranges: Any, second: Any, tmp_path: Path
) -> None:
    """Nobody allowed that they be not judged. Said before anything is read: the pictures to judge on are not there."""
    second(MissingExtra("Running .lunar needs a rocket, which is not installed: pip install '.[moon]'."))
    refused = export(ranges(None), "--target", "lunar", judge=Path("/nowhere")).error(2)
    assert refused == (
        "Error: --search judges every file, and those for 'lunar' cannot run: Running .lunar needs a rocket, which is "
        "not installed: pip install '.[moon]'."
    )
    assert [path.name for path in tmp_path.iterdir()] == ["ranges.json"]


def test_a_target_that_cannot_run_on_this_machine_is_not_judged(
    export: Any, ranges: Any, second: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    second(NotRunHere("on the moon only"))
    monkeypatch.setitem(registry._elsewhere, ".lunar", lambda: "on the moon only")
    ended = export(ranges(None), "--target", "lunar", "--json")
    assert ended.status == 0, ended.err
    judged = {file["path"]: file["verdict"] for file in json.loads(ended.out)["search"]["judged"]}
    assert judged == {
        "small-fp32.fake": "passed",
        "small-int8.fake": "passed",
        "small-fp32.lunar": "not run (allowed)",
        "small-int8.lunar": "not run (allowed)",
    }


def test_a_runtime_that_breaks_during_the_search_leaves_the_gate_undecided(
    export: Any,
    ranges: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def factory(content: Content, _threads: int) -> Any:
        raise MissingExtra("gone") if content.size else BadInput("no file of this kind")

    monkeypatch.setitem(targets.targets(), "lunar", Lunar())
    monkeypatch.setitem(registry._factories, ".lunar", factory)
    ended = export(ranges(None), "--target", "lunar")
    assert ended.status == 4, ended.err
    assert "small-int8.lunar" in ended.out
    assert [path.name for path in tmp_path.iterdir()] == ["ranges.json"]


def test_a_corrupt_picture_is_met_before_anything_is_searched(
    export: Any, ranges: Any, sure: Any, tmp_path: Path
) -> None:
    judge = Path(shutil.copytree(sure.draw(2, 80), tmp_path / "judge"))
    (judge / "blue" / "000.png").write_bytes(b"no picture")
    assert "--skip-corrupt" in export(ranges(None), judge=judge).error(2)
    ended = export(ranges(None), "--skip-corrupt", judge=judge)
    assert ended.status == 0, ended.err
    assert "Left out of --judge, corrupt: blue/000.png" in ended.err


def test_ranking_pictures_are_others_than_those_that_calibrated(export: Any, ranges: Any, sure: Any) -> None:
    """By default they are of the same data, and what calibrated is left out."""
    nothing_left = export(ranges(None), data=sure.draw(0, 20)).error(2)
    assert "has no pictures but those used for calibration" in nothing_left


def test_too_few_to_judge_on(export: Any, ranges: Any, sure: Any) -> None:
    """Said at once: with 40 pictures the interval of no loss at all ends at 8.8 points."""
    refused = export(ranges(None), judge=sure.draw(2, 20)).error(2)
    assert (
        "--judge has 40 different pictures: too few to show a drop of at most 4 points even for files without"
        in refused
    )
    assert "at least 93 are needed" in refused
    zero = export(ranges(None), "--max-drop", 0).error(2)
    assert "no number of pictures is enough" in zero


@pytest.mark.parametrize("limit", [100, 25])
def test_a_limit_that_no_gate_takes_is_refused_before_any_work(
    export: Any, ranges: Any, monkeypatch: pytest.MonkeyPatch, limit: float
) -> None:
    """With two classes alike, half of what can be known is 25 points."""
    monkeypatch.setattr(preparing, "capture", lambda *_: pytest.fail("captured"))
    refused = export(ranges(None), "--max-drop", limit).error(2)
    assert f"A limit of {limit} points would pass a file that lost half of what the network knows" in refused
    assert "the reference is right on 100.0 % of" in refused
    assert "at best, and 50.0 % of it is" in refused
    assert "Choose a --max-drop below 25.0." in refused


def test_a_class_without_a_picture_is_met_before_any_work(export: Any, ranges: Any, sure: Any, tmp_path: Path) -> None:
    judge = Path(shutil.copytree(sure.draw(2, 80), tmp_path / "judge"))
    for picture in (judge / "blue").iterdir():
        picture.write_bytes(b"no picture")
    refused = export(ranges(None), "--skip-corrupt", judge=judge).error(2)
    assert "These images cannot show a drop" in refused
    assert "are of one class, 'red'" in refused


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--search"], "--search needs --max-drop, in points of top-1, and --judge"),
        (["--search", "--max-drop", "0.5"], "--search needs --max-drop"),
        (["--search", "--judge", "digits:test"], "--search needs --max-drop"),
        (["--max-drop", "0.5"], "are for --search: add it, or leave them out"),
        (["--judge", "digits:test"], "are for --search"),
        (["--rank", "digits:test"], "are for --search"),
        (["--rank-images", "100"], "are for --search"),
        (["--search", "--max-drop", "nan", "--judge", "digits:test"], "max-drop is nan"),
        (["--search", "--max-drop", "-1", "--judge", "digits:test"], "max-drop is -1"),
        (["--search", "--max-drop", "5", "--judge", "digits:test"], "Unknown folders: 0, 1"),
        (["--search", "--max-drop", "5", "--judge", "/nowhere"], "No such folder or tar"),
        (
            ["--search", "--max-drop", "5", "--judge", "digits:test", "--precision", "fp32"],
            "--search is for int8 files",
        ),
    ],
)
def test_bad_input(
    pipeline: Any,
    laboratory: None,  # noqa: ARG001
    sure: Any,
    tmp_path: Path,
    arguments: list[str],
    says: str,
) -> None:
    given = ["--data", sure.draw(0, 20), "--target", "fake", "--out", tmp_path / "b", "--calibration-size", 8]
    assert says in pipeline("export", sure.checkpoint, *given, *arguments).error(2)
    assert not list(tmp_path.iterdir())
