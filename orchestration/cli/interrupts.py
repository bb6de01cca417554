"""Ctrl-C and SIGTERM, recorded until the command ends.

Python raises KeyboardInterrupt wherever it happens to be and drops it where nothing can be raised, as in a finaliser;
libraries turn it into errors of their own; Dagster ignores one that arrives after its last check within a run. The run
would then continue. Python's wakeup file descriptor receives every signal regardless of how it is handled:
https://docs.python.org/3/library/signal.html#signal.set_wakeup_fd
"""

import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress

_STOP_SIGNALS = {int(signal.SIGINT), int(signal.SIGTERM)}


class InterruptRecorder:
    """Whether this process was asked to stop. Records only inside `recording`."""

    def __init__(self) -> None:
        self._receiver: socket.socket | None = None
        self._requested = False

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Record signals inside the block. Main thread only."""
        receiver, sender = socket.socketpair()
        with receiver, sender:
            receiver.setblocking(False)
            sender.setblocking(False)
            previous = signal.set_wakeup_fd(sender.fileno(), warn_on_full_buffer=False)
            self._receiver, self._requested = receiver, False
            try:
                yield
            finally:
                self._receiver, self._requested = None, False
                signal.set_wakeup_fd(previous)

    def requested(self) -> bool:
        """Whether Ctrl-C or SIGTERM has arrived, including one whose exception was swallowed."""
        if self._receiver is not None:
            with suppress(BlockingIOError):
                self._requested |= not _STOP_SIGNALS.isdisjoint(self._receiver.recv(4096))
        return self._requested

    def raise_again(self) -> None:
        """Raise SIGINT again if a stop was requested, for the handler that is active now."""
        if self.requested():
            signal.raise_signal(signal.SIGINT)


interrupts = InterruptRecorder()
