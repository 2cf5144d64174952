#!/usr/bin/env python3
"""Runs a command beside a gateway and a sandbox of its own, and ends them with it.

Usage: gateway.py PROGRAM COMMAND…, where PROGRAM is the built `anypush`. The command finds in its environment
ANYPUSH_URL, SANDBOX_URL, ANYPUSH_ADMIN_KEY, ANYPUSH_APP, ANYPUSH_API_KEY, and a device of that app that connects itself:
ANYPUSH_DEVICE_ID, ANYPUSH_DEVICE_SECRET. It fails with the command, and where the gateway does not stop cleanly.
"""

import json
import os
import pathlib
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

PATIENCE = 60
SCOPES = ["messages:write", "messages:read", "devices:write", "devices:read", "channels:write", "channels:read", "webhooks:write"]
# The gateway is on this machine, whatever proxy the environment names.
OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def call(url, key=None, body=None, method="GET"):
    data = None if body is None else json.dumps(body).encode()
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})
    with OPENER.open(urllib.request.Request(url, data, headers, method=method), timeout=PATIENCE) as answer:
        return json.loads(answer.read())


def start(program, command, directory, log):
    port = free_port()
    arguments = [program, command, "--listen", f"127.0.0.1:{port}", "--data-dir", directory / command]
    # The sandbox is on this machine. And clients that call without a key, to see what they are told, do it as fast as it
    # lets them: tests/it/limits.rs holds the gateway to its limit.
    own = {"ANYPUSH_EGRESS_ALLOW": "127.0.0.1", "ANYPUSH_RATE_ADDRESS_FAILURES_PER_SECOND": "0"}
    environment = os.environ | own
    return subprocess.Popen(arguments, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log), f"http://127.0.0.1:{port}"


def wait_for(url, process):
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until and process.poll() is None:
        try:
            with OPENER.open(url, timeout=PATIENCE):
                return
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.05)
    raise SystemExit(f"{url} does not answer")


def set_up(url, sandbox_url, admin_key):
    """An app with a channel to the sandbox, its key, and a device with a secret."""
    app = call(f"{url}/v1/apps", admin_key, {"name": "interop"}, "POST")
    wanted = {"name": "interop", "scopes": SCOPES}
    key = call(f"{url}/v1/apps/{app['id']}/keys", admin_key, wanted, "POST")["key"]
    account = call(f"{sandbox_url}/_sandbox/fcm/interop-proj/service_account")
    channel = {"provider": "fcm", "config": {"service_account": account, "base_url": sandbox_url}}
    call(f"{url}/v1/apps/{app['id']}/channels/fcm", admin_key, channel, "PUT")
    call(f"{url}/v1/devices/interop-phone", key, {"platform": "android"}, "PUT")
    secret = call(f"{url}/v1/devices/interop-phone/secret", key, method="POST")["secret"]
    return {
        "ANYPUSH_URL": url,
        "ANYPUSH_ADMIN_KEY": admin_key,
        "ANYPUSH_APP": app["id"],
        "ANYPUSH_API_KEY": key,
        "ANYPUSH_DEVICE_ID": "interop-phone",
        "ANYPUSH_DEVICE_SECRET": secret,
    }


def run(program, command, directory, log):
    create = ["keys", "create", "--admin", "--name", "interop", "--json", "--data-dir", directory / "serve"]
    made = subprocess.run([program, *create], check=True, stdout=subprocess.PIPE)
    processes = []
    try:
        for name, path in (("serve", "/readyz"), ("sandbox", "/_sandbox")):
            process, url = start(program, name, directory, log)
            processes.append((process, url))
            wait_for(url + path, process)
        (gateway, url), (_, sandbox_url) = processes
        admin_key = json.loads(made.stdout)["key"]
        environment = os.environ | set_up(url, sandbox_url, admin_key) | {"SANDBOX_URL": sandbox_url}
        status = subprocess.run(command, env=environment).returncode
        if gateway.poll() is not None:
            print("the gateway ended by itself")
            status = status or 1
    finally:
        for process, _ in processes:
            process.terminate()
    for process, url in processes:
        if process.wait(PATIENCE) != 0:
            print(f"{process.args[1]} ended with {process.returncode}")
            status = status or 1
    return status


def main():
    program, command = sys.argv[1], sys.argv[2:]
    with tempfile.TemporaryDirectory(prefix="anypush-interop-") as name:
        directory = pathlib.Path(name)
        status = 1
        try:
            with open(directory / "log", "w") as log:
                status = run(program, command, directory, log)
        finally:
            if status:
                lines = (directory / "log").read_text().splitlines()
                print("the last lines of the log:", *lines[-20:], sep="\n")
    return status


if __name__ == "__main__":
    sys.exit(main())
