"""``pipeline calibrate`` as it is typed."""

import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from calibration.ranges import INPUT, load_ranges
from calibration.recipe import Recipe
from edge_apps.images import sha256
from edge_apps.runtime.content import sha256_of
from pipeline.checkpoints.checkpoint import builtin, save
from pipeline.checkpoints.load import load
from pipeline.data import open_data

KEYS = {
    INPUT,
    "features.0.0:conv2d:0",
    "features.1.conv.0.0:conv2d:0",
    "features.1.conv.1.0:conv2d:0",
    "features.1.conv.2:conv2d:0",
    "features.1:add:0",
    "pool:mean:0",
    "classifier.0:linear:0",
}


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def calibrate(
    pipeline: Callable[..., Any],
    small_family: Any,  # noqa: ARG001 - the zoo knows it
    small_checkpoint: Path,
    small_pictures: Path,
    place: Path,
) -> Callable[..., Any]:
    """Calibrate the small checkpoint; arguments are added, the rest replaced."""

    def run(*more: Any, data: Any = small_pictures, out: Any = place / "r.json", images: int | None = 16) -> Any:
        size = () if images is None else ("--calibration-size", images)
        return pipeline("calibrate", small_checkpoint, "--data", data, "--out", out, *size, *more)

    return run


def test_every_tensor_gets_a_range_and_all_is_recorded(
    calibrate: Any, place: Path, small_checkpoint: Path, small_pictures: Path
) -> None:
    ended = calibrate("--observer", "minmax", "--seed", 3)
    assert ended.status == 0, ended.err
    said = f"8 ranges by minmax from 16 images (8 to 8 of each of 2 classes): {place / 'r.json'}\n"
    few = "Warning: Only 16 calibration images: ranges from fewer than 32 depend much on the draw.\n"
    assert (ended.out, ended.err) == (said, few)
    ranges = load_ranges(place / "r.json")
    assert ranges.values.keys() == KEYS
    assert ranges.checkpoint_sha256 == sha256_of(small_checkpoint)
    assert ranges.recipe == Recipe(observer="minmax", images=16, seed=3)
    source = open_data(str(small_pictures), "calibration")
    content = {source.item_name(i): sha256(source, i) for i in range(len(source))}
    assert {image.name: image.sha256 for image in ranges.calibration_set.images}.items() <= content.items()
    assert ranges.calibration_set.class_counts() == {"blue": 8, "red": 8}


def test_minmax_ranges_are_what_flowed(calibrate: Any, place: Path, small_checkpoint: Path, small_family: Any) -> None:
    """Of all pictures there are, by hooks on the unfolded network and pictures normalised by hand."""
    assert calibrate("--observer", "minmax", images=40).status == 0
    values = load_ranges(place / "r.json").values
    loaded = load(small_checkpoint)
    assert loaded.spec is small_family
    network, seen = loaded.network(), {}
    for path in ("features.0", "features.1", "pool", "classifier"):
        network.get_submodule(path).register_forward_hook(lambda _m, _i, out, path=path: seen.update({path: out}))
    source = open_data(load_ranges(place / "r.json").calibration_set.source, "")
    resized = [cv2.resize(source.image(i), (32, 32), interpolation=cv2.INTER_LINEAR_EXACT) for i in range(40)]
    pixels = torch.from_numpy(np.stack(resized)) / 255
    normal = (pixels - torch.tensor(loaded.preprocess.mean)) / torch.tensor(loaded.preprocess.std)
    with torch.no_grad():
        network(normal.permute(0, 3, 1, 2))
    keys = ("features.0.0:conv2d:0", "features.1:add:0", "pool:mean:0", "classifier.0:linear:0")
    for out, key in zip(seen.values(), keys, strict=True):
        assert values[key].low == pytest.approx(min(0.0, float(out.min())), abs=1e-4)
        assert values[key].high == pytest.approx(max(0.0, float(out.max())), abs=1e-4)


def test_the_same_command_gives_the_same_file_and_another_seed_another(calibrate: Any, place: Path) -> None:
    digests = []
    for seed in (0, 0, 1):
        assert calibrate("--seed", seed, "--force").status == 0
        digests.append(hashlib.sha256((place / "r.json").read_bytes()).hexdigest())
    assert digests[0] == digests[1] != digests[2]
    assert names(place) == ["r.json"]


