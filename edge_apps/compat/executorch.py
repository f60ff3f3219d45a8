"""What we use of the executorch package beyond its documentation: the size of its thread pool."""

from __future__ import annotations

from collections.abc import Callable


def thread_pool_setter() -> Callable[[int], None]:
    """Return what sizes the thread pool of all programs of the process; no open program may be running meanwhile.

    Raises:
        ImportError: the package, or torch, which it imports, is not installed.
    """
    from executorch.extension.pybindings.portable_lib import _unsafe_reset_threadpool

    setter: Callable[[int], None] = _unsafe_reset_threadpool
    return setter
