"""schemathesis against a running gateway: thousands of requests that openapi.yaml allows or forbids.

Twice, because two kinds of callers hold two kinds of keys: the operations of phones with a device secret, then all
others with an admin key. schemathesis.toml says what is checked, and why where it is not.

Environment: ANYPUSH_URL, ANYPUSH_ADMIN_KEY, ANYPUSH_APP, ANYPUSH_API_KEY, ANYPUSH_DEVICE_ID, ANYPUSH_DEVICE_SECRET.
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import urllib.request

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent.parent
COMMAND = [pathlib.Path(sys.executable).with_name("schemathesis"), "--config-file", HERE / "schemathesis.toml", "run"]
# A stream of events has no end that could be waited for, and it writes no bodies of many lines: tests/it/api_events.rs,
# phone_stream.rs, api_batch.rs and api_import.rs hold these to the contract.
OWN = ["/v1/events", "/v1/device/events", "/v1/messages/batch", "/v1/devices/import"]
RUNS = [
    # First, while nobody has deleted the phone or made its secret anew.
    ("phones", ["--include-tag", "phones"], [f"Authorization: Bearer {os.environ['ANYPUSH_DEVICE_SECRET']}"]),
    (
        "backends and operators",
        ["--exclude-tag", "phones"],
        [f"Authorization: Bearer {os.environ['ANYPUSH_ADMIN_KEY']}", f"Anypush-App: {os.environ['ANYPUSH_APP']}"],
    ),
]


def send():
    """Something waits for the phone: polls then answer at once, and with a message that can be checked."""
    message = {
        "to": {"device_ids": [os.environ["ANYPUSH_DEVICE_ID"]]},
        "notification": {"title": "Hello", "click": {"open": "app"}},
        "data": {"order": "42"},
        "collapse_key": "order-42",
        "route": {"steps": [{"use": "direct"}]},
    }
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {os.environ['ANYPUSH_API_KEY']}"}
    request = urllib.request.Request(os.environ["ANYPUSH_URL"] + "/v1/messages", json.dumps(message).encode(), headers)
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=60) as answer:
        assert answer.status == 202, answer.status


def main():
    send()
    failed = 0
    for name, which, headers in RUNS:
        print(f"-- {name}", flush=True)
        given = [part for header in headers for part in ("--header", header)]
        which += [part for path in OWN for part in ("--exclude-path", path)]
        command = [*COMMAND, ROOT / "openapi.yaml", "--url", os.environ["ANYPUSH_URL"], *which, *given]
        # It keeps notes where it runs, and would begin with what an earlier run found.
        with tempfile.TemporaryDirectory() as folder:
            failed += subprocess.run(command, cwd=folder).returncode != 0
    print(f"{len(RUNS) - failed} passed, {failed} failed")
    return failed


sys.exit(1 if main() else 0)
