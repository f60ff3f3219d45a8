"""The line with which a training starts."""

from pipeline.data.class_counts import class_counts
from pipeline.data.digits import open_split
from pipeline.data.relabelled import Relabelled
from pipeline.data.subset import Subset


def test_classes_and_counts_in_one_line():
    assert class_counts(open_split("calibration")) == (
        "250 images of 10 classes: 0 (25), 1 (25), 2 (25), 3 (26), 4 (25), 5 (25), 6 (25), 7 (25), 8 (24), 9 (25)"
    )
    one = Subset(open_split("train"), [open_split("train").labels.index(0)])
    assert class_counts(one).startswith("1 image of 10 classes: 0 (1), 1 (0), ")


def test_a_long_list_is_cut_and_names_the_smallest_class():
    digits = open_split("train")
    many = Relabelled(digits, tuple(f"c{i}" for i in range(1000)), range(10))
    assert class_counts(many) == (
        f"{len(digits):,} images of 1,000 classes, 0 to {max(map(digits.labels.count, range(10))):,} each: "
        + ", ".join(f"c{i} ({digits.labels.count(i)})" for i in range(10))
        + " and 990 more (fewest: c10, 0)"
    )
