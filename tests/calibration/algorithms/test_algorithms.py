"""The list of PTQ algorithms: every file that defines one, in the order in which they run."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import calibration.algorithms
from calibration.algorithms import algorithms
from calibration.algorithms.algorithm import Phase
from calibration.recipe import Repair


def test_a_recipe_can_name_each_algorithm_and_no_other() -> None:
    assert tuple(algorithm.name for algorithm in algorithms()) == get_args(Repair)


def test_each_file_that_defines_an_algorithm_is_found_in_the_order_of_phases() -> None:
    folder = Path(calibration.algorithms.__file__).parent
    defining = [file.stem for file in folder.glob("*.py") if "\nALGORITHM = " in file.read_text(encoding="utf-8")]
    assert sorted(algorithm.name for algorithm in algorithms()) == sorted(defining)
    phases = [algorithm.phase for algorithm in algorithms()]
    assert phases == sorted(phases) == [Phase.SCALING, Phase.ROUNDING, Phase.CORRECTION]


def test_the_list_is_read_without_torch() -> None:
    """Commands read a recipe before they load torch."""
    import subprocess
    import sys

    code = "import sys, calibration.algorithms, calibration.recipe; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
