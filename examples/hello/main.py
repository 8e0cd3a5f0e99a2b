"""What the builder adds: a web server around the end user's function."""

import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from greeting import greeting


class Server(BaseHTTPRequestHandler):
    def do_GET(self):
        text = greeting()
        print(text, flush=True)
        body = f"{text}\n".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format, *args):
        pass


ThreadingHTTPServer(("0.0.0.0", int(os.environ["PORT"])), Server).serve_forever()
