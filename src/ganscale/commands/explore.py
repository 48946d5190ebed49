"""Play with a trained generator on a local web page."""

import argparse
import logging
import time

from ganscale.commands.arguments import add_trust_code, path, port

log = logging.getLogger("ganscale")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the run, and where the page is served."""
    parser.add_argument(
        "run", type=path, help="run folder, or one from `ganscale export --format pretrained`"
    )
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to listen on (127.0.0.1: this machine alone)"
    )
    parser.add_argument(
        "--port", type=port, help="port to listen on (default: the first free one from 7860)"
    )
    parser.add_argument(
        "--share",
        action="store_true",
        help="let anyone with the link use the page, through a tunnel of gradio.live",
    )
    add_trust_code(parser)


def run(options: argparse.Namespace) -> None:
    """Serve the page until Ctrl-C."""
    from ganscale.monitoring.progress import set_up_logging
    from ganscale.pages.explore.serve import serve

    set_up_logging(rank=0)
    log.info("opening %s, and starting the page: this takes some seconds", options.run)
    page = serve(
        options.run,
        host=options.host,
        port=options.port,
        share=options.share,
        trust_code=options.trust_code,
    )
    print(
        f"exploring {options.run}: {page.share_url or page.local_url} (Ctrl-C ends it)", flush=True
    )
    try:
        while True:
            time.sleep(3600)
    except KeyboardInterrupt:
        print()
        page.close(verbose=False)
