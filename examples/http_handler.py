#!/usr/bin/env python3
"""Handles the queue `greet`: Postrider posts each message here. Python's standard library is enough.

    python3 examples/http_handler.py

The answer decides: 2xx with JSON is the result, 4xx is an ERROR for good, 5xx or none is tried again.
"""
import base64
import hashlib
import hmac
import json
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SECRET = base64.b64decode("ZXhhbXBsZXMtYXJlLW5vdC1zZWNyZXQh")  # greet.queue.json has it, after whsec_


def is_genuine(headers, body):
    """Standard Webhooks: HMAC-SHA256 of id, time and body, and the time not long ago."""
    ident, sent = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    digest = hmac.new(SECRET, f"{ident}.{sent}.".encode() + body, hashlib.sha256).digest()
    expected = "v1," + base64.b64encode(digest).decode()
    fresh = sent.isdigit() and abs(time.time() - int(sent)) < 300
    return fresh and any(hmac.compare_digest(expected, s) for s in headers.get("webhook-signature", "").split())


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        if is_genuine(self.headers, body):
            self.answer(200, {"greeting": f"Hello, {json.loads(body)['name']}!"})
        else:
            self.answer(401, {"error": "the signature does not match"})

    def answer(self, status, document):
        text = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)


ThreadingHTTPServer(("127.0.0.1", 9000), Handler).serve_forever()
