"""Label files as editors on any system write them."""

import unicodedata

import pytest

from pipeline.data.label_file import read_labels
from pipeline.errors import BadInput


@pytest.mark.parametrize(
    "data",
    [
        "cat\ndog\nthé noir",
        "cat\ndog\nthé noir\n\n\n",
        "\ufeffcat\ndog\nthé noir\n",
        "cat\r\ndog\r\nthé noir\r\n\r\n",
        "cat\rdog\rthé noir\r",
        " cat \ndog\t\nthé noir  \n   \n",
        unicodedata.normalize("NFD", "cat\ndog\nthé noir\n"),
    ],
)
def test_what_editors_add_is_no_part_of_a_name(tmp_path, data):
    path = tmp_path / "labels.txt"
    path.write_bytes(data.encode())
    assert read_labels(path) == ("cat", "dog", "thé noir")
    for encoding in ("utf-16-le", "utf-16-be"):
        path.write_bytes(("\ufeff" + data.removeprefix("\ufeff")).encode(encoding))
        assert read_labels(path) == ("cat", "dog", "thé noir")


def test_only_ends_of_lines_part_names(tmp_path):
    path = tmp_path / "labels.txt"
    path.write_bytes("a\u2028b\nc\x0bd\n".encode())
    assert read_labels(path) == ("a\u2028b", "c\x0bd")


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "it holds no name"),
        (b"\xef\xbb\xbf\r\n\r\n", "it holds no name"),
        (b"cat\n\ndog\n", "line 2 is blank"),
        (b"cat\ndog\ncat\n", "'cat' is in lines 1 and 3"),
        (b"th\xe9\n", "are not UTF-8 text"),
        ("cat\ndog\n".encode("utf-16-le"), "are not UTF-8 text"),
        (b"\xff\xfec\0a", "are not UTF-8 text"),
        (b"\x89PNG\r\n\x1a\n\0\0\0", "are not UTF-8 text"),
    ],
)
def test_what_is_no_list_of_names_is_refused(tmp_path, data, says):
    path = tmp_path / "labels.txt"
    path.write_bytes(data)
    with pytest.raises(BadInput) as caught:
        read_labels(path)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(BadInput, match="Cannot read labels '.*nowhere.txt': No such file"):
        read_labels(tmp_path / "nowhere.txt")
