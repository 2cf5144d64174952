"""Twilio's own client for Python against the sandbox: it sends, and it judges what the sandbox reports.

The client is used as an application uses it, but for the address. Status callbacks come to a server of a few lines, where the
client's own RequestValidator must find them authentic, or must not where they are forged.

Environment: SANDBOX_URL, and FIXTURES: a directory for what was on the wire, or empty.
"""

import http.server
import json
import os
import queue
import sys
import threading
import time
import traceback
import urllib.parse
import urllib.request

import twilio
from twilio.base.exceptions import TwilioRestException, TwilioServiceException
from twilio.request_validator import HMAC_SHA1, HMAC_SHA256, RequestValidator, get_signature_algorithm
from twilio.rest import Client

SANDBOX = os.environ["SANDBOX_URL"]
FIXTURES = os.environ.get("FIXTURES", "")
ACCOUNT = "AC" + "1e" * 16
CLIENT = f"twilio-python {twilio.__version__}"
GOOD = "+15551234567"
# What recorded callbacks are signed with, in the place of the sandbox's own: the first line of Twilio's test vectors.
FIXTURE_TOKEN, FIXTURE_KEY_ID = "12345", "webhooks_sharedkey_fixture"
PATIENCE = 10

came = queue.Queue()
heard = {"callbacks": 0}


class Callback(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        fields = dict(urllib.parse.parse_qsl(body, keep_blank_values=True, strict_parsing=True))
        heard["callbacks"] += 1
        came.put((f"http://{self.headers['Host']}{self.path}", {name.lower(): value for name, value in self.headers.items()}, fields))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_):
        pass


def control(method, path, body=None):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(SANDBOX + "/_sandbox" + path, data, method=method)
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request) as answer:
        text = answer.read()
    return json.loads(text) if text else None


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Callback)
CALLBACK = f"http://127.0.0.1:{server.server_port}/v1/callbacks/x?m=msg_interop&x=a%27b"
own = control("GET", f"/sms_twilio/{ACCOUNT}/credentials")


def make_client(user=ACCOUNT, password=own["auth_token"], account=ACCOUNT):
    client = Client(user, password, account)
    client.api.base_url = SANDBOX
    return client


def send(to=GOOD, **more):
    wanted = {"from_": own["from"], "body": "Your code is 123456"} | more
    return make_client().messages.create(to=to, **{name: value for name, value in wanted.items() if value is not None})


def refused(code, status, call, kind=TwilioRestException):
    try:
        call()
    except kind as error:
        assert (error.code, error.status) == (code, status), f"{error.code}, {error.status}: {error}"
        return error
    raise AssertionError(f"{code} was not raised")


def is_authentic(url, headers, fields):
    algorithm = get_signature_algorithm(headers.get("x-twilio-webhooks-signature-settings"))
    secret = own["shared_key_secret"] if algorithm == HMAC_SHA256 else own["auth_token"]
    return RequestValidator(secret).validate(url, fields, headers["x-twilio-signature"], algorithm)


def reports(count, authentic=True):
    """The next callbacks as (status, error code), each of them judged by Twilio's own validator."""
    seen = []
    for _ in range(count):
        url, headers, fields = came.get(timeout=PATIENCE)
        assert url == CALLBACK, url
        assert is_authentic(url, headers, fields) == authentic, fields
        assert fields["SmsSid"] == fields["MessageSid"] and fields["SmsStatus"] == fields["MessageStatus"]
        seen.append((fields["MessageStatus"], fields.get("ErrorCode")))
    return seen


DELIVERED = [("queued", None), ("sent", None), ("delivered", None)]

# --- cases: each is named by its function ---


def queued():
    message = send()
    assert message.sid.startswith("SM") and message.status == "queued" and message.num_segments == "1", message
    assert message.price is None and message.price_unit == "USD" and message.error_code is None
    assert message.date_created.year >= 2024 and message.from_ == own["from"] and message.to == GOOD


def accepted_by_a_messaging_service():
    message = send(from_=None, messaging_service_sid=own["messaging_service_sid"])
    assert (message.status, message.num_segments, message.from_) == ("accepted", "0", None), message


def with_an_api_key():
    client = make_client(own["api_key_sid"], own["api_key_secret"])
    assert client.messages.create(to=GOOD, from_="Acme", body="b").sid


