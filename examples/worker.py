#!/usr/bin/env python3
"""Works off the queue `resize` over HTTP, with nothing but Python's standard library.

    TOKEN=$(postrider token --role resize_worker --sub worker) python3 examples/worker.py

A program in any language does the same three calls: claim, then complete or fail with the lease it got.
"""
import json
import os
import time
import urllib.error
import urllib.request

URL = os.environ.get("POSTRIDER_URL", "http://127.0.0.1:8080") + "/queues/resize"
TOKEN = os.environ["TOKEN"]


def post(path, body=None):
    request = urllib.request.Request(URL + path, data=json.dumps(body).encode() if body else b"", method="POST")
    request.add_header("Authorization", "Bearer " + TOKEN)
    request.add_header("Content-Type", "application/json")
    with urllib.request.urlopen(request, timeout=60) as response:
        return json.loads(response.read() or b"null")


def resize(request):
    if request["width"] > 2000:
        raise ValueError("wider than the original")
    return {"url": f"{request['image']}?width={request['width']}"}


def work_off(message):
    path, lease = f"/messages/{message['id']}", message["lease"]
    try:
        end = "/complete", {"lease": lease, "result": resize(message["request"])}
    except ValueError as error:
        # `retry: False` is final. `True` or a time such as "10s" has it tried again.
        end = "/fail", {"lease": lease, "error": {"message": str(error)}, "retry": False}
    try:
        post(path + end[0], end[1])
        print("done", message["id"], flush=True)
    except urllib.error.HTTPError as error:
        if error.code != 409:  # 409: the lease ran out, and another worker has the message
            raise


while True:
    try:
        # Waits up to 20 s for a message, so an idle worker costs three calls a minute.
        for message in post("/claim?wait=20s&max=10"):
            work_off(message)
    except OSError as error:  # refused or not reached; what was claimed comes back when its lease ends
        print("no answer:", error, flush=True)
        time.sleep(1)
