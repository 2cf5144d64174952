"""A phone that is not ours, against a running gateway: docs/phones.md as another implementation reads it.

Environment: ANYPUSH_URL, ANYPUSH_DEVICE_SECRET. At least one message must be waiting for the device, unless
ANYPUSH_API_KEY and ANYPUSH_DEVICE_ID say how to send one. Prints "N passed, 0 failed".
"""

import asyncio
import json
import os
import sys
import traceback
import urllib.error
import urllib.request

import websockets
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

URL = os.environ["ANYPUSH_URL"].rstrip("/")
SECRET = os.environ["ANYPUSH_DEVICE_SECRET"]
SOCKET = URL.replace("http", "ws", 1) + "/v1/device/socket"


def call(method, path, body=None, key=SECRET):
    """Status and answer of a plain request."""
    data = None if body is None else json.dumps(body).encode()
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    request = urllib.request.Request(URL + path, data=data, method=method, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=70) as response:
            return response.status, json.loads(response.read() or b"null")
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read() or b"null")


async def acall(*arguments, **options):
    return await asyncio.to_thread(call, *arguments, **options)


def phone(secret=SECRET, **options):
    """A connection as an app opens it."""
    options.setdefault("additional_headers", {"Authorization": f"Bearer {secret}"} if secret else {})
    return connect(SOCKET + options.pop("query", ""), subprotocols=["anypush.v1"], ping_interval=None, **options)


async def frame(socket, within=10):
    return json.loads(await asyncio.wait_for(socket.recv(), within))


async def waiting(socket):
    """All messages that come: until a heartbeat is answered and half a second brings no more."""
    await socket.send("{}")
    messages, answered = [], False
    while True:
        try:
            got = await frame(socket, 0.5 if answered else 10)
        except TimeoutError:
            if answered:
                return messages
            raise
        if got == {}:
            answered = True
        if "msg" in got:
            messages.append(got["msg"])


async def closed(socket):
    """The reason that was said, and the close code."""
    reason = None
    try:
        while True:
            got = await frame(socket)
            reason = got.get("bye", {}).get("reason", reason)
    except ConnectionClosed as end:
        return reason, end.rcvd.code if end.rcvd else None


async def ensure_a_message():
    key, device = os.environ.get("ANYPUSH_API_KEY"), os.environ.get("ANYPUSH_DEVICE_ID")
    if not (key and device):
        return
    body = {"to": {"device_ids": [device]}, "data": {"from": "interop"}, "route": {"steps": [{"use": "direct"}]}}
    status, answer = await acall("POST", "/v1/messages", body, key=key)
    assert status == 202, (status, answer)


async def the_first_frame_is_hello():
    async with phone() as socket:
        assert socket.subprotocol == "anypush.v1", socket.subprotocol
        assert "Sec-WebSocket-Extensions" not in socket.response.headers
        hello = (await frame(socket))["hello"]
        assert hello["heartbeat"]["interval"] > 0 and hello["cursor"], hello


async def heartbeats_are_answered():
    async with phone() as socket:
        await frame(socket)
        await waiting(socket)
        await asyncio.wait_for(await socket.ping(), 10)


async def a_wrong_secret_is_refused():
    for secret in (SECRET[:-1] + ("A" if SECRET[-1] != "A" else "B"), "apk_test_nothing", None):
        try:
            async with phone(secret):
                raise AssertionError("connected")
        except InvalidStatus as refused:
            assert refused.response.status_code == 401, refused


async def the_newest_connection_wins():
    async with phone() as old:
        await frame(old)
        async with phone() as new:
            await frame(new)
            end = asyncio.create_task(closed(old))
            assert await end == ("superseded", 4001), end.result()
            await new.send("{}")


async def a_message_comes_until_it_is_acknowledged():
    await ensure_a_message()
    messages = []
    async with phone() as socket:
        await frame(socket)
        for _ in range(100):
            messages = await waiting(socket)
            if messages:
                break
            await asyncio.sleep(0.1)
        assert messages, "no message is waiting for this device"
        positions = [m["pos"] for m in messages]
        assert positions == sorted(positions), positions
    async with phone() as socket:
        await frame(socket)
        again = await waiting(socket)
        assert again[: len(messages)] == messages, "not acknowledged, so the same again"
        # More than a window may be waiting: acknowledge until nothing comes.
        while again:
            await socket.send(json.dumps({"ack": again[-1]["cursor"]}))
            last = again[-1]
            again = await waiting(socket)
        receipt = {"message_id": last["id"], "event": "clicked", "at": "2026-01-01T00:00:00Z"}
        await socket.send(json.dumps({"receipt": receipt}))
        assert await waiting(socket) == []
    async with phone() as socket:
        await frame(socket)
        assert await waiting(socket) == [], "acknowledged, so no more"


async def large_and_malformed_frames_end_the_connection():
    for text, code in (("x" * 70_000, 1009), ("no json", 1008), (b"\x00", 1008)):
        async with phone() as socket:
            await frame(socket)
            await socket.send(text)
            assert (await closed(socket))[1] == code, (text[:8], code)


async def a_fragmented_message_is_put_together():
    async with phone() as socket:
        await frame(socket)
        await socket.send(["{", "\"tomorrow\": 1", "}"])
        assert await waiting(socket) == []


async def a_ticket_is_good_once():
    status, answer = await acall("POST", "/v1/device/ticket")
    assert status == 200, answer
    query = f"?ticket={answer['ticket']}"
    async with phone(None, query=query, origin=URL) as socket:
        assert "hello" in await frame(socket)
    try:
        async with phone(None, query=query, origin=URL):
            raise AssertionError("connected")
    except InvalidStatus as refused:
        assert refused.response.status_code == 401, refused


async def pages_of_other_origins_are_refused():
    try:
        async with phone(origin="https://elsewhere.invalid"):
            raise AssertionError("connected")
    except InvalidStatus as refused:
        assert refused.response.status_code == 403, refused


async def polling_sees_the_same_inbox():
    status, answer = await acall("GET", "/v1/device/messages")
    assert status == 200 and answer["messages"] == [], answer
    status, answer = await acall("GET", f"/v1/device/messages?after={answer['cursor']}&wait_seconds=1")
    assert status == 200 and answer["messages"] == [] and answer["next_poll_seconds"] > 0, answer


CASES = [
    the_first_frame_is_hello,
    heartbeats_are_answered,
    a_wrong_secret_is_refused,
    the_newest_connection_wins,
    a_message_comes_until_it_is_acknowledged,
    large_and_malformed_frames_end_the_connection,
    a_fragmented_message_is_put_together,
    a_ticket_is_good_once,
    pages_of_other_origins_are_refused,
    polling_sees_the_same_inbox,
]


async def main():
    failed = 0
    for case in CASES:
        try:
            await asyncio.wait_for(case(), 60)
        except Exception:
            failed += 1
            print(f"FAILED {case.__name__}")
            traceback.print_exc(file=sys.stdout)
    print(f"websockets {websockets.__version__}: {len(CASES) - failed} passed, {failed} failed")
    return failed


if __name__ == "__main__":
    sys.exit(1 if asyncio.run(main()) else 0)
