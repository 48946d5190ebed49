"""Serves the page on this machine: nobody else is asked for anything, or told anything."""

import logging
import os
import socket
import sys
import threading
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from pathlib import Path
from typing import Any

from ganscale.errors import GanscaleError
from ganscale.pages.explore.run_subject import RunSubject, open_subject

FIRST_PORT, PORTS = 7860, 100
LEAST_PRIORITY = 19
ANYWHERE = ("0.0.0.0", "::")
OPEN_PATHS = ("/assets/", "/static/", "/gradio_api/run/", "/gradio_api/heartbeat/")
OPEN_PAGES = (
    *("/", "/config", "/theme.css", "/favicon.ico", "/manifest.json", "/pwa_icon", "/robots.txt"),
    *("/gradio_api/startup-events", "/gradio_api/info", "/gradio_api/app_id"),
)
POLICY = (
    "default-src 'self'; img-src 'self' data: blob:; style-src 'self' 'unsafe-inline'; "
    "script-src 'self' 'unsafe-inline' 'unsafe-eval'; font-src 'self' data:; "
    "connect-src 'self' data:; frame-ancestors 'none'; form-action 'none'; base-uri 'self'"
)

log = logging.getLogger("ganscale")
Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class OnlyThePage:
    """Lets requests for the page through, and none for files, uploads or other addresses.

    `hosts` are the names under which the page may be asked for, so that a web site cannot reach it
    under a name of its own; empty allows all. Its answers tell the browser to ask no other host.
    """

    def __init__(self, app: Any, hosts: tuple[str, ...]):
        self._app, self._hosts = app, hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path: str = scope["path"]
        host = dict(scope["headers"]).get(b"host", b"").decode("latin-1").rpartition(":")[0]
        known = path in OPEN_PAGES or path.startswith(OPEN_PATHS)
        if not known or (self._hosts and host not in self._hosts):
            await send({"type": "http.response.start", "status": 404, "headers": []})
            await send({"type": "http.response.body", "body": b"not found"})
            return

        async def with_policy(message: Message) -> None:
            if message["type"] == "http.response.start":
                rules = [(b"content-security-policy", POLICY.encode())]
                message["headers"] = [*message["headers"], *rules]
            await send(message)

        await self._app(scope, receive, with_policy)


def serve(
    folder: Path,
    *,
    host: str = "127.0.0.1",
    port: int | None = None,
    share: bool = False,
    trust_code: bool = False,
) -> Any:
    """Start to serve the page of a run or an exported generator; return Gradio's `Blocks`.

    Without `port`, it is the first free one from 7860. Only `share` makes Gradio open a tunnel
    through which others reach the page. Raises `GanscaleError` if the folder holds no generator, if
    Gradio is not installed, or if the port is taken.
    """
    _free_port(host, port)  # what is wrong with it is said before what takes long
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    # Gradio asks its own server whether it answers, and a proxy must not be asked instead.
    for name in ("NO_PROXY", "no_proxy"):
        os.environ[name] = ",".join(filter(None, (os.environ.get(name), host, "localhost")))
    subject = open_subject(folder, trust_code)
    try:
        from starlette.middleware import Middleware

        from ganscale.pages.explore.page import THRESHOLDS, build_page, looks
    except ImportError as error:
        raise GanscaleError(
            f"the page needs Gradio ({error}): pip install 'ganscale[pages]'"
        ) from None
    blocks = build_page(subject)
    hosts = () if share or host in ANYWHERE else (host, "127.0.0.1", "localhost")
    blocks.launch(
        server_name=host,
        server_port=_free_port(host, port),
        share=share,
        quiet=True,
        inline=False,
        prevent_thread_lock=True,
        ssr_mode=False,
        pwa=False,
        mcp_server=False,
        run_history=False,
        enable_monitoring=False,
        footer_links=[],
        allowed_paths=[],
        app_kwargs={"middleware": [Middleware(OnlyThePage, hosts=hosts)]},
        **looks(),
    )
    if share and not blocks.share_url:
        blocks.close(verbose=False)
        raise GanscaleError("--share: Gradio's service could not be reached; see its words above")
    if isinstance(subject, RunSubject):
        threading.Thread(target=_prepare, args=(subject, THRESHOLDS), daemon=True).start()
    return blocks


def _prepare(subject: RunSubject, thresholds: Sequence[float]) -> None:
    """Compute what slow choices need, while what the page asks for goes first."""
    if sys.platform == "linux":  # only there does a thread have a priority of its own
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), LEAST_PRIORITY)
    subject.prepare(thresholds)


def _free_port(host: str, wanted: int | None) -> int:
    """Return the port to listen on; raise `GanscaleError` if it is taken."""
    ports = range(FIRST_PORT, FIRST_PORT + PORTS) if wanted is None else (wanted,)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for port in ports:
        with socket.socket(family) as tried:
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                tried.bind((host, port))
            except (OSError, OverflowError) as error:
                reason = getattr(error, "strerror", None) or str(error)
                continue
            return int(tried.getsockname()[1])
    taken = f"port {wanted}" if wanted is not None else f"ports {ports[0]} to {ports[-1]}"
    raise GanscaleError(f"{host}, {taken}: {reason}; name another with --host or --port")
