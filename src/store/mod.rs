//! The store: everything that must last, behind one trait.
//!
//! What comes in: whole sets of changes ([`Changes`]), never single rows, so that every implementation can group them
//! into few statements and one commit. What goes out: pages of rows. What it must never do: answer a write before it
//! is on disk, or hold a write transaction while somebody else is waited for.
//!
//! [`sqlite`] is the embedded store. A second implementation must pass the same conformance suite (`conformance`).

#[cfg(test)]
mod conformance;
mod receipts;
mod records;
mod retention;
pub mod sqlite;
mod users;

use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::watch;

pub use receipts::{Journal, RawReceipt, VendorReceipt};
pub use records::{
    AcceptAnswer, Ack, AddressVerdict, Aged, AppRecord, Audit, AuditChain, AuditFilter, AuditRow,
    CategoryRecord, Changes, ChannelRecord, ChannelStats, Counted, Counter, DataKeyRecord, DeliveryFilter,
    DeviceFilter, DevicePatch, DevicePut, DeviceRecord, EventBounds, EventPage, EventRow, FIELD, Forgotten,
    InboxEntry, KeyRecord, Lease, MessageFilter, MessageRecord, NewAddress, NewInbox, NewMessage, NewTarget,
    NewWork, OTHER_LABELS, PLATFORMS, PhoneEvent, PhoneRecord, QUARTER_MS, QuotaAnswer, QuotaAsk, QuotaBack,
    QuotaLimit, Refusable, Registered, Registration, RegistrationKeyRecord, ReportAsk, ReportBy, ReportGroup,
    ReportRow, Round, RulesRecord, SealedSecret, SecretHome, SendAddress, Signature, StoredAddress,
    TargetAddress, TargetDevice, WebhookAttempt, WebhookChange, WebhookRecord, WorkItem, WorkKind, WorkLane,
    WorkUpdate, field_names, is_unknown_field, is_version, latency_bucket,
};
pub use retention::Retention;
pub use users::Users;

use crate::delivery::expression::Expression;
use crate::delivery::page::Page;
use crate::delivery::state::Delivery;
use crate::ids::Id;
use crate::routing::Traits;

/// What can go wrong; each variant is something a caller does differently.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// No room on the disk: nothing was stored. Answered 503 `storage_full`.
    #[error("the disk that holds the data is full")]
    Full,
    /// Somebody else holds the database, or too much waits. Answered 503 with Retry-After.
    #[error("the database is busy: {0}")]
    Busy(String),
    /// A name is taken.
    #[error("{0} exists already")]
    Exists(String),
    /// The database itself is in trouble; the process must not go on writing.
    #[error("the database failed: {0}")]
    Broken(String),
}

/// The log from which a store recovers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LogSize {
    /// Bytes on disk.
    pub bytes: u64,
    /// So many that somebody must look.
    pub is_long: bool,
}

/// The result of every call.
pub type Result<T> = std::result::Result<T, StoreError>;

/// Everything that must last. Lists are sorted by key and take `after` (exclusive) and a limit.
#[async_trait]
pub trait Store: Journal + Retention + Users + Send + Sync {
    // --- the installation ---

    /// A fact about the installation, made with `default` where it is not there yet.
    async fn meta(&self, key: &str, default: &[u8]) -> Result<Vec<u8>>;
    /// All data keys, by number.
    async fn data_keys(&self) -> Result<Vec<DataKeyRecord>>;
    /// Adds data keys, or replaces how those with the same number are wrapped.
    async fn put_data_keys(&self, keys: Vec<DataKeyRecord>) -> Result<()>;
    /// Forgets data keys that nothing is sealed under any more.
    async fn delete_data_keys(&self, ids: Vec<u32>) -> Result<()>;
    /// All secrets that operators gave or were given, sealed as they are kept.
    async fn sealed_secrets(&self) -> Result<Vec<SealedSecret>>;
    /// Puts `new` in the place of a sealed secret, unless that changed meanwhile; `false` where it did.
    async fn reseal(&self, old: SealedSecret, new: Vec<u8>) -> Result<bool>;
    /// Waits for what is under way, writes everything out and closes. What is broken is left as it is.
    async fn close(&self);
    /// Resolves once nothing can be written any more, however long that takes: why.
    async fn broke(&self) -> String;
    /// Statements that wrote, since start: the gateway's proof that it works in batches.
    fn write_statements(&self) -> u64;
    /// How long the log is from which it would recover.
    fn log_size(&self) -> LogSize;

