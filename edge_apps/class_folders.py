"""Which folders of an ``ImageTree`` are the classes.

Folders around all of them, and folders for training and testing, are looked through.
"""

from __future__ import annotations

import itertools
import posixpath
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from edge_apps.errors import BadInput
from edge_apps.file_names import listed
from edge_apps.image_tree import ImageFile, ImageTree, describe_unread, is_below, shown_path
from edge_apps.split_names import Use, beside_use, loose_use, names_a_part, split_use

_TAKEN_FOR: dict[Use, tuple[Use, ...]] = {
    "train": ("train",),
    "calibration": ("calibration", "train"),
    "val": ("val", "test"),
    "test": ("test", "val"),
}
"""The splits that serve a use, the best first. What was trained on is never taken to measure on."""

MOST_PARTS = 20
"""More folders that hold folders of the same names are classes, not parts of the data."""


@dataclass(frozen=True)
class ClassFolders:
    """Classes in the order of their names, and the label of each image.

    split: the path of the folder for the asked use, where the data is divided into such folders; else "". remarks:
    what a user should know, a sentence each.
    """

    classes: tuple[str, ...]
    images: tuple[ImageFile, ...]
    labels: tuple[int, ...]
    split: str
    remarks: tuple[str, ...]


def find_class_folders(tree: ImageTree, data: str, use: Use | None = None) -> ClassFolders:
    """Find the class folders of ``data`` (its path, for messages).

    A single folder around all others is looked through, also several such folders in one another. Of folders that are
    named train, val and test the one for ``use`` is taken. Names with more in them (``seg_train``) count where the
    folders hold folders of the same names, or differ in nothing but what they are for. Folders of the same names in
    folders of other names ("day" and "night" in each class) are read as parts of the classes, and a remark says so.

    Raises:
        BadInput: an image outside a class folder, a class folder without an image, two class folders of one name,
            folders for training and testing of which none, or more than one, is for ``use``; folders named as parts of
            data (``fold1``, ``raw``) that all hold folders of the same names.
    """
    folders = _Folders(tree)
    base, split, remarks = _look_through(folders, data, use)
    at = f"{data}/{shown_path(split)}" if split else data
    _refuse_stray(folders, base, at)
    class_folders = folders.inside(base)
    _refuse_empty(folders, class_folders, at)
    _refuse_links(tree, base, at)
    name_of = {folder: class_name(folder) for folder in class_folders}
    remarks += [*_check_names(name_of.values(), at), *_splits_inside(folders, class_folders, at)]
    classes = tuple(sorted(name_of.values()))
    index = {name: number for number, name in enumerate(classes)}
    images = tree.below(base).images
    label_of = {posixpath.basename(folder): index[name] for folder, name in name_of.items()}
    start = len(base) + 1 if base else 0
    labels = tuple(label_of[file.path[start:].partition("/")[0]] for file in images)
    return ClassFolders(classes, images, labels, split, (*remarks, *tree.below(split).remarks()))


def _look_through(folders: _Folders, data: str, use: Use | None) -> tuple[str, str, list[str]]:
    """The folder that holds the class folders; the one chosen for ``use`` around it, else ""; what to say of that."""
    base, split, remarks = "", "", list[str]()
    while not folders.direct[base]:
        inside = folders.inside(base)
        if len(inside) == 1 and _is_around(folders, inside[0]):
            base = inside[0]
            only = split_use(base)
            if use is not None and only is not None and not split and only not in _TAKEN_FOR[use]:
                remarks.append(f"'{data}' holds {_names([base])} only: reading that.")
        elif not split and (uses := _splits(folders, base, data)):
            base = split = _choose(uses, use, data)
            remarks.append(f"'{data}' is divided into {_names(uses)}: reading '{data}/{shown_path(split)}'.")
        else:
            _refuse_parts(folders, base, data)
            break
    return base, split, remarks


def _is_around(folders: _Folders, folder: str) -> bool:
    """Whether a folder that lies alone is not a class: it holds folders only, or such for training and for testing."""
    inside = folders.inside(folder)
    return bool(inside) and (not folders.direct[folder] or len({split_use(name) for name in inside} - {None}) > 1)


