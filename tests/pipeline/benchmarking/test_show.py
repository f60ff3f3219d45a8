"""What the tables say, from measurements made by hand."""

import io
from typing import Any

import msgspec
import pytest
from rich.console import Console

from edge_apps.console import print_parts
from edge_apps.runtime.device import this_device
from edge_apps.runtime.manifest import Delegated, FileComparison
from pipeline.benchmarking.measurement import FileMeasurement, Measurement
from pipeline.benchmarking.show import label, markdown, show
from pipeline.metrics.sqnr import EQUAL_DB

NOT_RUN = FileComparison(status="not run", reason="Core ML exists on macOS only")

WHOLE = Delegated(partitions=1, share=1.0, outside={}, left_out={})


def measurement(**changes: Any) -> Measurement:
    files = (
        FileMeasurement(target="coreml", precision="fp32", bytes=1_900_000, comparison=NOT_RUN),
        FileMeasurement(target="coreml", precision="int8", bytes=600_000, comparison=NOT_RUN),
        FileMeasurement(
            target="tflite",
            precision="fp32",
            bytes=1_800_000,
            comparison=FileComparison(status="run", sqnr_float_db=101.26, agreement_float=1.0, word="good"),
            delegated=WHOLE,
            p50_ms=0.84,
            runs=50,
        ),
        FileMeasurement(
            target="tflite",
            precision="int8",
            bytes=500_000,
            comparison=FileComparison(
                status="run",
                sqnr_float_db=12.0,
                agreement_float=0.905,
                sqnr_graph_db=EQUAL_DB,
                word="check",
                findings=("int8 loses much.",),
            ),
            delegated=msgspec.structs.replace(WHOLE, partitions=3, share=0.5),
            p50_ms=0.4,
            runs=60,
        ),
    )
    base = Measurement(
        model="mobilenet_v1",
        options={"width": 0.25},
        input=128,
        classes=1000,
        params=470_072,
        mult_adds=13_600_000,
        data="digits",
        files=files,
        threads=1,
        device=this_device(),
        version="0",
        seconds=1.0,
    )
    return msgspec.structs.replace(base, **changes)


def test_markdown_has_every_column_and_says_how_it_was_made() -> None:
    text = markdown([measurement()], "pipeline benchmark mobilenet_v1")
    assert "Made by `pipeline benchmark mobilenet_v1` on " in text
    assert "Not measured here: alexnet, " in text
    assert "mobilenet_v1" not in text.partition("Not measured here: ")[2]
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in rows}) == 1
    core_ml, tflite = ([cell.strip() for cell in row.strip("|").split("|")] for row in rows[2:])
    assert core_ml == [
        "mobilenet_v1 (width 0.25)", "128", "0.470", "13.6", "coreml", "1.90", "0.60", "–", "–", "–", "–",
        "not run", "not run", "–", "–",
    ]  # fmt: skip
    assert tflite == [
        "", "", "", "", "tflite", "1.80", "0.50", "101.3", "equal", "100/50", "1/3", "0.84", "0.4", "2.10× faster",
            "good, 100 %/check, 90 %",
    ]  # fmt: skip
    assert "- mobilenet_v1 (width 0.25) 128, tflite int8: check. int8 loses much." in text


def test_a_slower_int8_file_does_not_read_faster() -> None:
    files = measurement().files
    slow = msgspec.structs.replace(files[3], p50_ms=1.68)
    text = markdown([measurement(files=(files[2], slow))], "x")
    assert "2.00× slower" in text
    assert "faster" not in text.replace("2.00× faster", "?")


def test_the_terminal_table_fits_80_columns() -> None:
    stream = io.StringIO()
    console = Console(file=stream, width=80)
    print_parts(show([measurement(model="se_resnext50_32x4d", options={}, input=224)]), console)
    lines = stream.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    assert any("not run" in line for line in lines)
    assert any("equal" in line for line in lines)


@pytest.mark.parametrize(
    ("model", "options", "text"),
    [
        ("mobilenet_v1", {"width": 1.0}, "mobilenet_v1"),
        ("own:net", {}, "own:net"),
        ("own:net", {"a": 1}, "own:net (a 1)"),
    ],
)
def test_a_model_is_named_with_the_options_that_are_not_its_defaults(
    model: str, options: dict[str, Any], text: str
) -> None:
    assert label(measurement(model=model, options=options)) == text
