"""What a bundle was made of, opened again: the float network, and the quantized graph that its int8 files are of."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from torch.fx import GraphModule

from calibration.algorithms.repairs import Repairs, with_values
from calibration.quantize import quantize
from calibration.ranges import Ranges
from calibration.simulate import Simulator
from edge_apps.chatter import hushed
from edge_apps.runtime.manifest import Bundle
from pipeline.bundles.cross_references import ranges_of
from pipeline.checkpoints import pt2_archive, user_networks
from pipeline.checkpoints.checkpoint import Checkpoint
from pipeline.checkpoints.formats import is_program
from pipeline.checkpoints.load import load
from pipeline.errors import BadManifest
from pipeline.graphs.front_ends import graph_of


@dataclass(frozen=True)
class Rebuilt:
    """The graphs of a bundle, all over float pixels 0…255 ``[N, 3, H, W]``; nothing is captured or calibrated again."""

    bundle: Bundle
    ranges: Ranges

    def float_graph(self) -> GraphModule:
        """The float network with its normalisation: the reference of every drop."""
        content = self.bundle.read(self.bundle.file("float-program"))
        graph: GraphModule = graph_of(pt2_archive.read(content.data, str(content.path))[0])
        return graph

    @cached_property
    def repairs(self) -> Repairs:
        """What was done to its weights; nothing, where the recipe has no repairs."""
        if self.ranges.repairs_sha256 is None:
            return Repairs()
        repairs = Repairs.from_bytes(self.bundle.read(self.bundle.file("repairs")).data)
        if repairs.sha256() != self.ranges.repairs_sha256:
            raise BadManifest(f"Bundle '{self.bundle.root}' holds repairs of other ranges; export it again.")
        return repairs

    def scaled_graph(self) -> GraphModule:
        """The float network with the scales of the int8 one: equalised, if the recipe says so, and not rounded."""
        return with_values(self.float_graph(), self.repairs.scaled)

    @cached_property
    def quantized_graph(self) -> GraphModule:
        """The graph that every int8 file was lowered from."""
        with hushed():
            repaired = with_values(self.float_graph(), self.repairs.tensors)
            return quantize(repaired, self.ranges, fold_weights=True)[0]

    def simulator(self) -> Simulator:
        """What the int8 files should answer, to the bit."""
        return Simulator(self.quantized_graph)


def rebuild(bundle: Bundle) -> Rebuilt | None:
    """Open a bundle's graphs; None where it has no int8 file, and so no ranges.

    Raises:
        BadManifest: something that proves it is not listed. ChangedFile: something is not what was recorded.
    """
    if not any(file.role == "ranges" for file in bundle.manifest.files):
        return None
    return Rebuilt(bundle, ranges_of(bundle))


def checkpoint_of(bundle: Bundle) -> Checkpoint:
    """The checkpoint that a bundle was made of, verified by hash."""
    about, file = bundle.manifest, bundle.file("checkpoint")
    content = bundle.read(file)
    if user_networks.is_foreign(about.model) and not is_program(content.data):
        # A manifest may not make us run a file of its choice.
        raise BadManifest(f"Bundle '{bundle.root}' holds no program of its network '{about.model}'; export it again.")
    # A state dict without metadata is what the manifest says it is; metadata must agree with the manifest.
    return load(
        content.path,
        data=content.data,
        model=about.model,
        options=about.options,
        labels=about.labels,
        preprocess=about.preprocess,
    )