def test_a_recipe_file_and_what_overrides_it(calibrate: Any, place: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text('observer = "percentile"\npercentile = 99.0\nimages = 10\nfloat_layers = ["classifier.*"]\n')
    assert calibrate("--recipe", recipe, "--seed", 4, images=None).status == 0
    ranges = load_ranges(place / "r.json")
    expected = Recipe(observer="percentile", percentile=99.0, images=10, seed=4, float_layers=("classifier.*",))
    assert ranges.recipe == expected
    assert ranges.values.keys() == KEYS - {"classifier.0:linear:0"}


def test_a_checkpoint_is_never_replaced(
    pipeline: Any, small_family: Any, small_checkpoint: Path, small_pictures: Path, tmp_path: Path
) -> None:
    """Not by repairs either, which lie beside the ranges."""
    del small_family
    own, out = tmp_path / "small.repairs.safetensors", tmp_path / "small.json"
    own.write_bytes(small_checkpoint.read_bytes())
    ended = pipeline("calibrate", own, "--data", small_pictures, "--out", out, "--repair", "bias", "--force")
    assert "would replace the checkpoint" in ended.error()
    assert own.read_bytes() == small_checkpoint.read_bytes()
    assert not out.exists()


def test_an_existing_file_is_kept_unless_forced(calibrate: Any, place: Path) -> None:
    (place / "r.json").write_text("precious")
    assert "exists. Pass --force to replace it" in calibrate().error()
    assert (place / "r.json").read_text() == "precious"
    assert calibrate("--force").status == 0
    assert load_ranges(place / "r.json").values.keys() == KEYS


def test_corrupt_pictures_stop_it_or_are_listed(
    calibrate: Any, small_pictures: Path, tmp_path: Path, place: Path
) -> None:
    spoilt = Path(shutil.copytree(small_pictures, tmp_path / "spoilt"))
    (spoilt / "red" / "07.png").write_bytes((spoilt / "red" / "07.png").read_bytes()[:-20])
    error = calibrate(data=spoilt, images=40).error()
    assert "Corrupt image 'red/07.png': it is truncated" in error
    assert "--skip-corrupt" in error
    assert names(place) == []
    ended = calibrate("--skip-corrupt", data=spoilt, images=39)
    assert (ended.status, ended.err) == (0, "Left out, corrupt: red/07.png\n")


def test_the_built_in_checkpoint_is_named(pipeline: Callable[..., Any], place: Path) -> None:
    arguments = ("--calibration-size", 10, "--observer", "minmax", "--out", place / "r.json")
    ended = pipeline("calibrate", "--data", "digits", *arguments)
    assert ended.status == 0, ended.err
    assert "using the built-in mobilenet_v2" in ended.err
    assert load_ranges(place / "r.json").checkpoint_sha256 == sha256_of(builtin())


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["--observer", "magic"], "'magic' is not one of 'minmax', 'moving-average', 'percentile', 'mse'"),
        (["--calibration-size", "41"], "Calibration asks for 41 images but the data has 40"),
        (["--recipe", "/proc/version"], "Recipe '/proc/version'"),
        (["--model", "lenet"], "says model 'small', but 'lenet' was given"),
        (["--data", "nowhere"], "No such folder or tar: 'nowhere'"),
        (["--out", "/proc"], "--out is '/proc'; a ranges file's name ends in .json"),
        (["--out", "/proc/r.json"], "Cannot write '/proc/r.json'"),
    ],
)
def test_bad_usage(calibrate: Any, place: Path, more: list[str], says: str) -> None:
    assert says in calibrate(*more).error()
    assert names(place) == []


def test_options_that_are_missing(pipeline: Callable[..., Any]) -> None:
    assert "Missing option '--data'" in pipeline("calibrate", "--out", "r.json").error()
    assert "Missing option '--out'" in pipeline("calibrate", "--data", "digits").error()
    assert not os.path.lexists("r.json")


def test_weights_that_blow_up(
    pipeline: Callable[..., Any], small_family: Any, small_checkpoint: Path, small_pictures: Path, place: Path
) -> None:
    """Finite weights whose products are not: named, and no file is written."""
    loaded = load(small_checkpoint)
    network = loaded.network()
    with torch.no_grad():
        network.classifier[0].weight.fill_(3e38)
    huge = place / "huge.safetensors"
    save(
        huge,
        network,
        spec=small_family,
        options={},
        labels=loaded.labels,
        preprocess=loaded.preprocess,
        training={},
    )
    assert load_file(huge)["classifier.0.weight"].max() > 1e38
    ended = pipeline("calibrate", huge, "--data", small_pictures, "--calibration-size", 8, "--out", place / "r.json")
    assert "An activation is NaN or infinite during calibration" in ended.error()
    assert names(place) == ["huge.safetensors"]
