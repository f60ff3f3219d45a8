"""Options that the networks of 2012 to 2014 share: AlexNet, VGG and GoogLeNet."""

from __future__ import annotations

from pipeline.zoo.spec import Option

WIDTH = Option(1.0, "width multiplier: scales every channel count", 0.1, 2.0)


def grid(default: int) -> Option:
    """Positions along each side of the map that a classifier of fully connected layers reads."""
    return Option(default, "side of the grid of positions that the classifier sees", 1, 14)


def response_normalisation(where: str = "") -> dict[str, Option]:
    """The numbers of local response normalisation, AlexNet's (2012) by default; ``where`` is the place in the paper."""
    place = f" ({where})" if where else ""
    return {
        "lrn_window": Option(5, f"response normalisation: channels summed over, n{place}", choices=(3, 5, 7, 9)),
        "lrn_alpha": Option(1e-4, f"response normalisation: weight of the sum, not divided by n{place}", 0.0, 1.0),
        "lrn_k": Option(2.0, f"response normalisation: what the sum is added to{place}", 0.5, 10.0),
    }
