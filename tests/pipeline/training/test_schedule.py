"""Learning rates against torch's own schedulers."""

import pytest
import torch

from pipeline.training.schedule import learning_rate


def _rates(make, steps):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.5)
    scheduler = make(optimizer)
    rates = []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


@pytest.mark.parametrize("steps", [10, 97, 400])
def test_onecycle_is_torchs(steps):
    expected = _rates(  # its scheduler refuses a step after the last
        lambda o: torch.optim.lr_scheduler.OneCycleLR(o, 0.5, total_steps=steps, cycle_momentum=False), steps - 1
    )
    ours = [learning_rate("onecycle", step, steps, 0.5) for step in range(steps)]
    assert ours[:-1] == pytest.approx(expected, rel=1e-9)
    assert ours[-1] == pytest.approx(0.5 / 250_000)


@pytest.mark.parametrize("steps", [1, 2, 50])
def test_cosine_is_torchs(steps):
    expected = _rates(lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, T_max=steps), steps)
    assert [learning_rate("cosine", step, steps, 0.5) for step in range(steps)] == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("schedule", ["onecycle", "cosine"])
@pytest.mark.parametrize("steps", [1, 2, 3, 4, 5])
def test_a_very_short_training_has_usable_rates(schedule, steps):
    rates = [learning_rate(schedule, step, steps, 0.1) for step in range(steps)]
    assert all(0 < rate <= 0.1 for rate in rates)
    assert max(rates) > 0.05
