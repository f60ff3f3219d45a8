"""Files appear whole, and what cannot be written is said before work starts."""

from pathlib import Path

import pytest

from edge_apps.errors import BadInput
from edge_apps.files import check_writable, write_whole


def test_a_file_is_replaced_as_a_whole_and_nothing_lies_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.json"
    for content in (b"old", b"new and longer"):
        check_writable(path)
        write_whole(path, content)
        assert path.read_bytes() == content
    assert [p.name for p in path.parent.iterdir()] == ["a.json"]


def test_a_write_that_fails_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(b"old")

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(BadInput, match="Cannot write .*No space left on device"):
        write_whole(path, b"new")
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


@pytest.mark.parametrize("attempt", [check_writable, lambda path: write_whole(path, b"x")])
def test_a_place_below_a_file_cannot_be_written(tmp_path: Path, attempt: object) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BadInput, match="Cannot write .*file/out.json"):
        attempt(tmp_path / "file" / "out.json")  # type: ignore[operator]


def test_a_device_is_no_file() -> None:
    """Renaming over it would remove it for everybody."""
    with pytest.raises(BadInput, match="'/dev/null' is not a regular file"):
        check_writable(Path("/dev/null"))


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="is a folder"):
        check_writable(tmp_path)
