"""Worker processes that end with the process that started them."""

import os
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_all_start_methods, get_context, parent_process
from threading import Thread


def process_pool(processes: int, module: str) -> ProcessPoolExecutor:
    """Return a pool of worker processes for functions of `module`."""
    # Forking this process could deadlock on its threads' locks; the server also imports only once.
    server = "forkserver" in get_all_start_methods()  # not on Windows
    context = get_context("forkserver" if server else "spawn")
    if server:
        context.set_forkserver_preload([module])
    return ProcessPoolExecutor(processes, context, initializer=_end_with_parent)


def _end_with_parent() -> None:
    """Start a thread that ends this worker when its parent dies.

    A killed parent cannot notify its workers, which wait on a pipe that they hold open themselves.
    """
    parent = parent_process()
    assert parent is not None

    def wait() -> None:
        parent.join()
        os._exit(1)

    Thread(target=wait, daemon=True).start()
