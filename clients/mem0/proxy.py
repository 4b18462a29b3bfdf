"""Passes requests of a client on to the server, and notes them: for programs that show none."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx

from conftest import URL

# Of one connection only.
HOP = {"connection", "transfer-encoding", "content-encoding", "content-length", "host", "keep-alive"}


class Proxy:
    """Listens on a loopback port; `asked` has method and path of what came."""

    def __init__(self):
        self.asked, self.bodies = [], []
        self.upstream = httpx.Client(base_url=URL, timeout=60)
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def serve(self):
                size = int(self.headers.get("content-length") or 0)
                body = self.rfile.read(size) if size else None
                outer.asked.append((self.command, self.path))
                outer.bodies.append(body)
                kept = {k: v for k, v in self.headers.items() if k.lower() not in HOP}
                answer = outer.upstream.request(self.command, self.path, headers=kept, content=body)
                self.send_response(answer.status_code)
                for key, value in answer.headers.items():
                    if key.lower() not in HOP:
                        self.send_header(key, value)
                self.send_header("content-length", str(len(answer.content)))
                self.end_headers()
                self.wfile.write(answer.content)

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = serve

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()
        self.upstream.close()