    // --- audit ---

    /// The audit log before a row, newest first. Its rows are written by the changes that they tell of: a write of
    /// apps, keys, channels, categories, devices, … in the name of [`crate::audit::actor`]. None is ever changed.
    async fn audit(&self, filter: &AuditFilter, before: Option<u64>, limit: usize) -> Result<Vec<AuditRow>>;

    // --- apps, keys, channels ---

    /// Makes an app; its `direct` channel is made with it. `Exists` where the name is taken.
    async fn create_app(&self, name: &str, public_ids: (String, String), now_ms: u64) -> Result<AppRecord>;
    /// All apps, by number.
    async fn apps(&self) -> Result<Vec<AppRecord>>;
    /// Keeps a key's MAC.
    async fn create_key(&self, key: KeyRecord) -> Result<()>;
    /// A key by id.
    async fn key(&self, id: &str) -> Result<Option<KeyRecord>>;
    /// Keys of an app (`None`: admin keys).
    async fn keys(&self, app: Option<i64>) -> Result<Vec<KeyRecord>>;
    /// Revokes a key of an app; `false` where there is none.
    async fn revoke_key(&self, app: Option<i64>, id: &str, now_ms: u64) -> Result<bool>;
    /// Makes or replaces a channel by (app, name). Secrets come sealed, bound to app and name; `given` are the names of
    /// those that are new.
    async fn put_channel(&self, channel: ChannelRecord, given: Vec<String>) -> Result<ChannelRecord>;
    /// All channels of all apps, deleted ones too (old trails name them).
    async fn channels(&self) -> Result<Vec<ChannelRecord>>;
    /// Deletes a channel; `false` where there is none.
    async fn delete_channel(&self, app: i64, name: &str, now_ms: u64) -> Result<bool>;
    /// Changes a channel's state. `action` is what the audit log calls it; what vendors' answers say is not in there.
    async fn set_channel_state(
        &self,
        seq: i64,
        state: u8,
        info: Option<String>,
        action: Option<&'static str>,
        now_ms: u64,
    ) -> Result<()>;

    /// Makes the secret in a channel's callback URL a new one; `false` where there is none.
    async fn rotate_callback(&self, app: i64, name: &str, now_ms: u64) -> Result<bool>;

    // --- categories ---

    /// Makes or replaces a category by (app, name); as stored, and whether it is new.
    async fn put_category(&self, category: CategoryRecord) -> Result<(CategoryRecord, bool)>;
    /// An app's category by name.
    async fn category(&self, app: i64, name: &str) -> Result<Option<CategoryRecord>>;
    /// An app's categories after a name, in order of name.
    async fn categories(&self, app: i64, after: &str, limit: usize) -> Result<Vec<CategoryRecord>>;
    /// Deletes a category; `false` where there is none.
    async fn delete_category(&self, app: i64, name: &str) -> Result<bool>;

    // --- routes ---

    /// Replaces an app's rules for routes.
    async fn put_rules(&self, rules: RulesRecord) -> Result<()>;
    /// The rules of all apps that ever had any, by app.
    async fn rules(&self) -> Result<Vec<RulesRecord>>;
    /// What rules ask of devices, by number.
    async fn device_traits(&self, devices: &[u64]) -> Result<Vec<(u64, Traits)>>;

    // --- devices ---

