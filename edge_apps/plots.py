"""Write plots: which files they can be, and how a figure becomes one."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from edge_apps.errors import BadInput, MissingExtra, install
from edge_apps.files import check_writable, write_whole

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SUFFIXES = (".svg", ".png")

# Okabe and Ito's colours, which colour-blind people tell apart.
BLUE, VERMILION, GREY = "#0072B2", "#D55E00", "#555555"


def check_plot(path: Path, extra: str) -> None:
    """Refuse, before work starts, a plot that could not be drawn or written.

    Raises:
        BadInput: another suffix, or a place that cannot be written. MissingExtra: matplotlib, which ``extra`` installs.
    """
    if path.suffix not in SUFFIXES:
        raise BadInput(f"`plot` is '{path}'; its name ends in {' or '.join(SUFFIXES)}.")
    check_writable(path)
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError as error:
        raise MissingExtra(f"`plot` needs matplotlib, which is not installed: {install(extra)}.") from error


def write_plot(path: Path, figure: Callable[[], Figure]) -> None:
    """Draw a figure and write it as SVG or PNG, by the suffix; the same figure gives the same bytes."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    data = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "edge-pipeline", "font.size": 9, "text.parse_math": False}):
        drawn = figure()
        FigureCanvasAgg(drawn)
        metadata = {"Date": None} if path.suffix == ".svg" else {"Software": None}
        with warnings.catch_warnings():  # a letter that the font lacks is drawn as a box; the table shows the name
            warnings.filterwarnings("ignore", "Glyph .* missing from")
            drawn.savefig(data, format=path.suffix[1:], dpi=150, metadata=metadata)
    write_whole(path, data.getvalue())
