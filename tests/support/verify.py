"""Verifies requests by PyPI's standardwebhooks: {headers, cases: [[secret, body]]} in, one word a case out."""
import json
import os
import sys

sys.path.insert(0, os.environ["POSTRIDER_WEBHOOKS"] + "/python")
from standardwebhooks import Webhook, WebhookVerificationError

asked = json.load(sys.stdin)
for secret, body in asked["cases"]:
    try:
        Webhook(secret).verify(body, asked["headers"])
        print("verified")
    except WebhookVerificationError as refusal:
        print("refused:", refusal)
