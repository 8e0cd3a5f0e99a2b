"""The web app of tests and of the demo: ordinary Python that knows nothing of Cakework.

GET /             a greeting with the environment's TOKEN
GET /started      when this process began, in Unix nanoseconds
GET /env          the environment as JSON
GET /echo?text=T  the text
GET /log?lines=N  writes N numbered lines to stdout (stream=err: to stderr; prefix=TEXT begins each)
GET /exit?code=N  ends the process after its answer
GET /eat?mib=N    takes and touches N MiB of memory, and keeps it
GET /write?path=P&mib=N  writes a file and syncs it
GET /connect?host=H&port=P&proto=tcp|udp  says whether the other side could be reached
At start it writes LINES numbered lines, if that is set.
"""

import errno
import json
import os
import socket
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

STARTED_NS = time.time_ns()
CONNECT_TIMEOUT_S = 2
kept = []


def log_lines(count, prefix="line", stream=sys.stdout):
    for number in range(1, count + 1):
        stream.write(f"{prefix} {number}\n")
    stream.flush()


def connect(host, port, proto):
    """Reaches out once; gives a word for how it went."""
    kind = socket.SOCK_DGRAM if proto == "udp" else socket.SOCK_STREAM
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=kind)[0]
        with socket.socket(family, kind) as connection:
            connection.settimeout(CONNECT_TIMEOUT_S)
            connection.connect(address)
            if proto == "udp":
                connection.send(b"ping\n")
                connection.recv(64)
        return "connected"
    except socket.timeout:
        return "timeout"
    except OSError as error:
        return errno.errorcode.get(error.errno, str(error))


class App(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        url = urlsplit(self.path)
        query = {name: values[-1] for name, values in parse_qs(url.query).items()}
        token = os.environ.get("TOKEN", "")
        if url.path == "/":
            print(f"greeting someone, token={token}", flush=True)
            self.answer(f"Hello from Cakework! token={token}\n")
        elif url.path == "/started":
            self.answer(json.dumps({"startedNs": STARTED_NS, "pid": os.getpid()}))
        elif url.path == "/echo":
            self.answer(query.get("text", ""))
        elif url.path == "/env":
            self.answer(json.dumps(dict(os.environ)))
        elif url.path == "/log":
            stream = sys.stderr if query.get("stream") == "err" else sys.stdout
            log_lines(int(query.get("lines", "1")), query.get("prefix", "line"), stream)
            self.answer("ok\n")
        elif url.path == "/exit":
            self.answer("bye\n")
            os._exit(int(query.get("code", "0")))
        elif url.path == "/eat":
            block = bytearray(int(query.get("mib", "1")) << 20)
            block[::4096] = b"x" * len(block[::4096])
            kept.append(block)
            self.answer("full\n")
        elif url.path == "/write":
            self.answer(self.write_file(query.get("path", "/tmp/file"), int(query.get("mib", "1"))))
        elif url.path == "/connect":
            self.answer(connect(query["host"], int(query["port"]), query.get("proto", "tcp")) + "\n")
        else:
            self.answer("not found\n", 404)

    def write_file(self, path, mib):
        try:
            with open(path, "wb") as file:
                for _ in range(mib):
                    file.write(os.urandom(1 << 20))
                file.flush()
                os.fsync(file.fileno())
            return "written\n"
        except OSError as error:
            return errno.errorcode.get(error.errno, str(error)) + "\n"

    def answer(self, text, status=200):
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json" if text[:1] == "{" else "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()

    def log_message(self, format, *args):
        print(format % args, flush=True)


def main():
    port = int(os.environ.get("PORT", "8080"))
    threading.Thread(target=log_lines, args=(int(os.environ.get("LINES", "0")),)).start()
    server = ThreadingHTTPServer(("0.0.0.0", port), App)
    print(f"listening on {port}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