    /// Makes or replaces devices by (app, id). An address that another device of the app has moves here.
    async fn put_devices(&self, app: i64, devices: Vec<DevicePut>, now_ms: u64) -> Result<Vec<DeviceRecord>>;
    /// Changes a device; `None` where there is none.
    async fn patch_device(
        &self,
        app: i64,
        id: &str,
        patch: DevicePatch,
        now_ms: u64,
    ) -> Result<Option<DeviceRecord>>;
    /// Deletes a device with all that is its own; `false` where there is none. Its deliveries stay without what
    /// vendors said of them, under a number that names nobody.
    async fn delete_device(&self, app: i64, id: &str) -> Result<bool>;
    /// Deletes some devices of a user in the same way; their numbers and ids, none where the user has no more.
    async fn delete_devices_of(&self, app: i64, user: &str, limit: usize) -> Result<Vec<(u64, String)>>;
    /// Devices that fit a filter, by number.
    async fn devices(
        &self,
        app: i64,
        filter: &DeviceFilter,
        after: u64,
        limit: usize,
    ) -> Result<Vec<DeviceRecord>>;
    /// Sets a device's user name (kept if it has one) and secret, and bumps its epoch. `None` where there is none.
    async fn set_device_secret(
        &self,
        app: i64,
        id: &str,
        username: &str,
        mac: &[u8],
    ) -> Result<Option<DeviceRecord>>;
    /// A device that connects itself, by user name, over all apps.
    async fn phone(&self, username: &str) -> Result<Option<PhoneRecord>>;
    /// The ids of devices by number: what the API shows for targets.
    async fn device_ids(&self, devices: &[u64]) -> Result<Vec<(u64, String)>>;

    // --- registration ---

    /// Keeps a registration key; a secret in it comes sealed, bound to its id.
    async fn put_registration_key(&self, key: RegistrationKeyRecord) -> Result<()>;
    /// A registration key by id, over all apps.
    async fn registration_key(&self, id: &str) -> Result<Option<RegistrationKeyRecord>>;
    /// An app's registration keys, by id.
    async fn registration_keys(&self, app: i64) -> Result<Vec<RegistrationKeyRecord>>;
    /// Revokes a registration key of an app; `false` where there is none.
    async fn revoke_registration_key(&self, app: i64, id: &str, now_ms: u64) -> Result<bool>;
    /// Registers a phone in one transaction: uses its nonce up, makes or changes the device, gives it its secret.
    async fn register_device(&self, registration: Registration, now_ms: u64) -> Result<Registered>;

    // --- audience ---

    /// Devices by id, in order of number; ids that name nothing are absent.
    async fn targets_by_id(&self, app: i64, ids: &[String]) -> Result<Vec<TargetDevice>>;
    /// Those of these users who have a device.
    async fn known_users(&self, app: i64, users: &[String]) -> Result<Vec<String>>;
    /// Devices that fit an expression, in order of number, after `after`; and how far that is. A round may be short, or
    /// empty, and still not the last.
    async fn targets_matching(&self, app: i64, e: &Expression, after: u64, limit: usize) -> Result<Round>;
    /// Devices by number.
    async fn targets_by_number(&self, app: i64, devices: &[u64]) -> Result<Vec<TargetDevice>>;
    /// Active addresses of these devices for one provider: what a page needs, in one range read.
    async fn send_addresses(&self, app: i64, provider: &str, devices: &[u64]) -> Result<Vec<SendAddress>>;
    /// Takes back into use what was retired since a time, of the addresses of one (channel's, provider); how many.
    async fn restore_addresses(&self, app: i64, of: (&str, &str), since_ms: u64, now_ms: u64) -> Result<u64>;
    /// Targets given in the call, by index.
    async fn given_targets(&self, message: Id, indexes: &[u64]) -> Result<Vec<(u64, NewTarget)>>;

    /// The devices of these tokens, retired addresses too: (token, device, version of the address).
    async fn token_devices(
        &self,
        app: i64,
        provider: &str,
        kinds: &[&str],
        tokens: &[String],
    ) -> Result<Vec<(String, u64, u32)>>;
    /// Targets given in the call, by token: (token, index).
    async fn given_tokens(&self, message: Id, tokens: &[String]) -> Result<Vec<(String, u64)>>;

    // --- messages ---

