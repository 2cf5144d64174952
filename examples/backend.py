#!/usr/bin/env python3
"""A backend in Python, with nothing but its standard library: registers a phone, sends, reads what became of it.

    ANYPUSH_URL=http://127.0.0.1:8470 ANYPUSH_API_KEY=apk_… python3 examples/backend.py PROVIDER TOKEN
"""

import json
import os
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid

URL = os.environ.get("ANYPUSH_URL", "http://127.0.0.1:8470").rstrip("/")
KEY = os.environ["ANYPUSH_API_KEY"]
TRIES = 5


class Refused(Exception):
    """The gateway's own words: what is wrong and how to mend it."""


def call(method, path, body=None, idempotency_key=None):
    """Calls the gateway. What may pass (no connection, 429, 5xx) is tried again; with a key a send is never doubled by it."""
    headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
    if idempotency_key:
        headers["Idempotency-Key"] = idempotency_key
    data = None if body is None else json.dumps(body).encode()
    for attempt in range(1, TRIES + 1):
        request = urllib.request.Request(URL + path, data, headers, method=method)
        wait = attempt
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return json.loads(answer.read() or "null")
        except urllib.error.HTTPError as error:
            problem = json.loads(error.read() or "{}")
            if error.code != 429 and error.code < 500 or attempt == TRIES:
                raise Refused(f"{error.code} {problem.get('code')}: {problem.get('detail')}") from None
            wait = int(error.headers.get("Retry-After", attempt))
        except urllib.error.URLError as error:
            if attempt == TRIES:
                raise Refused(f"{URL} does not answer: {error.reason}") from None
        time.sleep(wait)


def every(path):
    """All of a list, page by page."""
    cursor = None
    while True:
        page = call("GET", path + (f"?cursor={urllib.parse.quote(cursor)}" if cursor else ""))
        yield from page["data"]
        cursor = page["next_cursor"]
        if not cursor:
            return


def main(provider, token):
    # 1. What the app reported when somebody logged in. The id is yours; the same call again changes nothing.
    device = {"user_id": "u-42", "tags": ["vip"], "addresses": [{"provider": provider, "token": token}]}
    call("PUT", "/v1/devices/example-phone", device)

    # 2. Send. The key belongs to the event that you tell of, so that a repeated job does not tell it twice.
    order = str(uuid.uuid4())
    message = {
        "to": {"device_ids": ["example-phone"]},
        "notification": {"title": "Your order", "body": "is on its way"},
        "data": {"order": order},
        "collapse_key": f"order-{order}",
        "ttl_seconds": 3600,
        "label": "order-shipped",
    }
    sent = call("POST", "/v1/messages", message, idempotency_key=f"order-shipped-{order}")
    print("accepted", sent["id"])

    # 3. Read what became of it. (In a service, take a webhook instead of asking.)
    while (now := call("GET", f"/v1/messages/{sent['id']}"))["state"] != "done":
        time.sleep(0.5)
    print("reached", json.dumps(now["counts"]["reached"]))
    for delivery in every(f"/v1/messages/{sent['id']}/deliveries"):
        print(delivery["state"], delivery.get("reason") or "")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    try:
        main(*sys.argv[1:])
    except Refused as refused:
        sys.exit(str(refused))
