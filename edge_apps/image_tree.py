"""Which images lie below a folder or in a tar, and which files and links beside them are passed over.

Both are read into the same ``ImageTree``, so that a tar means what the folder that it was made of means.
"""

from __future__ import annotations

import os
import posixpath
import stat
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from edge_apps.errors import BadInput
from edge_apps.file_names import is_system_name, listed, printable
from edge_apps.image_formats import HEAD, READ, has_image_suffix, is_image, unread_format
from edge_apps.tar_members import BadTar, tar_members
from edge_apps.untrusted import open_regular

ARCHIVES = frozenset({".tar", ".zip", ".gz", ".tgz", ".bz2", ".xz", ".zst", ".7z", ".rar"})

MOST_FOLDERS = 100_000
"""Folders in a tar, whose paths are kept; ImageNet-21k has 21,841 classes."""

LONGEST_CHAIN = 40
"""Links in a tar that lead to one another; Linux follows as many (path_resolution(7))."""


@dataclass(frozen=True)
class ImageFile:
    """One image inside a folder or tar.

    path: "/"-separated, as the file system or tar has it. offset: where the bytes start in the tar; None for a file.
    """

    path: str
    offset: int | None
    size: int

    @property
    def name(self) -> str:
        """The path as UTF-8; backslashes are doubled, so that no other path can look like an escaped one."""
        return shown_path(self.path)


@dataclass(frozen=True)
class LinkPassedOver:
    """A link, or a folder behind one, that is not read.

    why: a clause, such as "it is a link that leads nowhere". is_loop: it leads to a folder that it lies in.
    """

    path: str
    why: str
    is_loop: bool = False


@dataclass(frozen=True)
class ImageTree:
    """What was found; system files and hidden ones are in none of these.

    images: in the order of their paths. folders: every folder below the root, also without an image. unread: path and
    format of each image in a format that is not read.
    """

    images: tuple[ImageFile, ...]
    folders: frozenset[str]
    unread: tuple[tuple[str, str], ...]
    links: tuple[LinkPassedOver, ...]

    def below(self, folder: str) -> ImageTree:
        """The part of the tree in one of its folders; paths stay as they are."""
        return ImageTree(
            tuple(file for file in self.images if is_below(file.path, folder)),
            frozenset(path for path in self.folders if is_below(path, folder)),
            tuple(found for found in self.unread if is_below(found[0], folder)),
            tuple(link for link in self.links if is_below(link.path, folder)),
        )

    def remarks(self) -> tuple[str, ...]:
        """What was passed over, a sentence each."""
        found = []
        if self.unread:
            found.append(f"Passed over {describe_unread(self.unread)}: only {_formats('and')} are read; convert them.")
        found += [f"Passed over '{shown_path(link.path)}': {link.why}." for link in self.links[:3]]
        if len(self.links) > 3:
            found.append(f"Passed over {len(self.links) - 3} more links.")
        return tuple(found)


def read_tree(path: Path) -> ImageTree:
    """List a folder, or an uncompressed tar without unpacking it.

    Links to folders are followed once: one that leads to a folder which is read anyway is passed over. So no image is
    read twice by way of a link to its folder, and no loop is followed.

    Raises:
        BadInput: no such path, no image, a single image, a folder that cannot be read, a compressed or broken tar.
    """
    if path.is_dir():
        tree = _read_folder(path)
    elif path.is_file() and has_image_suffix(path.name):
        raise BadInput(f"'{path}' is a single image: give the folder that holds it, or a tar of one.")
    elif path.is_file():
        tree = _read_tar(path)
    else:
        fault = "It is neither a folder nor a file" if path.exists() else "No such folder or tar"
        raise BadInput(f"{fault}: '{path}'.")
    if not tree.images:
        beside = f" It has {describe_unread(tree.unread)}: convert them to JPEG or PNG." if tree.unread else ""
        links = "".join(f" Passed over '{shown_path(link.path)}': {link.why}." for link in tree.links[:1])
        raise BadInput(f"No images in '{path}': expected {_formats('or')} files.{beside}{links}{_archives(path)}")
    return tree


