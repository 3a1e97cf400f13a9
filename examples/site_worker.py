#!/usr/bin/env python3
"""Works off card-placement jobs on a synthetic site, with nothing but Python's standard library.

    TOKEN=$(postrider token --role job_worker --sub worker) python3 examples/site_worker.py

The site knows the user `good_email`; `bad_email` must send other credentials first; with the password `tfa` it
asks for a code, and 1234 is the right one. `examples/site_client.py` is the other side of the conversation.
"""
import json
import os
import time
import urllib.error
import urllib.request

URL, JOBS = os.environ.get("POSTRIDER_URL", "http://127.0.0.1:8080"), "/place_card_on_single_site_jobs"
PAUSE = float(os.environ.get("PAUSE", "1"))


def call(method, path, body=None, lease=""):
    request = urllib.request.Request(URL + path, method=method, data=json.dumps(body or {}).encode())
    request.add_header("Authorization", "Bearer " + os.environ["TOKEN"])
    request.add_header("Content-Type", "application/json")
    if lease:
        request.add_header("x-postrider-lease", lease)
    with urllib.request.urlopen(request, timeout=60) as response:
        return json.loads(response.read() or b"null")


def work_off(job):
    path, channel, lease, data = f"{JOBS}/{job['id']}", f"/messages{JOBS}/{job['id']}", job["lease"], job["data"]

    def say(status, percent, **more):
        call("PUT", path, {"status": status, "percent_complete": percent, **more}, lease)
        time.sleep(PAUSE)

    def ask(kind, message):
        call("POST", channel + "/credential_requests", {"type": kind, "message": message}, lease)
        while True:  # each look says that this worker lives; if nobody answers, the job ends: 409
            answer = call("GET", channel + "/credential_responses", None, lease)
            if answer:
                return answer["message"]
            time.sleep(PAUSE)

    say("VISITING", 10)
    if data.get("username") == "bad_email":
        ask("credential_request", "The site does not know this user.")
    if data.get("password") == "tfa" and ask("tfa_request", "The site has sent a code.") != "1234":
        return say("TFA_FAILED", 100, termination_type="USER_DATA_FAILURE")
    say("AUTH", 50)
    say("UPDATING", 80)
    say("SUCCESSFUL", 100, termination_type="BILLABLE")


while True:
    try:
        for job in call("POST", JOBS + "/claim?wait=20s"):
            work_off(job)
            print("done", job["id"], flush=True)
    except urllib.error.HTTPError as error:
        print("refused:", error.code, error.read().decode(), flush=True)
        if error.code != 409:  # 409: the job has ended or was taken back
            time.sleep(1)
    except OSError as error:  # not reached; a job that was taken ends when its lease does
        print("no answer:", error, flush=True)
        time.sleep(1)
