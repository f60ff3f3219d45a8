"""A view of a set shows the chosen pictures in the chosen order."""

import pytest

from pipeline.data.digits import open_split
from pipeline.data.subset import Subset


def test_a_view_shows_the_chosen_pictures():
    whole = open_split("test")
    view = Subset(whole, [400, 3, 3], name="three")
    assert (view.name, len(view), view.classes) == ("three", 3, whole.classes)
    assert view.labels == (whole.labels[400], whole.labels[3], whole.labels[3])
    assert view.item_name(0) == whole.item_name(400)
    assert view.encoded(1) == whole.encoded(3)
    assert (view.image(0) == whole.image(400)).all()


def test_a_view_of_a_view_and_of_nothing():
    whole = open_split("test")
    assert Subset(Subset(whole, [5, 6, 7]), [2]).item_name(0) == whole.item_name(7)
    empty = Subset(whole, [])
    assert (len(empty), empty.labels, empty.name) == (0, (), whole.name)


def test_an_index_outside_is_an_error():
    with pytest.raises(IndexError):
        Subset(open_split("test"), [450])
