"""The table of published files against the packages that publish them."""

import math
import re

import msgspec
import pytest

from edge_apps.runtime.preprocess import Preprocess, TrainedWith
from pipeline import zoo
from pipeline.checkpoints.key_mappings import SPELLINGS, importable
from pipeline.checkpoints.pretrained.published import PUBLISHED, choose, of_sha256, sets_of
from pipeline.errors import BadInput

TORCHVISION_NAMES = {
    "alexnet_one_tower": "alexnet",
    "vgg_a": "vgg11",
    "vgg_b": "vgg13",
    "vgg_d": "vgg16",
    "vgg_e": "vgg19",
    "googlenet_bn": "googlenet",
    "squeezenet_1_0": "squeezenet1_0",
    "squeezenet_1_1": "squeezenet1_1",
}
ROWS = {library: [row for row in PUBLISHED if row.library == library] for library in ("torchvision", "timm")}


def _id(row):
    return row.file


@pytest.mark.parametrize("row", ROWS["torchvision"], ids=_id)
def test_torchvision_says_the_same(row, torchvision_models):
    name = TORCHVISION_NAMES.get(row.model, row.model) + ("_bn" if row.options.get("batch_norm") else "")
    weights = torchvision_models.get_model_weights(name)[row.name]
    transforms = weights.transforms()
    assert weights.url == row.url
    assert (transforms.resize_size, transforms.crop_size) == ([row.resize_to], [row.size])
    assert transforms.interpolation.value == row.interpolation
    assert transforms.antialias is True
    if row.model == "googlenet_bn":  # it turns this normalisation into (pixel − 0.5) / 0.5 itself
        assert (row.mean, row.std) == ((0.5,) * 3, (0.5,) * 3)
    else:
        assert (tuple(transforms.mean), tuple(transforms.std)) == (row.mean, row.std)


@pytest.mark.usefixtures("timm_create")
@pytest.mark.parametrize("row", ROWS["timm"], ids=_id)
def test_timm_says_the_same(row):
    from timm.models import get_pretrained_cfg

    published = get_pretrained_cfg(row.name)
    assert published.url == row.url
    assert published.input_size == (3, row.size, row.size)
    assert math.floor(row.size / published.crop_pct) == row.resize_to  # as timm.data.create_transform has it
    assert published.crop_mode == "center"
    assert published.interpolation == row.interpolation
    assert (published.mean, published.std) == (row.mean, row.std)


@pytest.mark.usefixtures("timm_create")
def test_the_default_is_the_librarys_own(torchvision_models):
    from timm.models import get_pretrained_cfg

    for model in importable():
        default = sets_of(model)[0]
        if default.library == "torchvision":
            name = TORCHVISION_NAMES.get(model, model)
            assert torchvision_models.get_model_weights(name)["DEFAULT"].url == default.url
        else:
            assert get_pretrained_cfg(default.name.partition(".")[0]).url == default.url


def test_every_torchvision_set_of_our_models_is_listed(torchvision_models):
    for model in {row.model for row in ROWS["torchvision"]}:
        names = {TORCHVISION_NAMES.get(model, model)}
        names |= {f"{name}_bn" for name in names if name.startswith("vgg")}
        there = {weights.url for name in names for weights in torchvision_models.get_model_weights(name)}
        there = {url for url in there if "vgg16_features" not in url}  # no classifier
        assert {row.url for row in sets_of(model)} == there


@pytest.mark.parametrize("row", PUBLISHED, ids=_id)
def test_a_row_is_sound(row):
    assert re.fullmatch(r"https://.*-[0-9a-f]{8}\.pth", row.url)
    assert re.fullmatch(r"[0-9a-f]{8}", row.sha256_start)
    assert of_sha256(row.sha256_start + "0" * 56) is row
    spec = zoo.get(row.model)
    assert spec.name == row.model
    spec.with_defaults(row.options)
    spec.check_input(row.size, {})
    spellings = [spelling for spelling in SPELLINGS if row.model in spelling.models]
    assert sum(row.name.startswith(spelling.sets) for spelling in spellings) == 1
    preprocess = row.preprocess
    assert (preprocess.height, preprocess.width, preprocess.resize_to) == (row.size, row.size, row.resize_to)
    assert preprocess.trained_with == TrainedWith(
        library=row.library, interpolation=row.interpolation, antialias=True, resize_to=row.resize_to
    )
    assert msgspec.json.decode(msgspec.json.encode(preprocess), type=Preprocess) == preprocess


def test_file_names_and_set_names_tell_rows_apart():
    assert len({row.file for row in PUBLISHED}) == len(PUBLISHED)
    assert len({row.sha256_start for row in PUBLISHED}) == len(PUBLISHED)
    assert len({(row.model, row.name, tuple(row.options.items())) for row in PUBLISHED}) == len(PUBLISHED)


def test_everything_importable_is_published_and_the_other_way_round():
    assert {row.model for row in PUBLISHED} == set(importable())


def test_a_set_is_chosen_by_model_name_and_options():
    vgg, resnet = zoo.get("vgg_d"), zoo.get("resnet50")
    assert choose(vgg).file == "vgg16-397923af.pth"
    assert choose(vgg, options={"batch_norm": True}).file == "vgg16_bn-6c64b313.pth"
    assert choose(vgg, options={"batch_norm": False}).file == "vgg16-397923af.pth"
    assert choose(resnet).name == "IMAGENET1K_V2"
    assert choose(resnet, "IMAGENET1K_V1").file == "resnet50-0676ba61.pth"
    with pytest.raises(BadInput, match="No weights 'IMAGENET1K_V3'.*'resnet50'.*IMAGENET1K_V2, IMAGENET1K_V1"):
        choose(resnet, "IMAGENET1K_V3")
    with pytest.raises(BadInput, match="No ImageNet weights are published for 'alexnet'.*alexnet_one_tower, vgg_a"):
        choose(zoo.get("alexnet"))


def test_an_unknown_hash_is_no_published_file():
    assert of_sha256("0" * 64) is None
