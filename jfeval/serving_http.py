"""The service over HTTP: ``GET /health``, ``POST /judge``; on loopback unless told otherwise, JSON alone, bodies bounded.

A page in a browser cannot use it: requests must be JSON by content type and, on loopback, must name the loopback as their host.
"""

import json
import logging
import time
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address

from jfeval.schema import Json, JsonObject
from jfeval.serving import MAX_ITEMS, Busy, Service

log = logging.getLogger(__name__)

MAX_BODY = 256 * 2**20
"""Bytes of one request."""
_SLOWEST = 60.0
"""Seconds that a caller may take to send its request."""


def serve(service: Service, facts: JsonObject, *, host: str, port: int) -> ThreadingHTTPServer:
    """Bind the address and return the server; ``serve_forever`` runs it.

    Args:
        service: Judges.
        facts: What ``/health`` answers.
        host: Address to bind.
        port: Port; 0 for any free one.
    """

    class Handler(_Handler):
        judging, health, guarded = service, facts, is_loopback(host)
        timeout = _SLOWEST

    server = ThreadingHTTPServer((host, port), Handler)
    server.daemon_threads = True
    return server


def is_loopback(host: str) -> bool:
    """Tell whether a host's name or address is this machine alone."""
    if host == "localhost":
        return True
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


class _Handler(BaseHTTPRequestHandler):
    judging: Service
    health: JsonObject
    guarded: bool
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "jfeval", ""

    def do_GET(self) -> None:
        """Answer ``/health``."""
        if not self._host_is_ours():
            return
        if self.path == "/health":
            self._answer(HTTPStatus.OK, self.health)
        else:
            self._refuse(HTTPStatus.NOT_FOUND, "there are GET /health and POST /judge")

    def do_POST(self) -> None:
        """Answer ``/judge``."""
        if not self._host_is_ours():
            return
        if self.path != "/judge":
            self._refuse(HTTPStatus.NOT_FOUND, "there are GET /health and POST /judge")
            return
        if self.headers.get_content_type() != "application/json":
            self._refuse(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "send JSON, as Content-Type: application/json")
            return
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal() or int(length) > MAX_BODY:
            self._refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"state the body's length, at most {MAX_BODY} bytes")
            return
        started = time.perf_counter()
        try:
            items = json.loads(self.rfile.read(int(length)))["items"]
        except (ValueError, KeyError, TypeError, RecursionError):
            items = None
        if not isinstance(items, list) or not 1 <= len(items) <= MAX_ITEMS:
            self._refuse(HTTPStatus.BAD_REQUEST, f'send {{"items": [{{"metadata": row, "image": base64}}, ...]}}, 1 to {MAX_ITEMS} of them')
            return
        try:
            results: list[Json] = list(self.judging.submit(items))
        except Busy:
            self._refuse(HTTPStatus.SERVICE_UNAVAILABLE, "too many pictures are waiting; send this request again later")
            return
        self._answer(HTTPStatus.OK, {"results": results, "seconds": round(time.perf_counter() - started, 4)})

    def log_message(self, format: str, *args: object) -> None:
        """Log requests quietly, through the logger."""
        log.debug(format, *args)

    def _host_is_ours(self) -> bool:
        host = self.headers.get("Host", "")
        name = host.rpartition(":")[0] if ":" in host and not host.endswith("]") else host
        if self.guarded and not is_loopback(name):
            self._refuse(HTTPStatus.FORBIDDEN, "this service answers on loopback alone")
            return False
        return True

    def _refuse(self, status: HTTPStatus, reason: str) -> None:
        self.close_connection = True  # what is left of the body is not read
        self._answer(status, {"error": reason})

    def _answer(self, status: HTTPStatus, value: JsonObject) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
