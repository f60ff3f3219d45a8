"""The curve's points against calibrations of their own, and what is read from a curve."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import msgspec
import pytest
from rich.console import Console

from calibration.recipe import Recipe
from edge_apps.console import print_parts
from edge_apps.images import ImageSet, sha256
from edge_apps.plots import check_plot
from pipeline.checkpoints.checkpoint import Checkpoint
from pipeline.checkpoints.load import load
from pipeline.data import open_data
from pipeline.data.reading import load_all
from pipeline.data.subset import Subset
from pipeline.errors import BadCalibration, BadInput, MissingExtra
from pipeline.quantization import calibration_curve as calibration_curve_module
from pipeline.quantization.calibrate import Pictures, calibrate, draw
from pipeline.quantization.calibration_curve import CalibrationCurve, Point, calibration_curve, sizes_up_to
from pipeline.quantization.calibration_curve_show import plot_curve, remarks, show_curve
from pipeline.quantization.captured import Captured, capture
from pipeline.quantization.simulated_accuracy import Judge, Judged

RECIPE = Recipe(observer="minmax", batch=16, seed=5)
"""Minimum and maximum depend neither on the order of pictures nor on their batches."""


@pytest.fixture
def checkpoint(small_family: Any, small_checkpoint: Path) -> Checkpoint:  # noqa: ARG001 - the zoo knows it
    return load(small_checkpoint)


@pytest.fixture
def images(small_pictures: Path) -> ImageSet:
    return open_data(str(small_pictures), "calibration")


def measured(checkpoint: Checkpoint, images: ImageSet, recipe: Recipe = RECIPE, **settings: Any) -> CalibrationCurve:
    return calibration_curve(
        checkpoint, images, recipe, **{"test": None, "count": 10, "seeds": 2, "largest": None} | settings
    )


def curve_of(decibels: dict[int, list[float]], pool: int = 1000) -> CalibrationCurve:
    """One draw for each number."""
    judged = Judged(sqnr_db=0, top1=0.5, agreement=1, drop_points=0, interval_points=(-1, 1))
    return CalibrationCurve(
        format=1,
        checkpoint_sha256="0" * 64,
        model="small",
        recipe=Recipe(),
        calibration_data="train",
        pool=pool,
        data="test",
        data_sha256="0" * 64,
        judged_images=100,
        float_top1=0.75,
        points=tuple(
            Point(images=size, seed=seed, judged=msgspec.structs.replace(judged, sqnr_db=value, top1=0.5 + seed / 8))
            for size, values in decibels.items()
            for seed, value in enumerate(values)
        ),
    )


@pytest.mark.parametrize(
    ("most", "sizes"), [(1024, [8, 16, 32, 64, 128, 256, 512, 1024]), (20, [8, 16, 20]), (8, [8]), (5, [5]), (1, [1])]
)
def test_sizes(most: int, sizes: list[int]) -> None:
    assert sizes_up_to(most) == sizes


@pytest.mark.parametrize(("repairs", "copies"), [((), 0), ((), 9), (("bias",), 0)], ids=["plain", "copies", "repaired"])
def test_every_point_is_a_calibration_of_its_own(
    checkpoint: Checkpoint, small_pictures: Path, tmp_path: Path, copies: int, repairs: Any
) -> None:
    """Although one pass gives them all. Where a draw holds copies it is mended, and may not hold a smaller one."""
    place = Path(shutil.copytree(small_pictures, tmp_path / "set"))
    for i in range(copies):
        shutil.copy(place / "red" / "10.png", place / "red" / f"{i:02d}.png")
    images = open_data(str(place), "calibration")
    test, pool = Subset(images, [*range(15, 20), *range(35, 40)]), Subset(images, [*range(15), *range(20, 35)])
    recipe = msgspec.structs.replace(RECIPE, repairs=repairs)
    seeds, largest = (1, 9) if repairs else (2, 20)
    curve = measured(checkpoint, pool, recipe, test=test, seeds=seeds, largest=largest)
    assert (curve.sizes(), curve.seeds()) == ([8, 9], [5]) if repairs else ([8, 16, 20], [5, 6])
    assert (curve.pool, curve.judged_images) == (30, 10)
    captured = capture(checkpoint, images.image(0))
    judge = Judge(captured, load_all(test, checkpoint.preprocess), lambda _: None)
    assert curve.float_top1 == judge.float_top1
    for point in curve.points:
        sized = msgspec.structs.replace(recipe, images=point.images, seed=point.seed)
        assert point.judged == judge.judge(calibrate(captured, draw(captured, pool, sized), sized))


def test_draws_that_do_not_hold_each_other(
    checkpoint: Checkpoint, images: ImageSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pool that grows with the size, or pictures that are mended, can have that: each is then a pass of its own."""

    def unlike(captured: Captured, pool: ImageSet, recipe: Recipe, _known: Any = None) -> Pictures:
        return draw(captured, pool, msgspec.structs.replace(recipe, seed=recipe.seed + recipe.images))

    monkeypatch.setattr(calibration_curve_module, "draw", unlike)
    test, pool = Subset(images, [*range(15, 20), *range(35, 40)]), Subset(images, [*range(15), *range(20, 35)])
    curve = measured(checkpoint, pool, test=test, seeds=1, largest=12)
    captured = capture(checkpoint, images.image(0))
    judge = Judge(captured, load_all(test, checkpoint.preprocess), lambda _: None)
    pictures = [unlike(captured, pool, msgspec.structs.replace(RECIPE, images=size)) for size in (8, 12)]
    small, large = ({image.name for image in one.chosen.images} for one in pictures)
    assert not small <= large
    assert [point.judged for point in curve.points] == [
        judge.judge(calibrate(captured, one, RECIPE)) for one in pictures
    ]