def _archives(path: Path) -> str:
    """A hint where a folder holds the data still packed."""
    packed = sorted(file.name for file in path.iterdir() if file.suffix.lower() in ARCHIVES) if path.is_dir() else []
    return f" It holds {listed(packed)}: give an uncompressed .tar itself, unpack others." if packed else ""


def describe_unread(unread: Sequence[tuple[str, str]]) -> str:
    """Return ``12 HEIC and 3 GIF files (first: 'cat/1.heic')``."""
    counts = [f"{count:,} {name}" for name, count in Counter(name for _, name in unread).most_common()]
    named = " and ".join(filter(None, [", ".join(counts[:-1]), counts[-1]]))
    return f"{named} {'file' if len(unread) == 1 else 'files'} (first: {listed([shown_path(unread[0][0])])})"


def shown_path(path: str) -> str:
    """Return a path inside a folder or tar as it is printed."""
    return printable(path.replace("\\", "\\\\"))


def is_below(path: str, folder: str) -> bool:
    """Return whether a path lies in a folder or below it; everything lies below the root, ""."""
    return not folder or path.startswith(f"{folder}/")


def _formats(conjunction: str) -> str:
    return f"{', '.join(READ[:-1])} {conjunction} {READ[-1]}"


@dataclass
class _Found:
    """An ``ImageTree`` in the making."""

    images: list[ImageFile] = field(default_factory=list)
    folders: set[str] = field(default_factory=set)
    unread: list[tuple[str, str]] = field(default_factory=list)
    links: list[LinkPassedOver] = field(default_factory=list)

    def add(self, file: ImageFile, head: bytes) -> None:
        """Sort one file in by its name and its first bytes."""
        if is_image(file.path, head):
            self.images.append(file)
        elif (name := unread_format(file.path, head)) is not None:
            self.unread.append((file.path, name))

    def tree(self) -> ImageTree:
        """The same, in an order that does not depend on the file system."""
        return ImageTree(
            tuple(sorted(self.images, key=lambda file: file.path)),
            frozenset(self.folders),
            tuple(sorted(self.unread)),
            tuple(sorted(self.links, key=lambda link: link.path)),
        )


def _read_folder(root: Path) -> ImageTree:
    """Walk all real folders first, and only then the links, so that a folder is known by its own name."""
    found = _Found()
    waiting, links = deque([""]), deque[str]()
    seen = {_identity(around): str(around) for around in root.resolve().parents}
    seen[_identity(root)] = ""
    while waiting or links:
        folder = waiting.popleft() if waiting else links.popleft()
        before = seen.setdefault(_identity(root / folder), folder)
        if before != folder:
            found.links.append(_read_already(folder, before))
            continue
        if folder:
            found.folders.add(folder)
        for name, mode, is_link in _scan(root, folder):
            path = f"{folder}/{name}" if folder else name
            if mode is None:
                found.links.append(LinkPassedOver(path, "it is a link that leads nowhere"))
            elif stat.S_ISDIR(mode) and is_link:
                links.append(path)
            elif stat.S_ISDIR(mode):
                waiting.append(path)
            elif stat.S_ISREG(mode):
                head = b"" if has_image_suffix(name) else _head(root / path)
                found.add(ImageFile(path, None, 0), head)
    return found.tree()


def _scan(root: Path, folder: str) -> list[tuple[str, int | None, bool]]:
    """Name, mode and whether it is a link, of what a user put into a folder; no mode: a link that leads nowhere."""
    try:
        with os.scandir(root / folder) as entries:
            kept = sorted((entry for entry in entries if not is_system_name(entry.name)), key=lambda entry: entry.name)
            return [(entry.name, _mode(entry), entry.is_symlink()) for entry in kept]
    except OSError as error:
        raise BadInput(f"Cannot read folder '{printable(str(root / folder))}': {error.strerror}.") from error


def _mode(entry: os.DirEntry[str]) -> int | None:
    """Without a system call for files and folders that are no links, of which there may be a million."""
    if not entry.is_symlink():
        return stat.S_IFDIR if entry.is_dir() else stat.S_IFREG if entry.is_file() else 0
    try:
        return entry.stat().st_mode
    except OSError:  # nothing there, or a link to itself
        return None


