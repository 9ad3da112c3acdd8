"""How a training is ended from outside: between two batches, so that it may go on with the next."""

import logging
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from lightning import Trainer

_log = logging.getLogger(__name__)


@contextmanager
def ended_between_batches(trainer: Trainer) -> Iterator[None]:
    """Let SIGTERM end a training between two batches, and so Ctrl-C; pressed twice, that ends it at
    once.

    For SIGTERM Lightning sees to it, beside any other handler. Several processes would not all meet
    Ctrl-C at the same batch: there it ends them at once.
    """
    if threading.current_thread() is not threading.main_thread():  # which alone may set handlers
        yield
        return
    interrupted = False

    def interrupt(number: int, frame: FrameType | None) -> None:
        nonlocal interrupted
        if interrupted or trainer.world_size > 1:
            signal.default_int_handler(number, frame)
        interrupted = True
        _log.warning("stops after this batch; Ctrl-C again stops at once")
        trainer._signal_connector.received_sigterm = True

    before = signal.signal(signal.SIGTERM, signal.SIG_DFL), signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    except BaseException:  # also that of a data worker, which Ctrl-C ends, too
        if interrupted:
            raise KeyboardInterrupt from None
        raise
    finally:
        signal.signal(signal.SIGTERM, before[0])
        signal.signal(signal.SIGINT, before[1])
    if interrupted:  # after the last batch
        raise KeyboardInterrupt