def delivered_is_reported():
    message = send(status_callback=CALLBACK, validity_period=600, smart_encoded=True, message_intent="otp")
    assert reports(3) == DELIVERED
    fetched = make_client().messages(message.sid).fetch()
    assert fetched.status == "delivered" and float(fetched.price) < 0, fetched.price


def gone_handset():
    send("+15551230001", status_callback=CALLBACK)
    assert reports(3) == [("queued", None), ("sent", None), ("undelivered", "30005")]


def filtered():
    send("+15551230016", status_callback=CALLBACK)
    assert reports(3)[-1] == ("undelivered", "30007")


def reported_twice():
    control("PUT", "/providers/sms_twilio", {"receipts": {"duplicate": True}})
    send(status_callback=CALLBACK)
    assert reports(6) == [report for report in DELIVERED for _ in range(2)]


def reported_out_of_order():
    control("PUT", "/providers/sms_twilio", {"receipts": {"out_of_order": True}})
    send(status_callback=CALLBACK)
    assert reports(3) == DELIVERED[::-1]


def reported_before_the_answer():
    control("PUT", "/providers/sms_twilio", {"receipts": {"before_answer": True}})
    send(status_callback=CALLBACK)
    assert not came.empty(), "the answer came first"
    assert reports(3) == DELIVERED


def forged_reports_are_seen_through():
    control("PUT", "/providers/sms_twilio", {"receipts": {"forged": True}})
    send(status_callback=CALLBACK)
    reports(3, authentic=False)


def signed_with_a_shared_key():
    control("PUT", "/sms_twilio/settings", {"signature": "hmac_sha256", "extra": {"RawDlrDoneDate": "2611201200"}})
    send(status_callback=CALLBACK)
    assert reports(3) == DELIVERED


def invalid_number():
    refused(21211, 400, lambda: send("5551234567"))
    refused(21211, 400, lambda: send("+15551230002"))


def not_a_mobile():
    refused(21614, 400, lambda: send("+15551230003"))


def opted_out():
    refused(21610, 400, lambda: send("+15551230004"))


def opted_out_in_the_new_shape():
    control("PUT", "/sms_twilio/settings", {"errors": "rfc9457"})
    refused(21610, 400, lambda: send("+15551230004"), TwilioServiceException)


def limited():
    refused(20429, 429, lambda: send("+15551230006", status_callback=CALLBACK))


def unavailable():
    refused(20503, 503, lambda: send("+15551230005", status_callback=CALLBACK))


def internal_error():
    refused(20500, 500, lambda: send("+15551230024"))


def foreign_sender():
    refused(21606, 400, lambda: send(from_="+15550000000"))


def no_sender():
    refused(21603, 400, lambda: send(from_=None))


def no_body():
    refused(21602, 400, lambda: send(body=None))


def body_too_long():
    refused(21617, 400, lambda: send(body="x" * 1601))


def bad_credentials():
    client = make_client(password="wrong")
    refused(20003, 401, lambda: client.messages.create(to=GOOD, from_=own["from"], body="b"))


def account_of_somebody_else():
    client = make_client(account="AC" + "2e" * 16)
    refused(20404, 404, lambda: client.messages.create(to=GOOD, from_=own["from"], body="b"))


def check_of_the_account():
    assert make_client().api.accounts(ACCOUNT).fetch().status == "active"


def listed_and_forgotten():
    client = make_client()
    message = send("+15551239999")
    assert [found.sid for found in client.messages.list(to="+15551239999")] == [message.sid]
    assert client.messages(message.sid).update(body="").body == ""
    assert client.messages(message.sid).delete()
    refused(20404, 404, lambda: client.messages(message.sid).fetch())


CASES = [
    queued, accepted_by_a_messaging_service, with_an_api_key, delivered_is_reported, gone_handset, filtered, reported_twice,
    reported_out_of_order, reported_before_the_answer, forged_reports_are_seen_through, signed_with_a_shared_key,
    invalid_number, not_a_mobile, opted_out, opted_out_in_the_new_shape, limited, unavailable, internal_error, foreign_sender,
    no_sender, no_body, body_too_long, bad_credentials, account_of_somebody_else, check_of_the_account, listed_and_forgotten,
]


# --- fixtures ---


class Masks:
    """What the sandbox made up, with the same name wherever it comes again."""

    def __init__(self):
        self.known = {own["messaging_service_sid"]: "MG" + "0" * 32, own["api_key_sid"]: "SK" + "0" * 32}

    def of(self, text):
        for sid, mask in self.known.items():
            text = text.replace(sid, mask)
        return text

    def learn(self, answer):
        for message in [answer, *answer.get("messages", [])]:
            sid = message.get("sid") or ""
            if sid.startswith("SM") and sid not in self.known:
                self.known[sid] = f"SM{len(self.known):032x}"