def _read_already(path: str, before: str) -> LinkPassedOver:
    """``before``: the folder that the link leads to; absolute where it lies around the data."""
    if before.startswith("/"):
        return LinkPassedOver(path, f"it leads to '{shown_path(before)}', in which the data lie", is_loop=True)
    if not before:
        return LinkPassedOver(path, "it leads to the data themselves", is_loop=True)
    why = f"it leads to '{shown_path(before)}', which is read already"
    return LinkPassedOver(path, why, is_loop=is_below(path, before))


def _identity(path: Path) -> tuple[int, int]:
    about = path.stat()
    return about.st_dev, about.st_ino


def _head(path: Path) -> bytes:
    """The first bytes of a file; none of one that cannot be read, which then counts by its name."""
    try:
        with open_regular(path) as stream:
            return stream.read(HEAD)
    except OSError:
        return b""


def _read_tar(path: Path) -> ImageTree:
    found = _Found()
    try:
        with open_regular(path) as stream:
            files, links = _members(stream, found)
            _resolve(links, files, found)
            for file in files.values():
                found.add(file, b"" if has_image_suffix(file.path) else _head_in(stream, file))
    except (BadTar, OSError) as error:
        said = error.strerror if isinstance(error, OSError) else error
        raise BadInput(
            f"Cannot read '{path}' as an uncompressed tar ({said}): give a folder, or a whole uncompressed .tar."
        ) from error
    return found.tree()


def _members(stream: BinaryIO, found: _Found) -> tuple[dict[str, ImageFile], dict[str, str]]:
    """Files and links by their paths. A name that occurs again replaces the earlier member, as unpacking would.

    Hard links are files: their bytes are those of the member that they name.
    """
    files: dict[str, ImageFile] = {}
    links: dict[str, str] = {}
    hard: dict[str, str] = {}
    stored: dict[str, tuple[int, int]] = {}
    for member in tar_members(stream):
        is_stored = member.isreg() and not member.issparse()
        if is_stored:
            stored[member.name] = member.offset_data, member.size
        path = posixpath.normpath(member.name.lstrip("/"))
        if any(map(is_system_name, path.split("/"))):  # "." too
            continue
        for known in (files, links, hard):
            known.pop(path, None)
        _add_folders(found.folders, posixpath.dirname(path))
        if member.isdir():
            found.folders.add(path)
        elif member.issym():
            links[path] = posixpath.normpath(posixpath.join(posixpath.dirname(path), member.linkname))
        elif member.islnk():
            hard[path] = member.linkname
        elif is_stored:
            files[path] = ImageFile(path, member.offset_data, member.size)
        elif member.issparse() and has_image_suffix(path):
            raise BadTar(f"'{shown_path(path)}' is stored sparse")
    for path, name in hard.items():
        if name in stored:
            files[path] = ImageFile(path, *stored[name])
        elif has_image_suffix(path):
            raise BadTar(f"'{shown_path(path)}' is a link to '{shown_path(name)}', which is not stored in it")
    return files, links


def _add_folders(folders: set[str], folder: str) -> None:
    """Add a folder and those around it; a tar need not have members for them."""
    while folder and folder not in folders:
        folders.add(folder)
        folder = posixpath.dirname(folder)
    if len(folders) > MOST_FOLDERS:
        raise BadTar(f"it has more than {MOST_FOLDERS:,} folders")


def _resolve(links: dict[str, str], files: dict[str, ImageFile], found: _Found) -> None:
    """Add the files that links lead to; a folder inside the tar is read by its own name."""
    added = {}
    for path, target in links.items():
        passed = {path}
        while target in links and target not in passed and len(passed) < LONGEST_CHAIN:
            passed.add(target)
            target = links[target]
        if target in files:
            added[path] = ImageFile(path, files[target].offset, files[target].size)
        elif target in found.folders or target == ".":
            found.links.append(_read_already(path, "" if target == "." else target))
        else:
            found.links.append(LinkPassedOver(path, "it is a link to what the tar does not hold"))
    files.update(added)


def _head_in(stream: BinaryIO, file: ImageFile) -> bytes:
    return os.pread(stream.fileno(), min(HEAD, file.size), file.offset or 0)
