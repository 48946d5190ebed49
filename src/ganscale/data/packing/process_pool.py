"""Worker processes that end with the process that started them."""

import os
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context, parent_process
from threading import Thread


def process_pool(processes: int, module: str) -> ProcessPoolExecutor:
    """A pool for functions of `module`."""
    # A fork of this process could hang on locks of its threads; the server imports once for all.
    context = get_context("forkserver")
    context.set_forkserver_preload([module])
    return ProcessPoolExecutor(processes, context, initializer=_end_with_parent)


def _end_with_parent() -> None:
    """A killed parent tells nobody, and workers wait on a pipe that they hold open themselves."""
    parent = parent_process()
    assert parent is not None

    def wait() -> None:
        parent.join()
        os._exit(1)

    Thread(target=wait, daemon=True).start()
