"""Errors of calibration; ``pipeline/errors.py`` draws the whole tree."""

from edge_apps.errors import BadInput


class BadRecipe(BadInput):
    """A recipe that means nothing, or not to this network."""


class BadCalibration(BadInput):
    """Calibration data that is too small, overlaps the evaluation images, or belongs to another checkpoint."""
