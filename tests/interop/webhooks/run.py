"""The reference library of Standard Webhooks against the gateway: it judges what a backend is posted.

The library is used as a backend uses it. What it finds genuine must be what was sent; what was changed on the way, is old, or is
signed with another secret it must refuse. For a day after a secret was made anew, both the old and the new one must do.

Environment: ANYPUSH_URL, ANYPUSH_APP, ANYPUSH_API_KEY, ANYPUSH_DEVICE_ID.
"""

import http.server
import json
import os
import queue
import sys
import threading
import traceback
import urllib.request

from standardwebhooks import Webhook, WebhookVerificationError

URL, APP, KEY = (os.environ[name] for name in ("ANYPUSH_URL", "ANYPUSH_APP", "ANYPUSH_API_KEY"))
OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))
PATIENCE = 60

came = queue.Queue()


class Backend(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        came.put(({name.lower(): value for name, value in self.headers.items()}, body))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_):
        pass


def call(method, path, body=None):
    data = None if body is None else json.dumps(body).encode()
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {KEY}"}
    with OPENER.open(urllib.request.Request(URL + path, data, headers, method=method), timeout=PATIENCE) as answer:
        return json.loads(answer.read() or "null")


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Backend)
threading.Thread(target=server.serve_forever, daemon=True).start()
HOOKS = f"/v1/apps/{APP}/webhooks"


def make():
    return call("POST", HOOKS, {"url": f"http://127.0.0.1:{server.server_port}/", "events": ["message.done"]})


def refuses(secret, headers, body):
    try:
        Webhook(secret).verify(body, headers)
    except WebhookVerificationError:
        return True
    return False


def an_event_is_genuine_and_nothing_else_is():
    hook = make()
    sent = call("POST", "/v1/messages", {"to": {"device_ids": ["nobody"]}, "data": {"a": "b"}})
    headers, body = came.get(timeout=PATIENCE)
    event = Webhook(hook["secret"]).verify(body, headers)
    assert event["type"] == "message.done" and event["data"]["message_id"] == sent["id"], event
    assert refuses(hook["secret"], headers, body.replace(b"done", b"gone"))
    assert refuses(hook["secret"], headers | {"webhook-timestamp": "1700000000"}, body)
    assert refuses(hook["secret"], headers | {"webhook-id": "evt_other"}, body)
    assert refuses("whsec_" + "A" * 32, headers, body)
    call("PATCH", f"{HOOKS}/{hook['id']}", {"state": "disabled"})


def for_a_day_the_old_secret_does_as_well_as_the_new_one():
    hook = make()
    path = f"{HOOKS}/{hook['id']}"
    new = call("POST", f"{path}/rotate_secret")["secret"]
    assert new != hook["secret"]
    call("POST", f"{path}/test")
    headers, body = came.get(timeout=PATIENCE)
    for secret in (hook["secret"], new):
        assert Webhook(secret).verify(body, headers)["type"] == "webhook.test"


def main():
    tests = [an_event_is_genuine_and_nothing_else_is, for_a_day_the_old_secret_does_as_well_as_the_new_one]
    failed = 0
    for test in tests:
        try:
            test()
            print(f"ok   {test.__name__}")
        except Exception:
            failed += 1
            print(f"FAIL {test.__name__}")
            traceback.print_exc()
    print(f"{len(tests) - failed} passed, {failed} failed")
    return 1 if failed else 0


sys.exit(main())
