"""An interruption is never lost: not in callbacks, not in a library that catches everything."""

import gc
import os
import signal
import threading
from collections.abc import Iterator

import pytest

from pipeline.exporting.interrupt import lasting_interrupts


@pytest.fixture(autouse=True)
def terminal() -> Iterator[None]:
    """The handler of a terminal, also where the tests run in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    signal.signal(signal.SIGINT, before)


def press() -> None:
    os.kill(os.getpid(), signal.SIGINT)
    for _ in range(1000):
        """Python runs the handler between two instructions."""


def test_it_interrupts_at_once() -> None:
    reached = []

    def work() -> None:
        with lasting_interrupts():
            press()
            reached.append("the end")

    with pytest.raises(KeyboardInterrupt):
        work()
    assert reached == []


def test_without_ctrl_c_nothing_happens() -> None:
    with lasting_interrupts() as check:
        check()
        assert signal.getsignal(signal.SIGINT) is not signal.default_int_handler
    check()


def test_one_that_a_library_caught_is_raised_again() -> None:
    reached = []

    def work() -> None:
        with lasting_interrupts() as check:
            try:
                press()
            except BaseException:
                reached.append("caught")
            check()
            reached.append("the end")

    with pytest.raises(KeyboardInterrupt):
        work()
    assert reached == ["caught"]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_one_that_got_lost_in_a_callback_of_the_garbage_collector_is_raised_again() -> None:
    """As JAX's ``_xla_gc_callback`` does."""
    reached = []

    def callback(phase: str, _about: object) -> None:
        if phase == "start" and not reached:
            reached.append("collected")
            press()

    def work() -> None:
        with lasting_interrupts() as check:
            gc.collect()
            reached.append("lost")
            check()
            reached.append("the end")

    gc.callbacks.append(callback)
    try:
        with pytest.raises(KeyboardInterrupt):
            work()
    finally:
        gc.callbacks.remove(callback)
    assert reached == ["collected", "lost"]


def test_one_that_became_an_error_of_a_library_is_none() -> None:
    def work() -> None:
        with lasting_interrupts():
            try:
                press()
            except KeyboardInterrupt:
                raise RuntimeError("conversion failed") from None

    with pytest.raises(KeyboardInterrupt):
        work()


def test_other_errors_are_left_alone() -> None:
    def work() -> None:
        with lasting_interrupts():
            raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        work()


def test_a_handler_of_the_callers_own_stays() -> None:
    pressed = []
    signal.signal(signal.SIGINT, lambda *_: pressed.append(1))
    with lasting_interrupts() as check:
        press()
        check()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    assert pressed == [1]


def test_a_terminated_background_job_is_no_exception() -> None:
    """There Ctrl-C is ignored, and SIGTERM interrupts (``edge_apps.console``)."""
    reached = []

    def work() -> None:
        with lasting_interrupts() as check:
            try:
                os.kill(os.getpid(), signal.SIGTERM)
            except BaseException:
                reached.append("caught")
            check()
            reached.append("the end")

    def terminate(_number: int, _frame: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    before = signal.signal(signal.SIGTERM, terminate)
    try:
        with pytest.raises(KeyboardInterrupt):
            work()
        assert signal.getsignal(signal.SIGTERM) is terminate
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, before)
        signal.signal(signal.SIGINT, signal.default_int_handler)
    assert reached == ["caught"]


def test_in_another_thread_it_does_nothing() -> None:
    done = []

    def work() -> None:
        with lasting_interrupts() as check:
            check()
            done.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done == [signal.default_int_handler]
