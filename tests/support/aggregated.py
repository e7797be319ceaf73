#!/usr/bin/env python3
# An aggregated API server for tests: one kind in memory, for whoever shows a certificate of the front proxies.
"""Group things.test, version v1, one namespaced resource.

Believes X-Remote-* of whoever has a certificate of the front proxies' CA, as k8s.io/apiserver does, and nobody else.
usage: aggregated.py --port N --cert FILE --key FILE --requestheader-ca FILE --allowed-name NAME [--group G] [--bind ADDRESS]
"""
import argparse
import hashlib
import base64
import json
import ssl
import threading
import time
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

VERBS = ["create", "delete", "get", "list", "update", "watch", "deletecollection"]


class Store:
    """Objects by (namespace, name), and every change of them with its revision."""

    def __init__(self):
        self.changed = threading.Condition()
        self.objects, self.events, self.revision = {}, [], 1

    def put(self, kind, key, thing):
        with self.changed:
            self.revision += 1
            thing["metadata"]["resourceVersion"] = str(self.revision)
            if kind == "DELETED":
                self.objects.pop(key, None)
            else:
                self.objects[key] = thing
            self.events.append((self.revision, kind, key, json.loads(json.dumps(thing))))
            self.changed.notify_all()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    store = Store()
    options = None

    def log_message(self, *_):
        pass

    # ---- answers
    def answer(self, code, body, content_type="application/json"):
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(code)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Access-Control-Allow-Origin", "*")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def status(self, code, reason, message):
        self.answer(code, {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "reason": reason, "message": message, "code": code})

    def trusted(self):
        peer = self.connection.getpeercert()
        names = [value for part in (peer or {}).get("subject", ()) for key, value in part if key == "commonName"]
        return self.options.allowed_name in names

    # ---- requests
    def do_GET(self):
        self.handle_request()

    do_POST = do_PUT = do_DELETE = do_HEAD = do_GET

    def handle_request(self):
        url = urlsplit(self.path)
        self.query = {k: v[0] for k, v in parse_qs(url.query, keep_blank_values=True).items()}
        length = int(self.headers.get("Content-Length") or 0)
        self.body = self.rfile.read(length)
        group = self.options.group
        if not self.trusted() or not self.headers.get("X-Remote-User"):
            self.status(401, "Unauthorized", "Unauthorized")
        elif url.path in ("/apis", "/openapi/v3", f"/openapi/v3/apis/{group}/v1"):
            self.documents(url.path)
        elif url.path == f"/apis/{group}/v1":
            self.answer(200, self.resources())
        elif url.path.startswith(f"/apis/{group}/v1/"):
            self.resource(url.path[len(f"/apis/{group}/v1/"):].split("/"))
        else:
            self.status(404, "NotFound", "the server could not find the requested resource")

    def resources(self):
        return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": self.options.group + "/v1", "resources": [
            {"name": "things", "singularName": "thing", "namespaced": True, "kind": "Thing", "verbs": VERBS, "shortNames": ["tg"], "categories": ["all"]},
            {"name": "things/echo", "singularName": "", "namespaced": True, "kind": "Thing", "verbs": ["get", "create"]}]}

    def documents(self, path):
        group = self.options.group
        if path == "/apis":  # as servers before aggregated discovery: the old list
            self.answer(200, {"kind": "APIGroupList", "apiVersion": "v1", "groups": [{"name": group, "versions": [{"groupVersion": group + "/v1", "version": "v1"}]}]})
        elif path == "/openapi/v3":
            self.answer(200, {"paths": {f"apis/{group}/v1": {"serverRelativeURL": f"/openapi/v3/apis/{group}/v1?hash=42"}}})
        else:
            gvk = [{"group": group, "version": "v1", "kind": "Thing"}]
            schema = {"type": "object", "description": "Thing is a thing of the tests.", "x-kubernetes-group-version-kind": gvk, "properties": {
                "apiVersion": {"type": "string"}, "kind": {"type": "string"}, "metadata": {"type": "object"},
                "spec": {"type": "object", "description": "What is wanted of the thing.", "properties": {"color": {"type": "string", "description": "How it looks."}}}}}
            item = {"get": {"x-kubernetes-action": "get", "x-kubernetes-group-version-kind": gvk[0], "responses": {"200": {
                "description": "OK", "content": {"application/json": {"schema": {"$ref": "#/components/schemas/test.Thing"}}}}}}}
            self.answer(200, {"openapi": "3.0.0", "info": {"title": "things", "version": "1"}, "paths": {
                f"/apis/{group}/v1/namespaces/{{namespace}}/things/{{name}}": item}, "components": {"schemas": {"test.Thing": schema}}})

    def resource(self, parts):
        ns = ""
        if parts[0] == "namespaces" and len(parts) > 2:
            ns, parts = parts[1], parts[2:]
        if parts[0] != "things":
            self.status(404, "NotFound", "the server could not find the requested resource")
        elif len(parts) == 3 and parts[2] == "echo":
            self.echo()
        elif len(parts) == 2:
            self.one((ns, parts[1]))
        elif self.command == "POST":
            self.create(ns)
        elif self.command == "DELETE":
            for key in [key for key in self.store.objects if not ns or key[0] == ns]:
                self.store.put("DELETED", key, self.store.objects[key])
            self.answer(200, {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"})
        elif self.query.get("watch") in ("true", "1"):
            self.watch(ns)
        else:
            self.list(ns)

    # ---- what a client wants to know of the way here, and ways that are not answers in one piece
    def echo(self):
        if self.headers.get("Upgrade") == "websocket":
            return self.websocket()
        if "redirect" in self.query:
            self.send_response(302)
            self.send_header("Location", "https://elsewhere.test/")
            self.send_header("Content-Length", "0")
            return self.end_headers()
        if "bytes" in self.query:
            return self.answer(200, b"x" * int(self.query["bytes"]), "application/octet-stream")
        time.sleep(float(self.query.get("sleep", 0)))
        headers = {}
        for name, value in self.headers.items():
            headers.setdefault(name.lower(), []).append(value)
        return self.answer(200, {"kind": "Echo", "path": self.path, "headers": headers, "bytes": len(self.body)})

    def websocket(self):
        """Sends back whatever bytes come behind the upgrade."""
        key = (self.headers.get("Sec-WebSocket-Key", "") + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode()
        self.send_response(101)
        self.send_header("Upgrade", "websocket")
        self.send_header("Connection", "Upgrade")
        self.send_header("Sec-WebSocket-Accept", base64.b64encode(hashlib.sha1(key).digest()).decode())
        self.end_headers()
        self.wfile.flush()
        self.close_connection = True
        while data := self.connection.recv(4096):
            self.connection.sendall(data.upper())

    # ---- objects
    def kind(self):
        return {"kind": "Thing", "apiVersion": self.options.group + "/v1"}

    def create(self, ns):
        thing = {**json.loads(self.body), **self.kind()}
        meta = thing.setdefault("metadata", {})
        if (ns, meta.get("name")) in self.store.objects:
            return self.status(409, "AlreadyExists", f'things.{self.options.group} "{meta["name"]}" already exists')
        meta.update(namespace=ns, uid=str(uuid.uuid4()), creationTimestamp=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()))
        meta.setdefault("annotations", {})["made-by"] = self.headers["X-Remote-User"]
        self.store.put("ADDED", (ns, meta["name"]), thing)
        return self.answer(201, thing)

    def one(self, key):
        thing = self.store.objects.get(key)
        if not thing:
            self.status(404, "NotFound", f'things.{self.options.group} "{key[1]}" not found')
        elif self.command == "DELETE":
            self.store.put("DELETED", key, thing)
            self.answer(200, {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"})
        elif self.command == "PUT":
            self.store.put("MODIFIED", key, {**json.loads(self.body), **self.kind()})
            self.answer(200, self.store.objects[key])
        else:
            self.answer(200, thing)

    def list(self, ns):
        items = [thing for key, thing in sorted(self.store.objects.items()) if not ns or key[0] == ns]
        self.answer(200, {"kind": "ThingList", "apiVersion": self.options.group + "/v1", "metadata": {"resourceVersion": str(self.store.revision)}, "items": items})

    def watch(self, ns):
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        at, end = int(self.query.get("resourceVersion") or 0), time.time() + float(self.query.get("timeoutSeconds", 60))
        while time.time() < end:
            with self.store.changed:
                self.store.changed.wait_for(lambda: self.store.revision > at, timeout=0.5)
                new = [event for event in self.store.events if event[0] > at and (not ns or event[2][0] == ns)]
                at = self.store.revision
            for _, kind, _, thing in new:
                line = json.dumps({"type": kind, "object": thing}).encode() + b"\n"
                self.wfile.write(b"%x\r\n%s\r\n" % (len(line), line))
            self.wfile.flush()
        self.wfile.write(b"0\r\n\r\n")


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def finish_request(self, request, client_address):
        """The handshake is the connection's own thread's: a peer without a certificate must not hold up others."""
        try:
            request.settimeout(60)
            request.do_handshake()
            super().finish_request(request, client_address)
        except (OSError, ssl.SSLError):
            pass


def main():
    parser = argparse.ArgumentParser()
    for name in ("port", "cert", "key", "requestheader-ca", "allowed-name"):
        parser.add_argument("--" + name, required=True)
    parser.add_argument("--group", default="things.test")
    parser.add_argument("--bind", default="0.0.0.0")
    Handler.options = options = parser.parse_args()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(options.cert, options.key)
    context.load_verify_locations(options.requestheader_ca)
    context.verify_mode = ssl.CERT_REQUIRED
    server = Server((options.bind, int(options.port)), Handler)
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    server.serve_forever()


main()
