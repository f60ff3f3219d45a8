"""One memory order for all tensors of an ExecuTorch program: that of their axes."""

from __future__ import annotations

from typing import Any


def contiguous_pass() -> Any:
    """Return a pass over the edge program that lets no operator change the memory order.

    The bytes of an image come channels last, and decomposed operators ask for that order again
    (``_clone_dim_order(dim_order=[0, 2, 3, 1])``). XNNPACK's delegate takes the order of its inputs and outputs from
    the program but computes with the default one: what one partition wrote was read as another tensor by the next,
    or by a kernel between them (error 0x12). With the default order everywhere there is nothing to disagree on.
    """
    from executorch.exir.pass_base import ExportPass

    class Contiguous(ExportPass):  # type: ignore[misc]
        """Replaces every ``dim_order`` by the order of the axes."""

        def call_operator(self, op: Any, args: Any, kwargs: Any, meta: Any) -> Any:
            """Trace one operator anew, with the default order."""
            order = kwargs.get("dim_order")
            if order is not None:
                kwargs = {**kwargs, "dim_order": sorted(order)}
            return super().call_operator(op, args, kwargs, meta)

    return Contiguous()
