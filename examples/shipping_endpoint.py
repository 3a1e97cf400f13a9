#!/usr/bin/env python3
"""An endpoint of the hub: ships orders. Python's standard library is enough.

    python3 examples/shipping_endpoint.py        (POSTRIDER_ALLOW_NETWORKS=127.0.0.0/8 lets the hub reach it)

200 with the message's id is the acknowledgement; `messages` go back into the hub. Any other status is tried again.
"""
import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

CATALOGUE = {"name": "shipping", "services": [{
    "name": "drop_ship", "path": "drop_ship",
    "requires": {"parameters": [{"name": "api_key", "data_type": "password"}]},
    "recommends": {"messages": ["order:new"], "identifiers": {"order_number": "payload.order.number"}}}]}


class Endpoint(BaseHTTPRequestHandler):
    def do_GET(self):  # POST /stores/{store}/endpoints/{name}/import reads it
        self.answer(*((200, CATALOGUE) if self.path == "/endpoint.json" else (404, {})))

    def do_POST(self):
        request = json.loads(self.rfile.read(int(self.headers["content-length"])))
        order = request["payload"]["order"]
        parameters = {each["name"]: each["value"] for each in request["payload"]["parameters"]}
        if "api_key" not in parameters:
            return self.answer(500, {"error": "the parameter api_key is missing"})
        shipped = {"subject": "Shipment transmitted", "description": f"{order['number']} was transmitted."}
        self.answer(200, {"message_id": request["message_id"], "messages": [
            {"message": "notification:info", "payload": shipped},
            {"message": "payment:capture", "payload": {"payment": {"order": order["number"], "amount": order["total"]}}},
        ]})

    def answer(self, status, document):
        text = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", 9001), Endpoint).serve_forever()
