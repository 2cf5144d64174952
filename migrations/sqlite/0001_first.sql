-- The first schema: what is dear to change later.
--
-- Codes (states, reasons, classes, work kinds) are small integers, listed in docs/architecture.md and in the Rust
-- enums of the same names; they are only ever appended. Times are integer milliseconds since 1970, UTC. Columns
-- ending in _ms on deliveries count from the message's creation, which keeps a row near 100 bytes.
-- JSON columns hold what the gateway never filters by.

-- Facts about this installation: its id, the key that public ids are made with, the owner epoch.
CREATE TABLE meta (
    key   TEXT PRIMARY KEY,
    value BLOB NOT NULL
) STRICT, WITHOUT ROWID;

-- Keys that secrets are encrypted with, themselves encrypted under a master key that is not in here. `purpose`: 0 seals
-- (the highest id, the others only open), 1 makes the MACs of API keys and device secrets.
CREATE TABLE data_keys (
    id         INTEGER PRIMARY KEY,
    purpose    INTEGER NOT NULL,
    -- the beginning of the master key's SHA-256
    master     BLOB    NOT NULL,
    wrapped    BLOB    NOT NULL,
    created_at INTEGER NOT NULL
) STRICT;

-- Tenants. Small dense numbers, because every other key begins with one.
CREATE TABLE apps (
    seq        INTEGER PRIMARY KEY,
    public_id  TEXT    NOT NULL UNIQUE,
    name       TEXT    NOT NULL UNIQUE,
    settings   TEXT    NOT NULL DEFAULT '{}',
    created_at INTEGER NOT NULL
) STRICT;

-- API keys: only a MAC of the secret is kept. app IS NULL: an admin key.
CREATE TABLE api_keys (
    id         TEXT PRIMARY KEY,
    app        INTEGER,
    name       TEXT    NOT NULL,
    mac        BLOB    NOT NULL,
    scopes     TEXT    NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER,
    revoked_at INTEGER
) STRICT, WITHOUT ROWID;
CREATE INDEX api_keys_by_app ON api_keys (app, id);

-- Configured provider instances. `secrets` is ciphertext, bound to this row.
CREATE TABLE channels (
    seq        INTEGER PRIMARY KEY,
    public_id  TEXT    NOT NULL UNIQUE,
    app        INTEGER NOT NULL,
    name       TEXT    NOT NULL,
    provider   TEXT    NOT NULL,
    config     TEXT    NOT NULL,
    secrets    BLOB,
    limits     TEXT    NOT NULL DEFAULT '{}',
    state      INTEGER NOT NULL DEFAULT 0,
    state_info TEXT,
    version    INTEGER NOT NULL DEFAULT 1,
    -- part of the secret in its callback URL: raised to make a new one
    callback   INTEGER NOT NULL DEFAULT 0,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    deleted_at INTEGER
) STRICT;
-- A deleted channel keeps its row, so that old trails still name it; its name is free again.
CREATE UNIQUE INDEX channels_by_name ON channels (app, name) WHERE deleted_at IS NULL;

-- Who changed what: written in the transaction of the change, never changed. Each row's hash covers the row and the hash
-- before it; the last number and hash stand in `meta` too. The oldest rows go with age, up to the anchor.
CREATE TABLE audit (
    seq        INTEGER PRIMARY KEY,
    at         INTEGER NOT NULL,
    -- NULL: the installation's own
    app        INTEGER,
    actor      TEXT    NOT NULL,
    action     TEXT    NOT NULL,
    object     TEXT    NOT NULL,
    -- fingerprints, never the thing itself
    before     TEXT,
    after      TEXT,
    details    TEXT,
    ip         TEXT,
    request_id TEXT,
    hash       BLOB    NOT NULL
) STRICT;
CREATE INDEX audit_by_app ON audit (app, seq);
CREATE TRIGGER audit_is_never_changed BEFORE UPDATE ON audit
    BEGIN SELECT RAISE(ABORT, 'the audit log is only ever appended to'); END;
-- The last row that was removed for its age: the chain goes on from its hash. Only ever moves on, and a row of the log
-- says so each time.
CREATE TABLE audit_anchor (
    only INTEGER PRIMARY KEY CHECK (only = 1),
    seq  INTEGER NOT NULL,
    hash BLOB    NOT NULL
) STRICT;
CREATE TRIGGER audit_anchor_never_goes_back BEFORE UPDATE ON audit_anchor WHEN NEW.seq <= OLD.seq
    BEGIN SELECT RAISE(ABORT, 'the anchor of the audit log only ever moves on'); END;
