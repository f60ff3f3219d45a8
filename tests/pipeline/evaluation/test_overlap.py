"""Evaluation images that trained the network or calibrated its files, under other names and encoded anew."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np
import pytest

from calibration.dataset.dataset import CalibrationSet, choose
from calibration.recipe import Recipe
from edge_apps.images import FileImages, Image, open_images, write_png
from edge_apps.runtime.content import sha256_of
from edge_apps.runtime.manifest import MANIFEST
from pipeline.checkpoints import checkpoint
from pipeline.checkpoints.checkpoint import HASHES, Checkpoint
from pipeline.checkpoints.load import load
from pipeline.data.hashes import hash_images
from pipeline.errors import BadCheckpoint, BadInput
from pipeline.evaluation.bundle import evaluate_bundle
from pipeline.evaluation.overlap import about_overlap, find_overlap
from pipeline.evaluation.results import LooksLike, Overlap
from pipeline.gating.judge import GatePolicy, judge


@pytest.fixture
def photos(shared_data: Path) -> FileImages:
    return open_images(shared_data / "photos")


@pytest.fixture
def trained_by(laboratory: Any, tmp_path: Path) -> Callable[..., Checkpoint]:
    """``trained_by(images)``: the laboratory's network with the record of a training on these."""

    def make(*sets: FileImages, path: Path = tmp_path / "trained.safetensors") -> Checkpoint:
        made = load(laboratory.checkpoint)
        record = {HASHES: [msgspec.to_builtins(hash_images(images)) for images in sets]}
        same = {name: getattr(made, name) for name in ("spec", "options", "labels", "preprocess")}
        checkpoint.save(path, made.network(), **same, training=record, made_from=made.sha256)
        return load(path)

    return make