    /// Stores a message with its first changes in one transaction, or answers from its idempotency key.
    async fn accept(&self, message: NewMessage, changes: Changes) -> Result<AcceptAnswer>;
    /// What [`Self::accept`] would answer a call with this key and body (hashes of both); `None` where the key is new.
    async fn used_key(
        &self,
        app: i64,
        hashes: ([u8; 32], [u8; 32]),
        now_ms: u64,
    ) -> Result<Option<AcceptAnswer>>;
    /// Marks a message as cancelled and raises its generation, once; its generation, `None` where there is none. The
    /// audit log has it under this public id. One that is still scheduled ends so, without targets.
    async fn cancel(&self, message: Id, public_id: &str, now_ms: u64) -> Result<Option<u32>>;
    /// Takes back some inbox entries of a message that were never handed out; their deliveries end cancelled. Returns
    /// how many entries; 0 = there are none left.
    async fn withdraw(&self, message: Id, now_ms: u64) -> Result<u64>;
    /// Cancelled messages that [`Self::withdraw`] would still find entries of: a cancel was interrupted.
    async fn half_cancelled(&self) -> Result<Vec<Id>>;
    /// Applies changes in one transaction. Shares its commit with others that wait.
    async fn commit(&self, changes: Changes) -> Result<()> {
        self.commit_shared(Arc::new(changes)).await
    }
    /// The same, for who may have to say it again: nothing is copied.
    async fn commit_shared(&self, changes: Arc<Changes>) -> Result<()>;
    /// A message by id.
    async fn message(&self, id: Id) -> Result<Option<MessageRecord>>;
    /// An app's messages before `before`, newest first.
    async fn messages(
        &self,
        app: i64,
        filter: &MessageFilter,
        before: Id,
        limit: usize,
    ) -> Result<Vec<MessageRecord>>;
    /// A message's counters.
    async fn counters(&self, message: Id) -> Result<Vec<Counter>>;
    /// A message's recorded deliveries after a target. Targets that only stand in pages are not among them.
    async fn deliveries(
        &self,
        message: Id,
        f: &DeliveryFilter,
        after: Option<u64>,
        limit: usize,
    ) -> Result<Vec<Delivery>>;
    /// The recorded deliveries of these targets.
    async fn deliveries_of(&self, message: Id, targets: &[u64]) -> Result<Vec<Delivery>>;
    /// Those of these devices to which a newer message of the same collapse key was handed over, or is being tried.
    async fn newer_of_key(&self, app: i64, collapse: i64, than: Id, devices: &[u64]) -> Result<Vec<u64>>;
    /// The pages of a message that wait in work items: where its pending targets are.
    async fn pending_pages(&self, message: Id, limit: usize) -> Result<Vec<Page>>;
    /// What a device got, newest first, before a message.
    async fn deliveries_to(&self, target: u64, before: Id, limit: usize) -> Result<Vec<Delivery>>;

    /// What the devices of a user got, newest first, before a delivery.
    async fn deliveries_to_user(
        &self,
        app: i64,
        user: &str,
        before: (Id, u64),
        limit: usize,
    ) -> Result<Vec<Delivery>>;
    // --- reports ---

    /// The counters of messages that were made in some stretches of time. Reads counters alone.
    async fn report(&self, ask: &ReportAsk) -> Result<Vec<ReportRow>>;
    /// How tries through these channels went from one hour since 1970 until before another.
    async fn channel_stats(&self, channels: &[i64], hours: (u64, u64)) -> Result<Vec<ChannelStats>>;

    // --- work ---

    /// Takes over what an earlier life of this node left leased, at once. Returns the new epoch.
    async fn begin_epoch(&self, node: u8) -> Result<u64>;
    /// The newest id of a message or a work item: new ones must come after it, whatever the clock says now.
    async fn last_id(&self) -> Result<Id>;
    /// Leases due work of one kind (for pages: of one channel and lane), oldest first.
    async fn lease(&self, lease: Lease) -> Result<Vec<WorkItem>>;
    /// Leases free pages of a message, and what is to be decided again about it, due or not; the lease's kind, channel
    /// and lane say nothing.
    async fn lease_of(&self, message: Id, lease: Lease) -> Result<Vec<WorkItem>>;
    /// Makes free work of this kind and channel due now that would be by `until_ms`.
    async fn hasten(&self, kind: WorkKind, channel: i64, until_ms: u64, now_ms: u64) -> Result<()>;
    /// When the next free work of this kind (and channel) is due, in Unix milliseconds.
    async fn next_due(&self, kind: WorkKind, channel: i64) -> Result<Option<u64>>;
    /// How many work items wait, by kind and channel. `Broken` once nothing can be written any more.
    async fn backlog(&self) -> Result<Vec<(WorkKind, i64, u64)>>;

