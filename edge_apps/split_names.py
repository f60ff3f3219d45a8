"""What the name of a folder says that it is for: training, validation, testing.

``split_use`` takes only names that say nothing else. ``loose_use`` takes every name with such a word in it, as a class
may have too ("test tube"): what lies in the folders has to agree.
"""

from __future__ import annotations

import posixpath
import re
import unicodedata
from typing import Literal

Use = Literal["train", "calibration", "val", "test"]
"""What images are read for."""

_WORDS: dict[str, Use] = {
    **dict.fromkeys(("train", "training", "trainval", "trainvalidation"), "train"),
    **dict.fromkeys(("val", "valid", "validate", "validation", "verify", "verification"), "val"),
    **dict.fromkeys(("dev", "eval", "evaluate", "evaluation"), "val"),
    **dict.fromkeys(("test", "testing", "holdout"), "test"),
    **dict.fromkeys(("calib", "calibrate", "calibration"), "calibration"),
}

_SHORT: dict[str, Use] = {"tr": "train", "trn": "train", "te": "test", "tst": "test", "ts": "test", "vl": "val"}
"""Words that also stand for something else, such as languages."""

_STEMS: dict[str, Use] = {
    **dict.fromkeys(("train", "entren", "entrain", "trein", "addestr", "apprent", "lern", "обуч", "трен"), "train"),
    **dict.fromkeys(("训练", "訓練", "学習"), "train"),
    **dict.fromkeys(("valid", "evalua", "verif", "валид", "验证", "驗證", "検証"), "val"),
    **dict.fromkeys(("test", "prueba", "prova", "pruf", "pruef", "тест", "测试", "測試", "テスト"), "test"),
    **dict.fromkeys(("calibr", "kalibr"), "calibration"),
}
"""Beginnings of such words in languages in which data are named, without accents."""

_FILLERS = frozenset({
    "set", "sets", "subset", "split", "data", "dataset", "datasets", "ds", "image", "images", "img", "imgs", "picture",
    "pictures", "pics", "photo", "photos", "dir", "directory", "folder", "files", "sample", "samples", "my", "the",
    "new", "final", "full", "small", "tiny", "public", "private", "labeled", "labelled",
})  # fmt: skip
"""Words that say nothing about what a folder is for; single letters do not either."""

_PARTS = frozenset({
    "fold", "folds", "kfold", "cv", "part", "parts", "split", "subset", "set", "batch", "chunk", "shard", "group",
    "raw", "original", "orig", "originals", "processed", "preprocessed", "augmented", "aug", "resized", "cropped",
    "scaled", "cleaned", "filtered", "balanced", "unbalanced", "extra", "rest", "pred", "predict", "prediction",
    "unlabeled", "unlabelled", "query", "gallery", "support",
})  # fmt: skip
"""Names of parts and of versions of data."""


def split_use(folder: str) -> Use | None:
    """Return what a folder named such as ``train``, ``ValidationDir`` or ``test2017_images`` is for, if anything."""
    told = [word for word in _words(folder) if not _is_filler(word)]
    return _strict(told[0]) if len(told) == 1 else None


def loose_use(folder: str) -> Use | None:
    """Return what a folder is for if any word of its name says so: ``seg_train``, ``ILSVRC2012_img_val``, ``te``."""
    return next((use for word in _words(folder) if (use := _loose(word)) is not None), None)


def beside_use(folder: str) -> tuple[str, ...]:
    """Return the words of a name that say nothing about its use: ``seg_train`` and ``seg_test`` have the same."""
    return tuple(word for word in _words(folder) if _loose(word) is None and not _is_filler(word))


def names_a_part(folder: str) -> bool:
    """Return whether a name is that of a part or a version of data, such as ``fold3``, ``raw`` or ``seg_pred``."""
    return not _PARTS.isdisjoint(_words(folder)) or loose_use(folder) is not None


def _words(folder: str) -> list[str]:
    """The words of a folder's name in lower case, without accents and numbers; ``TrainSet`` has two."""
    letters = unicodedata.normalize("NFKD", posixpath.basename(folder))
    plain = "".join(letter for letter in letters if not unicodedata.combining(letter))
    apart = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", plain).casefold()
    return re.findall(r"[^\W\d_]+", re.sub(r"\bhold[\W_]out\b", "holdout", apart.replace("_", " ")))


def _is_filler(word: str) -> bool:
    return len(word) == 1 or word in _FILLERS


def _strict(word: str) -> Use | None:
    """The use that a word names, also with a filler before or behind it: ``traindata``."""
    if word in _WORDS:
        return _WORDS[word]
    bare = [word.removesuffix(filler) for filler in _FILLERS] + [word.removeprefix(filler) for filler in _FILLERS]
    return next((_WORDS[rest] for rest in bare if rest in _WORDS), None)


def _loose(word: str) -> Use | None:
    exact = _strict(word) or _SHORT.get(word)
    return exact or next((use for stem, use in _STEMS.items() if word.startswith(stem)), None)
