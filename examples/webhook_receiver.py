#!/usr/bin/env python3
"""A customer's receiver of webhooks, which knows nothing of the hub. Python's standard library is enough.

    python3 examples/webhook_receiver.py         (POSTRIDER_ALLOW_NETWORKS=127.0.0.0/8 lets the hub reach it)

It believes what is signed with its secret and not older than five minutes; any 2xx says that it has the event.
"""
import hashlib
import hmac
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SECRET = b"acme-secret-of-the-webhook"


def is_genuine(header, body):
    """Whether a header t=<unix seconds>,v1=<hex>[,v1=<hex>] signs this body: HMAC-SHA256 of "<t>.<body>"."""
    parts = [part.split("=", 1) for part in header.split(",")]
    sent = next(value for name, value in parts if name == "t")
    expected = hmac.new(SECRET, sent.encode() + b"." + body, hashlib.sha256).hexdigest()
    signatures = [value for name, value in parts if name == "v1"]
    return abs(time.time() - int(sent)) < 300 and any(hmac.compare_digest(expected, each) for each in signatures)


class Receiver(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        genuine = is_genuine(self.headers["Acme-Signature"], body)
        if genuine:
            print(f"event {self.headers['Acme-Event']} {self.headers['Acme-Delivery']}: {body.decode()}", flush=True)
        self.send_response(204 if genuine else 401)
        self.end_headers()


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", 9003), Receiver).serve_forever()