CREATE TRIGGER audit_anchor_is_never_deleted BEFORE DELETE ON audit_anchor
    BEGIN SELECT RAISE(ABORT, 'the anchor of the audit log only ever moves on'); END;
CREATE TRIGGER audit_is_never_deleted BEFORE DELETE ON audit
    WHEN OLD.seq > coalesce((SELECT seq FROM audit_anchor), 0)
    BEGIN SELECT RAISE(ABORT, 'the audit log is only ever appended to'); END;

-- What an app's messages are about, and what each vendor is told of that. Messages carry a copy.
CREATE TABLE categories (
    app        INTEGER NOT NULL,
    name       TEXT    NOT NULL,
    -- 0 transactional, 1 marketing; NULL: it does not say
    class      INTEGER,
    -- by provider: the vendor's channel id, classification, template, signature
    providers  TEXT    NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    PRIMARY KEY (app, name)
) STRICT, WITHOUT ROWID;

-- An app's own rules for routes, in order, one document: nobody sees half of a change. Messages carry a copy.
CREATE TABLE routes (
    app        INTEGER PRIMARY KEY,
    rules      TEXT    NOT NULL,
    updated_at INTEGER NOT NULL
) STRICT;

-- Installations of an app. `seq` is the target number in deliveries: dense over the installation, so that
-- (target, message) needs no app in its key and sorted pages read neighbours.
CREATE TABLE devices (
    seq             INTEGER PRIMARY KEY AUTOINCREMENT,
    app             INTEGER NOT NULL,
    id              TEXT    NOT NULL,
    user_id         TEXT,
    platform        TEXT,
    enabled         INTEGER NOT NULL DEFAULT 1,
    -- everything else that the API shows: manufacturer, language, tags, attributes, …
    profile         TEXT    NOT NULL DEFAULT '{}',
    -- the source of address versions: never reused within a device
    address_version INTEGER NOT NULL DEFAULT 0,
    -- set once the device may connect itself; unique over all apps, fit for MQTT 3.1
    username        TEXT UNIQUE,
    secret_mac      BLOB,
    -- part of every inbox cursor; bumped when the secret is made anew
    epoch           INTEGER NOT NULL DEFAULT 0,
    -- when a user last left it: what was sent to users before is not for whoever has it now
    left_at         INTEGER NOT NULL DEFAULT 0,
    created_at      INTEGER NOT NULL,
    updated_at      INTEGER NOT NULL,
    UNIQUE (app, id)
) STRICT;
CREATE INDEX devices_by_user ON devices (app, user_id, seq) WHERE user_id IS NOT NULL;
CREATE INDEX devices_by_app ON devices (app, seq);

-- Keys that an app's backend signs registration tokens with: a public key, or a sealed secret, bound to its id.
CREATE TABLE registration_keys (
    id         TEXT PRIMARY KEY,
    app        INTEGER NOT NULL,
    name       TEXT    NOT NULL,
    -- 0 Ed25519, 1 HMAC-SHA-256
    algorithm  INTEGER NOT NULL,
    key        BLOB    NOT NULL,
    created_at INTEGER NOT NULL,
    revoked_at INTEGER
) STRICT, WITHOUT ROWID;
CREATE INDEX registration_keys_by_app ON registration_keys (app, id);

-- Hashes of the nonces of tokens that were used, for as long as these would be good.
CREATE TABLE registration_nonces (
    key   TEXT    NOT NULL,
    nonce BLOB    NOT NULL,
    until INTEGER NOT NULL,
    PRIMARY KEY (key, nonce)
) STRICT, WITHOUT ROWID;
CREATE INDEX registration_nonces_by_time ON registration_nonces (until);

-- An audience by tag is a sorted range.
CREATE TABLE device_tags (
    app    INTEGER NOT NULL,
    tag    TEXT    NOT NULL,
    device INTEGER NOT NULL,
    PRIMARY KEY (app, tag, device)
) STRICT, WITHOUT ROWID;

-- What audiences compare: attributes of devices, and their fields under short names. By device for ranges of values, which
-- are walked in order of device; by value for what is equal.
CREATE TABLE device_attrs (
    app    INTEGER NOT NULL,
    name   TEXT    NOT NULL,
    device INTEGER NOT NULL,
    -- numbers and texts as they are; true and false, and versions, as bytes
    value  ANY     NOT NULL,
    PRIMARY KEY (app, name, device)
) STRICT, WITHOUT ROWID;
CREATE INDEX device_attrs_by_value ON device_attrs (app, name, value, device);

