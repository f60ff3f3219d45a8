"""What ``export --search`` found, as people read it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rich.console import Console

from edge_apps.console import table
from pipeline.evaluation.show import drop_with_interval, show_gate, signed

if TYPE_CHECKING:
    from pipeline.precision_search.job import Outcome

KINDS = {"fp32": "fp32", "int8": "int8", "mixed": "int8, these in float"}


def show_search(noted: Mapping[str, Any], console: Console) -> None:
    """Print the layers, the drop with and without them in float, and what that costs; ``noted`` is the manifest's."""

    def say(line: str) -> None:
        console.print(line, markup=False, soft_wrap=True)

    found, rank = noted["found"], noted["rank"]
    say("")
    for line in _layers(found):
        say(line)
    plain, chosen, judge = found["plain"], found["chosen"], noted["judge"]
    say(
        f"Simulated on {rank['images']} images of {rank['data']}: drop {signed(plain['drop_points'])} points"
        + (f" in int8, {signed(chosen['drop_points'])} with these in float" if found["float_layers"] else "")
        + f"; at such rates {judge['images']} images show at most {signed(chosen['expected_upper_points'])}."
    )
    say(f"Judged once, on {judge['images']} images of {judge['data']}; limit {noted['max_drop']:g} points:")
    for file in noted["judged"]:
        drop = "" if file["drop_points"] is None else drop_with_interval(file["drop_points"], file["interval_points"])
        say(f"  {file['path']}: {file['verdict']} {drop}".rstrip())
    shown = table()
    for column in ("target", "file"):
        shown.add_column(column)
    for column in ("MB", "ms"):
        shown.add_column(column, justify="right", no_wrap=True)
    for cost in noted["cost"]:
        for kind, size in cost["bytes"].items():
            shown.add_row(cost["target"], KINDS[kind], f"{size / 1e6:.2f}", f"{cost['median_ms'][kind]:.3f}")
    console.print(shown)
    say("ms: median of single inferences on one core of this machine, the files taking turns.")


def show_rejected(outcome: Outcome, console: Console) -> None:
    """Print what the gate said of files that were not written."""
    show_gate(outcome.gate, console)
    for line in _layers({"float_layers": outcome.found.float_layers, "ranking": outcome.found.ranking}):
        console.print(line, markup=False, soft_wrap=True)
    console.print(
        "No bundle was written. These pictures have judged: search again with a lower `max_drop` or more `rank_images` "
        "and judge on others.",
        markup=False,
        soft_wrap=True,
    )


def _layers(found: Mapping[str, Any]) -> list[str]:
    chosen, ranking = found["float_layers"], found["ranking"]
    if not chosen:
        return [f"None of the {len(ranking)} convolution and linear layers has to stay in float."]
    named = ", ".join(f"{layer} ({ranking[layer]:.1f} dB)" for layer in chosen)
    return [f"In float: {len(chosen)} of {len(ranking)} convolution and linear layers: {named}."]
