"""Google's own client, firebase-admin for Python, against the sandbox.

The client is used as an application uses it, but for three things: the address of FCM, a service account whose
`token_uri` is the sandbox (plain http is accepted), and fewer retries, so that a run takes seconds. Each case says what
the client must make of an answer: if the sandbox answered in another shape than Google, the client would raise something
else.

Environment: SANDBOX_URL, and FIXTURES: a directory for what was on the wire, or empty.
"""

import asyncio
import base64
import datetime
import json
import os
import sys
import traceback
import urllib.parse
import urllib.request
import warnings

import firebase_admin
from firebase_admin import _http_client, credentials, exceptions, messaging

SANDBOX = os.environ["SANDBOX_URL"]
FIXTURES = os.environ.get("FIXTURES", "")
PROJECT = "interop-proj"
CLIENT = f"firebase-admin-python {firebase_admin.__version__}"

# `token` is deprecated in favour of `fid`; both are sent here.
warnings.simplefilter("ignore", DeprecationWarning)
messaging._MessagingService.FCM_URL = SANDBOX + "/v1/projects/{0}/messages:send"
# The client's own default is four times.
_http_client.DEFAULT_RETRY_CONFIG.status = 1


def control(method, path, body=None):
    data = None if body is None else json.dumps(body).encode()
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(SANDBOX + "/_sandbox" + path, data, headers, method=method)
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request) as answer:
        text = answer.read()
    return json.loads(text) if text else None


def make_app(name, project=PROJECT):
    account = control("GET", f"/fcm/{PROJECT}/service_account")
    options = {"projectId": project, "httpTimeout": 10}
    return firebase_admin.initialize_app(credentials.Certificate(account), options, name=name)


def message(token, **more):
    """A small message to a token."""
    return messaging.Message(token=token, data={"anypush_id": "msg_interop"}, **more)


def raises(kind, token, app):
    """The client must raise exactly this kind for a token; returns the exception."""
    try:
        messaging.send(message(token), app=app)
    except exceptions.FirebaseError as error:
        assert type(error) is kind, f"raised {type(error).__name__} ({error}) instead of {kind.__name__}"
        return error
    raise AssertionError(f"{kind.__name__} was not raised")


# --- cases: each is named by its function, and gets a fresh app ---


def send_full_notification(app):
    full = messaging.Message(
        token="interop-1",
        data={"anypush_id": "msg_interop", "order": "42"},
        notification=messaging.Notification("Order shipped", "Your parcel leaves today", "https://cdn.example.com/42.png"),
        android=messaging.AndroidConfig(
            collapse_key="order-42",
            priority="high",
            ttl=datetime.timedelta(seconds=3, milliseconds=500),
            restricted_package_name="com.example.app",
            notification=messaging.AndroidNotification(
                icon="ic", color="#a1b2c3", sound="default", tag="order-42", click_action="OPEN", channel_id="orders",
                title_loc_key="t", title_loc_args=["1"], body_loc_key="b", body_loc_args=["2"], ticker="tick", sticky=True,
                event_timestamp=datetime.datetime(2026, 11, 20, 10, 0, tzinfo=datetime.timezone.utc), local_only=False,
                priority="high", vibrate_timings_millis=[100, 1500], default_sound=False, visibility="private",
                notification_count=3,
                light_settings=messaging.LightSettings("#aabbcc", 200, 300),
                proxy="if_priority_lowered",
            ),
            fcm_options=messaging.AndroidFCMOptions("android-label"),
            direct_boot_ok=True,
        ),
        apns=messaging.APNSConfig(
            headers={"apns-priority": "10", "apns-collapse-id": "order-42"},
            payload=messaging.APNSPayload(
                messaging.Aps(alert=messaging.ApsAlert("T", body="B"), badge=3, sound="default", category="ORDER"),
                anypush_id="msg_interop",
            ),
            fcm_options=messaging.APNSFCMOptions("apns-label", "https://cdn.example.com/42.png"),
        ),
        webpush=messaging.WebpushConfig(
            headers={"TTL": "86400", "Urgency": "high"},
            data={"order": "42"},
            notification=messaging.WebpushNotification("T", "B", icon="https://cdn.example.com/i.png"),
            fcm_options=messaging.WebpushFCMOptions("https://example.com/orders/42"),
        ),
        fcm_options=messaging.FCMOptions("orders"),
    )
    assert messaging.send(full, app=app).startswith(f"projects/{PROJECT}/messages/0:")


def send_data_only(app):
    name = messaging.send(message("interop-2", android=messaging.AndroidConfig(priority="normal", ttl=0)), app=app)
    assert name.startswith(f"projects/{PROJECT}/messages/0:")


def send_to_fid(app):
    assert messaging.send(messaging.Message(fid="c9dJq2GfQ0interop", data={"op": "sync"}), app=app)


def send_to_topic_and_condition(app):
    assert messaging.send(messaging.Message(topic="news", data={"op": "sync"}), app=app)
    assert messaging.send(messaging.Message(condition="'a' in topics && 'b' in topics", data={"op": "sync"}), app=app)


