"""The class names are torchvision's."""

import pytest

from pipeline.data import imagenet


def test_the_names_are_torchvisions(torchvision_models):
    names = imagenet.labels()
    assert list(names) == torchvision_models.ResNet18_Weights.IMAGENET1K_V1.meta["categories"]


def test_every_name_is_there_once():
    names = imagenet.labels()
    assert len(names) == len(set(names)) == imagenet.CLASSES
    assert all(name == name.strip() and name for name in names)
    assert [names[i] for i in (0, 134, 517, 638, 639, 999)] == [
        "tench", "crane bird", "crane", "maillot", "maillot tank suit", "toilet tissue",
    ]  # fmt: skip


@pytest.mark.usefixtures("timm_create")
def test_the_wordnet_ids_are_timms():
    from timm.data import ImageNetInfo

    assert list(imagenet.wordnet_ids()) == ImageNetInfo().label_names()
    assert list(imagenet.wordnet_ids()) == sorted(imagenet.wordnet_ids())  # as folders are read
