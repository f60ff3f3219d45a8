"""Evaluation images that are not new: the same, or the same encoded anew, as one that trained or calibrated."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from calibration.dataset.dataset import CalibrationSet
from calibration.dataset.resemblance import APART, BITS, Resemblance, resembling
from edge_apps.images import ImageSet
from pipeline.checkpoints.checkpoint import Checkpoint
from pipeline.data.hashes import both_signatures_of, content_hash
from pipeline.evaluation.results import EvaluationResult, LooksLike, Overlap

SHOWN = 5
"""Names in a warning; the result has all."""


def trained_images(images: ImageSet, checkpoint: Checkpoint) -> tuple[str, ...]:
    """Name the images whose very bytes are recorded as the checkpoint's training images, whatever they were called."""
    known = frozenset[bytes]().union(*(hashes.content_set() for hashes in checkpoint.hashes))
    if not known:
        return ()
    return tuple(images.item_name(index) for index in range(len(images)) if content_hash(images, index) in known)


def with_overlap(
    result: EvaluationResult, images: ImageSet, checkpoint: Checkpoint | None, calibrated: Sequence[CalibrationSet]
) -> EvaluationResult:
    """The result of an evaluation on these images with what ``find_overlap`` finds, and warnings of it."""
    overlap = find_overlap(images, checkpoint, calibrated)
    notes = (*result.notes, *about_overlap(overlap, len(images)))
    return msgspec.structs.replace(result, overlap=overlap, notes=notes)


def find_overlap(images: ImageSet, checkpoint: Checkpoint | None, calibrated: Sequence[CalibrationSet]) -> Overlap:
    """Compare evaluation images, by content and by look, with those that trained the network and calibrated the files.

    The images are decoded only where there is something to compare their look with.

    Raises:
        BadImage: a corrupt image. BadCheckpoint: a damaged record of training images.
    """
    trained = () if checkpoint is None else trained_images(images, checkpoint)
    training = [] if checkpoint is None else [look for hashes in checkpoint.hashes for look in hashes.signatures()]
    calibration = [image for one in calibrated for image in one.images]
    calibrating = [None if image.signature is None else bytes.fromhex(image.signature) for image in calibration]
    if not any(training) and not any(calibrating):
        return Overlap(trained=trained)
    looks, same = list(both_signatures_of(images)), set(trained)
    like_trained = (_named(images, found, None) for found in _resembling(looks, training))
    return Overlap(
        trained=trained,
        like_trained=tuple(like for like in like_trained if like.name not in same),
        like_calibrated=tuple(
            _named(images, found, calibration[found[0].other].name) for found in _resembling(looks, calibrating)
        ),
    )


def _resembling(
    looks: Sequence[tuple[bytes | None, bytes | None]], others: Sequence[bytes | None]
) -> list[tuple[Resemblance, bool]]:
    """The images that look like one of ``others``, in order, and whether they do so mirrored; the nearer counts."""
    found = {one.index: (one, False) for one in resembling([plain for plain, _ in looks], others)}
    for one in resembling([mirrored for _, mirrored in looks], others):
        if one.index not in found or one.bits < found[one.index][0].bits:
            found[one.index] = (one, True)
    return [found[index] for index in sorted(found)]


def _named(images: ImageSet, found: tuple[Resemblance, bool], like: str | None) -> LooksLike:
    resemblance, mirrored = found
    return LooksLike(name=images.item_name(resemblance.index), like=like, bits=resemblance.bits, mirrored=mirrored)


def about_overlap(overlap: Overlap, images: int) -> list[str]:
    """Warn of what was found, a sentence each, with the first names."""
    said = []
    if overlap.trained:
        said.append(
            f"Warning: {len(overlap.trained):,} of {images:,} images trained the network, by content: "
            f"{_first(overlap.trained)}. Accuracy on them says nothing about other images."
        )
    for found, use in (
        (overlap.like_trained, "trained the network"),
        (overlap.like_calibrated, "calibrated the files"),
    ):
        if found:
            names = [_described(like) for like in found]
            said.append(
                f"Warning: {len(found):,} of {images:,} images look like one that {use} (at most {APART} of {BITS} bits"
                f" of their perceptual hashes differ): {_first(names)}. If they are the same images encoded anew or"
                " mirrored, remove them: accuracy on them says nothing about other images."
            )
    return said


def _described(like: LooksLike) -> str:
    about = [f"like {like.like}"] * (like.like is not None) + ["mirrored"] * like.mirrored
    return f"{like.name} ({', '.join(about)})" if about else like.name


def _first(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN:,} more" if len(names) > SHOWN else ""
    return f"{', '.join(names[:SHOWN])}{more}"