    // --- events and webhooks ---

    /// Changes after each commit that wrote events.
    fn event_bell(&self) -> watch::Receiver<u64>;
    /// The newest event of an app, or one after it; costs no look into the database.
    fn event_head(&self, app: i64) -> u64;
    /// Where the journal begins and ends.
    async fn event_bounds(&self) -> Result<EventBounds>;
    /// An app's events of these kinds (bits) after a number, about `limit` of them.
    async fn events_after(&self, app: i64, kinds: u32, after: u64, limit: usize) -> Result<EventPage>;
    /// An app's events with these numbers; what was purged is absent.
    async fn events_numbered(&self, app: i64, numbers: &[u64]) -> Result<Vec<EventRow>>;
    /// The number of an app's last event from before a time; 0 = there is none any more.
    async fn events_before(&self, app: i64, at_ms: u64) -> Result<u64>;
    /// Writes down everything of an app until a time, for readers of its stream; answers after which number nothing is
    /// missing.
    async fn watch_events(&self, app: i64, until_ms: u64, now_ms: u64) -> Result<u64>;
    /// Forgets some events from before a time; how many rows.
    async fn purge_events(&self, before_ms: u64, now_ms: u64, limit: usize) -> Result<u64>;
    /// Makes a webhook (`seq` 0) or changes it. `work` begins its work anew, and enables it; one that is disabled has none.
    /// `None`: it is gone.
    async fn put_webhook(
        &self,
        webhook: WebhookRecord,
        work: Option<NewWork>,
    ) -> Result<Option<WebhookRecord>>;
    /// Deletes an app's webhook with all that waits for it; `false` where there is none.
    async fn delete_webhook(&self, app: i64, webhook: i64) -> Result<bool>;
    /// All webhooks of an app (`None`: of all), by number.
    async fn webhooks(&self, app: Option<i64>) -> Result<Vec<WebhookRecord>>;
    /// A webhook by number.
    async fn webhook(&self, webhook: i64) -> Result<Option<WebhookRecord>>;
    /// Ends what waits for a webhook.
    async fn clear_webhook(&self, webhook: i64) -> Result<()>;
    /// A webhook's attempts before one, newest first.
    async fn webhook_attempts(&self, webhook: i64, before: u64, limit: usize) -> Result<Vec<WebhookAttempt>>;

    // --- quotas ---

    /// Counts a page's targets against quotas, in order and as far as there is room, each in all of them or in none, and
    /// stores the page with its marks in the same transaction.
    async fn use_quotas(&self, ask: QuotaAsk) -> Result<QuotaAnswer>;
    /// What is used of quotas in the periods that began then; what is not used at all is left out.
    async fn quotas_used(&self, quotas: &[(i64, u64)]) -> Result<Vec<(i64, u64)>>;
    /// Notes until when a vendor calls a quota used up; 0 = it is not any more.
    async fn close_quota(&self, quota: i64, until: u64) -> Result<()>;
    /// Quotas that vendors call used up now, and until when.
    async fn closed_quotas(&self, now_ms: u64) -> Result<Vec<(i64, u64)>>;
    /// Forgets some of what was used in periods that began before a time; how many rows.
    async fn purge_quotas(&self, before: u64, limit: usize) -> Result<u64>;

    // --- phones ---

    /// What waits for a device after a position, in order; marks it as handed out. Expired entries are left out.
    async fn inbox(&self, device: u64, after: i64, limit: usize, now_ms: u64) -> Result<Vec<InboxEntry>>;
    /// Ends deliveries that the phone acknowledges: `delivered`, witness phone. Only what was handed out to it can be
    /// acknowledged. Returns how many deliveries moved.
    async fn acknowledge(&self, device: u64, ack: Ack, now_ms: u64) -> Result<u64>;
    /// What the phone reports about messages that reached it by any channel; what it reports need not wait in its
    /// inbox any more. Unknown deliveries and repeats leave no trace. Returns how many were news.
    async fn phone_events(&self, device: u64, events: Vec<PhoneEvent>, now_ms: u64) -> Result<u64>;
}
