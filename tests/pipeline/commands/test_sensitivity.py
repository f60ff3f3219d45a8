"""``pipeline sensitivity`` as people type it."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def bundle(export: Any, sure: Any, place: Path) -> Path:
    made = export("--precision", "int8", checkpoint=sure.checkpoint, data=sure.draw(0, 20))
    assert made.status == 0, made.err
    return place / "b"


def test_table_plot_and_json(pipeline: Any, bundle: Path, sure: Any, tmp_path: Path) -> None:
    """Twice the same: the draw is seeded. What calibrated is left out: 8 of the 40."""
    data = sure.draw(0, 20)
    shown = pipeline("sensitivity", bundle, "--data", data, "--plot", tmp_path / "a.svg")
    assert shown.status == 0, shown.err
    assert f"b: small on 32 images of {data}" in shown.out
    assert "classifier.0" in shown.out
    assert (tmp_path / "a.svg").read_text().lstrip().startswith("<?xml")
    found = [pipeline("sensitivity", bundle, "--data", data, "--images", 12, "--json").out for _ in range(2)]
    assert found[0] == found[1]
    assert json.loads(found[0])["images"] == 12
    other = pipeline("sensitivity", bundle, "--data", data, "--images", 12, "--seed", 1, "--json").out
    assert json.loads(other)["data_sha256"] != json.loads(found[0])["data_sha256"]


def test_bad_input(
    pipeline: Any, bundle: Path, sure: Any, export: Any, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*arguments: Any, of: Path = bundle, data: Any = None) -> str:
        return str(pipeline("sensitivity", of, "--data", data or sure.draw(1, 60), *arguments).error(2))

    corrupt = Path(shutil.copytree(sure.draw(1, 60), tmp_path / "corrupt"))
    (corrupt / "blue" / "000.png").write_bytes(b"no picture")
    assert "--skip-corrupt" in refused(data=corrupt)
    left = pipeline("sensitivity", bundle, "--data", corrupt, "--skip-corrupt", "--images", 8)
    assert "Left out, corrupt: blue/000.png" in left.err
    assert "Looked at only 8 images: the figures are indicative." in left.out
    assert "is not a bundle" in refused(of=tmp_path)
    assert export(checkpoint=sure.checkpoint, data=sure.draw(0, 20), out=place / "float").status == 0
    assert "has no int8 file" in refused(of=place / "float")
    assert "has 120 different pictures that calibrated nothing; --images is 121" in refused("--images", 121)
    assert "No such folder or tar" in refused(data="/nowhere")
    assert "Unknown folders: 0, 1" in refused(data="digits")
    assert "its name ends in .svg or .png" in refused("--plot", tmp_path / "a.jpg")
    assert "Cannot write" in refused("--plot", "/proc/nothing/a.svg")
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert "--plot needs matplotlib, which is not installed: pip install '.[export]'" in refused("--plot", "a.svg")
    ranges = bundle / "ranges.json"
    ranges.write_bytes(ranges.read_bytes() + b" ")
    assert "was changed after export" in refused()
