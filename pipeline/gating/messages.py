"""What the gate says of a file, of the whole, and of its own limits, in sentences."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.evaluation.parity import ENOUGH_AGREEMENT, ENOUGH_DB, is_unlike
from pipeline.evaluation.per_class import NAMED, ClassLoss, Suspects
from pipeline.evaluation.results import Drift
from pipeline.metrics.paired import MOST_IMAGES, Interval, PairedTable

NO_CLASSES = "Classes were not looked at (`no_class_flags`): a class that vanished can hide in top-1."

HOLD_BACK = (
    "Gate with `data` of images that it has not seen: hold some back before training, as docs/training.md shows, and "
    "train and export with `data` of the others."
)

KINDS = ("passed", "failed", "undecided", "not run", "not run (allowed)")


def drop(table: PairedTable, interval: Interval, limit: float, confidence: float, against: str | None) -> str:
    """``Top-1 fell 3.1 points (91.9 → 88.8, n = 10000, 95 % interval 2.7…3.5); limit 1.0.``"""
    low, high = 100 * interval.low, 100 * interval.high
    digits = _digits(low, high, limit)
    points = 100 * table.drop
    moved = f"{'fell' if points > 0 else 'rose'} {abs(points):.{digits}f} points" if points else "did not change"
    before, after = (table.both + table.lost) / table.n, (table.both + table.gained) / table.n
    return (
        f"Top-1 {moved}{_against(against)} ({100 * before:.{digits}f} → {100 * after:.{digits}f}, n = {table.n}, "
        f"{100 * confidence:g} % interval {_number(low, digits)}…{_number(high, digits)}); limit {_limit(limit)}."
    )


def most_damaged(layer: str, decibels: float) -> str:
    """Where to look first."""
    return f"Most damaged layer: {layer} ({decibels:.1f} dB)."


def outlook(table: PairedTable, needed: int | None) -> str:
    """How many images would decide."""
    if needed is None:
        return f"The drop is too near the limit: not even {MOST_IMAGES:,} images would decide at these rates."
    step = 10 ** max(0, len(str(needed)) - 2)  # two figures, upwards: the rates themselves are estimates
    images = f"About {-(-needed // step) * step:,} images would decide"
    return f"{images} at the rates seen." if table.lost + table.gained else f"{images} if still none of them differs."


def by_chance(files: int, holm_p: float, level: float) -> str:
    """Why a file whose interval lies above the limit has not failed."""
    return (
        f"The interval lies above the limit, but of {files} files one may do so by chance: p = {holm_p:.2g} after "
        f"Holm's correction, below {level:.2g} would fail it."
    )


def flagged(classes: Suspects) -> str:
    """Which classes were lost."""
    return f"{_fell(classes.flagged, classes.limit)}: {_listed(classes.flagged)}."


def not_flagged(classes: Suspects) -> str:
    """Which classes may have been lost, or not."""
    return f"{_fell(classes.open, classes.limit)}, but chance may explain it (not flagged): {_listed(classes.open)}."


def about_drift(drift: Drift | None) -> tuple[str, ...]:
    """A warning where a file is not what was simulated; nothing where it is."""
    if drift is None or not is_unlike(drift):
        return ()
    return (
        f"Differs from its own quantized graph: {drift.sqnr_db:.1f} dB, same class on {100 * drift.agreement:.2f} % of "
        f"{drift.images} images (usual: at least {ENOUGH_DB:g} dB and {100 * ENOUGH_AGREEMENT:g} %). What it answers "
        "is not what was calibrated.",
    )


def fraction(limit: float, images: int) -> str:
    """For who thinks in fractions."""
    return (
        f"A limit of {limit:g} points is {limit * images / 100:.2g} of these {images} images. `max_drop` is in "
        "points: one percent is 1."
    )


def blind(classes: Sequence[tuple[str, int]], of: int) -> str:
    """Which classes the gate cannot see; as name and images."""
    named = ", ".join(f"'{label}' ({images})" for label, images in classes[:NAMED])
    return (
        f"{len(classes)} of {of} classes have too few images that the reference gets right to be flagged, even if "
        f"none were right any more: {named}{_and_more(len(classes))}."
    )


def unseen(labels: Sequence[str], data: str) -> str:
    """Which classes have a folder and no image, after corrupt ones and those of several classes were left out."""
    named = ", ".join(f"'{label}'" for label in labels[:NAMED])
    return (
        f"'{data}' has no usable picture of {named}{_and_more(len(labels))}: of a class that nobody looked at, no gate "
        "can say that it was kept. Give pictures of every class."
    )


def one_class(images: int, data: str, label: str) -> str:
    """Why images of one class cannot judge a file."""
    every = f"the only image of '{data}' is" if images == 1 else f"all {images:,} images of '{data}' are"
    return (
        f"These images cannot show a drop: {every} of one class, '{label}', so that a file that says '{label}' of "
        "everything loses nothing. Gate on images of every class."
    )


def no_better(known: float, data: str, label: str, constant: float) -> str:
    """Why a reference that does not beat a constant answer cannot judge a file; shares in percent."""
    return (
        f"These images cannot show a drop: the reference is right on {known:.1f} % of '{data}', which does not beat "
        f"saying '{label}' for every image ({constant:.1f} %), so a file that does that loses nothing. Train the "
        "network longer or on more images, then export and gate it again."
    )


def covers(absent: Sequence[str], of: int) -> str:
    """Which classes the verdict says nothing about."""
    named = ", ".join(absent[:NAMED]) + _and_more(len(absent))
    return f"Covers {of - len(absent)} of {of} classes; not judged: {named}."


def trained_on_some(names: Sequence[str], data: str) -> str:
    """Why images that trained the network cannot judge its files."""
    count = "1 image" if len(names) == 1 else f"{len(names):,} images"
    return (
        f"The network was trained on {count} of '{data}', by content (first: '{names[0]}'): a drop on training images"
        f" says nothing about others. {HOLD_BACK} The JSON of 'pipeline evaluate' lists these images."
    )


def summary(verdict: str, verdicts: Sequence[str], limit: float, against: str | None, coverage: str = "") -> str:
    """The last line."""
    listed = ", ".join(f"{verdicts.count(kind)} {kind}" for kind in KINDS if kind in verdicts)
    said = [f"Gate {verdict} at {_limit(limit)} points of top-1{_against(against)}: {listed}."]
    if set(verdicts) <= {"not run", "not run (allowed)"}:
        said.append("Nothing ran, so nothing is shown.")
    return " ".join(filter(None, [*said, coverage]))


def _fell(classes: Sequence[ClassLoss], limit: float) -> str:
    count = "1 class" if len(classes) == 1 else f"{len(classes)} classes"
    return f"{count} fell more than {limit:g} points"


def _listed(classes: Sequence[ClassLoss]) -> str:
    named = ", ".join(
        f"'{loss.label}' {loss.points:.1f} ({loss.before:.1f} → {loss.after:.1f}, n = {loss.images}, "
        f"Holm p {loss.holm_p:.2g})"
        for loss in classes[:NAMED]
    )
    return named + _and_more(len(classes))


def _and_more(count: int) -> str:
    return f" and {count - NAMED} more" if count > NAMED else ""


def _against(bundle: str | None) -> str:
    return "" if bundle is None else f" against '{bundle}'"


def _digits(low: float, high: float, limit: float) -> int:
    """One decimal; more where rounding would move an end of the interval onto or over the limit."""
    for digits in (1, 2, 3):
        if all(_side(round(end, digits), limit) == _side(end, limit) for end in (low, high)):
            return digits
    return 4


def _side(value: float, limit: float) -> int:
    return (value > limit) - (value < limit)


def _number(value: float, digits: int) -> str:
    return f"{value:.{digits}f}".replace("-", "−")


def _limit(limit: float) -> str:
    return f"{limit:.1f}" if round(limit, 1) == limit else f"{limit:g}"
