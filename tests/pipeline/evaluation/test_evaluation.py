"""Evaluation with files whose answers the test chose, and a float network that torch alone ran beside it."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch

from edge_apps.images import open_images
from edge_apps.runtime.content import sha256_of
from edge_apps.runtime.preprocess import Preprocess
from pipeline.checkpoints import checkpoint
from pipeline.checkpoints.load import load
from pipeline.errors import BadImage, BadInput
from pipeline.evaluation.evaluation import candidates, evaluate, rank_of_label
from pipeline.evaluation.results import EvaluationResult, FileResult


def alone(laboratory: Any, path: Path, **more: Any) -> FileResult:
    more.setdefault("threads", 1)
    return evaluate(candidates([path]), laboratory.images, load(laboratory.checkpoint), **more).files[0]


@pytest.fixture
def fakes(laboratory: Any, fake_files: Callable[..., Any]) -> Any:
    return fake_files(laboratory.images, sha256_of(laboratory.checkpoint))


def test_the_float_network_is_the_one_of_the_checkpoint(laboratory: Any, fakes: Any, tmp_path: Path) -> None:
    path = fakes.write(tmp_path / "a.fake", laboratory.answers())
    result = evaluate(candidates([path]), laboratory.images, load(laboratory.checkpoint), threads=1)
    assert result.reference is not None
    assert result.reference.top1 == len(laboratory.right) / len(laboratory.images)
    assert result.reference.sha256 == sha256_of(laboratory.checkpoint)
    assert 0 < result.reference.top1 < result.reference.top5 < 1
    assert (result.images, result.classes, result.top_k, result.notes) == (120, 6, 5, ())


@pytest.mark.parametrize(("lost", "gained"), [(0, 0), (3, 0), (5, 2), (0, 4)])
def test_losses_and_gains_are_counted(laboratory: Any, fakes: Any, tmp_path: Path, lost: int, gained: int) -> None:
    file = alone(laboratory, fakes.write(tmp_path / "a.fake", laboratory.answers(lost, gained)))
    right = len(laboratory.right)
    assert file.status == "run"
    assert (file.target, file.precision, file.runtime) == ("tflite", "int8", "fake 1.0")
    assert file.top1 == (right - lost + gained) / 120
    counts = file.comparison
    assert counts is not None
    assert (counts.both, counts.lost, counts.gained) == (right - lost, lost, gained)
    assert counts.neither == 120 - right - gained
    assert counts.drop_points == pytest.approx(100 * (lost - gained) / 120)
    assert counts.interval_points[0] < counts.drop_points < counts.interval_points[1]
    assert counts.agreement == (120 - lost - gained) / 120
    assert file.images_per_second is not None
    assert file.images_per_second > 0


@pytest.mark.parametrize("threads", [1, 2, 5, 64])
def test_threads_change_nothing(laboratory: Any, fakes: Any, tmp_path: Path, threads: int) -> None:
    """120 pictures in chunks of 16: the last chunk is short, and there are fewer chunks than 64."""
    path = fakes.write(tmp_path / "a.fakes", laboratory.answers(7, 3))
    file = alone(laboratory, path, threads=threads)
    assert file.comparison is not None
    assert (file.comparison.lost, file.comparison.gained) == (7, 3)


def test_every_runner_is_closed_and_shares_the_threads(
    laboratory: Any, fakes: Any, tmp_path: Path, opened: list[Any]
) -> None:
    alone(laboratory, fakes.write(tmp_path / "a.fakes", laboratory.answers()), threads=3)
    assert [runner.threads for runner in opened] == [3, 1, 1, 1]  # the first one only looked
    alone(laboratory, fakes.write(tmp_path / "a.fake", laboratory.answers()), threads=3)
    assert [runner.threads for runner in opened[4:]] == [3, 3]
    assert all(runner.closed for runner in opened)


def test_ties_go_to_the_lower_class() -> None:
    logits = np.array([[1, 1, 0], [1, 1, 0], [0, 0, 0]], np.float32)
    labels = np.array([0, 1, 2])
    rank = rank_of_label(logits, labels)
    assert rank.tolist() == [0, 1, 2]
    assert ((rank == 0) == (logits.argmax(1) == labels)).all()


def test_top5_against_sorting() -> None:
    noise = np.random.default_rng(5)
    logits = noise.integers(0, 4, (500, 12)).astype(np.float32)  # many ties
    labels = noise.integers(0, 12, 500)
    order = np.argsort(-logits, axis=1, kind="stable")
    expected = [row.tolist().index(label) for row, label in zip(order, labels, strict=True)]
    assert rank_of_label(logits, labels).tolist() == expected


def test_without_a_reference_there_is_no_drop(laboratory: Any, fakes: Any, tmp_path: Path) -> None:
    path = fakes.write(tmp_path / "a.fake", laboratory.answers(1))
    result = evaluate(candidates([path]), laboratory.images, None)
    assert result.reference is None
    assert result.files[0].comparison is None
    assert result.files[0].top1 == (len(laboratory.right) - 1) / 120


@pytest.mark.parametrize(("how", "words"), [("not here", "the moon only"), ("missing", "pip install")])
def test_what_cannot_run_here_is_not_run(laboratory: Any, fakes: Any, tmp_path: Path, how: str, words: str) -> None:
    good = fakes.write(tmp_path / "good.fake", laboratory.answers())
    other = fakes.write(tmp_path / "other.fake", laboratory.answers(), open=how)
    result = evaluate(candidates([other, good]), laboratory.images, load(laboratory.checkpoint), threads=1)
    assert [file.status for file in result.files] == ["not run", "run"]
    assert result.files[0].top1 is None
    assert words in str(result.files[0].reason)


@pytest.mark.parametrize("poison", [np.nan, np.inf, -np.inf])
def test_logits_that_are_no_numbers_fail_the_file(laboratory: Any, fakes: Any, tmp_path: Path, poison: float) -> None:
    logits = laboratory.answers()
    logits[7, 2] = poison
    file = alone(laboratory, fakes.write(tmp_path / "a.fake", logits))
    assert (file.status, file.top1) == ("failed", None)
    assert file.reason == "NaN or infinite logits for 1 of 120 images"


@pytest.mark.parametrize("suffix", [".fake", ".fakes"])
def test_a_runtime_that_gives_up_fails_its_file_only(laboratory: Any, fakes: Any, tmp_path: Path, suffix: str) -> None:
    bad = fakes.write(tmp_path / f"bad{suffix}", laboratory.answers(), run="out of arena\nsecond line")
    good = fakes.write(tmp_path / f"good{suffix}", laboratory.answers())
    result = evaluate(candidates([bad, good]), laboratory.images, load(laboratory.checkpoint), threads=1)
    assert [(file.status, file.reason) for file in result.files] == [
        ("failed", "RuntimeError: out of arena"),
        ("run", None),
    ]


def test_too_few_logits_fail_the_file(laboratory: Any, fakes: Any, tmp_path: Path) -> None:
    """One column would otherwise be broadcast over all classes."""
    file = alone(laboratory, fakes.write(tmp_path / "a.fake", laboratory.answers()[:, :1]))
    assert file.status == "failed"
    assert "[16, 1] logits" in str(file.reason)


def test_other_classes_are_refused(laboratory: Any, fakes: Any, tmp_path: Path) -> None:
    labels = (*laboratory.images.classes[:5], "zebra")
    path = fakes.write(tmp_path / "a.fake", laboratory.answers(), labels=labels)
    with pytest.raises(BadInput, match=r"No folder for: zebra\. Unknown folder: class5\."):
        evaluate(candidates([path]), laboratory.images, None)
    with pytest.raises(BadInput, match="'.*a.fake' has other classes than '.*small.safetensors'"):
        alone(laboratory, path)


@pytest.mark.parametrize("order", [(5, 4, 3, 2, 1, 0), (2, 0, 1, 5, 3, 4)])
def test_labels_in_any_order_are_matched_by_name(
    laboratory: Any, fakes: Any, tmp_path: Path, order: tuple[int, ...]
) -> None:
    """As of a checkpoint whose classes are cat, dog, airplane: its logits have that order, the folders another."""
    plain = fakes.write(tmp_path / "plain.fake", laboratory.answers(5, 2))
    labels = tuple(laboratory.images.classes[index] for index in order)
    turned = fakes.write(tmp_path / "turned.fake", laboratory.answers(5, 2)[:, order], labels=labels)
    for files in ([plain, turned], [turned, plain]):
        for reference in (None, load(laboratory.checkpoint)):
            result = evaluate(candidates(files), laboratory.images, reference, threads=1)
            first, second = result.files
            assert (first.top1, first.top5) == (second.top1, second.top5)
            assert first.top1 == (len(laboratory.right) - 3) / 120
            assert first.comparison == second.comparison
            assert result.absent_classes == ()
    only = evaluate(candidates([turned]), laboratory.images, None, threads=1)
    assert (only.labels, only.files[0].top1) == (labels, (len(laboratory.right) - 3) / 120)


def test_a_reference_with_labels_that_are_not_alphabetical(laboratory: Any, fakes: Any, tmp_path: Path) -> None:
    """The same network with its outputs, and their names, in another order."""
    order = [3, 0, 5, 4, 1, 2]
    known = load(laboratory.checkpoint)
    network = known.network()
    final = [module for module in network.modules() if isinstance(module, torch.nn.Linear)][-1]
    with torch.no_grad():
        final.weight.copy_(final.weight[order])
        final.bias.copy_(final.bias[order])
    path = tmp_path / "turned.safetensors"
    checkpoint.save(
        path,
        network,
        spec=known.spec,
        options=known.options,
        labels=tuple(known.labels[index] for index in order),
        preprocess=known.preprocess,
        training={},
    )
    file = fakes.write(tmp_path / "a.fake", laboratory.answers(5, 2))
    plain = evaluate(candidates([file]), laboratory.images, known, threads=1)
    turned = evaluate(candidates([file]), laboratory.images, load(path), threads=1)
    assert plain.reference is not None
    assert turned.reference is not None
    assert (turned.reference.top1, turned.reference.top5) == (plain.reference.top1, plain.reference.top5)
    before, after = plain.files[0].comparison, turned.files[0].comparison
    assert before is not None
    assert after is not None
    assert (before.lost, before.gained, before.agreement) == (after.lost, after.gained, after.agreement)
    assert after.per_class == tuple(before.per_class[index] for index in order)


def test_data_may_lack_classes_which_are_named(laboratory: Any, fakes: Any, tmp_path: Path) -> None:
    path = fakes.write(tmp_path / "a.fake", laboratory.answers(5, 2))
    whole = alone(laboratory, path)
    data = Path(shutil.copytree(laboratory.images.root, tmp_path / "data"))
    for gone in ("class1", "class4"):
        shutil.rmtree(data / gone)
    result = evaluate(candidates([path]), open_images(data), load(laboratory.checkpoint), threads=1)
    assert result.absent_classes == ("class1", "class4")
    assert (result.images, result.classes, result.covered()) == (80, 6, "4 of 6 classes")
    assert result.labels == laboratory.images.classes
    part, of = result.files[0].comparison, whole.comparison
    assert part is not None
    assert of is not None
    nothing = (0, 0, 0, 0)
    assert part.per_class == tuple(nothing if index in (1, 4) else counts for index, counts in enumerate(of.per_class))


def test_another_input_than_the_reference_is_refused(laboratory: Any, fakes: Any, tmp_path: Path) -> None:
    other = Preprocess(height=32, width=32, mean=(0.5, 0.5, 0.5))
    path = fakes.write(tmp_path / "a.fake", laboratory.answers(), preprocess=other)
    with pytest.raises(BadInput, match="other bytes than the reference"):
        alone(laboratory, path)
    assert evaluate(candidates([path]), laboratory.images, None).files[0].status == "run"


def test_another_checkpoint_is_noted(laboratory: Any, fake_files: Any, tmp_path: Path) -> None:
    stranger = fake_files(laboratory.images, "f" * 64).write(tmp_path / "a.fake", laboratory.answers())
    result = evaluate(candidates([stranger]), laboratory.images, load(laboratory.checkpoint), threads=1)
    assert "another checkpoint" in result.notes[0]


def test_one_image_and_few_classes(make_images: Any, fake_files: Any, one_hot: Any, tmp_path: Path) -> None:
    images = make_images(1, 1)
    path = fake_files(images).write(tmp_path / "a.fake", one_hot([0], 1))
    result = evaluate(candidates([path]), images, None)
    assert (result.files[0].top1, result.files[0].top5, result.top_k) == (1.0, 1.0, 1)
    assert "top-5" in result.notes[0]


def test_a_corrupt_picture_stops(make_images: Any, fake_files: Any, one_hot: Any, tmp_path: Path) -> None:
    images = make_images(2, 2, seed=9)
    path = fake_files(images).write(tmp_path / "a.fake", one_hot([0, 0, 1, 1], 2))
    picture = images.root / images.item_name(3)
    picture.write_bytes(picture.read_bytes()[:60])
    with pytest.raises(BadImage, match=r"class1/001\.png"):
        evaluate(candidates([path]), images, None)


def test_the_json_reads_back(laboratory: Any, fakes: Any, tmp_path: Path) -> None:
    path = fakes.write(tmp_path / "a.fake", laboratory.answers(2, 1))
    result = evaluate(candidates([path]), laboratory.images, load(laboratory.checkpoint), threads=1, skipped=["x.png"])
    assert msgspec.json.decode(result.to_json(), type=EvaluationResult) == result


def test_a_file_without_pictures_is_not_divided_by(laboratory: Any) -> None:
    from pipeline.data.subset import Subset

    with pytest.raises(BadInput, match="no pictures"):
        evaluate([], Subset(laboratory.images, []), None)


def test_no_better_than_the_commonest_class_is_said(
    make_images: Any, fake_files: Any, one_hot: Any, tmp_path: Path
) -> None:
    """Of six images three are of class 0; a file that answers 0 of all is right on half, and learnt nothing."""
    images = make_images(3, 2)
    wrong = [1 - label for label in images.labels]
    for name, said, share in (("constant", [0] * 6, "50.0%"), ("wrong", wrong, "0.0%")):
        path = fake_files(images).write(tmp_path / f"{name}.fake", one_hot(said, 2))
        note = evaluate(candidates([path]), images, None).notes[0]
        assert note == (
            f"'{path}' is right on {share} of '{images.name}', which is not better than answering 'class0' to every "
            "image (50.0%): train the network longer or on more images before its files are judged."
        )
    path = fake_files(images).write(tmp_path / "right.fake", one_hot(list(images.labels), 2))
    assert not any("not better than" in note for note in evaluate(candidates([path]), images, None).notes)
