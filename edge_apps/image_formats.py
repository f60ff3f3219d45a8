"""What kind of image a file holds, told from its first bytes: a suffix may be missing or wrong."""

from __future__ import annotations

import posixpath

SUFFIXES = frozenset({".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".dib"})
"""Files with these suffixes, in any case, are taken as images; what is in them is found out when they are decoded."""

READ = ("JPEG", "PNG", "WebP", "BMP")
"""The formats that are read. A device may have another OpenCV, so only what every build decodes is among them."""

HEAD = 64
"""Bytes that ``format_of`` looks at."""

_MAGIC: tuple[tuple[bytes, str], ...] = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0", "TIFF"),
    (b"MM\0+", "TIFF"),
    (b"\xff\x0a", "JPEG XL"),
    (b"\0\0\0\x0cJXL ", "JPEG XL"),
    (b"\0\0\0\x0cjP  ", "JPEG 2000"),
    (b"\xff\x4f\xff\x51", "JPEG 2000"),
    (b"8BPS", "Photoshop"),
    (b"v/1\x01", "OpenEXR"),
)

_BRANDS = {
    **dict.fromkeys((b"avif", b"avis"), "AVIF"),
    **dict.fromkeys((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"), "HEIC"),
}

_BY_SUFFIX = {
    ".gif": "GIF",
    ".svg": "SVG",
    ".pcx": "PCX",
    ".dds": "DDS",
    ".qoi": "QOI",
    ".hdr": "Radiance HDR",
    ".icns": "ICNS",
    ".xcf": "GIMP",
    **dict.fromkeys((".ico", ".cur"), "ICO"),
    **dict.fromkeys((".tga", ".targa"), "TGA"),
    **dict.fromkeys((".dcm", ".dicom"), "DICOM"),
    ".psd": "Photoshop",
    ".exr": "OpenEXR",
    ".jxl": "JPEG XL",
    **dict.fromkeys((".tif", ".tiff"), "TIFF"),
    **dict.fromkeys((".heic", ".heif", ".hif"), "HEIC"),
    **dict.fromkeys((".avif", ".avifs"), "AVIF"),
    **dict.fromkeys((".jp2", ".j2k", ".jpf", ".jpx"), "JPEG 2000"),
    **dict.fromkeys((".pbm", ".pgm", ".ppm", ".pnm"), "PNM"),
    **dict.fromkeys((".dng", ".cr2", ".cr3", ".nef", ".arw", ".raf", ".orf", ".rw2"), "camera raw"),
}


def format_of(head: bytes) -> str | None:
    """Return the image format that a file with these first bytes has, read or not; None where it is no image."""
    for magic, name in _MAGIC:
        if head.startswith(magic):
            return name
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return "WebP"
    if head.startswith(b"BM") and head[6:10] == bytes(4):  # two letters alone also begin a text
        return "BMP"
    if head[4:8] == b"ftyp":
        brands = [head[8:12], *(head[at : at + 4] for at in range(16, len(head) - 3, 4))]
        known = [_BRANDS[brand] for brand in brands if brand in _BRANDS]
        return "AVIF" if "AVIF" in known else next(iter(known), None)  # AVIF files name HEIC's container too
    return None


def is_image(path: str, head: bytes) -> bool:
    """Return whether a file is taken as an image: by its suffix, otherwise by its first bytes."""
    return has_image_suffix(path) or format_of(head) in READ


def has_image_suffix(path: str) -> bool:
    """Return whether the name alone is enough to take a file as an image."""
    return _suffix(path) in SUFFIXES


def unread_format(path: str, head: bytes) -> str | None:
    """Return the format of an image that is not read, by its suffix or its first bytes; None for any other file."""
    return _BY_SUFFIX.get(_suffix(path)) or format_of(head)


def _suffix(path: str) -> str:
    """Lower case, with its dot. Not by ``pathlib``, which is slow for a million files."""
    return posixpath.splitext(path)[1].lower()
