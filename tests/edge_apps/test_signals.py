"""Signal handlers for the time of a block."""

import signal
import threading

from edge_apps.signals import replaced_handlers


def _handler(*_: object) -> None:
    """Do nothing."""


def test_the_old_handler_comes_back_at_once_or_at_the_end() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)]
    with replaced_handlers([signal.SIGTERM, signal.SIGHUP], lambda _: _handler) as put_back:
        assert signal.getsignal(signal.SIGTERM) is signal.getsignal(signal.SIGHUP) is _handler
        put_back(signal.SIGTERM)
        put_back(signal.SIGTERM)
        assert signal.getsignal(signal.SIGTERM) is before[0]
        assert signal.getsignal(signal.SIGHUP) is _handler
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)] == before


def test_what_is_not_chosen_is_left_alone() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with replaced_handlers([signal.SIGTERM], lambda _: None):
        assert signal.getsignal(signal.SIGTERM) is before


def test_in_another_thread_nothing_is_replaced() -> None:
    seen = []

    def work() -> None:
        with replaced_handlers([signal.SIGTERM], lambda _: _handler):
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [signal.getsignal(signal.SIGTERM)]
    assert seen != [_handler]
