"""What becomes of the pictures in a folder on their way to a network, as hashes: ``{"<picture> <step>": sha256}``.

    python hash_inputs.py FOLDER

Runs on the emulated board and on the machine that emulates it.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

from edge_apps.images import Image, list_pictures
from edge_apps.runtime.preprocess import Preprocess, to_input

STEPS = {
    "to 224 whole": Preprocess(height=224, width=224),
    "to 224 of 256": Preprocess(height=224, width=224, resize="crop", resize_to=256),
    "to 299 of 320": Preprocess(height=299, width=299, resize="crop", resize_to=320),
    "to 65 by 33": Preprocess(height=65, width=33),
}


def _hash(image: Image) -> str:
    return hashlib.sha256(repr(image.shape).encode() + image.tobytes()).hexdigest()


def main(folder: Path) -> None:
    """Print the hashes of every picture: decoded, and after each step; cut to odd sizes as well."""
    pictures = list_pictures(folder)
    hashes = {}
    for index in range(len(pictures)):
        name, image = pictures.item_name(index), pictures.image(index)
        hashes[f"{name} decoded"] = _hash(image)
        for step, preprocess in STEPS.items():
            hashes[f"{name} {step}"] = _hash(to_input(image, preprocess))
            hashes[f"{name} cut {step}"] = _hash(to_input(image[::2, :-1] if image.size > 3 else image, preprocess))
    print(json.dumps(hashes))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