def dry_run(app):
    name = messaging.send(message("interop-1"), dry_run=True, app=app)
    assert name == f"projects/{PROJECT}/messages/fake_message_id", name


def send_each_mixed(app):
    batch = messaging.send_each([message("interop-1"), message("dead-1"), message("wrongapp-1")], app=app)
    assert (batch.success_count, batch.failure_count) == (1, 2)
    kinds = [type(answer.exception) for answer in batch.responses]
    assert kinds == [type(None), messaging.UnregisteredError, messaging.SenderIdMismatchError], kinds


def send_each_async_mixed(app):
    batch = asyncio.run(messaging.send_each_async([message("interop-1"), message("dead-1")], app=app))
    assert (batch.success_count, batch.failure_count) == (1, 1)
    assert isinstance(batch.responses[1].exception, messaging.UnregisteredError)


def unregistered(app):
    assert raises(messaging.UnregisteredError, "dead-1", app).http_response.status_code == 404


def sender_id_mismatch(app):
    raises(messaging.SenderIdMismatchError, "wrongapp-1", app)


def quota_exceeded(app):
    raises(messaging.QuotaExceededError, "quota-1", app)


def third_party_auth(app):
    raises(messaging.ThirdPartyAuthError, "thirdparty-1", app)


def malformed_token(app):
    error = raises(exceptions.InvalidArgumentError, "malformed-1", app)
    assert str(error) == "The registration token is not a valid FCM registration token", error


def payload_too_big(app):
    raises(exceptions.InvalidArgumentError, "toobig-1", app)


def reserved_data_key(app):
    try:
        messaging.send(messaging.Message(token="interop-1", data={"google.x": "1"}), app=app)
    except exceptions.InvalidArgumentError as error:
        assert "google.x" in str(error), error
    else:
        raise AssertionError("a reserved key was taken")


def unavailable(app):
    raises(exceptions.UnavailableError, "unavailable-1", app)


def internal(app):
    raises(exceptions.InternalError, "internal-1", app)


def flaky_is_retried(app):
    assert messaging.send(message("flaky-1"), app=app)


def limited_is_retried_after_its_time(app):
    assert messaging.send(message("limited-1"), app=app)


def unauthenticated(app):
    raises(exceptions.UnauthenticatedError, "unauthenticated-1", app)


def forbidden(app):
    raises(exceptions.PermissionDeniedError, "forbidden-1", app)


def bad_gateway_page(app):
    raises(exceptions.UnknownError, "badgateway-1", app)


def wrong_project(app):
    raises(exceptions.NotFoundError, "interop-1", app)


CASES = [
    send_full_notification, send_data_only, send_to_fid, send_to_topic_and_condition, dry_run, send_each_mixed,
    send_each_async_mixed, unregistered, sender_id_mismatch, quota_exceeded, third_party_auth, malformed_token,
    payload_too_big, reserved_data_key, unavailable, internal, flaky_is_retried, limited_is_retried_after_its_time,
    unauthenticated, forbidden, bad_gateway_page, wrong_project,
]


# --- fixtures ---


def decode(part):
    return json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))


def fixture(request):
    """What was on the wire, without what differs from run to run: signatures, tokens, times."""
    kept = {name: request[name] for name in ("method", "path", "headers", "status")}
    if request["path"] == "/token":
        form = dict(urllib.parse.parse_qsl(request["body"]))
        header, claims, _ = form["assertion"].split(".")
        claims = decode(claims)
        claims["lifetime"] = claims.pop("exp") - claims.pop("iat")
        header = decode(header)
        header["kid"] = "<private_key_id>"
        form["assertion"] = {"header": header, "claims": claims}
        kept["form"] = form
    else:
        kept["body"] = json.loads(request["body"])
    try:
        error = json.loads(request["answer"]).get("error", {})
        codes = [detail.get("errorCode") for detail in error.get("details", [])]
        kept["error_code"] = next((code for code in codes if code), None)
    except ValueError:
        kept["error_code"] = None
    return kept


def write(case, requests):
    if case == "send_each_mixed" or case == "send_each_async_mixed":
        # These are sent at the same time; an order of its own keeps the file the same from run to run.
        requests.sort(key=lambda request: request.get("body", {}).get("message", {}).get("token", ""))
    with open(os.path.join(FIXTURES, case + ".json"), "w", encoding="utf-8") as file:
        json.dump({"client": CLIENT, "case": case, "requests": requests}, file, indent=2, sort_keys=True)
        file.write("\n")


def run(case):
    app = make_app(case.__name__, "nobody-proj" if case is wrong_project else PROJECT)
    control("PUT", "/recording", {"on": True})
    try:
        case(app)
    finally:
        recorded = control("GET", "/recording")["requests"]
        control("PUT", "/recording", {"on": False})
    # The app stays: ending it would close the async client's connections in a loop that has ended with its case.
    requests = [fixture(request) for request in recorded]
    assert requests and requests[0]["path"] == "/token", "the client did not ask for a token first"
    if FIXTURES:
        write("token", requests[:1])
        write(case.__name__, [request for request in requests if request["path"] != "/token"])


def main():
    control("PUT", "/rules", [])
    control("PUT", "/providers/fcm", {})
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
