"""Ctrl-C and SIGTERM, remembered until the command ends.

Python raises an interruption wherever it happens to be, and drops it where nothing can be raised, as in a finaliser;
libraries turn it into errors of their own; Dagster forgets one that comes after its last look at a run. Then the run
would go on. Python's wakeup descriptor is told of every signal, whatever becomes of it:
https://docs.python.org/3/library/signal.html#signal.set_wakeup_fd
"""

import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress

_STOPS = {int(signal.SIGINT), int(signal.SIGTERM)}


class Interruptions:
    """Whether somebody asked this process to stop. Nothing is heard outside `listening`."""

    def __init__(self) -> None:
        self._receiver: socket.socket | None = None
        self._asked = False

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Hears signals for the length of the block. Main thread only."""
        receiver, sender = socket.socketpair()
        with receiver, sender:
            receiver.setblocking(False)
            sender.setblocking(False)
            before = signal.set_wakeup_fd(sender.fileno(), warn_on_full_buffer=False)
            self._receiver, self._asked = receiver, False
            try:
                yield
            finally:
                self._receiver, self._asked = None, False
                signal.set_wakeup_fd(before)

    def asked(self) -> bool:
        """Whether Ctrl-C or SIGTERM has come, also one that was lost since."""
        if self._receiver is not None:
            with suppress(BlockingIOError):
                self._asked |= not _STOPS.isdisjoint(self._receiver.recv(4096))
        return self._asked

    def say_again(self) -> None:
        """Deliver once more what was asked before, to whoever handles it now."""
        if self.asked():
            signal.raise_signal(signal.SIGINT)


interruptions = Interruptions()
