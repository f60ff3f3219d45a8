"""The published ImageNet weights that can be downloaded and imported, and how pictures were prepared for them.

URLs, sizes and interpolations are those of torchvision 0.28 (``torchvision.models.*_Weights``) and timm 1.0
(``default_cfgs``); a test holds this table against both packages. Every file name ends in the first hexadecimal
digits of the file's sha256: that is how both libraries know a whole download, and how a file is recognised here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from edge_apps.runtime.preprocess import Preprocess, TrainedWith
from pipeline.errors import BadInput
from pipeline.zoo.spec import ModelSpec, Value

Interpolation = Literal["bilinear", "bicubic"]
Triple = tuple[float, float, float]

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
HALF = (0.5, 0.5, 0.5)


@dataclass(frozen=True)
class Published:
    """One published weight set of one model of the zoo.

    ``name`` is the library's own, and ``options`` tell sets of one model apart that need different networks. A
    picture's shorter side is resized to ``resize_to``, and the centre ``size`` × ``size`` is cut out.
    """

    model: str
    library: Literal["torchvision", "timm"]
    name: str
    url: str
    resize_to: int = 256
    size: int = 224
    interpolation: Interpolation = "bilinear"
    mean: Triple = MEAN
    std: Triple = STD
    options: Mapping[str, Value] = field(default_factory=dict)

    @property
    def file(self) -> str:
        """The file's name."""
        return self.url.rpartition("/")[2]

    @property
    def sha256_start(self) -> str:
        """The first digits of the file's sha256, which end its name."""
        return self.file.removesuffix(".pth").rpartition("-")[2]

    @property
    def preprocess(self) -> Preprocess:
        """As devices do it, and what that stands in for: both libraries antialias where a picture shrinks."""
        return Preprocess(
            height=self.size,
            width=self.size,
            resize="crop",
            resize_to=self.resize_to,
            mean=self.mean,
            std=self.std,
            trained_with=TrainedWith(
                library=self.library, interpolation=self.interpolation, antialias=True, resize_to=self.resize_to
            ),
        )


def _torchvision(model: str, file: str, name: str = "IMAGENET1K_V1", **given: Any) -> Published:
    return Published(model, "torchvision", name, f"https://download.pytorch.org/models/{file}.pth", **given)


def _vgg(letter: str, file: str, batch_norm: bool) -> Published:
    return _torchvision(f"vgg_{letter}", file, options={"batch_norm": batch_norm})


def _efficientnet(scale: int, file: str, resize_to: int, size: int) -> Published:
    model = f"efficientnet_b{scale}"
    return _torchvision(model, f"{model}_{file}", resize_to=resize_to, size=size, interpolation="bicubic")


def _timm(model: str, name: str, url: str, interpolation: Interpolation = "bicubic", **given: Any) -> Published:
    return Published(model, "timm", name, f"https://github.com/{url}.pth", interpolation=interpolation, **given)


_V2: dict[str, Any] = {"name": "IMAGENET1K_V2", "resize_to": 232}
_TIMM = "rwightman/pytorch-image-models/releases/download/v0.1-weights"
_RECIPES = "huggingface/pytorch-image-models/releases/download/v0.1-rsb-weights"
_CADENE = "rwightman/pytorch-image-models/releases/download/v0.1-cadene"
_GLUON = "rwightman/pytorch-pretrained-gluonresnet/releases/download/v0.1"

