"""The node's small HTTP app: ``/metrics``, ``/healthz``, ``/readyz``."""

from __future__ import annotations

import socket
from collections.abc import Callable, Generator
from contextlib import contextmanager

import uvicorn
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from kvbus.errors import ConfigError

Ready = Callable[[], tuple[bool, dict[str, object]]]


def http_app(registry: CollectorRegistry, ready: Ready) -> Starlette:
    """Build the app. ``ready`` says whether clients should be sent here, and why or why not."""

    async def metrics(_: Request) -> Response:
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_PLAIN_0_0_4)

    async def healthz(_: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def readyz(_: Request) -> Response:
        is_ready, details = ready()
        return JSONResponse({"ready": is_ready, **details}, status_code=200 if is_ready else 503)

    return Starlette(routes=[Route("/metrics", metrics), Route("/healthz", healthz), Route("/readyz", readyz)])


def listen_http(address: str) -> socket.socket:
    """Open the listening socket for ``host:port``.

    Raises:
        ConfigError: the address is taken or is none of this machine's.
    """
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, int(port)))
        listener.listen()
    except OSError as error:
        listener.close()
        raise ConfigError(
            f"[listen] http = {address!r} cannot be bound ({error.strerror}); "
            "stop the other process or choose another port"
        ) from error
    return listener


class HttpServer(uvicorn.Server):
    """uvicorn inside the node's loop; the node handles the signals."""

    def __init__(self, app: Starlette) -> None:
        super().__init__(
            uvicorn.Config(app, log_config=None, access_log=False, lifespan="off", timeout_graceful_shutdown=1)
        )

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Leave the signals to the node, which goes on telling that it is not ready until it has drained."""
        yield
