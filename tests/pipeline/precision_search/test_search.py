"""The search on problems whose answer is known."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace
from recorder import Recorder

from calibration.ranges import Range
from calibration.recipe import Recipe
from edge_apps.progress import shown_by
from pipeline.checkpoints.load import load
from pipeline.data import open_data
from pipeline.gating.judge import GatePolicy
from pipeline.metrics.paired import PairedTable
from pipeline.metrics.sqnr import sqnr_db
from pipeline.precision_search.search import Search, expected, fewest
from pipeline.quantization.calibrate import Calibration, Pictures, calibrate, draw
from pipeline.quantization.captured import capture


class Harm:
    """Layers whose harm adds up: what stays in int8 may do so much."""

    def __init__(self, harm: dict[str, float], limit: float) -> None:
        self.harm, self.limit, self.asked = harm, limit, 0

    def __call__(self, layers: Sequence[str]) -> bool:
        self.asked += 1
        assert len(set(layers)) == len(layers)
        return sum(self.harm.values()) - sum(self.harm[layer] for layer in layers) <= self.limit


@pytest.mark.parametrize("limit", [0, 1, 3, 8, 20, 40, 100])
def test_as_few_as_there_can_be(limit: float) -> None:
    """Where harm adds up and is ranked rightly, no smaller set holds: all of them are tried."""
    harm = {layer: float(weight) for layer, weight in zip("abcdefgh", (16, 9, 9, 5, 4, 2, 1, 1), strict=True)}
    holds = Harm(harm, limit)
    found = fewest(list(harm), holds)
    assert found is not None
    assert Harm(harm, limit)(found)
    for few in itertools.combinations(harm, max(0, len(found) - 1)):
        assert not found or not Harm(harm, limit)(few)


def test_what_was_ranked_too_high_is_spared() -> None:
    harm = {"harmless": 0.0, "bad": 9.0, "harmless too": 0.0, "worse": 10.0, "small": 1.0}
    assert fewest(list(harm), Harm(harm, 1)) == ("bad", "worse")


def test_none_is_needed_and_not_all_would_do() -> None:
    holds = Harm({"a": 1.0, "b": 1.0}, 2)
    assert fewest(["a", "b"], holds) == ()
    assert holds.asked == 1
    assert fewest(["a", "b"], lambda _: False) is None
    assert fewest([], lambda _: False) is None


def test_trials_grow_with_the_logarithm() -> None:
    holds = Harm({f"layer{i}": 2.0**-i for i in range(160)}, 2.0**-1)
    found = fewest(list(holds.harm), holds)
    assert found is not None
    assert holds.asked < 2 + 8 + len(found) + 1


@pytest.mark.parametrize("images", [50, 1000, 2000, 10_000])
def test_expected_table(images: int) -> None:
    """Of as many images as asked for, at the same rates, never kinder than they are."""
    seen = PairedTable(801, 13, 7, 179)
    table = expected(seen, images)
    assert table.n == images
    assert table.drop >= seen.drop - 1e-12
    assert table.drop - seen.drop <= 2 / images
    assert abs(table.both / images - seen.both / seen.n) <= 3 / images


def test_expected_table_of_extremes() -> None:
    assert expected(PairedTable(3, 0, 0, 0), 3) == PairedTable(3, 0, 0, 0)
    assert expected(PairedTable(0, 0, 5, 0), 3) == PairedTable(0, 0, 3, 0)
    assert expected(PairedTable(1, 1, 1, 0), 2).n == 2
    assert expected(PairedTable(0, 1, 0, 0), 7) == PairedTable(0, 7, 0, 0)


@pytest.fixture
def small_search(small_family: Any, sure: Any) -> Search:  # noqa: ARG001
    """A search on 80 pictures, all of which the float network gets right."""
    images = open_data(str(sure.draw(0, 40)), "calibration")
    captured = capture(load(sure.checkpoint), images.image(0))
    recipe = Recipe(images=80, observer="minmax")
    pictures = draw(captured, images, recipe)
    found = calibrate(captured, pictures, recipe)
    return Search(captured, found, pictures.pixels, np.asarray(images.labels), GatePolicy(max_drop=6), 80)


def test_the_layer_with_a_ruined_range_is_found(small_search: Search) -> None:
    """Its output has a few steps left, so that int8 says something else of many pictures; in float it is well again."""
    ranges = small_search.calibration.ranges
    (key,) = [key for key in ranges.values if key.startswith("classifier.0:")]
    ruined = replace(ranges, values={**ranges.values, key: Range(*(400 * value for value in ranges.values[key]))})
    search = dataclasses.replace(small_search, calibration=Calibration(ruined))
    recorder = Recorder()
    with shown_by(recorder):
        found = search.find()
    assert found.float_layers == ("classifier.0",)
    assert next(iter(found.ranking)) == "classifier.0"
    assert found.plain == found.trials[0]
    assert found.plain.float_layers == 0
    assert found.plain.drop_points > 6 > found.chosen.expected_upper_points
    assert found.chosen.float_layers == 1
    assert found.chosen in found.trials
    assert recorder.notes[0] == "Layers one by one"
    assert {*recorder.notes} >= {"0 layers in float", "1 layer in float"}
    assert [work.title for work in recorder.work] == recorder.notes
    assert all(work.total == work.finished == 80 for work in recorder.work)


def test_a_sound_network_needs_none(small_search: Search) -> None:
    found = small_search.find()
    assert found.float_layers == ()
    assert found.plain == found.chosen
    assert found.trials == (found.plain,)
    expand, depthwise, project = (f"features.1.conv.{i}" for i in ("0.0", "1.0", "2"))
    assert set(found.ranking) == {"features.0.0", expand, depthwise, project, "classifier.0"}


def test_a_limit_that_nothing_meets(small_search: Search) -> None:
    """80 pictures leave room for a loss of 4.6 points even where nothing was lost."""
    found = dataclasses.replace(small_search, policy=GatePolicy(max_drop=4)).find()
    assert found.float_layers is None
    assert found.chosen.float_layers == 5
    assert found.chosen.drop_points == 0
    assert found.chosen.expected_upper_points == pytest.approx(100 * 1.959964**2 / (80 + 1.959964**2), abs=1e-3)


def test_layers_in_float_are_not_rounded(small_search: Search) -> None:
    """Rounded weights would be float's loss: with every layer in float the network computes what it did."""
    captured = small_search.captured
    pictures = Pictures(small_search.calibration.ranges.calibration_set, small_search.pixels)
    recipe = Recipe(images=80, observer="minmax", repairs=("equalize", "adaround", "bias"))
    repaired = calibrate(captured, pictures, recipe)
    layers = list(small_search.find().ranking)
    floating = captured.logits(captured.graph(), small_search.pixels)
    rounded = captured.logits(repaired.graph(captured), small_search.pixels)
    mixed = repaired.with_float(captured, layers)
    assert sqnr_db(floating, rounded) < 60
    assert sqnr_db(floating, captured.logits(mixed.graph(captured), small_search.pixels)) > 100
    assert mixed.ranges.repairs_sha256 == mixed.repairs.sha256() != repaired.repairs.sha256()
    assert not mixed.repairs.rounded
    assert any(name.endswith(".weight") for name in repaired.repairs.rounded)
    one = repaired.with_float(captured, ["classifier.0"])
    gone = repaired.repairs.rounded.keys() - one.repairs.rounded.keys()
    assert gone == repaired.repairs.rounded.keys() & {"classifier.0.weight", "classifier.0.bias"}
    assert gone
