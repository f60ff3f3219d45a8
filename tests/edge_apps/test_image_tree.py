"""Which files below a folder or in a tar are images, and that what is passed over is named."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_apps.errors import BadImage, BadInput
from edge_apps.image_formats import format_of
from edge_apps.images import decode, list_pictures, open_images

PNG = cv2.imencode(".png", np.full((4, 4, 3), 7, np.uint8))[1].tobytes()
JPEG = cv2.imencode(".jpg", np.full((4, 4, 3), 7, np.uint8))[1].tobytes()
HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(40)
AVIF = b"\0\0\0\x1cftypmif1\0\0\0\0mif1avif" + bytes(40)

Tarred = Callable[[Path], Path]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two classes with an image each."""
    place = tmp_path / "set"
    put(place / "cat" / "1.png", PNG)
    put(place / "dog" / "1.png", PNG)
    return place


def put(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def tar_of(folder: Path) -> Path:
    path = folder.with_suffix(".tar")
    with tarfile.open(path, "w") as tar:
        tar.add(folder, arcname="")
    return path


def both(folder: Path) -> list[Path]:
    return [folder, tar_of(folder)]


def names(path: Path) -> list[str]:
    images = open_images(path)
    return [images.item_name(index) for index in range(len(images))]


# Which files are images


@pytest.mark.parametrize("name", ["a.jfif", "a.JPE", "a.jpeg", "a.JPG", "a", "a.heic", "a.gif", "0123abcd", "a b.é"])
def test_jpeg_whatever_its_name(root: Path, name: str) -> None:
    put(root / "cat" / name, JPEG)
    for path in both(root):
        assert names(path) == sorted(["cat/1.png", f"cat/{name}", "dog/1.png"])
        images = open_images(path)
        assert images.image(names(path).index(f"cat/{name}")).shape == (4, 4, 3)
        assert images.remarks == ()


@pytest.mark.parametrize(
    ("name", "data", "says"),
    [
        ("a.heic", HEIC, "1 HEIC file"),
        ("a.HEIF", b"", "1 HEIC file"),
        ("a.avif", AVIF, "1 AVIF file"),
        ("a", AVIF, "1 AVIF file"),
        ("a.gif", b"GIF89a" + bytes(20), "1 GIF file"),
        ("a.tif", b"II*\0" + bytes(20), "1 TIFF file"),
        ("a.tiff", b"MM\0*" + bytes(20), "1 TIFF file"),
        ("a.nef", b"MM\0*" + bytes(20), "1 camera raw file"),
        ("a.jxl", b"\xff\x0a" + bytes(20), "1 JPEG XL file"),
        ("a.jp2", b"", "1 JPEG 2000 file"),
        ("a.ico", b"\0\0\1\0", "1 ICO file"),
        ("a.TGA", b"", "1 TGA file"),
        ("a.pcx", b"\n\5\1\1", "1 PCX file"),
        ("a.dcm", b"", "1 DICOM file"),
    ],
)
def test_formats_that_are_not_read_are_counted_and_named(root: Path, name: str, data: bytes, says: str) -> None:
    put(root / "cat" / name, data)
    expected = f"Passed over {says} (first: 'cat/{name}'): only JPEG, PNG, WebP and BMP are read; convert them."
    for path in both(root):
        images = open_images(path)
        assert (len(images), images.remarks) == (2, (expected,))
        assert list_pictures(path).remarks == (expected,)


def test_several_formats_in_one_line(root: Path) -> None:
    for index in range(3):
        put(root / "cat" / f"{index}.heic", HEIC)
    put(root / "dog" / "x.gif", b"GIF89a")
    put(root / "dog" / "y.tif", b"II*\0")
    for path in both(root):
        assert (
            open_images(path)
            .remarks[0]
            .startswith("Passed over 3 HEIC, 1 GIF and 1 TIFF files (first: 'cat/0.heic'): ")
        )


@pytest.mark.parametrize(
    ("data", "format_name"),
    [(HEIC, "HEIC"), (AVIF, "AVIF"), (b"GIF89a" + bytes(9), "GIF"), (b"II*\0" + bytes(9), "TIFF")],
)
def test_a_png_that_is_something_else_is_named_as_that(data: bytes, format_name: str) -> None:
    with pytest.raises(BadImage, match=f"'x.png': it is a file in {format_name} format, not a JPEG, PNG, WebP or BMP"):
        decode(data, "x.png")


@pytest.mark.parametrize("suffix", [".avif", ".gif", ".tiff"])
def test_formats_by_what_opencv_writes(suffix: str) -> None:
    if not cv2.haveImageWriter(f"x{suffix}"):
        pytest.skip(f"OpenCV {cv2.__version__} does not write {suffix}")
    data = cv2.imencode(suffix, np.full((16, 16, 3), 7, np.uint8))[1].tobytes()
    assert format_of(data[:64]) == suffix.strip(".").upper()


@pytest.mark.parametrize("data", [b"", b"BMW and other cars are faster", b"<html>", b"\0\0\0\x18ftypqt  ", b"\xff\xd8"])
def test_what_is_no_image(data: bytes) -> None:
    assert format_of(data) is None


def test_only_unread_formats(tmp_path: Path) -> None:
    put(tmp_path / "set" / "cat" / "1.heic", HEIC)
    for path in both(tmp_path / "set"):
        for read in (open_images, list_pictures):
            with pytest.raises(BadInput, match=r"No images in .* It has 1 HEIC file \(first: 'cat/1.heic'\): convert"):
                read(path)


def test_data_that_are_still_packed(tmp_path: Path) -> None:
    for name in ("train.tar", "test.zip", "README"):
        put(tmp_path / name, b"")
    with pytest.raises(BadInput, match=r"It holds 'test.zip', 'train.tar': give an uncompressed .tar itself"):
        open_images(tmp_path)


@pytest.mark.parametrize(
    "name",
    [
        "__MACOSX/cat/._1.png",
        "@eaDir/1.png/SYNOPHOTO_THUMB_M.jpg",
        "cat/@eaDir/1.png/SYNOPHOTO_THUMB_M.jpg",
        "cat/__macosx/2.png",
        "cat/._1.png",
        "cat/.DS_Store",
        "cat/Thumbs.db",
        "cat/desktop.ini",
        "PaxHeaders.1234/1.png",
        "PaxHeader/cat/1.png",
        "#recycle/old.png",
        "$RECYCLE.BIN/S-1/x.jpg",
        "System Volume Information/x.png",
        ".ipynb_checkpoints/1.png",
        "lost+found/1.png",
        "@Recently-Snapshot/1.png",
        "~snapshot/hourly.0/1.png",
        "Network Trash Folder/1.png",
        "cat/Temporary Items/1.png",
        "RECYCLER/S-1/1.png",
    ],
)
def test_what_systems_leave_is_no_image_and_no_class(root: Path, name: str) -> None:
    put(root / name, PNG)
    for path in both(root):
        images = open_images(path)
        assert (images.classes, len(images), images.remarks) == (("cat", "dog"), 2, ())


# Links


def test_class_folders_may_be_links(root: Path, tmp_path: Path) -> None:
    put(tmp_path / "pool" / "deep" / "2.png", PNG)
    (root / "horse").symlink_to(tmp_path / "pool", target_is_directory=True)
    (root / "dog" / "3.png").symlink_to(tmp_path / "pool" / "deep" / "2.png")
    images = open_images(root)
    assert images.classes == ("cat", "dog", "horse")
    assert names(root) == ["cat/1.png", "dog/1.png", "dog/3.png", "horse/deep/2.png"]
    assert images.image(3).shape == (4, 4, 3)
    assert images.remarks == ()


@pytest.mark.parametrize(
    ("at", "target", "leads"),
    [
        ("cat/loop", "set/cat", "'cat', which is read already"),
        ("cat/deep/loop", "set/cat", "'cat', which is read already"),
        ("cat/loop", "set", "the data themselves"),
        ("loop", "set", "the data themselves"),
        ("loop", ".", "'{around}', in which the data lie"),
    ],
)
def test_loops_are_named_and_end(root: Path, tmp_path: Path, at: str, target: str, leads: str) -> None:
    (root / at).parent.mkdir(exist_ok=True)
    (root / at).symlink_to(tmp_path / target, target_is_directory=True)
    assert names(root) == ["cat/1.png", "dog/1.png"]
    assert open_images(root).remarks == (f"Passed over '{at}': it leads to {leads.format(around=tmp_path.resolve())}.",)


def test_two_links_that_lead_through_each_other(root: Path, tmp_path: Path) -> None:
    for name, other in (("a", "b"), ("b", "a")):
        put(tmp_path / name / f"{name}.png", PNG)
        (tmp_path / name / "on").symlink_to(tmp_path / other, target_is_directory=True)
    (root / "cat" / "more").symlink_to(tmp_path / "a", target_is_directory=True)
    assert names(root) == ["cat/1.png", "cat/more/a.png", "cat/more/on/b.png", "dog/1.png"]
    assert open_images(root).remarks == (
        "Passed over 'cat/more/on/on': it leads to 'cat/more', which is read already.",
    )


def test_no_image_is_read_twice_through_a_link_around_another(root: Path, tmp_path: Path) -> None:
    put(tmp_path / "pool" / "part" / "p.png", PNG)
    (root / "cat" / "a").symlink_to(tmp_path / "pool" / "part", target_is_directory=True)
    (root / "cat" / "b").symlink_to(tmp_path / "pool", target_is_directory=True)
    assert names(root) == ["cat/1.png", "cat/a/p.png", "dog/1.png"]


def test_a_class_that_is_a_link_to_another_or_to_nothing_is_refused(root: Path, tmp_path: Path) -> None:
    (root / "wolf").symlink_to("dog", target_is_directory=True)
    for path in both(root):
        with pytest.raises(BadInput, match="Class folder 'wolf' of .* it leads to 'dog', which is read already"):
            open_images(path)
    (root / "wolf").unlink()
    (root / "wolf").symlink_to(tmp_path / "gone")
    for path in both(root):
        with pytest.raises(BadInput, match="Class folder 'wolf' of .* cannot be read: it is a link"):
            open_images(path)


def test_broken_links_to_images_are_named(root: Path) -> None:
    for index in range(5):
        (root / "cat" / f"b{index}.jpg").symlink_to("/gone/x.jpg")
    (root / "cat" / "itself.jpg").symlink_to("itself.jpg")
    assert names(root) == ["cat/1.png", "dog/1.png"]
    remarks = open_images(root).remarks
    assert remarks[0] == "Passed over 'cat/b0.jpg': it is a link that leads nowhere."
    assert remarks[3:] == ("Passed over 3 more links.",)


def test_links_in_a_tar_lead_to_its_files(root: Path) -> None:
    (root / "dog" / "again.png").symlink_to("../cat/1.png")
    (root / "dog" / "twice.png").symlink_to("again.png")
    (root / "cat" / "all").symlink_to("../dog")
    (root / "cat" / "out.png").symlink_to("/elsewhere/x.png")
    (root / "cat" / "round.png").symlink_to("round.png")
    images = open_images(tar_of(root))
    assert names(tar_of(root)) == ["cat/1.png", "dog/1.png", "dog/again.png", "dog/twice.png"]
    assert images.encoded(3) == PNG
    assert images.remarks == (
        "Passed over 'cat/all': it leads to 'dog', which is read already.",
        "Passed over 'cat/out.png': it is a link to what the tar does not hold.",
        "Passed over 'cat/round.png': it is a link to what the tar does not hold.",
    )


def test_a_chain_of_links_in_a_tar_ends(root: Path, tmp_path: Path) -> None:
    """20,000 links, each to the next, took 28 s."""
    first = next(path for path in root.rglob("*") if path.is_file())
    path = tmp_path / "chain.tar"
    with tarfile.open(path, "w") as tar:
        tar.add(first, "a/20000.png")
        for number in range(20_000):
            link = tarfile.TarInfo(f"a/{number}.png")
            link.type, link.linkname = tarfile.SYMTYPE, f"{number + 1}.png"
            tar.addfile(link)
    images = list_pictures(path)
    assert len(images) == 41  # the image, and the links that reach it
    assert any("does not hold" in remark for remark in images.remarks)


def test_a_tar_with_absolute_names(tmp_path: Path) -> None:
    path = tmp_path / "set.tar"
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        for name in ("/data/cat/1.png", "/data/./dög/../dög/1.png", "/data/dög/" + 200 * "x" + ".png"):
            member = tarfile.TarInfo(name)
            member.size = len(PNG)
            tar.addfile(member, io.BytesIO(PNG))
    images = open_images(path)
    assert images.classes == ("cat", "dög")
    assert names(path) == ["data/cat/1.png", "data/dög/1.png", "data/dög/" + 200 * "x" + ".png"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every folder")
def test_a_folder_that_cannot_be_read_is_named(root: Path) -> None:
    (root / "cat").chmod(0)
    with pytest.raises(BadInput, match="Cannot read folder '.*cat': Permission denied"):
        open_images(root)
    (root / "cat").chmod(0o755)
