"""One file of a bundle: written by its target, read back, counted, and judged."""

from __future__ import annotations

from pathlib import Path

from edge_apps.chatter import hushed
from edge_apps.runtime.content import Content
from edge_apps.runtime.manifest import Delegated, FileComparison, FileManifest
from edge_apps.runtime.precisions import Precision
from edge_apps.runtime.runner import open_runner
from pipeline.errors import BadInput, EdgeError, LoweringFailed, MissingExtra, NotRunHere
from pipeline.exporting.file_check import check, not_run
from pipeline.exporting.references import References
from pipeline.targets.base import Census, Delegation, Source, Target
from pipeline.targets.refusals import refusal


def delegated(delegation: Delegation | None) -> Delegated | None:
    """Return what a manifest records of the delegate; None where the format has none on this machine."""
    if delegation is None:
        return None
    return Delegated(
        partitions=delegation.partitions,
        share=delegation.share,
        outside=dict(delegation.outside),
        left_out=dict(delegation.left_out),
    )


def lower(
    target: Target, source: Source, manifest: FileManifest, path: Path
) -> tuple[tuple[str, ...], Census, Content]:
    """Write one file and read it back; returns its layers left in float, what it consists of, and its bytes.

    Raises:
        LoweringFailed: the exporter refused the network, or the file is not the int8 file that was asked for.
    """
    what = f"{target.name} {manifest.precision}"
    try:
        with hushed():
            float_layers = target.lower(source, manifest, path)
            content = Content.read(path)
            census = target.census(content)
    except EdgeError:
        raise
    except Exception as error:
        raise LoweringFailed(f"{what}: {refusal(error, source.network)}", traceback_helps=True) from error
    if manifest.precision == "int8" and census.float_layers != len(float_layers):
        raise LoweringFailed(
            f"{what}: {census.float_layers} convolution and linear layers compute in float in the written file, "
            f"{len(float_layers)} were meant to: it is not an int8 file."
        )
    return float_layers, census, content


def judge(content: Content, precision: Precision, references: References) -> FileComparison:
    """Run the written file through the device's own runner on the judged images."""
    try:
        runner = open_runner(content)
    except (NotRunHere, MissingExtra) as reason:
        return not_run(str(reason), precision, references)
    except BadInput as error:
        cause = str(error).replace(str(content.path), content.path.name).partition(" Export it again")[0]
        raise LoweringFailed(
            f"The file that was written cannot be used: {cause} No bundle was written: leave this target or precision "
            "out, or keep the layer in float (float_layers in the recipe)."
        ) from error
    try:
        logits = runner.run(references.judged.pixels)
    except EdgeError as error:
        cause = str(error).replace(str(content.path), content.path.name)
        raise LoweringFailed(
            f"The written file fails when it is run: {cause} No bundle was written: leave this target or "
            "precision out, and please report it with the network."
        ) from error
    finally:
        runner.close()
    return check(logits, runner.runtime, precision, references)
