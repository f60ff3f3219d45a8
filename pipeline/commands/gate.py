"""``pipeline gate``: may this bundle be shipped?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edge_apps.console import echo_json, print_parts, results
from edge_apps.errors import EdgeError, first_line
from edge_apps.progress import note
from edge_apps.settings import as_options
from pipeline.commands.options.common import needs_export_extra, trust_option
from pipeline.commands.options.data import DATA_HELP

if TYPE_CHECKING:
    from pipeline.gating.judge import GateResult


@click.command("gate", short_help="Pass or fail a bundle by the accuracy its files lost.")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--data", required=True, help=DATA_HELP)
@click.option("--max-drop", type=float, default=1.0, show_default=True, help="Most top-1 that may be lost, in points.")
@click.option(
    "--against",
    metavar="BUNDLE",
    type=click.Path(path_type=Path),
    help="Compare each file with that of the same target and precision in this bundle (the last release), instead of "
    "with the float network.",
)
@trust_option
@click.option(
    "--class-drop",
    type=float,
    help="Most that a class may lose of its own accuracy, in points, before it is flagged.  [default: 10]",
)
@click.option("--no-class-flags", is_flag=True, help="Look at no class: only top-1 counts.")
@click.option(
    "--allow-not-run",
    multiple=True,
    metavar="TARGET",
    help="A target whose files need not run on this machine; repeatable.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
@click.option("--junit", type=click.Path(dir_okay=False, path_type=Path), help="Write JUnit XML for a CI dashboard.")
@click.option("--markdown", type=click.Path(dir_okay=False, path_type=Path), help="Write a summary in Markdown.")
@click.option("--threads", type=click.IntRange(1), help="CPU threads; default: all cores.")
@click.option("--skip-corrupt", is_flag=True, help="Leave corrupt pictures out and list them, instead of stopping.")
def command(
    bundle: Path,
    data: str,
    max_drop: float,
    against: Path | None,
    trust: Path | None,
    class_drop: float | None,
    no_class_flags: bool,
    allow_not_run: tuple[str, ...],
    as_json: bool,
    junit: Path | None,
    markdown: Path | None,
    threads: int | None,
    skip_corrupt: bool,
) -> int:
    """Hold every file of a BUNDLE against a limit.

    A file passes when the upper end of its drop's 95 % interval is within the limit, and fails when the lower end is
    above it (of several files by Holm's rule). It also fails when a class lost more than --class-drop, beyond what
    chance explains. Exit status: 0 passed, 3 failed, 4 these images cannot decide (3 wins).
    """
    inputs = {"the --data to gate on": Path(data), "the key of --trust": trust}
    _make_room([path for path in (junit, markdown) if path], [folder for folder in (bundle, against) if folder], inputs)
    with _reported(junit, markdown):
        needs_export_extra(torchao=True)
        from edge_apps.runtime.manifest import load_bundle
        from edge_apps.runtime.signature import trusted_key
        from pipeline import targets
        from pipeline.bundles.cross_references import check_evaluation
        from pipeline.data import open_data
        from pipeline.data.reading import usable
        from pipeline.errors import BadInput
        from pipeline.evaluation.bundle import evaluate_bundle
        from pipeline.gating.judge import CLASS_DROP, GatePolicy, failed_by_rounding, judge, with_most_damaged
        from pipeline.sensitivity.measure import most_damaged

        if no_class_flags and class_drop is not None:
            raise BadInput("--class-drop and --no-class-flags contradict each other: give one of them.")
        allowed = tuple(dict.fromkeys(targets.canonical(name) for text in allow_not_run for name in text.split(",")))
        policy = GatePolicy(
            max_drop=max_drop,
            class_drop=None if no_class_flags else CLASS_DROP if class_drop is None else class_drop,
            allow_not_run=allowed,
        )
        key = trusted_key(trust)
        check_evaluation(load_bundle(bundle, key))
        images = open_data(data, "test")
        skipped: list[str] = []
        if skip_corrupt:
            images, skipped = usable(images, True)
        evaluation = evaluate_bundle(bundle, images, against=against, trust=key, threads=threads, skipped=skipped)
        result = judge(evaluation, policy)
        _write(result, junit, markdown)
        if failed_by_rounding(result):
            layer = None
            try:
                layer = most_damaged(load_bundle(bundle, key), images)
            except Exception as error:  # whatever comes of looking further, the verdict stands
                note(f"The most damaged layer was not found: {first_line(error)}")
            if layer is not None:
                result = with_most_damaged(result, *layer)
                _write(result, junit, markdown)
    from pipeline.gating.show import show_gate

    if as_json:
        echo_json(result.to_json())
    else:
        print_parts(show_gate(result, results().width))
    return result.exit_status


def _make_room(reports: Sequence[Path], bundles: Sequence[Path], inputs: Mapping[str, Path | None]) -> None:
    """Refuse what cannot be written, and remove old reports: a gate that breaks must leave no earlier, green one."""
    from edge_apps.files import check_writable
    from pipeline.errors import BadInput

    if len({report.resolve() for report in reports}) < len(reports):
        raise BadInput(f"--junit and --markdown are both '{reports[0]}': one would replace the other. Name two files.")
    for report in reports:
        for name, path in inputs.items():
            if path is not None and report.resolve() == path.resolve():
                raise BadInput(f"'{report}' is {name}: write reports elsewhere.")
        check_writable(report)
        if any(folder.resolve() in report.resolve().parents for folder in bundles):
            raise BadInput(f"'{report}' lies inside the bundle: write reports elsewhere.")
    for report in reports:
        report.unlink(missing_ok=True)


@contextmanager
def _reported(junit: Path | None, markdown: Path | None) -> Iterator[None]:
    """Leave reports that say why also where the gate refuses its input or breaks, in place of any that it wrote."""
    try:
        yield
    except Exception as error:
        from edge_apps.files import write_whole
        from pipeline.gating import refused

        reason = (
            as_options(str(error)) if isinstance(error, EdgeError) else f"{type(error).__name__}: {first_line(error)}"
        )
        for report, written in ((junit, refused.junit), (markdown, refused.markdown)):
            if report is not None:
                with suppress(EdgeError):  # perhaps it is the report that cannot be written
                    write_whole(report, written(reason))
        raise


def _write(result: GateResult, junit: Path | None, markdown: Path | None) -> None:
    from edge_apps.files import write_whole
    from pipeline.gating import reports as gate_reports

    result = _as_typed(result)  # who reads a report of this command types options
    if junit is not None:
        write_whole(junit, gate_reports.junit(result))
    if markdown is not None:
        write_whole(markdown, gate_reports.markdown(result))


def _as_typed(result: GateResult) -> GateResult:
    """The same with the settings in its sentences as options."""
    import msgspec

    def typed(texts: Sequence[str]) -> tuple[str, ...]:
        return tuple(map(as_options, texts))

    files = tuple(
        msgspec.structs.replace(file, message=as_options(file.message), notes=typed(file.notes))
        for file in result.files
    )
    return msgspec.structs.replace(result, message=as_options(result.message), notes=typed(result.notes), files=files)
