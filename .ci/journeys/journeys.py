"""The three journeys through a client that openapi-python-client generates from /openapi.json."""

import json
import os
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

from postrider_client import AuthenticatedClient
from postrider_client.api.hub_definitions import get_mapping, list_stores, put_endpoint, put_mapping
from postrider_client.api.hub_deliveries import list_attempts
from postrider_client.api.hub_messages import get_hub_message, push_hub_message
from postrider_client.api.job_channels import answer, read_broadcasts, read_request
from postrider_client.api.job_workers import ask, claim_jobs, pick_up_response
from postrider_client.api.jobs import create_job, update_job
from postrider_client.api.queue_definitions import get_queue, put_queue
from postrider_client.api.queue_messages import get_message, push_message
from postrider_client.api.queue_workers import claim_messages, complete_message
from postrider_client import models


def client(token):
    return AuthenticatedClient(base_url=os.environ["POSTRIDER_URL"], token=os.environ[token])


ADMIN, AGENT, WORKER = client("ADMIN_TOKEN"), client("AGENT_TOKEN"), client("WORKER_TOKEN")


def got(response):
    """What was answered; an answer that is none of the good ones ends the journey."""
    assert 200 <= response.status_code < 300, f"{response.status_code}: {response.content!r}"
    return response.parsed


def queue():
    name = "py-mail"
    schema = models.MessageSchemaType0.from_dict({"type": "object", "required": ["to"]})
    definition = models.QueueDefinition(
        incoming=models.Incoming(schema=schema),
        handler=models.WorkerHandler(kind=models.WorkerHandlerKind.WORKER),
        options=models.QueueOptions(timeout="30s", max_attempts=3, retry=models.QueueRetry(base="1s")),
    )
    got(put_queue.sync_detailed(name, client=ADMIN, body=definition))
    read = got(get_queue.sync_detailed(name, client=ADMIN))
    assert read.state.paused is False
    got(put_queue.sync_detailed(name, client=ADMIN, body=read))

    refused = push_message.sync_detailed(name, client=ADMIN, body={"nobody": True})
    assert refused.parsed.errors[0].keyword == "required"
    pushed = got(push_message.sync_detailed(name, client=ADMIN, body={"to": "ann"}, priority=5))
    [claimed] = got(claim_messages.sync_detailed(name, client=ADMIN, wait="20s"))
    assert (claimed.id, claimed.attempt) == (pushed.id, 1)
    completion = models.Completion(lease=claimed.lease, result={"sent": True})
    got(complete_message.sync_detailed(name, claimed.id, client=ADMIN, body=completion))
    full = models.GetMessageView.FULL
    done = got(get_message.sync_detailed(name, claimed.id, client=ADMIN, view=full))
    assert (done.status.value, done.result) == ("COMPLETE", {"sent": True})
    assert done.history[0].ending == "completed"


def job():
    kind = "place_card_on_single_site_jobs"
    data = models.NewJobDataType0.from_dict({"site": "shop.example.com"})
    wanted = models.NewJob(cardholder_id=7, job_timeout="5m", data=data)
    created = got(create_job.sync_detailed(kind, client=AGENT, body=wanted))
    [claimed] = got(claim_jobs.sync_detailed(kind, client=WORKER, wait="20s"))
    assert claimed.id == created.id and claimed.data["site"] == "shop.example.com"

    number, lease = created.id, claimed.lease
    said = models.JobChange(status="AUTH", percent_complete=10, lease=lease)
    got(update_job.sync_detailed(kind, number, client=WORKER, body=said))
    question = models.CredentialRequest(type_="tfa_request", lease=lease)
    question["message"] = "The site has sent a code."
    got(ask.sync_detailed(kind, number, client=WORKER, body=question))
    asked = got(read_request.sync_detailed(kind, number, client=AGENT))
    assert (asked.type_, asked["message"]) == ("tfa_request", "The site has sent a code.")
    response = models.Answering(envelope_id=asked.envelope_id, type_="tfa_response", message="1234")
    got(answer.sync_detailed(kind, number, client=AGENT, body=response))
    code = got(pick_up_response.sync_detailed(kind, number, client=WORKER, x_postrider_lease=str(lease)))
    assert code.message == "1234"
    end = models.JobChange(status="COMPLETED", termination_type=models.JobEnd.BILLABLE, lease=lease)
    got(update_job.sync_detailed(kind, number, client=WORKER, body=end))

    key = created.access_key
    log = got(
        read_broadcasts.sync_detailed(
            kind, number, client=AGENT, after=0, wait="9s", cardsavr_messaging_access_key=key
        )
    )
    assert log[-1].message.termination_type == "BILLABLE"


class Warehouse(BaseHTTPRequestHandler):
    """An endpoint that takes whatever comes."""

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        answered = json.dumps({"message_id": body["message_id"]}).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(answered)))
        self.end_headers()
        self.wfile.write(answered)

    def log_message(self, *_):
        pass


def hub():
    store = "py-shop"
    server = HTTPServer(("127.0.0.1", 0), Warehouse)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    endpoint = models.EndpointDefinition(url=f"http://127.0.0.1:{server.server_port}/hub", token="x123")
    got(put_endpoint.sync_detailed(store, "warehouse", client=ADMIN, body=endpoint))
    large = models.MappingFilter(path="payload.order.total", operator=models.FilterOperator.GT, value=10)
    mapping = models.MappingDefinition(
        endpoint="warehouse",
        service="drop_ship",
        messages=["order:new"],
        filters=[large],
        options=models.MappingOptions(retry=models.MappingRetry(base="1s", cap="5m")),
    )
    got(put_mapping.sync_detailed(store, "ship", client=ADMIN, body=mapping))
    got(get_mapping.sync_detailed(store, "ship", client=ADMIN))
    assert store in [one.name for one in got(list_stores.sync_detailed(client=ADMIN, limit=500)).stores]

    payload = models.PushingPayload.from_dict({"order": {"number": "R123", "total": 25}})
    order = models.Pushing(message="order:new", payload=payload)
    pushed = got(push_hub_message.sync_detailed(store, client=ADMIN, body=order))
    assert pushed.state.value == "routed"
    end = time.monotonic() + 60
    while time.monotonic() < end:
        message = got(get_hub_message.sync_detailed(store, pushed.message_id, client=ADMIN))
        delivered = [one for one in message.deliveries if one.status.value == "COMPLETE"]
        if delivered:
            break
        time.sleep(0.05)
    else:
        raise AssertionError("the delivery: not within a minute")
    [attempt] = got(list_attempts.sync_detailed(store, delivered[0].id, client=ADMIN))
    assert attempt.status_code == 200
    server.shutdown()


for journey in (queue, job, hub):
    journey()
    print(f"the journey {journey.__name__}: done in Python")
