#!/usr/bin/env python3
"""Creates a card-placement job, follows it to its end, and answers what it asks.

    TOKEN=$(postrider token --role cardholder_agent --sub me) python3 examples/site_client.py good_email tfa

Run `examples/site_worker.py` beside it. The first argument is the user, the second the password (`tfa`: the site
asks for a code). Answers are read from the terminal; `ANSWER=1234` gives them all.
"""
import json
import os
import sys
import urllib.request

URL, JOBS = os.environ.get("POSTRIDER_URL", "http://127.0.0.1:8080"), "/place_card_on_single_site_jobs"


def call(method, path, body=None, **headers):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(URL + path, method=method, data=data)
    headers |= {"Authorization": "Bearer " + os.environ["TOKEN"], "Content-Type": "application/json"}
    for name, value in headers.items():
        request.add_header(name.replace("_", "-"), value)
    with urllib.request.urlopen(request, timeout=30) as response:
        return json.loads(response.read() or b"null")


username = sys.argv[1] if len(sys.argv) > 1 else "good_email"
password = sys.argv[2] if len(sys.argv) > 2 else "secret"
job = call("POST", JOBS, {"cardholder_id": 1, "username": username, "password": password})
channel, last, ended = f"/messages{JOBS}/{job['id']}", 0, False
print("job", job["id"], flush=True)
while not ended:
    # `after` is a place of our own in the log: an answer that is lost on the way is read again.
    path = f"{channel}/broadcasts?wait=9&after={last}"
    for entry in call("GET", path, cardsavr_messaging_access_key=job["access_key"]):
        last, message = entry["seq"], entry["message"]
        print(f"{message.get('percent_complete', 0):3}% {message.get('status')}", flush=True)
        ended = "termination_type" in message
    question = None if ended else call("GET", channel + "/credential_requests")
    if question:
        text = os.environ.get("ANSWER") or input(f"{question.get('message', question['type'])} ")
        call("POST", channel + "/credential_responses", {
            "envelope_id": question["envelope_id"],
            "type": question["type"].replace("_request", "_response"),
            "message": text,
        })
print(message["termination_type"])
