"""Watch the runs of folders in a browser, side by side, while they train."""

import argparse
from pathlib import Path

from ganscale.commands.arguments import path, port

OWN_MACHINE = ("127.0.0.1", "localhost", "::1")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the folders and the address of the page."""
    parser.add_argument(
        "folders", type=path, nargs="*", metavar="FOLDER", help="runs, or folders of runs (runs)"
    )
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to listen on (127.0.0.1: this machine alone)"
    )
    parser.add_argument(
        "--port", type=port, default=8700, help="port to listen on, or the next free one (8700)"
    )


def run(options: argparse.Namespace) -> None:
    """Serve the page until Ctrl-C."""
    from ganscale.pages.watch.server import listen
    from ganscale.pages.watch.watcher import Watcher

    folders = list(dict.fromkeys(folder.absolute() for folder in options.folders or [Path("runs")]))
    for folder in folders:
        if not folder.is_dir():
            print(f"{folder} does not exist yet; the page shows its runs as soon as it does")
    server = listen(options.host, options.port, Watcher(folders), [str(f) for f in folders])
    if options.host not in OWN_MACHINE:
        print("everyone who reaches this machine can see these runs")
    host = f"[{options.host}]" if ":" in options.host else options.host
    print(f"watching at http://{host}:{server.server_port}/ (Ctrl-C ends it)", flush=True)
    with server:
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print()
