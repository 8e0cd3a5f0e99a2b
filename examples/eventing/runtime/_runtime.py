"""The product's half of a user's VM: takes events, each at the path of its handler, and calls the handler.

Nobody but the product can call a handler: every event is signed (Standard Webhooks), and the secret is in this VM's environment.
"""

import base64
import hashlib
import hmac
import json
import os
import time
import traceback
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import handlers

SECRET = base64.b64decode(os.environ.pop("EVENTING_SECRET").removeprefix("whsec_"))
FRESH_SECS = 300
BODY_MAX_BYTES = 1 << 20


def is_signed(headers, body):
    try:
        signed = f"{headers['webhook-id']}.{int(headers['webhook-timestamp'])}.".encode() + body
        fresh = abs(time.time() - int(headers["webhook-timestamp"])) < FRESH_SECS
    except (TypeError, ValueError):
        return False
    right = "v1," + base64.b64encode(hmac.new(SECRET, signed, hashlib.sha256).digest()).decode()
    return fresh and any(hmac.compare_digest(right, given) for given in (headers["webhook-signature"] or "").split())


class Runtime(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        length = int(self.headers.get("content-length") or 0)
        if length > BODY_MAX_BYTES:
            return self.answer(413, {"error": "the event is too large"})
        body = self.rfile.read(length)
        if not is_signed(self.headers, body):
            return self.answer(401, {"error": "the event is not signed by the product"})
        name = self.path.strip("/")
        handler = getattr(handlers, name, None) if name.isidentifier() and not name.startswith("_") else None
        if not callable(handler):
            return self.answer(404, {"error": f"there is no handler {name}"})
        try:
            self.answer(200, {"result": handler(json.loads(body))})
        except Exception as error:
            traceback.print_exc()
            self.answer(500, {"error": str(error)})

    def answer(self, status, said):
        body = json.dumps(said).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


print("ready for", ", ".join(name for name in dir(handlers) if not name.startswith("_")))
ThreadingHTTPServer(("", 8080), Runtime).serve_forever()
