#!/usr/bin/env python3
"""A collector for looking on: prints each span that Postrider exports as a line, and keeps nothing.

    OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:4318 cargo run --release
    python3 examples/collector.py
"""

import json
from http.server import BaseHTTPRequestHandler, HTTPServer


class Collector(BaseHTTPRequestHandler):
    def do_POST(self):
        exported = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        for resource in exported["resourceSpans"]:
            for scope in resource["scopeSpans"]:
                for span in scope["spans"]:
                    took = (int(span["endTimeUnixNano"]) - int(span["startTimeUnixNano"])) / 1e6
                    parent = span.get("parentSpanId", "-" * 16)
                    print(f"{span['traceId']} {parent} > {span['spanId']} {span['name']} {took:.1f} ms", flush=True)
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_):
        pass


HTTPServer(("127.0.0.1", 4318), Collector).serve_forever()
