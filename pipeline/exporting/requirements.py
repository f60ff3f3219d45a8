"""What must hold of all files together before a bundle is written."""

from __future__ import annotations

from collections.abc import Sequence

from edge_apps.runtime.manifest import BundleFile
from pipeline.errors import Mismatch, NotDelegated


def check_delegated(files: Sequence[BundleFile]) -> None:
    """``NotDelegated`` naming the operators that stayed outside, where a file does not run whole on its delegate."""
    shortfalls = []
    for file in files:
        found = file.delegated
        if not found or (found["partitions"] == 1 and not found["left_out"]):
            continue
        left = ", ".join(f"{name} ×{count}" for name, count in sorted(found["left_out"].items())) or "no operator"
        pieces = "1 piece" if found["partitions"] == 1 else f"{found['partitions']} pieces"
        shortfalls.append(f"{file.path} ({pieces}, {found['share']:.1%} of mult-adds; outside: {left})")
    if shortfalls:
        raise NotDelegated(f"Not whole on the delegate: {'; '.join(shortfalls)}. No bundle was written.")


def check_mismatches(files: Sequence[BundleFile]) -> None:
    """``Mismatch`` naming the files that do not compute their network, unless the user allowed them."""
    bad = [file for file in files if file.comparison.status == "run" and file.comparison.word == "bad"]
    bad = [file for file in bad if not file.comparison.allowed]
    if not bad:
        return
    said = "; ".join(_mismatch(file) for file in bad)
    allowing = " ".join(f"`allow_mismatch={file.path}`" for file in bad)
    raise Mismatch(f"{said}. No bundle was written. To keep such a file all the same: {allowing}.")


def _mismatch(file: BundleFile) -> str:
    compared = file.comparison
    where = "" if compared.departs_at is None else f"; the first operator that departs is {compared.departs_at}"
    images = {"held-out": "held-out images", "calibration": "calibration images", "noise": "images of noise"}
    on = "" if compared.judged_on is None else f" ({compared.images} {images[compared.judged_on]}{where})"
    return f"'{file.path}' {', and '.join(compared.findings)}{on}"