def test_without_pictures_of_their_own_some_are_set_aside(checkpoint: Checkpoint, images: ImageSet) -> None:
    curve = measured(checkpoint, images, count=None, seeds=1)
    assert (curve.judged_images, curve.pool, curve.sizes()) == (20, 20, [8, 16, 20])
    with pytest.raises(BadCalibration, match="Calibration asks for 21 images but the data has 20"):
        measured(checkpoint, images, count=None, largest=21)


def test_a_number_of_pictures_is_not_reduced_in_silence(checkpoint: Checkpoint, images: ImageSet) -> None:
    with pytest.raises(BadInput, match=r"20 different pictures of .* can be judged on; `images` is 21"):
        measured(checkpoint, images, count=21, seeds=1)


def test_pictures_that_calibrate_are_not_judged_on(checkpoint: Checkpoint, images: ImageSet) -> None:
    with pytest.raises(BadCalibration, match="were used for calibration"):
        measured(checkpoint, images, test=images, count=40)


def test_a_copy_of_what_is_judged_on_does_not_calibrate(
    checkpoint: Checkpoint, small_pictures: Path, tmp_path: Path
) -> None:
    place = Path(shutil.copytree(small_pictures, tmp_path / "set"))
    for i in range(20):
        shutil.copy(place / "red" / f"{i:02d}.png", place / "red" / f"copy{i:02d}.png")
    images = open_data(str(place), "calibration")
    curve = measured(checkpoint, images, count=10, seeds=1, largest=8)
    assert len({sha256(images, i) for i in range(len(images))}) == 40
    assert curve.judged_images == 10
    assert curve.pool == 60 - 10 - 5  # five red ones are judged on, and each has one copy


# --- what is read from it ---------------------------------------------------------------------------------------------


def test_spread() -> None:
    spread = curve_of({8: [3.0, 1.0, 2.5]}).spread(8, lambda judged: judged.sqnr_db)
    assert (spread.low, spread.median, spread.high) == (1.0, 2.5, 3.0)


@pytest.mark.parametrize(
    ("decibels", "enough"),
    [
        ({8: [20, 29], 16: [29.5, 29.2], 32: [30, 30]}, 16),
        ({8: [29.5, 29.5], 16: [20, 30], 32: [30, 30]}, None),  # from there on, not once
        ({8: [40, 40], 16: [29, 29], 32: [30, 30]}, 8),
        ({8: [10, 10], 16: [20, 20], 32: [30, 30]}, None),
        ({8: [30, 30], 16: [30, 20]}, None),  # the largest sets differ among themselves
        ({8: [30]}, None),
    ],
)
def test_enough_is_where_no_draw_is_worse_from_there_on(decibels: dict[int, list[float]], enough: int | None) -> None:
    curve = curve_of(decibels)
    assert curve.enough() == enough
    said = " ".join(remarks(curve))
    assert (f"Use it: `calibration_size={enough}`." in said) == (enough is not None)
    assert ("No number is shown to be enough" in said) == (enough is None and len(decibels) > 1)


def test_draws_that_share_their_pictures_are_pointed_out() -> None:
    assert "share many pictures" in " ".join(remarks(curve_of({8: [30], 1024: [30]}, pool=2000)))
    assert "share many pictures" not in " ".join(remarks(curve_of({8: [30], 1024: [30]}, pool=2048)))


@pytest.mark.parametrize("width", [80, 140])
def test_table(width: int) -> None:
    curve = curve_of({8: [20.25, 21, 29], 1024: [30, 31, 32]})
    console = Console(width=width)
    with console.capture() as printed:
        print_parts(show_curve(curve), console)
    lines = [line.split() for line in printed.get().splitlines()]
    assert ["float", "network", "75.00"] in lines
    assert ["8", "21.0", "20.2", "…", "29.0", "62.50", "50.00", "…", "75.00"] in lines
    assert ["1,024", "31.0", "30.0", "…", "32.0", "62.50", "50.00", "…", "75.00"] in lines
    assert msgspec.json.decode(curve.to_json(), type=CalibrationCurve) == curve


# --- the plot ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("suffix", "begins"), [(".svg", b"<?xml"), (".png", b"\x89PNG")])
def test_plot(tmp_path: Path, suffix: str, begins: bytes) -> None:
    pytest.importorskip("matplotlib")
    curve = curve_of({8: [20.0, 21, 29], 16: [30, 30, 30]})
    files = [tmp_path / f"{name}{suffix}" for name in "ab"]
    for file in files:
        plot_curve(curve, file)
    assert files[0].read_bytes() == files[1].read_bytes()
    assert files[0].read_bytes().startswith(begins)
    assert sorted(tmp_path.iterdir()) == files


def test_a_plot_that_cannot_be_drawn_is_refused_before_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BadInput, match=r"its name ends in .svg or .png"):
        check_plot(tmp_path / "a.gif", "export")
    with pytest.raises(BadInput, match="Cannot write"):
        check_plot(Path("/proc/a.svg"), "export")
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    with pytest.raises(MissingExtra, match=r"matplotlib, which is not installed: pip install '.\[export\]'"):
        check_plot(tmp_path / "a.svg", "export")
