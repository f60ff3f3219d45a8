"""``pipeline evaluate``: what each exported file lost."""

from __future__ import annotations

from pathlib import Path

import click

from edge_apps.console import echo_json, print_parts, results
from edge_apps.progress import note
from pipeline.commands.options.common import needs_export_extra, trust_option
from pipeline.commands.options.data import DATA_HELP


@click.command("evaluate", short_help="Measure the accuracy of exported files.")
@click.argument("paths", metavar="BUNDLE|FILE...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--data", required=True, help=DATA_HELP)
@click.option(
    "--reference",
    type=click.Path(path_type=Path),
    help="The checkpoint that single files are compared with; a bundle has its own.",
)
@trust_option
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
@click.option("--threads", type=click.IntRange(1), help="CPU threads; default: all cores.")
@click.option("--skip-corrupt", is_flag=True, help="Leave corrupt pictures out and list them, instead of stopping.")
@click.option("--no-record", is_flag=True, help="Do not keep the result in the bundle.")
def command(
    paths: tuple[Path, ...],
    data: str,
    reference: Path | None,
    trust: Path | None,
    as_json: bool,
    threads: int | None,
    skip_corrupt: bool,
    no_record: bool,
) -> int:
    """Measure top-1 and top-5 of a BUNDLE's files, or of single FILES, as a device runs them.

    The float network is measured on the same images; each file's drop comes with a 95 % interval. A bundle's int8
    files are also compared with their own quantized graph, simulated. The result is kept in the bundle as
    evaluation.json. Exit status 1: a file gave no usable answers or is not what the manifest says; none could be run.
    """
    needs_export_extra(torchao=True)
    from edge_apps.runtime.runner import known_suffixes
    from edge_apps.runtime.signature import trusted_key
    from pipeline.bundles.cross_references import calibration_set_of
    from pipeline.checkpoints.load import load
    from pipeline.data import open_data
    from pipeline.data.reading import usable
    from pipeline.errors import BadInput
    from pipeline.evaluation.bundle import check_apart, evaluate_bundle, record
    from pipeline.evaluation.evaluation import candidates, evaluate
    from pipeline.evaluation.overlap import with_overlap
    from pipeline.evaluation.show import show_evaluation

    bundles = [path for path in paths if path.suffix not in known_suffixes()]
    if bundles and len(paths) > 1:
        raise BadInput(f"'{bundles[0]}' is evaluated alone: give one bundle, or files of one data set.")
    if bundles and reference is not None:
        raise BadInput("--reference is for single files: a bundle is compared with the checkpoint it carries.")
    if no_record and not bundles:
        raise BadInput("--no-record is for bundles: nothing is kept for single files.")
    key = trusted_key(trust)
    files = [] if bundles else candidates(paths, key)
    compared = load(reference) if reference is not None else None
    images = open_data(data, "test")
    skipped: list[str] = []
    if skip_corrupt:
        images, skipped = usable(images, True)

    around = {bundle.root: bundle for bundle in (file.read().bundle for file in files) if bundle is not None}
    for bundle in around.values():
        check_apart(bundle, images)
    if bundles:
        result = evaluate_bundle(bundles[0], images, trust=key, threads=threads, skipped=skipped)
    else:
        result = evaluate(files, images, compared, threads=threads, skipped=skipped)
        calibrated = [calibration_set_of(bundle) for bundle in around.values()]
        result = with_overlap(result, images, compared, [chosen for chosen in calibrated if chosen is not None])
    if as_json:
        echo_json(result.to_json())
    else:
        print_parts(show_evaluation(result, results().width))
    if bundles and not no_record:
        try:
            record(bundles[0], result)
        except BadInput as error:
            note(f"Not kept in the bundle: {error}")
    statuses = {file.status for file in result.files}
    unlike = any(file.unlike_manifest is not None for file in result.files)
    return 1 if unlike or "failed" in statuses or "run" not in statuses else 0
