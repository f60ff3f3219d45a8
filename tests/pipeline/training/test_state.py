"""The state of an interrupted training: taking it up again is as if nothing had happened."""

import numpy as np
import pytest
import torch

from edge_apps.runtime.preprocess import Preprocess
from pipeline import zoo
from pipeline.data.reading import Pixels
from pipeline.errors import BadInput
from pipeline.training.loop import Training
from pipeline.training.settings import check_same
from pipeline.training.state import read_state, save_state, state_path


@pytest.fixture
def training(settings):
    """One that has not begun."""

    def made(optimizer="adamw", seed=0):
        chance = np.random.default_rng(0)
        data = Pixels(chance.integers(0, 256, (20, 32, 32, 3), np.uint8), np.arange(20) % 3)
        torch.manual_seed(seed)
        network = zoo.get("mobilenet_v2").build(3, width=0.1)
        chosen = settings(epochs=4, optimizer=optimizer, augment="flip-crop", seed=3)
        return Training(network, chosen, Preprocess(height=32, width=32), data, torch.device("cpu"))

    return made


def _bits(made):
    states = (made.network.state_dict(), made.average.network.state_dict())
    return [tensor.clone() for state in states for tensor in state.values()]


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_a_resumed_training_is_equal_bit_for_bit(tmp_path, training, optimizer):
    path = tmp_path / "x.state"
    whole, first = training(optimizer), training(optimizer)
    results = [whole.run_epoch(lambda _: None) for _ in range(4)]
    for _ in range(2):
        first.run_epoch(lambda _: None)
    save_state(path, first)
    torch.manual_seed(99)  # another process has other global chance
    second = training(optimizer, seed=77)
    read_state(path).restore(second)
    for _ in range(2):
        second.run_epoch(lambda _: None)
    assert second.history == results
    assert all(torch.equal(a, b) for a, b in zip(_bits(whole), _bits(second), strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(_bits(first), _bits(second), strict=True))


def test_no_state_is_none(tmp_path):
    assert read_state(tmp_path / "x.state") is None
    assert state_path(tmp_path / "x.safetensors") == tmp_path / "x.safetensors.state"


def test_a_foreign_or_truncated_state_is_refused(tmp_path, training):
    path = tmp_path / "x.state"
    save_state(path, training())
    data = path.read_bytes()
    for bad in (b"", data[: len(data) // 2], b"no state"):
        path.write_bytes(bad)
        with pytest.raises(BadInput, match=r"not the state of a training; discard it with `restart`"):
            read_state(path)
    torch.save({"settings": {"model": "x"}}, path)
    with pytest.raises(BadInput, match="not the state"):
        read_state(path)


class _Bomb:
    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return (open, (self.mark, "w"))


def test_a_state_is_never_executed(tmp_path):
    torch.save({"settings": _Bomb(str(tmp_path / "gone off"))}, tmp_path / "x.state")
    with pytest.raises(BadInput):
        read_state(tmp_path / "x.state")
    assert not (tmp_path / "gone off").exists()


@pytest.mark.parametrize(("name", "value"), [("lr", 0.5), ("batch_size", 9), ("data", "other"), ("options", {})])
def test_other_settings_are_named(settings, name, value):
    check_same(settings(), settings())
    with pytest.raises(BadInput, match=rf"has {name.replace('_', '-')} .*`restart`"):
        check_same(settings(**{name: value}), settings())


def test_a_precision_left_to_the_program_stays_what_it_was(settings):
    check_same(settings(precision="auto"), settings())
    with pytest.raises(BadInput, match="has precision fp32, asked is bf16"):
        check_same(settings(precision="bf16"), settings())