def class_name(folder: str) -> str:
    """Return the class that a folder stands for.

    Composed (NFC): macOS writes "é" as two characters and Linux as one, which nobody can see.
    """
    return unicodedata.normalize("NFC", shown_path(posixpath.basename(folder)))


class _Folders:
    """Folders by the folder that they lie in, and how many images lie in each and below each."""

    def __init__(self, tree: ImageTree) -> None:
        self.tree = tree
        self.direct = Counter(posixpath.dirname(file.path) for file in tree.images)
        self.below: Counter[str] = Counter()
        for folder, count in self.direct.items():
            self.below[""] += count
            for around in itertools.accumulate(folder.split("/"), posixpath.join) if folder else ():
                self.below[around] += count
        self._inside: defaultdict[str, list[str]] = defaultdict(list)
        for folder in sorted(tree.folders):
            self._inside[posixpath.dirname(folder)].append(folder)

    def inside(self, folder: str) -> list[str]:
        """The folders directly in this one, with or without images."""
        return self._inside[folder]

    def names_inside(self, folder: str) -> frozenset[str]:
        """The names of the folders with images in this one, in the first that holds several; none beside images."""
        inside = [folder]
        while len(inside) == 1 and not self.direct[inside[0]]:
            inside = [inner for inner in self.inside(inside[0]) if self.below[inner]]
        return frozenset(map(posixpath.basename, inside)) if len(inside) > 1 else frozenset()

    def repeated(self, group: Sequence[str]) -> list[str]:
        """Names of folders that these folders have in common, at least two; none where they are not much the same.

        Much the same: at least half of what each one holds is in at least half of the others.
        """
        held = [self.names_inside(folder) for folder in group]
        counts = Counter(name for names in held for name in names)
        common = {name for name, count in counts.items() if count > 1 and 2 * count >= len(held)}
        alike = len(held) > 1 and len(common) > 1 and all(2 * len(names & common) >= len(names) > 1 for names in held)
        return sorted(common) if alike else []


def _splits(folders: _Folders, base: str, data: str) -> dict[str, Use]:
    """The folders in ``base`` for training and testing, by path; empty where its folders are classes.

    One alone may be a class: there are trains among vehicles.
    """
    inside = folders.inside(base)
    uses = _uses(folders, inside)
    others = [folder for folder in inside if folder not in uses and folders.below[folder]]
    if uses and others:
        raise BadInput(
            f"'{data}' holds {_names(uses)} beside {_names(others)}: they cannot all be classes. Give the folder whose "
            f"folders are the classes, such as {_paths(uses, data)}."
        )
    return {folder: use for folder, use in uses.items() if folders.below[folder]}


def _uses(folders: _Folders, inside: Sequence[str]) -> dict[str, Use]:
    """What folders are for, by path, if they are for two uses or more and not classes that are called so."""
    strict = {folder: use for folder in inside if (use := split_use(folder)) is not None}
    loose = {folder: use for folder in inside if (use := loose_use(folder)) is not None}
    if len(set(strict.values())) > 1 and len(strict) == len(loose):
        return strict
    if len(set(loose.values())) > 1:
        differ_in_use_only = len(loose) == len(inside) and len({beside_use(folder) for folder in loose}) == 1
        if differ_in_use_only or folders.repeated([folder for folder in inside if folders.names_inside(folder)]):
            return loose
    return strict if len(set(strict.values())) > 1 else {}


def _refuse_parts(folders: _Folders, base: str, data: str) -> None:
    """Refuse folders that are named as parts of data, and hold folders of the same names: those are the classes."""
    inside = folders.inside(base)
    if len(inside) > MOST_PARTS or not all(map(names_a_part, inside)):
        return
    if repeated := folders.repeated(inside):
        raise BadInput(
            f"'{data}' has the same folders {listed(repeated)} in each of {_names(inside)}: these are parts of the "
            f"data, not classes. Give the folder to read, {_paths(inside[:3], data)}."
        )


def _choose(uses: dict[str, Use], use: Use | None, data: str) -> str:
    for taken in () if use is None else _TAKEN_FOR[use]:
        fitting = [folder for folder, its_use in uses.items() if its_use == taken]
        if len(fitting) == 1:
            return fitting[0]
        if fitting:
            raise BadInput(f"'{data}' holds {_names(fitting)}: give one of them, {_paths(fitting, data)}.")
    raise BadInput(
        f"'{data}' is divided into {_names(uses)}, which are not classes: give the folder to read, "
        f"{_paths(uses, data)}."
    )