-- Where devices were last: in one cell of each of four grids, from the whole world to a twentieth of a degree. A circle is
-- a few cells of one of them, each a sorted range.
CREATE TABLE device_places (
    app    INTEGER NOT NULL,
    cell   INTEGER NOT NULL,
    device INTEGER NOT NULL,
    lat    REAL    NOT NULL,
    lon    REAL    NOT NULL,
    PRIMARY KEY (app, cell, device)
) STRICT, WITHOUT ROWID;

-- Where providers find devices. Clustered so that a page of sorted devices is one range read. Retired addresses stay:
-- late receipts name them, and they can be restored.
CREATE TABLE addresses (
    app          INTEGER NOT NULL,
    provider     TEXT    NOT NULL,
    device       INTEGER NOT NULL,
    version      INTEGER NOT NULL,
    kind         TEXT    NOT NULL,
    token        TEXT    NOT NULL,
    token_hash   BLOB    NOT NULL,
    params       TEXT    NOT NULL DEFAULT '{}',
    state        INTEGER NOT NULL DEFAULT 0,
    strikes      INTEGER NOT NULL DEFAULT 0,
    state_reason INTEGER,
    updated_at   INTEGER NOT NULL,
    -- when the device last named it, to the hour: what a vendor says of a time before is doubtful
    registered_at INTEGER NOT NULL,
    PRIMARY KEY (app, provider, device, version)
) STRICT, WITHOUT ROWID;
-- One owner per token. The hash is the first 16 bytes of SHA-256: half the size of a token in the index.
CREATE UNIQUE INDEX addresses_by_token ON addresses (app, provider, kind, token_hash);
-- With all that the expansion of an audience reads: it looks at nothing else of an address.
CREATE INDEX addresses_by_device ON addresses (device, state, kind, params);

