"""How torchvision and timm name their tensors, and what they fix that no name shows.

The zoo takes over torchvision's names wherever that costs no clarity, so that most maps here are empty. What a file
must hold is told from the zoo's own network: after its renaming, every tensor has to find its place and every place
its tensor.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import BadCheckpoint
from pipeline.zoo.spec import ModelSpec, Value

Fixed = Callable[[str, Collection[str]], Mapping[str, Value]]
"""The options that a source's model has, of its name in the zoo and the file's tensor names."""


def _nothing(_model: str, _names: Collection[str]) -> Mapping[str, Value]:
    return {}


@dataclass(frozen=True)
class Spelling:
    """One way of naming the tensors of some models.

    A file is in this spelling if it has a tensor named ``mark``. ``renames`` are regular expressions for the whole
    name or its beginning, with what takes their place; the first that matches counts. ``left_out`` are beginnings of
    names for which the network that runs has no use. ``sets`` is how the names of its published sets begin.
    """

    name: str
    models: tuple[str, ...]
    mark: str
    sets: str = "IMAGENET1K"
    fixed: Fixed = _nothing
    renames: tuple[tuple[str, str], ...] = ()
    left_out: tuple[str, ...] = ()

    def place(self, name: str) -> str | None:
        """A tensor's name in the zoo's network; None for one that is left out."""
        if name.startswith(self.left_out):
            return None
        for pattern, replacement in self.renames:
            found = re.match(pattern, name)
            if found:
                return found.expand(replacement) + name[found.end() :]
        return name


def _vgg(_model: str, names: Collection[str]) -> Mapping[str, Value]:
    return {"batch_norm": "features.1.running_mean" in names}


def _googlenet(_model: str, _names: Collection[str]) -> Mapping[str, Value]:
    """Its "5×5" branches have 3×3 kernels (github.com/pytorch/vision/issues/906)."""
    return {"branch5_kernel": 3}


def _resnet(model: str, _names: Collection[str]) -> Mapping[str, Value]:
    return {} if model in ("resnet18", "resnet34") else {"stride_on": "3x3"}


def _squeezenet(_model: str, _names: Collection[str]) -> Mapping[str, Value]:
    return {"bypass": "none"}


def _efficientnet(model: str, _names: Collection[str]) -> Mapping[str, Value]:
    return {"eps": 1e-3 if model in ("efficientnet_b5", "efficientnet_b6", "efficientnet_b7") else 1e-5}


def _timm(_model: str, _names: Collection[str]) -> Mapping[str, Value]:
    return {"stem_pool": "padded", "stride_on": "3x3"}


def _timm_legacy(model: str, _names: Collection[str]) -> Mapping[str, Value]:
    """As the authors' Caffe networks, apart from SE-ResNet-18, which was timm's own."""
    of_model: dict[str, dict[str, Value]] = {
        "se_resnet18": {"rectified": True},
        "se_resnet50": {"stride_on": "1x1"},
        "se_resnext50_32x4d": {"stride_on": "3x3"},
    }
    return {"stem_pool": "ceil", **of_model[model]}


SPELLINGS = (
    Spelling("torchvision", ("alexnet_one_tower",), "features.10.weight"),
    Spelling("torchvision", ("vgg_a", "vgg_b", "vgg_d", "vgg_e"), "classifier.6.weight", fixed=_vgg),
    Spelling(
        "torchvision",
        ("googlenet_bn",),
        "inception3a.branch1.conv.weight",
        fixed=_googlenet,
        left_out=("aux1.", "aux2."),  # its auxiliary heads: for training, and not trained in the published file
    ),
    Spelling(
        "torchvision",
        ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152"),
        "fc.weight",
        fixed=_resnet,
    ),
    Spelling("torchvision", ("squeezenet_1_0", "squeezenet_1_1"), "features.3.expand1x1.weight", fixed=_squeezenet),
    Spelling("torchvision", ("mobilenet_v2",), "features.18.0.weight"),
    Spelling(
        "torchvision", tuple(f"efficientnet_b{scale}" for scale in range(8)), "features.8.0.weight", fixed=_efficientnet
    ),
    # Not its seresnet18: nothing is published for it, and it squeezes to other widths.
    Spelling("timm seresnet", ("se_resnet50", "se_resnext50_32x4d"), "fc.weight", sets="seresne", fixed=_timm),
    Spelling(
        "timm legacy_seresnet",
        ("se_resnet18", "se_resnet50", "se_resnext50_32x4d"),
        "last_linear.weight",
        sets="legacy_",
        fixed=_timm_legacy,
        renames=(
            (r"layer0\.(conv1|bn1)\.", r"\1."),
            (r"(layer[1-4]\.\d+)\.se_module\.", r"\1.se."),
            (r"last_linear\.", "fc."),
        ),
    ),
)


def importable() -> tuple[str, ...]:
    """The models whose weights can be imported."""
    return tuple(dict.fromkeys(model for spelling in SPELLINGS for model in spelling.models))


def marks(model: str) -> tuple[str, ...]:
    """The tensor names by which the files of this model are known."""
    return tuple(spelling.mark for spelling in SPELLINGS if model in spelling.models)


def recognise(model: str, names: Collection[str], where: str) -> Spelling:
    """The spelling of a file for this model, from its tensor names.

    Raises:
        BadCheckpoint: none is known for this model, or the file is in none of those that are.
    """
    known = [spelling for spelling in SPELLINGS if model in spelling.models]
    if not known:
        raise BadCheckpoint(f"Weights of others cannot be imported as '{model}'. Known: {', '.join(importable())}.")
    for spelling in known:
        if spelling.mark in names:
            return spelling
    expected = " or ".join(f"'{spelling.mark}' ({spelling.name})" for spelling in known)
    raise BadCheckpoint(f"{where} is no '{model}' in a known spelling: it has no tensor {expected}.")


def check_hidden(path: Path, spec: ModelSpec, names: Collection[str], given: Mapping[str, Value]) -> None:
    """Refuse a file that may be of others whose network differs from the default one in what no tensor shows.

    Raises:
        BadCheckpoint: the options of which that is so, none of them given.
    """
    defaults = spec.with_defaults({})
    for spelling in SPELLINGS:
        if spec.name not in spelling.models or spelling.mark not in names:
            continue
        fixed = spelling.fixed(spec.name, names)
        hidden = {name: value for name, value in fixed.items() if name not in given and value != defaults[name]}
        if hidden:
            differ = ", ".join(f"{name} is {value}, not {defaults[name]}" for name, value in hidden.items())
            say = " ".join(f"`{name}=…`" for name in hidden)
            raise BadCheckpoint(
                f"'{path}' does not say what it is, and may be {spelling.name}'s '{spec.name}', whose {differ}. Import "
                f"it as '{spec.name}' with 'pipeline import-weights', or say which, with {say}."
            )
