"""Whether a bundle's files are what its manifest says: opened again, their operators counted by type."""

from __future__ import annotations

from collections.abc import Mapping

from edge_apps.chatter import hushed
from edge_apps.errors import first_line
from edge_apps.runtime.manifest import Bundle, BundleFile, parse_file_manifest
from edge_apps.runtime.model_file import contradiction, vanished
from pipeline import targets
from pipeline.errors import ChangedFile, MissingExtra
from pipeline.targets.base import Census


def unlike_manifest(bundle: Bundle, listed: BundleFile) -> str | None:
    """What the file holds that the manifest does not say of it, in one line; None where they agree.

    An int8 file computes every convolution and linear layer in integers but for those that the manifest lists. The
    hash of a file says that it is the one that was exported; this says that it is what it is called.

    Raises:
        ChangedFile: the file is not the one that the manifest lists. MissingExtra: the packages that open such a file
            are not installed.
    """
    target = targets.targets().get(listed.target or "")
    if target is None:
        return f"The manifest says that it is for '{listed.target}', which is no target: export it again."
    missing = target.missing()
    if missing:
        raise MissingExtra(f"The operators of '{listed.path}' are not counted: {missing}.")
    try:
        with hushed():
            census = target.census(bundle.read(listed))
    except ChangedFile:
        raise
    except Exception as error:  # a foreign file under this name fails in any library's own way
        return f"Its operators cannot be counted ({type(error).__name__}: {first_line(error)}): export it again."
    fault = _layers(census, listed) if listed.precision == "int8" else None
    if census.embedded is not None:
        about = parse_file_manifest(census.embedded, bundle.root / listed.path)
        fault = fault or contradiction(bundle.manifest, listed, about) or vanished(bundle.manifest, about)
    return fault or _types(census.operators, listed.operators)


def _layers(census: Census, listed: BundleFile) -> str | None:
    whole = census.integer_layers + census.float_layers
    if census.float_layers == len(listed.float_layers) and census.integer_layers:
        return None
    return (
        f"{census.float_layers} of its {whole} convolution and linear layers compute in float, the manifest lists "
        f"{len(listed.float_layers)}: it is not the int8 file that it is called. Export it again."
    )


def _types(counted: Mapping[str, int], listed: Mapping[str, int]) -> str | None:
    differing = [name for name in sorted({*counted, *listed}) if counted.get(name, 0) != listed.get(name, 0)]
    if not differing:
        return None
    shown = ", ".join(f"{name} ×{counted.get(name, 0)}, not ×{listed.get(name, 0)}" for name in differing[:3])
    return (
        f"Its operators are not those of the manifest: {shown}{', …' if len(differing) > 3 else ''}. Export it again."
    )
