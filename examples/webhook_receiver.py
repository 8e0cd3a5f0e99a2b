#!/usr/bin/env python3
"""Receives Cakework's webhooks and believes only those that are signed: the standard library is enough.

    WEBHOOK_SECRET_FILE=secret python3 webhook_receiver.py 127.0.0.1 9000

Each event whose signature holds is one line of JSON on standard output. The file holds what POST /v1/webhook answered
as `secret` (`whsec_…`); it is read at each request, so that it may come later than this program. The scheme is that of
the Standard Webhooks specification: HMAC-SHA256 over `id.timestamp.body`.
"""

import base64
import hashlib
import hmac
import os
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

BODY_MAX_BYTES = 1 << 20
# Older than this it may be a recording that somebody plays again.
AGE_MAX_S = 300


def signed(secret, headers, body):
    """Whether one of the signatures in the headers is the secret's owner's."""
    message_id, timestamp = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    if not timestamp.isdigit() or abs(time.time() - int(timestamp)) > AGE_MAX_S:
        return False
    key = base64.b64decode(secret.removeprefix("whsec_"))
    digest = hmac.new(key, f"{message_id}.{timestamp}.".encode() + body, hashlib.sha256).digest()
    wanted = "v1," + base64.b64encode(digest).decode()
    # While a secret is being replaced there is one signature by each.
    return any(hmac.compare_digest(wanted, given) for given in headers.get("webhook-signature", "").split())


class Receiver(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        length = int(self.headers.get("content-length", "0"))
        if length > BODY_MAX_BYTES:
            return self.answer(413)
        body = self.rfile.read(length)
        with open(os.environ["WEBHOOK_SECRET_FILE"]) as file:
            secret = file.read().strip()
        if not signed(secret, self.headers, body):
            return self.answer(401)
        print(body.decode(), flush=True)
        # Anything but 2xx would be tried again.
        self.answer(204)

    def answer(self, status):
        self.send_response(status)
        if status != 204:
            self.send_header("Content-Length", "0")
        if status == 413:
            # What was not read would be taken for the next request.
            self.close_connection = True
        self.end_headers()

    def log_message(self, format, *args):
        print(format % args, file=sys.stderr)


if __name__ == "__main__":
    ThreadingHTTPServer((sys.argv[1], int(sys.argv[2])), Receiver).serve_forever()