-- What backends asked to send. `id` is time-ordered: purge and listing are ranges.
CREATE TABLE messages (
    id          INTEGER PRIMARY KEY,
    app         INTEGER NOT NULL,
    -- 0 sending, 1 scheduled, 2 cancelling, 3 cancelled; `done` is derived from the counters
    state       INTEGER NOT NULL DEFAULT 0,
    class       INTEGER NOT NULL,
    -- the request as it will be carried out: content, audience, route, options
    spec        TEXT    NOT NULL,
    label       TEXT,
    -- 63 bits of the hash of its collapse key, where it has one
    collapse    INTEGER,
    created_at  INTEGER NOT NULL,
    deadline_at INTEGER NOT NULL,
    -- when it is sent: until then it is scheduled, and nobody has looked up its audience
    send_at     INTEGER,
    -- set when the whole audience is in pages; until then `targeted` still grows
    expanded_at INTEGER,
    targeted    INTEGER NOT NULL DEFAULT 0,
    -- raised by cancel and recall: a slice that was cut under an older one is not sent
    generation  INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX messages_by_app ON messages (app, id);
CREATE INDEX messages_scheduled ON messages (app, id) WHERE state = 1;
CREATE INDEX messages_cancelled ON messages (id) WHERE state = 2;
CREATE INDEX messages_by_collapse ON messages (app, collapse, id) WHERE collapse IS NOT NULL;
CREATE INDEX messages_by_label ON messages (app, label, id) WHERE label IS NOT NULL;

-- Written only for calls that carry an Idempotency-Key, in the message's own transaction. In order of message, which is that of
-- time: hashes come in no order, so each new one is on a page of its own of whatever is sorted by them. That is
-- an index of eight bytes each.
CREATE TABLE idempotency (
    message    INTEGER PRIMARY KEY,
    app        INTEGER NOT NULL,
    key_hash   BLOB    NOT NULL,
    body_hash  BLOB    NOT NULL,
    created_at INTEGER NOT NULL
) STRICT;
CREATE INDEX idempotency_by_key ON idempotency (app, substr(key_hash, 1, 8));

-- Targets that are no devices: addresses given in the call, ids that name nothing. Target = 2^40 + idx.
CREATE TABLE message_targets (
    message  INTEGER NOT NULL,
    idx      INTEGER NOT NULL,
    provider TEXT,
    kind     TEXT,
    token    TEXT,
    params   TEXT,
    given    TEXT,
    PRIMARY KEY (message, idx)
) STRICT, WITHOUT ROWID;
-- Who is erased is found in here too. The end of a token is enough to find it, and tells tokens better than their beginning.
CREATE INDEX message_targets_by_token ON message_targets (substr(token, -16)) WHERE token IS NOT NULL;
CREATE INDEX message_targets_by_given ON message_targets (given) WHERE given IS NOT NULL;

-- The unit of truth. A row appears with the first outcome; before that the target is in a work item's page.
CREATE TABLE deliveries (
    message      INTEGER NOT NULL,
    target       INTEGER NOT NULL,
    state        INTEGER NOT NULL,
    reason       INTEGER,
    -- 0: no channel took it
    channel      INTEGER NOT NULL DEFAULT 0,
    -- the vendor's own: src/store/sqlite/vendor_id.rs
    vendor_id    BLOB,
    updated_ms   INTEGER NOT NULL,
    accepted_ms  INTEGER,
    delivered_ms INTEGER,
    displayed_ms INTEGER,
    clicked_ms   INTEGER,
    trail        BLOB,
    -- what it is counted under: the device's when its route was decided; 0 not known
    platform     INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (message, target)
) STRICT, WITHOUT ROWID;
-- What did this device get?
CREATE INDEX deliveries_by_target ON deliveries (target, message);

-- Counters, moved in the transaction of the rows that they count.
-- kind 0: `now`, code = state; kind 1: `reached`, code = state. Pending is never counted: it is what is left.
CREATE TABLE message_stats (
    message INTEGER NOT NULL,
    channel INTEGER NOT NULL,
    kind    INTEGER NOT NULL,
    code    INTEGER NOT NULL,
    reason  INTEGER NOT NULL DEFAULT 0,
    n       INTEGER NOT NULL,
    PRIMARY KEY (message, channel, kind, code, reason)
) STRICT, WITHOUT ROWID;

-- The same counters for reports, under the quarter of an hour in which the message was made (milliseconds / 900,000):
-- every time zone begins its hours and days at one. Each is counted by the quarter, the hour, six hours and the day since 1970
-- (grain 0 to 3): so a year is its days, or a dozen periods for each where a day begins at another time; and by the same once
-- more for all classes and labels together (grain 4 to 7, class 0 and label '').
-- `label` is '' where there is none, and '(other)' beyond those of `report_labels`. `counts` is all of them in one value
-- (src/store/sqlite/tally.rs): by channel, platform, kind, code and reason; kind 0 and 1 as above, kind 2: targets,
-- whatever became of them.
CREATE TABLE stats (
    app      INTEGER NOT NULL,
    grain    INTEGER NOT NULL,
    period   INTEGER NOT NULL,
    class    INTEGER NOT NULL,
    label    TEXT    NOT NULL,
    counts   BLOB    NOT NULL,
    PRIMARY KEY (app, grain, period, class, label)
) STRICT, WITHOUT ROWID;

-- The labels that reports tell apart: the first hundred of an app and day (milliseconds / 86,400,000). A label is in before
-- its first message, or never on that day: so a message is always counted under the same.
CREATE TABLE report_labels (
    app   INTEGER NOT NULL,
    day   INTEGER NOT NULL,
    label TEXT    NOT NULL,
    PRIMARY KEY (app, day, label)
) STRICT, WITHOUT ROWID;

-- How tries through a channel went, by the time at which they were recorded. kind 0: code = reason, 0 accepted; kind 1: code =
-- how long requests took, four steps to each doubling. Each is counted three times, by the hour, the day and 32 days since
-- 1970 (grain 0, 1, 2): so a year is a few whole periods, and days and hours at its ends.
CREATE TABLE channel_stats (
    channel INTEGER NOT NULL,
    grain   INTEGER NOT NULL,
    period  INTEGER NOT NULL,
    kind    INTEGER NOT NULL,
    code    INTEGER NOT NULL,
    n       INTEGER NOT NULL,
    PRIMARY KEY (channel, grain, period, kind, code)
) STRICT, WITHOUT ROWID;

-- Whatever must happen later. One row covers a batch, never a single delivery.
CREATE TABLE work (
    id          INTEGER PRIMARY KEY,
    -- 0 expand, 1 page, 2 expire, 3 escalate, 4 ask, 5 recall, 6 webhook
    kind        INTEGER NOT NULL,
    -- whose turn it waits for: the channel of a page, the webhook of an event, 0 for the gateway's own work
    channel     INTEGER NOT NULL DEFAULT 0,
    -- 0 transactional, 1 marketing, 2 short transactional pages
    lane        INTEGER NOT NULL DEFAULT 0,
    app         INTEGER NOT NULL,
    message     INTEGER NOT NULL,
    due_at      INTEGER NOT NULL,
    attempt     INTEGER NOT NULL DEFAULT 0,
    -- who works on it, under which epoch (the fencing token), until when; 0 = free
    owner       INTEGER NOT NULL DEFAULT 0,
    epoch       INTEGER NOT NULL DEFAULT 0,
    lease_until INTEGER NOT NULL DEFAULT 0,
    payload     BLOB    NOT NULL
) STRICT;
CREATE INDEX work_by_turn ON work (kind, channel, lane, due_at);
CREATE INDEX work_by_message ON work (message);
CREATE INDEX work_leased ON work (owner) WHERE owner > 0;

-- Vendors' callbacks as they came: written before they are answered, deleted in the transaction that merges them into
-- deliveries. A number is never given twice. `envelope` is URL and headers, sealed: both may hold credentials.
CREATE TABLE receipt_journal (
    seq         INTEGER PRIMARY KEY AUTOINCREMENT,
    channel     INTEGER NOT NULL,
    received_at INTEGER NOT NULL,
    method      TEXT    NOT NULL,
    envelope    BLOB    NOT NULL,
    body        BLOB    NOT NULL
) STRICT;

-- What apps' backends are told of: one row for all that a transaction did to an app, written only where somebody listens.
-- `seq` is the number of its last event, `n` how many there are, `kinds` which, as bits; `facts` are a few bytes each.
-- The newest row is never purged: it says where numbers go on.
CREATE TABLE events (
    seq   INTEGER PRIMARY KEY,
    app   INTEGER NOT NULL,
    at    INTEGER NOT NULL,
    kinds INTEGER NOT NULL,
    n     INTEGER NOT NULL,
    facts BLOB    NOT NULL
) STRICT;
CREATE INDEX events_by_app ON events (app, seq);

-- Apps whose live events somebody reads: everything is written down until then, so that a reader can come back.
CREATE TABLE event_watch (
    app   INTEGER PRIMARY KEY,
    -- the number after which nothing is missing
    since INTEGER NOT NULL,
    until INTEGER NOT NULL
) STRICT;

-- Endpoints that are told of events. How far each has got is in its work items.
CREATE TABLE webhooks (
    seq           INTEGER PRIMARY KEY AUTOINCREMENT,
    public_id     TEXT    NOT NULL UNIQUE,
    app           INTEGER NOT NULL,
    url           TEXT    NOT NULL,
    description   TEXT    NOT NULL,
    kinds         INTEGER NOT NULL,
    -- 0 HMAC-SHA256, 1 ed25519
    signature     INTEGER NOT NULL,
    -- ciphertext, bound to this row
    secrets       BLOB    NOT NULL,
    -- why it is disabled; NULL: it is enabled
    disabled      TEXT,
    disabled_at   INTEGER,
    failing_since INTEGER,
    created_at    INTEGER NOT NULL,
    updated_at    INTEGER NOT NULL
) STRICT;
CREATE INDEX webhooks_by_app ON webhooks (app, seq);

-- The latest attempts of each endpoint.
CREATE TABLE webhook_attempts (
    webhook    INTEGER NOT NULL,
    seq        INTEGER NOT NULL,
    event      INTEGER NOT NULL,
    kind       INTEGER NOT NULL,
    attempt    INTEGER NOT NULL,
    at         INTEGER NOT NULL,
    latency_ms INTEGER NOT NULL,
    -- NULL: there was no answer
    status     INTEGER,
    -- NULL: it went well
    error      TEXT,
    next_at    INTEGER,
    PRIMARY KEY (webhook, seq)
) STRICT, WITHOUT ROWID;

-- What is used of vendors' quotas, in the period that began then. `quota` is a number made of the credential and the
-- quota's name; `device` one made of an address where each device has its own count, else 0. Periods first: what is over
-- is forgotten as a range.
CREATE TABLE quota_use (
    began_at INTEGER NOT NULL,
    quota    INTEGER NOT NULL,
    device   INTEGER NOT NULL,
    n        INTEGER NOT NULL,
    PRIMARY KEY (began_at, quota, device)
) STRICT, WITHOUT ROWID;

-- Quotas that a vendor itself calls used up, and until when; a number made of the credential and the class.
CREATE TABLE quota_closed (
    quota INTEGER PRIMARY KEY,
    until INTEGER NOT NULL
) STRICT;

-- Messages that wait for a phone to take them over its own connection.
CREATE TABLE inbox (
    device     INTEGER NOT NULL,
    -- strictly increasing per device in commit order
    pos        INTEGER NOT NULL,
    message    INTEGER NOT NULL,
    class      INTEGER NOT NULL,
    size       INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    -- when it was first given to the phone: an acknowledgement ends only what was handed out
    handed_at  INTEGER,
    variables  TEXT,
    PRIMARY KEY (device, pos)
) STRICT, WITHOUT ROWID;
CREATE INDEX inbox_by_message ON inbox (message, device);
