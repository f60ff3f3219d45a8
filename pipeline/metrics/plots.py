"""What every plot has in common: which files it can be, and how it is written."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from edge_apps.errors import install
from edge_apps.files import check_writable, write_whole
from pipeline.errors import BadInput, MissingExtra

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SUFFIXES = (".svg", ".png")

# Okabe and Ito's colours, which colour-blind people tell apart.
BLUE, VERMILION, GREY = "#0072B2", "#D55E00", "#555555"


def check_plot(path: Path) -> None:
    """Refuse, before work starts, a plot that could not be drawn or written; ``BadInput``, ``MissingExtra``."""
    if path.suffix not in SUFFIXES:
        raise BadInput(f"`plot` is '{path}'; its name ends in {' or '.join(SUFFIXES)}.")
    check_writable(path)
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError as error:
        raise MissingExtra(f"`plot` needs matplotlib, which is not installed: {install('export')}.") from error


def write_plot(path: Path, figure: Callable[[], Figure]) -> None:
    """Draw a figure and write it as SVG or PNG, by the suffix; the same figure gives the same bytes."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    data = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "edge-pipeline", "font.size": 9}):
        drawn = figure()
        FigureCanvasAgg(drawn)
        metadata = {"Date": None} if path.suffix == ".svg" else {"Software": None}
        drawn.savefig(data, format=path.suffix[1:], dpi=150, metadata=metadata)
    write_whole(path, data.getvalue())
