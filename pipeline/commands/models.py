"""``pipeline models``: every network of the zoo, what it is, and what it costs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import click

from edge_apps.console import Line, echo_json, print_parts, progress
from edge_apps.errors import EdgeError
from edge_apps.json_text import indented
from edge_apps.progress import each
from pipeline import zoo
from pipeline.commands.options.common import needs_export_extra
from pipeline.commands.options.model import ModelCommand, flag, given_options, model_options
from pipeline.errors import BadInput
from pipeline.zoo.spec import ModelSpec, Value, shown

if TYPE_CHECKING:
    from pipeline.zoo.complexity.count import Cost

T = TypeVar("T")


@click.command("models", cls=ModelCommand, short_help="List the networks, explain one, check their figures.")
@click.argument("name", required=False)
@click.option("--classes", type=click.IntRange(1), help="Class count. [default: each model's own]")
@click.option("--input", "input_size", type=int, help="Input side in pixels. [default: each model's own]")
@click.option("--layers", is_flag=True, help="With NAME: every layer instead of every unit.")
@click.option("--scaling", is_flag=True, help="With NAME: the search for compound-scaling constants that starts there.")
@click.option("--check", is_flag=True, help="Hold counts against published figures; exit status 1 on a difference.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@model_options()
def command(
    name: str | None,
    classes: int | None,
    input_size: int | None,
    layers: bool,
    scaling: bool,
    check: bool,
    as_json: bool,
    **hyperparameters: Any,
) -> None:
    """List every network and what it costs, or explain NAME: its paper, options, figures and layers.

    Mult-adds are multiply-accumulates of convolution and linear layers for one image. Peak activation is the
    largest tensor that one unit hands to the next, at 16 bit, the first convolution's left out. MB are 10^6 bytes.
    """
    from pipeline.checkpoints.user_networks import is_foreign

    options = given_options(hyperparameters)
    if (layers or scaling) and name is None:
        raise BadInput(f"--{'layers' if layers else 'scaling'} is about one model: pipeline models NAME.")
    if sum((layers, scaling, check)) > 1:
        raise BadInput("--layers, --scaling and --check are different questions: ask one.")
    if (check or scaling) and (options or classes or input_size):
        raise BadInput(
            f"--{'check' if check else 'scaling'} has its own configurations: leave options, --classes and --input out."
        )
    if name is not None and is_foreign(name):
        raise BadInput(f"'{name}' is a network of your own: only models of the zoo are listed. See 'pipeline models'.")
    needs_export_extra()
    spec = None if name is None else zoo.get(name)
    if check:
        _check(spec, as_json)
    elif spec is None:
        _list(options, input_size, classes, as_json)
    elif scaling:
        _scaling(spec, as_json)
    else:
        _explain(spec, options, input_size, classes, layers, as_json)


def _list(options: dict[str, Value], input_size: int | None, classes: int | None, as_json: bool) -> None:
    """All models; options apply to those that have them, and who cannot be so is left out with the reason."""
    from pipeline.zoo.complexity.count import count_model
    from pipeline.zoo.complexity.show import show_list

    costs: dict[str, tuple[int, int, Cost]] = {}
    refused: dict[str, BadInput] = {}
    for spec in each(list(zoo.specs().values()), "Counting"):
        own = {name: value for name, value in options.items() if name in spec.options}
        try:
            cost = count_model(spec, own, input_size, classes)
        except BadInput as error:
            refused[spec.name] = error
            continue
        costs[spec.name] = (input_size or spec.input_size, classes or spec.classes, cost)
    if not costs:
        raise next(iter(refused.values()))
    console = progress()
    for name, value in options.items():
        having = [model for model in costs if name in zoo.get(model).options]
        if not having:
            raise next(reason for model, reason in refused.items() if name in zoo.get(model).options)
        console.print(f"{flag(name)} {shown(value)}: {', '.join(having)}", markup=False, soft_wrap=True)
    for model, reason in refused.items():
        print_parts([Line(f"Left out, {model}: {reason}")], console)
    if not as_json:
        print_parts(show_list(costs))
        return
    rows = []
    for name, (side, count, cost) in costs.items():
        spec = zoo.get(name)
        own = spec.with_defaults({option: value for option, value in options.items() if option in spec.options})
        rows.append(_described(spec, own, side, count) | cost.as_dict())
    echo_json(indented(rows))


def _explain(
    spec: ModelSpec,
    options: dict[str, Value],
    input_size: int | None,
    classes: int | None,
    layers: bool,
    as_json: bool,
) -> None:
    """One model, with everything that is known of it."""
    from dataclasses import asdict

    from pipeline.zoo.complexity import show
    from pipeline.zoo.complexity.check import check
    from pipeline.zoo.complexity.count import count_model

    cost = count_model(spec, options, input_size, classes)
    chosen, side, count = spec.with_defaults(options), input_size or spec.input_size, classes or spec.classes
    rows = list(check([spec]))
    if as_json:
        document = _described(spec, chosen, side, count) | {
            "introduced": spec.introduced,
            "aliases": spec.aliases,
            "about_options": {
                name: {"default": option.default, "allowed": option.allowed(), "meaning": option.meaning}
                for name, option in spec.options.items()
            },
            **cost.as_dict(),
            "figures": [row.as_dict() for row in rows],
            "by_kind": {kind: {"weights": w, "mult_adds": m} for kind, (w, m) in cost.by_kind().items()},
            "units": [asdict(unit) for unit in cost.units],
            "layers": [asdict(layer) | cost.shares(layer) for layer in cost.layers],
        }
        echo_json(indented(document))
        return
    print_parts(show.show_model(spec, chosen, side, count, cost))
    print_parts(show.show_figures(rows))
    print_parts(show.show_kinds(cost))
    print_parts(show.show_layers(cost, layers))


def _check(spec: ModelSpec | None, as_json: bool) -> None:
    """Counted, published, explanation; for the whole zoo with what the papers claim across models."""
    from pipeline.zoo.complexity import claims, show
    from pipeline.zoo.complexity.check import check

    specs = list(zoo.specs().values()) if spec is None else [spec]
    rows = list(check(each(specs, "Counting")))
    document: dict[str, Any] = {"figures": [row.as_dict() for row in rows]}
    faults = [f"{row.subject} {row.quantity}: {row.fault}" for row in rows if row.fault]
    if not as_json:
        print_parts(show.show_figures(rows))
    if spec is None:
        said, peaks, compared = list(claims.claims()), claims.peaks(), claims.comparison()
        faults += [f"{row.subject}, {row.quantity}: {row.fault}" for row in said if row.fault]
        faults += claims.peak_faults(peaks)
        document |= {
            "claims": [row.as_dict() for row in said],
            "peak_activations": {"rule": claims.PEAK_RULE, "rows": [peak.as_dict() for peak in peaks]},
            "comparison": [line.as_dict() for line in compared],
        }
        if not as_json:
            print_parts(show.show_figures(said, "Shares, examples and sizes"))
            print_parts(show.show_peaks(peaks))
            print_parts(show.show_comparison(compared))
    if as_json:
        echo_json(indented(document | {"faults": faults}))
    if faults:
        raise EdgeError(f"{len(faults)} of the figures do not hold: {'; '.join(faults)}.")


def _scaling(spec: ModelSpec, as_json: bool) -> None:
    """The grid search for compound scaling from the network that it starts at."""
    from dataclasses import asdict

    from pipeline.zoo.complexity.compound_scaling import BASE, PUBLISHED, cost, feasible
    from pipeline.zoo.complexity.count import count_model
    from pipeline.zoo.complexity.show import show_scaling

    if spec.name != BASE:
        raise BadInput(f"'{spec.name}' is not where compound scaling starts; '{BASE}' is.")
    base, points = count_model(spec), [(point, cost(point)) for point in each(feasible(), "Counting")]
    if as_json:
        rows = [
            {**asdict(point), "growth": point.growth, "published": point == PUBLISHED, **grown.as_dict()}
            for point, grown in points
        ]
        echo_json(indented({"base": base.as_dict(), "feasible": rows}))
        return
    print_parts(show_scaling(spec, base, points, PUBLISHED))


def _described(spec: ModelSpec, options: dict[str, Value], side: int, classes: int) -> dict[str, Any]:
    return {
        "name": spec.name,
        "title": spec.title,
        "paper": spec.paper,
        "input": side,
        "classes": classes,
        "options": options,
    }