# Of several sets of one model the first is the one that its library takes by default.
PUBLISHED: tuple[Published, ...] = (
    _torchvision("alexnet_one_tower", "alexnet-owt-7be5be79"),
    _vgg("a", "vgg11-8a719046", False),
    _vgg("a", "vgg11_bn-6002323d", True),
    _vgg("b", "vgg13-19584684", False),
    _vgg("b", "vgg13_bn-abd245e5", True),
    _vgg("d", "vgg16-397923af", False),
    _vgg("d", "vgg16_bn-6c64b313", True),
    _vgg("e", "vgg19-dcbb9e9d", False),
    _vgg("e", "vgg19_bn-c79401a0", True),
    # Its network turns ImageNet's normalisation into this one itself (transform_input).
    _torchvision("googlenet_bn", "googlenet-1378be20", mean=HALF, std=HALF),
    _torchvision("resnet18", "resnet18-f37072fd"),
    _torchvision("resnet34", "resnet34-b627a593"),
    _torchvision("resnet50", "resnet50-11ad3fa6", **_V2),
    _torchvision("resnet50", "resnet50-0676ba61"),
    _torchvision("resnet101", "resnet101-cd907fc2", **_V2),
    _torchvision("resnet101", "resnet101-63fe2227"),
    _torchvision("resnet152", "resnet152-f82ba261", **_V2),
    _torchvision("resnet152", "resnet152-394f9c45"),
    _torchvision("squeezenet_1_0", "squeezenet1_0-b66bff10"),
    _torchvision("squeezenet_1_1", "squeezenet1_1-b8a52dc0"),
    _torchvision("mobilenet_v2", "mobilenet_v2-7ebf99e0", **_V2),
    _torchvision("mobilenet_v2", "mobilenet_v2-b0353104"),
    _efficientnet(0, "rwightman-7f5810bc", 256, 224),
    _torchvision("efficientnet_b1", "efficientnet_b1-c27df63c", "IMAGENET1K_V2", resize_to=255, size=240),
    _efficientnet(1, "rwightman-bac287d4", 256, 240),
    _efficientnet(2, "rwightman-c35c1473", 288, 288),
    _efficientnet(3, "rwightman-b3899882", 320, 300),
    _efficientnet(4, "rwightman-23ab8bcd", 384, 380),
    _efficientnet(5, "lukemelas-1a07897c", 456, 456),
    _efficientnet(6, "lukemelas-24a108a5", 528, 528),
    _efficientnet(7, "lukemelas-c5b4e57e", 600, 600),
    _timm("se_resnet18", "legacy_seresnet18.in1k", f"{_TIMM}/seresnet18-4bb0ce65"),
    _timm("se_resnet50", "seresnet50.a1_in1k", f"{_RECIPES}/seresnet50_a1_0-ffa00869", resize_to=235),
    _timm("se_resnet50", "seresnet50.a2_in1k", f"{_RECIPES}/seresnet50_a2_0-850de0d9", resize_to=235),
    _timm("se_resnet50", "seresnet50.a3_in1k", f"{_RECIPES}/seresnet50_a3_0-317ecd56", resize_to=168, size=160),
    _timm("se_resnet50", "seresnet50.ra2_in1k", f"{_TIMM}/seresnet50_ra_224-8efdb4bb"),
    _timm("se_resnet50", "legacy_seresnet50.in1k", f"{_CADENE}/se_resnet50-ce0d4300", "bilinear"),
    _timm("se_resnext50_32x4d", "seresnext50_32x4d.racm_in1k", f"{_TIMM}/seresnext50_32x4d_racm-a304a460"),
    _timm("se_resnext50_32x4d", "seresnext50_32x4d.gluon_in1k", f"{_GLUON}/gluon_seresnext50_32x4d-90cf2d6e"),
    _timm(
        "se_resnext50_32x4d", "legacy_seresnext50_32x4d.in1k", f"{_TIMM}/legacy_se_resnext50_32x4d-f3651bad", "bilinear"
    ),
)


def sets_of(model: str) -> tuple[Published, ...]:
    """The published sets of a model of the zoo, its default first."""
    return tuple(row for row in PUBLISHED if row.model == model)


def of_sha256(sha256: str) -> Published | None:
    """The set whose file has this hash."""
    return next((row for row in PUBLISHED if sha256.startswith(row.sha256_start)), None)


def choose(spec: ModelSpec, name: str | None = None, options: Mapping[str, Value] | None = None) -> Published:
    """The set with this name, or else the default among those that the given options allow.

    Raises:
        BadInput: nothing is published for this model, or not with these options, or not under this name.
    """
    rows = sets_of(spec.name)
    if not rows:
        models = ", ".join(dict.fromkeys(row.model for row in PUBLISHED))
        raise BadInput(f"No ImageNet weights are published for '{spec.name}'. There are for: {models}.")
    given = options or {}
    fitting = [row for row in rows if all(given.get(key, value) == value for key, value in row.options.items())]
    named = [row for row in fitting if name in (None, row.name)]
    if not named:
        known = ", ".join(dict.fromkeys(row.name for row in rows))
        raise BadInput(f"No weights '{name}' are published for '{spec.name}'. Known: {known}.")
    return named[0]
