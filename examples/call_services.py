"""Requests as runs: a service that knows the run's key does a thing once, however often it is asked."""

import json
import os
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import ClassVar

from onebeat import Onebeat, http, interval

PORT = int(os.environ.get("PORT", "8017"))
beat = Onebeat(zone="UTC", http=["localhost"])  # loopback and private addresses are refused otherwise

beat.declare(
    "charge-17",
    interval(seconds=2),
    http(f"http://localhost:{PORT}/charges", json={"customer": 17, "cents": 990}),
    attempts=5,
    backoff=0.1,
    timeout=10,
)


class Charges(BaseHTTPRequestHandler):
    """A service of yours. It is out of order once for every charge, after having done it."""

    charged: ClassVar[dict[str, int]] = {}

    def do_POST(self) -> None:
        """Charge once for each key, and say what was charged in all."""
        order = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        key = self.headers["Idempotency-Key"]  # charge-17@20261121T120000Z, the same in every attempt
        known = key in self.charged
        self.charged[key] = order["cents"]
        content = json.dumps({"charges": len(self.charged), "cents": sum(self.charged.values())}).encode()
        self.send_response(200 if known else 503)  # 503 is tried again
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: the run's history says it."""


if __name__ == "__main__":
    service = HTTPServer(("localhost", PORT), Charges)
    threading.Thread(target=service.serve_forever, daemon=True).start()
    beat.serve()
