"""JSON for people to read."""

import json

import msgspec

from edge_apps.json_text import indented


class Point(msgspec.Struct):
    name: str
    x: float


def test_it_is_the_same_document_with_a_key_on_each_line() -> None:
    text = indented({"points": [Point("ä", 1.5)], "none": None})
    assert json.loads(text) == {"points": [{"name": "ä", "x": 1.5}], "none": None}
    assert text.decode().splitlines()[1] == ' "points": ['
    assert indented([1], indent=2) == b"[\n  1\n]"