def _splits_inside(folders: _Folders, class_folders: Sequence[str], at: str) -> list[str]:
    """Say so where it is the class folders that are divided: what is for testing is read with the rest.

    Also where they hold folders of the same names, and so may be parts of the data with the classes inside.
    """
    inside = {inner for folder in class_folders for inner in folders.inside(folder) if folders.below[inner]}
    names = sorted({posixpath.basename(inner) for inner in inside if loose_use(inner) is not None})
    if len({loose_use(name) for name in names}) > 1:
        return [
            f"Class folders of '{at}' hold folders {listed(names)}: all their images are read. Arrange them as "
            f"{shown_path(names[0])}/<class>/<image> to read one of these alone."
        ]
    if len(class_folders) <= MOST_PARTS and (repeated := folders.repeated(class_folders)):
        first = posixpath.basename(class_folders[0])
        return [
            f"Each of the folders {_names(class_folders)} of '{at}' holds folders {listed(repeated)}: the former are "
            f"read as the classes. If the latter are the classes, give one of the former, such as "
            f"{at}/{shown_path(first)}."
        ]
    return []


def _refuse_stray(folders: _Folders, base: str, at: str) -> None:
    if not folders.direct[base]:
        return
    stray = next(file for file in folders.tree.images if posixpath.dirname(file.path) == base)
    if not folders.inside(base):
        raise BadInput(
            f"'{at}' holds {folders.direct[base]:,} images and no class folders (first: '{stray.name}' is in no class "
            "folder): arrange them as <class>/<image>. If it is one class of several, give the folder that it lies in."
        )
    more = f", nor are {folders.direct[base] - 1:,} more" if folders.direct[base] > 1 else ""
    raise BadInput(f"Image '{stray.name}' in '{at}' is in no class folder{more}: arrange them as <class>/<image>.")


def _refuse_empty(folders: _Folders, class_folders: Sequence[str], at: str) -> None:
    empty = [folder for folder in class_folders if not folders.below[folder]]
    if not empty:
        return
    unread = [found for found in folders.tree.unread if any(is_below(found[0], folder) for folder in empty)]
    one = len(empty) == 1
    said = f"Class folder{'' if one else 's'} {_names(empty)} of '{at}' {'has' if one else 'have'} no image"
    beside = f" {'It holds' if one else 'They hold'} {describe_unread(unread)}: convert them." if unread else ""
    raise BadInput(f"{said}: fill or remove {'it' if one else 'them'}.{beside}")


def _refuse_links(tree: ImageTree, base: str, at: str) -> None:
    """Refuse to lose a class whose folder is a link: to another class, or to nothing.

    A link to nothing that has the suffix of a file was one to a file.
    """
    for link in tree.links:
        of_class = posixpath.dirname(link.path) == base and not re.search(r"\.\w{1,5}$", link.path)
        if of_class and not link.is_loop:
            raise BadInput(f"Class folder {_names([link.path])} of '{at}' cannot be read: {link.why}. Remove the link.")


def _check_names(names: Iterable[str], at: str) -> list[str]:
    """Refuse classes of one name; say which differ only in upper and lower case, as 'a' and 'A' may."""
    counts = Counter(names)
    twice = [name for name, count in counts.items() if count > 1]
    if twice:
        raise BadInput(
            f"'{at}' has two folders named {listed(twice)}, which differ only in how Unicode composes their letters: "
            "put their images into one."
        )
    alike: defaultdict[str, list[str]] = defaultdict(list)
    for name in sorted(counts):
        alike[name.casefold()].append(name)
    return [
        f"Classes {listed(group)} of '{at}' differ only in upper and lower case: they are read as different classes."
        for group in alike.values()
        if len(group) > 1
    ]


def _names(folders: Iterable[str]) -> str:
    return listed(shown_path(posixpath.basename(folder)) for folder in folders)


def _paths(folders: Iterable[str], data: str) -> str:
    return " or ".join(f"{data}/{shown_path(folder)}" for folder in folders)
