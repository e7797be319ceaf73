"""The metadata service at 169.254.169.254: tells each machine, known by its address, what its cloud knows of it."""
import secrets
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

TOKEN_HEADER, LIFETIME_HEADER = "X-aws-ec2-metadata-token", "X-aws-ec2-metadata-token-ttl-seconds"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def answer(self, status, body=b""):
        body = body.encode() if isinstance(body, str) else body
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def facts(self):
        with self.server.lock:
            return self.server.machines.get(self.client_address[0], {})

    def do_PUT(self):
        if self.path != "/latest/api/token" or "/latest/user-data" not in self.facts():
            return self.answer(404)
        lifetime = self.headers.get(LIFETIME_HEADER, "")
        if not lifetime.isdigit() or not 1 <= int(lifetime) <= 21600:
            return self.answer(400)
        token = secrets.token_urlsafe(40)
        with self.server.lock:
            self.server.tokens[token] = self.client_address[0]
        return self.answer(200, token)

    def do_GET(self):
        facts = self.facts()
        if self.path.startswith("/latest/") and "/latest/user-data" in facts:
            with self.server.lock:
                if self.server.tokens.get(self.headers.get(TOKEN_HEADER, "")) != self.client_address[0]:
                    return self.answer(401)
        if facts.get(self.path) is not None:
            return self.answer(200, facts[self.path])
        below = sorted({name[len(self.path):].split("/")[0] for name in facts if name.startswith(self.path) and self.path.endswith("/")})
        return self.answer(200, "\n".join(below)) if below else self.answer(404)


class Metadata(ThreadingHTTPServer):
    daemon_threads, allow_reuse_address, request_queue_size = True, True, 64

    def __init__(self, address="169.254.169.254", port=80):
        self.lock, self.machines, self.tokens = threading.Lock(), {}, {}
        super().__init__((address, port), Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def tell(self, machines):
        """{address: {path: text or bytes}}"""
        with self.lock:
            self.machines = machines