def fixture_of_callback(recorded, masks):
    """A receipt as the gateway would get it: at a public address, and signed by Twilio's own code."""
    url = "https://push.example.com" + urllib.parse.urlsplit(recorded["url"])._replace(scheme="", netloc="").geturl()
    fields = {name: masks.of(value) for name, value in urllib.parse.parse_qsl(recorded["body"], strict_parsing=True)}
    headers = {name: value for name, value in recorded["headers"].items() if name != "user-agent"}
    settings = headers.get("x-twilio-webhooks-signature-settings")
    if settings:
        headers["x-twilio-webhooks-signature-settings"] = settings.replace(own["shared_key_id"], FIXTURE_KEY_ID)
    secret = "not the vendor's" if recorded["forged"] else FIXTURE_TOKEN
    algorithm = get_signature_algorithm(settings)
    assert algorithm in (HMAC_SHA1, HMAC_SHA256)
    headers["x-twilio-signature"] = RequestValidator(secret).compute_signature(url, fields, algorithm)
    body = urllib.parse.urlencode(fields)
    return {"url": url, "headers": headers, "body": body, "is_authentic": not recorded["forged"]}


def fixture_of_request(recorded, masks):
    try:
        answer = json.loads(recorded["answer"])
    except ValueError:
        answer = {}
    if not isinstance(answer, dict):
        answer = {}
    masks.learn(answer)
    kept = {name: recorded[name] for name in ("method", "headers", "status")}
    kept["path"] = masks.of(recorded["path"])
    if "query" in recorded:
        kept["query"] = recorded["query"]
    if recorded["body"]:
        url = f"http://127.0.0.1:{server.server_port}"
        fields = urllib.parse.parse_qsl(recorded["body"], keep_blank_values=True, strict_parsing=True)
        kept["form"] = {name: masks.of(value).replace(url, "https://push.example.com") for name, value in fields}
    kept["error_code"] = answer.get("code")
    kept["answer"] = {
        name: masks.of(value) if isinstance(value, str) else value
        for name, value in answer.items()
        if not name.startswith("date_") and name != "messages"
    }
    return kept


def write(case, recorded):
    masks = Masks()
    # A callback may have been recorded before the answer to its push: the answer says what its SID is.
    requests = [fixture_of_request(one, masks) for one in recorded if one.get("operation") != "callback"]
    callbacks = [
        fixture_of_callback(one | {"forged": case is forged_reports_are_seen_through}, masks)
        for one in recorded
        if one.get("operation") == "callback"
    ]
    content = {"client": CLIENT, "case": case.__name__, "requests": requests, "callbacks": callbacks}
    if callbacks:
        content |= {"auth_token": FIXTURE_TOKEN, "shared_key": {"id": FIXTURE_KEY_ID, "secret": FIXTURE_TOKEN}}
    with open(os.path.join(FIXTURES, case.__name__ + ".json"), "w", encoding="utf-8") as file:
        json.dump(content, file, indent=2, sort_keys=True)
        file.write("\n")


def recording():
    """What was on the wire. A callback is recorded when its answer is read, a little after it came."""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        recorded = control("GET", "/recording")["requests"]
        if sum(one.get("operation") == "callback" for one in recorded) == heard["callbacks"]:
            return recorded
        time.sleep(0.02)
    raise AssertionError("callbacks that came were not recorded")


def run(case):
    heard["callbacks"] = 0
    while not came.empty():
        came.get()
    control("PUT", "/rules", [])
    control("PUT", "/providers/sms_twilio", {})
    control("PUT", "/sms_twilio/settings", {"step_ms": 50})
    control("PUT", "/recording", {"on": True})
    try:
        case()
        recorded = recording()
    finally:
        control("PUT", "/recording", {"on": False})
    assert came.empty(), "there were more callbacks than expected"
    if FIXTURES:
        write(case, recorded)


def main():
    threading.Thread(target=server.serve_forever, daemon=True).start()
    passed = failed = 0
    for case in CASES:
        try:
            run(case)
            passed += 1
        except Exception:
            failed += 1
            print(f"FAILED {case.__name__}", file=sys.stderr)
            traceback.print_exc()
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