def encoded(image: Image, way: str, path: Path) -> None:
    """Write an image anew: as JPEG of quality 80, scaled by 0.9, or as PNG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if way == "png":
        write_png(path.with_suffix(".png"), image)
        return
    if way == "smaller":
        image = cv2.resize(image, None, fx=0.9, fy=0.9, interpolation=cv2.INTER_AREA)
    data = cv2.imencode(".jpg", image[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 80])[1]
    path.with_suffix(".jpg").write_bytes(data.tobytes())


def test_training_images_encoded_anew_are_found_and_others_are_not(
    photos: FileImages, trained_by: Callable[..., Checkpoint], tmp_path: Path
) -> None:
    seen, unseen = tmp_path / "seen", tmp_path / "new"
    for i in range(0, len(photos), 2):  # every second photo trains
        place = seen / photos.item_name(i)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(photos.encoded(i))
    expected = []
    for number, i in enumerate([*range(0, 18, 2), *range(1, 12, 2)]):
        way, name = ("png", "smaller", "jpeg")[number % 3], f"{i:02d}"
        encoded(photos.image(i), way, unseen / "any" / name)
        if i % 2 == 0:
            expected.append(f"any/{name}.{'png' if way == 'png' else 'jpg'}")
    found = find_overlap(open_images(unseen), trained_by(open_images(seen)), [])
    assert (found.trained, found.like_calibrated) == ((), ())
    assert [like.name for like in found.like_trained] == sorted(expected)
    assert all(like.like is None for like in found.like_trained)


def test_the_same_bytes_are_known_under_any_name_and_are_no_lookalikes(
    photos: FileImages, trained_by: Callable[..., Checkpoint], tmp_path: Path
) -> None:
    (tmp_path / "data" / "other class").mkdir(parents=True)
    for i in (3, 5):
        (tmp_path / "data" / "other class" / f"renamed {i}.jpg").write_bytes(photos.encoded(i))
    found = find_overlap(open_images(tmp_path / "data"), trained_by(photos), [])
    assert found == Overlap(trained=("other class/renamed 3.jpg", "other class/renamed 5.jpg"))


def test_an_earlier_training_counts_too(
    photos: FileImages, make_images: Any, trained_by: Callable[..., Checkpoint]
) -> None:
    noise = make_images(2, 2, seed=8)
    assert len(find_overlap(photos, trained_by(noise, photos), []).trained) == len(photos)


def test_calibration_images_encoded_anew_are_named(photos: FileImages, tmp_path: Path) -> None:
    chosen, indices = choose(photos, Recipe(images=20))
    stays = next(i for i in range(len(photos)) if i not in indices)
    for i in (*indices[:2], stays):
        encoded(photos.image(i), "jpeg", tmp_path / "x" / f"{i:02d}")
    found = find_overlap(open_images(tmp_path), None, [chosen])
    assert [(like.name, like.like) for like in found.like_calibrated] == [
        (f"x/{i:02d}.jpg", photos.item_name(i)) for i in indices[:2]
    ]
    earlier = msgspec.to_builtins(chosen)
    for image in earlier["images"]:
        del image["signature"]
    assert find_overlap(open_images(tmp_path), None, [msgspec.convert(earlier, CalibrationSet)]) == Overlap()


def test_mirrored_copies_are_found_and_said(
    photos: FileImages, trained_by: Callable[..., Checkpoint], tmp_path: Path
) -> None:
    for i in range(0, 30, 2):
        encoded(photos.image(i), "png", tmp_path / "seen" / "x" / f"{i:02d}")
    for i in (1, 4, 6):
        encoded(photos.image(i)[:, ::-1], "jpeg", tmp_path / "new" / "x" / f"{i:02d}")
    found = find_overlap(open_images(tmp_path / "new"), trained_by(open_images(tmp_path / "seen")), [])
    assert [(like.name, like.mirrored) for like in found.like_trained] == [("x/04.jpg", True), ("x/06.jpg", True)]
    (said,) = about_overlap(found, 3)
    assert "x/04.jpg (mirrored), x/06.jpg (mirrored). If they are the same images encoded anew or mirrored, rem" in said


def test_nothing_is_decoded_where_nothing_is_recorded(laboratory: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FileImages, "image", lambda *_: pytest.fail("decoded"))
    assert find_overlap(laboratory.images, load(laboratory.checkpoint), []) == Overlap()


def test_warnings_are_a_sentence_each_with_the_first_names() -> None:
    names = tuple(f"cat/{i}.jpg" for i in range(8))
    like = tuple(LooksLike(name=name, like="cat/0.png", bits=i) for i, name in enumerate(names[:2]))
    trained, alike, calibrated = about_overlap(
        Overlap(trained=names, like_trained=(LooksLike(name="dog/1.jpg", like=None, bits=2),), like_calibrated=like),
        1000,
    )
    assert trained.startswith("Warning: 8 of 1,000 images trained the network, by content: cat/0.jpg, cat/1.jpg, ")
    assert "cat/4.jpg and 3 more." in trained
    assert alike.startswith("Warning: 1 of 1,000 images look like one that trained the network (at most 10 of 128 bits")
    assert "cat/0.jpg (like cat/0.png), cat/1.jpg (like cat/0.png). If they are" in calibrated
    assert about_overlap(Overlap(), 1000) == []


@pytest.mark.parametrize("share", [1, 120])
def test_the_gate_refuses_what_trained_and_an_evaluation_warns(
    laboratory: Any,
    make_bundle: Callable[..., Path],
    trained_by: Callable[..., Checkpoint],
    make_images: Any,
    share: int,
) -> None:
    """Under other names: as a set they are not the one that trained."""
    others = make_images(3, 2, seed=4)
    for i in range(share):
        path = Path(others.root) / "class0" / f"renamed-{i}.png"
        path.write_bytes(laboratory.images.encoded(i))
    root = make_bundle({"a.fake": laboratory.answers()})
    inside = root / "float" / "checkpoint.safetensors"
    assert trained_by(open_images(others.root), path=inside).sha256 == sha256_of(laboratory.checkpoint)
    manifest = json.loads((root / MANIFEST).read_text())
    listed = next(file for file in manifest["files"] if file["role"] == "checkpoint")
    listed.update(sha256=sha256_of(inside), bytes=inside.stat().st_size)
    (root / MANIFEST).write_text(json.dumps(manifest))
    result = evaluate_bundle(root, laboratory.images, threads=1)
    assert (len(result.overlap.trained), result.trained_on) == (share, False)
    assert any(f"Warning: {share} of 120 images trained the network, by content" in note for note in result.notes)
    assert json.loads(result.to_json())["overlap"]["trained"] == list(result.overlap.trained)
    with pytest.raises(BadInput, match=rf"was trained on {share} image.*first: '{result.overlap.trained[0]}'"):
        judge(result, GatePolicy(max_drop=5))


def test_a_damaged_record_is_one_line(laboratory: Any) -> None:
    made = load(laboratory.checkpoint)
    for record in ([{"data": "x", "contents": "AAAA", "looks": ""}], [{"data": "x"}], "nonsense", [3]):
        made.training[HASHES] = record
        with pytest.raises(BadCheckpoint, match=r"has a damaged record of the images that trained it") as caught:
            find_overlap(laboratory.images, made, [])
        assert "\n" not in str(caught.value)


def test_noise_looks_like_nothing(make_images: Any, trained_by: Callable[..., Checkpoint]) -> None:
    one, other = make_images(20, 6, seed=21), make_images(20, 6, seed=22)
    assert find_overlap(one, trained_by(other), []) == Overlap()
    assert np.unique([bits for bits in hash_images(one).signatures() if bits]).size == 120
