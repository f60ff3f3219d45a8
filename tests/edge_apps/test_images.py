"""Reading pictures: whole ones mean the same bytes everywhere, broken ones are named, folder and tar are equal."""

import contextlib
import io
import os
import struct
import tarfile
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_apps.errors import BadImage, BadInput
from edge_apps.images import decode, list_pictures, open_images, sha256, write_png

HEIGHT, WIDTH = 24, 36


def picture(height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """Smooth colours, unlike in every corner, so that JPEG hardly changes them and a turn shows."""
    y, x = np.mgrid[0:height, 0:width]
    return np.dstack([255 * y / height, 255 * x / width, np.full((height, width), 60)]).astype(np.uint8)


def encode(suffix: str, image: np.ndarray, *options: int) -> bytes:
    """Encode RGB, grey, or RGB with alpha."""
    if image.ndim == 3:
        image = cv2.cvtColor(image, cv2.COLOR_RGBA2BGRA if image.shape[2] == 4 else cv2.COLOR_RGB2BGR)
    done, data = cv2.imencode(suffix, image, options)
    assert done
    return data.tobytes()


FINEST_JPEG = (cv2.IMWRITE_JPEG_QUALITY, 100, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444)

FILES = {
    "baseline.jpg": encode(".jpg", picture(), *FINEST_JPEG),
    "progressive.jpg": encode(".jpg", picture(), *FINEST_JPEG, cv2.IMWRITE_JPEG_PROGRESSIVE, 1),
    "restarts.jpg": encode(".jpg", picture(), *FINEST_JPEG, cv2.IMWRITE_JPEG_RST_INTERVAL, 1),
    "colour.png": encode(".png", picture()),
    "lossless.webp": encode(".webp", picture(), cv2.IMWRITE_WEBP_QUALITY, 101),
    "lossy.webp": encode(".webp", picture(), cv2.IMWRITE_WEBP_QUALITY, 100),
    "colour.bmp": encode(".bmp", picture()),
}


# Whole pictures


@pytest.mark.parametrize("name", FILES)
def test_every_format_gives_the_same_rgb(name: str) -> None:
    found = decode(FILES[name], name)
    assert found.dtype == np.uint8
    assert found.flags.c_contiguous
    lossy = "jpg" in name or "lossy" in name
    assert np.abs(found.astype(int) - picture()).max() <= (6 if lossy else 0)


def test_the_content_counts_not_the_name() -> None:
    assert (decode(FILES["colour.png"], "x.jpg") == picture()).all()


def test_grey_pictures_get_three_equal_channels() -> None:
    grey = picture()[..., 0]
    for suffix in (".png", ".bmp"):
        assert (decode(encode(suffix, grey), "grey") == grey[..., None]).all()


def test_alpha_is_dropped_not_blended() -> None:
    clear = np.dstack([picture(), np.zeros((HEIGHT, WIDTH), np.uint8)])
    for data in (encode(".png", clear), encode(".bmp", clear)):
        assert (decode(data, "alpha") == picture()).all()


def test_sixteen_bits_keep_their_high_byte() -> None:
    deep = np.random.default_rng(0).integers(0, 65536, (HEIGHT, WIDTH), dtype=np.uint16)
    assert (decode(encode(".png", deep), "deep") == (deep // 256)[..., None]).all()


def test_png_is_written_and_read_without_loss(tmp_path: Path) -> None:
    write_png(tmp_path / "x.png", picture())
    assert (decode((tmp_path / "x.png").read_bytes(), "x.png") == picture()).all()


# Orientation: what a camera held in each of eight ways stores, and how it must be seen (Exif 2.32, 4.6.4 A)

STORED = {
    1: lambda seen: seen,
    2: lambda seen: seen[:, ::-1],
    3: lambda seen: seen[::-1, ::-1],
    4: lambda seen: seen[::-1],
    5: lambda seen: seen.transpose(1, 0, 2),
    6: lambda seen: np.rot90(seen, 1),  # to be turned clockwise
    7: lambda seen: seen[::-1, ::-1].transpose(1, 0, 2),
    8: lambda seen: np.rot90(seen, -1),
}


SHORT, LONG = 3, 4


def exif(orientation: int, order: str = "<", kind: int = SHORT) -> bytes:
    """A TIFF header with one directory of two entries, the second being the orientation."""
    mark = {"<": b"II", ">": b"MM"}[order]
    value = struct.pack(order + {1: "B3x", SHORT: "HH", LONG: "I"}[kind], orientation, *[0] * (kind == SHORT))
    entries = struct.pack(order + "HHII", 0x0100, 4, 1, 36) + struct.pack(order + "HHI", 0x0112, kind, 1) + value
    return mark + struct.pack(order + "HI", 42, 8) + struct.pack(order + "H", 2) + entries + bytes(4)


def with_exif(suffix: str, image: np.ndarray, tiff: bytes) -> bytes:
    if suffix == ".jpg":
        data = encode(".jpg", image, *FINEST_JPEG)
        body = b"Exif\0\0" + tiff
        return data[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + data[2:]
    if suffix == ".png":
        data = encode(".png", image)
        chunk = b"eXIf" + tiff
        chunk = struct.pack(">I", len(tiff)) + chunk + struct.pack(">I", zlib.crc32(chunk))
        return data[:33] + chunk + data[33:]  # behind IHDR
    # An extended WebP (VP8X) around the lossless stream: flag 8 announces the EXIF chunk.
    stream = encode(".webp", image, cv2.IMWRITE_WEBP_QUALITY, 101)[12:]
    height, width = image.shape[:2]
    head = b"VP8X" + struct.pack("<I", 10) + bytes([8, 0, 0, 0])
    head += (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    body = b"WEBP" + head + stream + b"EXIF" + struct.pack("<I", len(tiff)) + tiff + b"\0" * (len(tiff) % 2)
    return b"RIFF" + struct.pack("<I", len(body)) + body


@pytest.mark.parametrize("kind", [SHORT, LONG, 1])
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_stands_as_it_was_seen(suffix: str, orientation: int, kind: int) -> None:
    stored = np.ascontiguousarray(STORED[orientation](picture()))
    for order in "<>":
        found = decode(with_exif(suffix, stored, exif(orientation, order, kind)), "held")
        assert found.shape == (HEIGHT, WIDTH, 3)
        assert np.abs(found.astype(int) - picture()).max() <= (6 if suffix == ".jpg" else 0)
        assert found.flags.c_contiguous


ODD = [exif(0), exif(9), exif(6)[:12], b"XX" + exif(6)[2:], b"MM" + exif(6)[2:], exif(2**31, ">", LONG)]


@pytest.mark.parametrize("suffix", [".png", ".webp"])
@pytest.mark.parametrize("tiff", [b"", b"II", *ODD])
def test_a_senseless_orientation_turns_nothing(tiff: bytes, suffix: str) -> None:
    assert (decode(with_exif(suffix, picture(), tiff), "odd") == picture()).all()


def test_webp_exif_may_have_the_prefix_of_jpeg() -> None:
    stored = np.ascontiguousarray(STORED[6](picture()))
    assert (decode(with_exif(".webp", stored, b"Exif\0\0" + exif(6)), "prefixed") == picture()).all()


# Broken pictures


@pytest.mark.parametrize("name", FILES)
def test_a_picture_that_was_cut_off_is_refused_wherever_the_cut_is(name: str) -> None:
    data = FILES[name]
    cuts = {*range(0, len(data), max(1, len(data) // 60)), *range(max(0, len(data) - 12), len(data)), *range(20)}
    for cut in cuts:
        with pytest.raises(BadImage, match=f"Corrupt image '{name}'"):
            decode(data[:cut], name)


def test_a_whole_thumbnail_does_not_vouch_for_a_truncated_picture() -> None:
    thumbnail = encode(".jpg", picture(8, 8))
    data = with_exif(".jpg", picture(), exif(1) + thumbnail)
    assert decode(data, "whole").shape == (HEIGHT, WIDTH, 3)
    with pytest.raises(BadImage, match="it is truncated"):
        decode(data[: len(data) - 100], "cut")


def test_a_jpeg_with_padding_and_stray_bytes_between_its_segments_is_whole() -> None:
    data = FILES["baseline.jpg"]
    first = 4 + struct.unpack(">H", data[4:6])[0]  # behind the first segment, where the second one's FF stands
    assert data[first] == 0xFF
    for between in (b"\xff\xff\xff", b"\0\0stray", b"\xff\x01"):
        padded = data[:first] + between + data[first:]
        assert (decode(padded, "padded") == decode(data, "plain")).all()


def test_a_png_with_a_flipped_bit_is_refused() -> None:
    data = bytearray(FILES["colour.png"])
    data[len(data) // 2] ^= 1
    with pytest.raises(BadImage, match="checksum"):
        decode(bytes(data), "x.png")


@pytest.mark.parametrize("data", [b"GIF89a" + bytes(40), b"just text", b"\0" * 100, b"RIFF\x04\0\0\0WAVE", b"\xff\xd8"])
def test_what_is_no_picture_is_refused(data: bytes) -> None:
    with pytest.raises(BadImage, match=r"Corrupt image 'x\.jpg': it is"):
        decode(data, "x.jpg")


def test_random_damage_raises_nothing_else() -> None:
    chance = np.random.default_rng(0)
    for name, whole in FILES.items():
        for _ in range(60):
            data = bytearray(whole)
            for at in chance.integers(0, min(len(data), 200), 3):
                data[at] = chance.integers(0, 256)
            with contextlib.suppress(BadImage):
                assert decode(bytes(data), name).ndim == 3


def test_opencv_says_nothing_of_its_own(capfd) -> None:
    with pytest.raises(BadImage):
        decode(FILES["colour.bmp"][:2] + struct.pack("<I", 6), "x.bmp")
    assert capfd.readouterr().err == ""


# Folders and tars


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes, with much beside them that is no picture."""
    root = tmp_path / "set"
    for name in ("dog/1.png", "dog/10.png", "dog/2.png", "cat/deep/er/3.PNG", "cat/.hidden.png", "cat/._1.png"):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode(".png", np.roll(picture(), len(str(path)) + sum(name.encode()), axis=0)))
    (root / ".trash").mkdir()
    (root / ".trash" / "x.png").write_bytes(FILES["colour.png"])
    (root / "dog" / "notes.txt").write_text("not a picture")
    return root


def tar_of(path: Path, folder: Path, arcname: str = ".") -> Path:
    with tarfile.open(path, "w") as tar:
        tar.add(folder, arcname=arcname)
    return path


def test_a_folder_of_class_folders(folder: Path) -> None:
    images = open_images(folder)
    assert images.classes == ("cat", "dog")
    names = [images.item_name(i) for i in range(len(images))]
    assert names == ["cat/deep/er/3.PNG", "dog/1.png", "dog/10.png", "dog/2.png"]
    assert images.labels == (0, 1, 1, 1)


@pytest.mark.parametrize("arcname", [".", "", "set", "./set"])
def test_a_tar_is_the_same_as_the_folder(folder: Path, tmp_path: Path, arcname: str) -> None:
    in_folder, in_tar = open_images(folder), open_images(tar_of(tmp_path / "set.tar", folder, arcname))
    assert in_tar.classes == in_folder.classes
    assert in_tar.labels == in_folder.labels
    assert len(in_tar) == len(in_folder) == 4
    for index in range(len(in_folder)):
        assert in_tar.item_name(index).removeprefix("set/") == in_folder.item_name(index)
        assert in_tar.encoded(index) == in_folder.encoded(index)
        assert sha256(in_tar, index) == sha256(in_folder, index)
        assert (in_tar.image(index) == in_folder.image(index)).all()


def test_pictures_are_listed_without_classes(folder: Path, tmp_path: Path) -> None:
    for path in (folder, tar_of(tmp_path / "set.tar", folder)):
        pictures = list_pictures(path)
        assert [pictures.item_name(i) for i in range(4)] == [
            "cat/deep/er/3.PNG",
            "dog/1.png",
            "dog/10.png",
            "dog/2.png",
        ]
        assert pictures.labels == (0, 0, 0, 0)


def test_names_that_are_no_utf8_are_printable_and_unique_and_open(folder: Path, tmp_path: Path) -> None:
    for name in (b"x\xff.png", b"x\\udcff.png", b"x\\\\udcff.png", b"\xfe/1.png"):
        path = Path(os.fsdecode(os.fsencode(folder / "dog") + b"/" + name))
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(name)  # every picture has bytes of its own
    odd = folder.rename(Path(os.fsdecode(os.fsencode(tmp_path) + b"/set\xff")))
    for path in (odd, tar_of(tmp_path / "set.tar", odd)):
        images = open_images(path)
        names = [images.item_name(i) for i in range(len(images))]
        assert "\n".join([images.name, *names]).encode()
        assert len(set(names)) == len(names) == 8
        content = {name: images.encoded(i) for i, name in enumerate(names)}
        assert content[r"dog/x\udcff.png"] == b"x\xff.png"
        assert content[r"dog/x\\udcff.png"] == b"x\\udcff.png"
        assert content[r"dog/\udcfe/1.png"] == b"\xfe/1.png"


def test_a_class_may_have_a_name_that_is_no_utf8(tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/set/\xff/1.png"))
    path.parent.mkdir(parents=True)
    path.write_bytes(FILES["colour.png"])
    images = open_images(tmp_path / "set")
    assert (images.classes, images.labels) == ((r"\udcff",), (0,))
    assert (images.image(0) == picture()).all()


def test_pictures_outside_a_class_folder(folder: Path) -> None:
    (folder / "stray.png").write_bytes(FILES["colour.png"])
    with pytest.raises(BadInput, match=r"'stray\.png' .* is in no class folder"):
        open_images(folder)
    assert len(list_pictures(folder)) == 5


def test_a_later_member_of_the_same_name_replaces_the_earlier(folder: Path, tmp_path: Path) -> None:
    path = tar_of(tmp_path / "set.tar", folder)
    with tarfile.open(path, "a") as tar:
        add(tar, "dog/1.png", FILES["colour.png"])
    images = open_images(path)
    assert len(images) == 4
    assert images.encoded(1) == FILES["colour.png"]


def test_a_hard_link_in_a_tar_is_a_picture(folder: Path, tmp_path: Path) -> None:
    os.link(folder / "dog" / "1.png", folder / "dog" / "0.png")
    with tarfile.open(tar_of(tmp_path / "set.tar", folder)) as tar:
        assert any(member.islnk() for member in tar), "the second name is stored as a link"
    images, plain = open_images(tmp_path / "set.tar"), open_images(folder)
    assert len(images) == 5
    assert [images.encoded(i) for i in range(5)] == [plain.encoded(i) for i in range(5)]


def add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    tar.addfile(member, io.BytesIO(data))


@pytest.mark.parametrize("mode", ["w:gz", "w:bz2", "w:xz"])
def test_a_compressed_tar_is_refused(folder: Path, tmp_path: Path, mode: str) -> None:
    with tarfile.open(tmp_path / "set.tar", mode) as tar:
        tar.add(folder, arcname=".")
    with pytest.raises(BadInput, match="uncompressed tar"):
        open_images(tmp_path / "set.tar")


def test_a_tar_that_was_cut_off_is_refused_wherever_the_cut_is(folder: Path, tmp_path: Path) -> None:
    data = tar_of(tmp_path / "set.tar", folder).read_bytes()
    with tarfile.open(tmp_path / "set.tar") as tar:
        tar.getmembers()
        end = tar.offset
    for cut in {*range(0, end, 512), *range(100, end, 3000), end - 1, end}:
        (tmp_path / "cut.tar").write_bytes(data[:cut])
        with pytest.raises(BadInput, match=r"cut\.tar' as an uncompressed tar"):
            open_images(tmp_path / "cut.tar")


def test_a_tar_with_a_damaged_header_is_refused(folder: Path, tmp_path: Path) -> None:
    path = tar_of(tmp_path / "set.tar", folder)
    with tarfile.open(path) as tar:
        at = tar.getmember("./dog/2.png").offset
    data = bytearray(path.read_bytes())
    data[at : at + 200] = b"?" * 200
    path.write_bytes(data)
    with pytest.raises(BadInput, match="uncompressed tar"):
        open_images(path)


def test_a_tar_that_shrinks_while_it_is_read_names_the_picture(folder: Path, tmp_path: Path) -> None:
    path = tar_of(tmp_path / "set.tar", folder)
    images = open_images(path)
    os.truncate(path, 1000)
    with pytest.raises(BadImage, match="the tar ends inside it"):
        images.image(3)
    path.unlink()
    with pytest.raises(BadImage, match="Cannot read image"):
        images.image(3)


def test_places_without_pictures_are_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with tarfile.open(tmp_path / "empty.tar", "w"):
        pass
    (tmp_path / "zero.tar").touch()
    (tmp_path / "x.png").write_bytes(FILES["colour.png"])
    (tmp_path / "notes.txt").write_text("x" * 2000)
    for name, says in (
        ("empty", "No images in"),
        ("empty.tar", "No images in"),
        ("zero.tar", "uncompressed tar"),
        ("nothing", "No such folder or tar"),
        ("x.png", "is a single image"),
        ("notes.txt", "uncompressed tar"),
    ):
        for read in (open_images, list_pictures):
            with pytest.raises(BadInput, match=says):
                read(tmp_path / name)


def test_real_photographs(shared_data: Path) -> None:
    images = open_images(shared_data / "photos")
    assert "dog" in images.classes
    for index in range(len(images)):
        image = images.image(index)
        assert image.ndim == 3
        assert min(image.shape[:2]) > 100
