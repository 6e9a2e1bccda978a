"""A web server with threads: it counts its visitors, and tells what it sees of its container."""

import json
import os
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

barrier = threading.Barrier(4)  # four visitors are served at once, or none


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path == "/together":
            barrier.wait(10)
        facts = {"uid": os.getuid(), "workdir": os.getcwd(), "name": os.environ.get("NAME")}
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(facts).encode())


ThreadingHTTPServer(("", 8000), Handler).serve_forever()
