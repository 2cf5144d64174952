//! [`Store`] for [`SqliteStore`]: each method is a job for the writer or a read.

use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::watch;

use super::writer::Job;
use super::{
    SqliteStore, accept, addresses, admin, audience, audit, categories, data_keys, devices, erase, events,
    quotas, reads, registration, reports, rules, webhooks, work,
};
use crate::delivery::expression::Expression;
use crate::delivery::page::Page;
use crate::delivery::state::Delivery;
use crate::ids::Id;
use crate::routing::Traits;
use crate::store::{
    AcceptAnswer, Ack, AppRecord, AuditFilter, AuditRow, CategoryRecord, Changes, ChannelRecord,
    ChannelStats, Counter, DataKeyRecord, DeliveryFilter, DeviceFilter, DevicePatch, DevicePut, DeviceRecord,
    EventBounds, EventPage, EventRow, InboxEntry, KeyRecord, Lease, LogSize, MessageFilter, MessageRecord,
    NewMessage, NewTarget, NewWork, PhoneEvent, PhoneRecord, QuotaAnswer, QuotaAsk, Registered, Registration,
    RegistrationKeyRecord, ReportAsk, ReportRow, Result, Round, RulesRecord, SealedSecret, SendAddress,
    Store, StoreError, TargetDevice, WebhookAttempt, WebhookRecord, WorkItem, WorkKind,
};

#[async_trait]
impl Store for SqliteStore {
    async fn meta(&self, key: &str, default: &[u8]) -> Result<Vec<u8>> {
        self.call_with((key.to_owned(), default.to_owned()), move |s, given| {
            Box::pin(async move { admin::meta(s, &given.0, &given.1).await.map(Ok) })
        })
        .await
    }

    async fn data_keys(&self) -> Result<Vec<DataKeyRecord>> {
        self.read(data_keys::list).await
    }

    async fn put_data_keys(&self, keys: Vec<DataKeyRecord>) -> Result<()> {
        self.call_with(keys, move |s, given| Box::pin(async move { data_keys::put(s, given).await.map(Ok) }))
            .await
    }

    async fn delete_data_keys(&self, ids: Vec<u32>) -> Result<()> {
        self.call_with(ids, move |s, given| {
            Box::pin(async move { data_keys::delete(s, given).await.map(Ok) })
        })
        .await
    }

    async fn sealed_secrets(&self) -> Result<Vec<SealedSecret>> {
        self.call(|s| Box::pin(async move { data_keys::sealed(s).await.map(Ok) })).await
    }

    async fn reseal(&self, old: SealedSecret, new: Vec<u8>) -> Result<bool> {
        self.call_with((old, new), move |s, given| {
            Box::pin(async move { data_keys::reseal(s, &given.0, &given.1).await.map(Ok) })
        })
        .await
    }

    async fn close(&self) {
        self.shut().await;
    }

    fn log_size(&self) -> LogSize {
        self.log.size()
    }

    fn write_statements(&self) -> u64 {
        self.statements()
    }

    async fn audit(&self, filter: &AuditFilter, before: Option<u64>, limit: usize) -> Result<Vec<AuditRow>> {
        self.read(async |s| audit::list(s, filter, before, limit).await).await
    }

    async fn create_app(&self, name: &str, public_ids: (String, String), now_ms: u64) -> Result<AppRecord> {
        self.call_with((name.to_owned(), public_ids), move |s, given| {
            Box::pin(async move { admin::create_app(s, &given.0, &given.1, now_ms).await })
        })
        .await
    }

    async fn apps(&self) -> Result<Vec<AppRecord>> {
        self.read(admin::apps).await
    }

    async fn create_key(&self, key: KeyRecord) -> Result<()> {
        self.call_with(key, move |s, given| Box::pin(async move { admin::create_key(s, given).await })).await
    }

    async fn key(&self, id: &str) -> Result<Option<KeyRecord>> {
        self.read(async |s| admin::key(s, id).await).await
    }

    async fn keys(&self, app: Option<i64>) -> Result<Vec<KeyRecord>> {
        self.read(async |s| admin::keys(s, app).await).await
    }

    async fn revoke_key(&self, app: Option<i64>, id: &str, now_ms: u64) -> Result<bool> {
        self.call_with(id.to_owned(), move |s, given| {
            Box::pin(async move { admin::revoke_key(s, app, given, now_ms).await.map(Ok) })
        })
        .await
    }

    async fn put_channel(&self, channel: ChannelRecord, given: Vec<String>) -> Result<ChannelRecord> {
        self.call_with((channel, given), move |s, given| {
            Box::pin(async move { admin::put_channel(s, given).await })
        })
        .await
    }

    async fn channels(&self) -> Result<Vec<ChannelRecord>> {
        self.read(admin::channels).await
    }

    async fn delete_channel(&self, app: i64, name: &str, now_ms: u64) -> Result<bool> {
        self.call_with(name.to_owned(), move |s, given| {
            Box::pin(async move { admin::delete_channel(s, app, given, now_ms).await.map(Ok) })
        })
        .await
    }

    async fn set_channel_state(
        &self,
        seq: i64,
        state: u8,
        info: Option<String>,
        action: Option<&'static str>,
        now_ms: u64,
    ) -> Result<()> {
        self.call_with((info, Arc::clone(&self.taps)), move |s, given| {
            Box::pin(async move {
                let (info, taps) = given;
                let why = (info.as_deref(), action);
                admin::set_channel_state(s, seq, state, why, now_ms, taps).await.map(Ok)
            })
        })
        .await
    }

    async fn rotate_callback(&self, app: i64, name: &str, now_ms: u64) -> Result<bool> {
        self.call_with(name.to_owned(), move |s, given| {
            Box::pin(async move { admin::rotate_callback(s, app, given, now_ms).await.map(Ok) })
        })
        .await
    }

    async fn put_category(&self, category: CategoryRecord) -> Result<(CategoryRecord, bool)> {
        self.call_with(category, move |s, given| {
            Box::pin(async move { categories::put(s, given).await.map(Ok) })
        })
        .await
    }

    async fn category(&self, app: i64, name: &str) -> Result<Option<CategoryRecord>> {
        self.read(async |s| categories::find(s, app, name).await).await
    }

    async fn categories(&self, app: i64, after: &str, limit: usize) -> Result<Vec<CategoryRecord>> {
        self.read(async |s| categories::list(s, app, after, limit).await).await
    }

    async fn delete_category(&self, app: i64, name: &str) -> Result<bool> {
        self.call_with(name.to_owned(), move |s, given| {
            Box::pin(async move { categories::delete(s, app, given).await.map(Ok) })
        })
        .await
    }

    async fn put_rules(&self, record: RulesRecord) -> Result<()> {
        self.call_with(record, move |s, given| Box::pin(async move { rules::put(s, given).await.map(Ok) }))
            .await
    }

    async fn rules(&self) -> Result<Vec<RulesRecord>> {
        self.read(rules::all).await
    }

    async fn device_traits(&self, devices: &[u64]) -> Result<Vec<(u64, Traits)>> {
        self.read(async |s| rules::traits(s, devices).await).await
    }

    async fn put_devices(&self, app: i64, devices: Vec<DevicePut>, now_ms: u64) -> Result<Vec<DeviceRecord>> {
        self.call_with(devices, move |s, given| {
            Box::pin(async move { devices::put(s, app, given, now_ms).await.map(Ok) })
        })
        .await
    }

    async fn patch_device(
        &self,
        app: i64,
        id: &str,
        patch: DevicePatch,
        now_ms: u64,
    ) -> Result<Option<DeviceRecord>> {
        self.call_with((id.to_owned(), patch), move |s, given| {
            Box::pin(async move { devices::patch(s, app, &given.0, &given.1, now_ms).await.map(Ok) })
        })
        .await
    }

    async fn delete_device(&self, app: i64, id: &str) -> Result<bool> {
        self.call_with(id.to_owned(), move |s, given| {
            Box::pin(async move { erase::device(s, app, given).await.map(Ok) })
        })
        .await
    }

    async fn delete_devices_of(&self, app: i64, user: &str, limit: usize) -> Result<Vec<(u64, String)>> {
        self.call_with(user.to_owned(), move |s, given| {
            Box::pin(async move { erase::of_user(s, app, given, limit).await.map(Ok) })
        })
        .await
    }

    async fn devices(
        &self,
        app: i64,
        filter: &DeviceFilter,
        after: u64,
        limit: usize,
    ) -> Result<Vec<DeviceRecord>> {
        self.read(async |s| audience::devices(s, app, filter, after, limit).await).await
    }

    async fn set_device_secret(
        &self,
        app: i64,
        id: &str,
        username: &str,
        mac: &[u8],
    ) -> Result<Option<DeviceRecord>> {
        self.call_with((id.to_owned(), username.to_owned(), mac.to_owned()), move |s, given| {
            Box::pin(async move { devices::set_secret(s, app, &given.0, &given.1, &given.2).await })
        })
        .await
    }

    async fn phone(&self, username: &str) -> Result<Option<PhoneRecord>> {
        Ok(self.look_ups.phones.ask((), &[username.to_owned()]).await?.pop())
    }

    async fn device_ids(&self, devices: &[u64]) -> Result<Vec<(u64, String)>> {
        self.read(async |s| audience::ids(s, devices).await).await
    }

    async fn put_registration_key(&self, key: RegistrationKeyRecord) -> Result<()> {
        self.call_with(key, move |s, given| {
            Box::pin(async move { registration::put_key(s, given).await.map(Ok) })
        })
        .await
    }

    async fn registration_key(&self, id: &str) -> Result<Option<RegistrationKeyRecord>> {
        self.read(async |s| registration::key(s, id).await).await
    }

    async fn registration_keys(&self, app: i64) -> Result<Vec<RegistrationKeyRecord>> {
        self.read(async |s| registration::keys(s, app).await).await
    }

    async fn revoke_registration_key(&self, app: i64, id: &str, now_ms: u64) -> Result<bool> {
        self.call_with(id.to_owned(), move |s, given| {
            Box::pin(async move { registration::revoke(s, app, given, now_ms).await.map(Ok) })
        })
        .await
    }

    async fn register_device(&self, given: Registration, now_ms: u64) -> Result<Registered> {
        self.call_with(given, move |s, given| {
            Box::pin(async move { registration::register(s, given, now_ms).await })
        })
        .await
    }

    async fn targets_by_id(&self, app: i64, ids: &[String]) -> Result<Vec<TargetDevice>> {
        self.look_ups.targets.ask(app, ids).await
    }

    async fn known_users(&self, app: i64, users: &[String]) -> Result<Vec<String>> {
        self.read(async |s| audience::known_users(s, app, users).await).await
    }

    async fn targets_matching(&self, app: i64, e: &Expression, after: u64, limit: usize) -> Result<Round> {
        self.read(async |s| audience::matching(s, app, e, after, limit).await).await
    }

    async fn targets_by_number(&self, app: i64, devices: &[u64]) -> Result<Vec<TargetDevice>> {
        self.read(async |s| audience::by_number(s, app, devices).await).await
    }

    async fn send_addresses(&self, app: i64, provider: &str, devices: &[u64]) -> Result<Vec<SendAddress>> {
        self.look_ups.addresses.ask((app, provider.to_owned()), devices).await
    }

    async fn restore_addresses(
        &self,
        app: i64,
        (channel, provider): (&str, &str),
        since_ms: u64,
        now_ms: u64,
    ) -> Result<u64> {
        self.call_with((channel.to_owned(), provider.to_owned()), move |s, given| {
            Box::pin(async move {
                addresses::restore(s, app, (&given.0, &given.1), since_ms, now_ms).await.map(Ok)
            })
        })
        .await
    }

    async fn given_targets(&self, message: Id, indexes: &[u64]) -> Result<Vec<(u64, NewTarget)>> {
        self.read(async |s| reads::given_targets(s, message, indexes).await).await
    }

    async fn token_devices(
        &self,
        app: i64,
        provider: &str,
        kinds: &[&str],
        tokens: &[String],
    ) -> Result<Vec<(String, u64, u32)>> {
        self.read(async |s| addresses::of_tokens(s, app, provider, kinds, tokens).await).await
    }

    async fn given_tokens(&self, message: Id, tokens: &[String]) -> Result<Vec<(String, u64)>> {
        self.read(async |s| reads::given_tokens(s, message, tokens).await).await
    }

    async fn accept(&self, message: NewMessage, changes: Changes) -> Result<AcceptAnswer> {
        self.offer(message, changes).await
    }

    async fn cancel(&self, message: Id, public_id: &str, now_ms: u64) -> Result<Option<u32>> {
        self.call_with(public_id.to_owned(), move |s, public_id| {
            Box::pin(async move { work::cancel(s, message, public_id, now_ms).await.map(Ok) })
        })
        .await
    }

    async fn withdraw(&self, message: Id, now_ms: u64) -> Result<u64> {
        self.send(|inbox| inbox.rest, |reply| Job::Withdraw(message, now_ms, reply)).await
    }

    async fn half_cancelled(&self) -> Result<Vec<Id>> {
        self.read(async |s| work::half_cancelled(s).await).await
    }

    async fn commit_shared(&self, changes: Arc<Changes>) -> Result<()> {
        self.send(|inbox| inbox.rest, |reply| Job::Commit(changes, reply)).await
    }

    async fn message(&self, id: Id) -> Result<Option<MessageRecord>> {
        Ok(self.look_ups.messages.ask((), &[id]).await?.pop())
    }

    async fn messages(
        &self,
        app: i64,
        filter: &MessageFilter,
        before: Id,
        limit: usize,
    ) -> Result<Vec<MessageRecord>> {
        self.read(async |s| reads::messages(s, app, filter, before, limit).await).await
    }

    async fn counters(&self, message: Id) -> Result<Vec<Counter>> {
        self.read(async |s| reads::counters(s, message).await).await
    }

    async fn deliveries(
        &self,
        message: Id,
        f: &DeliveryFilter,
        after: Option<u64>,
        limit: usize,
    ) -> Result<Vec<Delivery>> {
        self.read(async |s| reads::deliveries(s, message, *f, after, limit).await).await
    }

    async fn deliveries_of(&self, message: Id, targets: &[u64]) -> Result<Vec<Delivery>> {
        self.read(async |s| reads::deliveries_of(s, message, targets).await).await
    }

    async fn newer_of_key(&self, app: i64, collapse: i64, than: Id, devices: &[u64]) -> Result<Vec<u64>> {
        self.read(async |s| reads::newer_of_key(s, app, collapse, than, devices).await).await
    }

    async fn pending_pages(&self, message: Id, limit: usize) -> Result<Vec<Page>> {
        self.read(async |s| reads::pending_pages(s, message, limit).await).await
    }

    async fn deliveries_to(&self, target: u64, before: Id, limit: usize) -> Result<Vec<Delivery>> {
        self.read(async |s| reads::deliveries_to(s, target, before, limit).await).await
    }

    async fn deliveries_to_user(
        &self,
        app: i64,
        user: &str,
        before: (Id, u64),
        limit: usize,
    ) -> Result<Vec<Delivery>> {
        self.read(async |s| reads::deliveries_to_user(s, app, user, before, limit).await).await
    }

    async fn report(&self, ask: &ReportAsk) -> Result<Vec<ReportRow>> {
        self.read(async |s| reports::deliveries(s, ask).await).await
    }

    async fn channel_stats(&self, channels: &[i64], hours: (u64, u64)) -> Result<Vec<ChannelStats>> {
        self.read(async |s| reports::channels(s, channels, hours).await).await
    }

    async fn begin_epoch(&self, node: u8) -> Result<u64> {
        self.call(move |s| Box::pin(async move { work::begin_epoch(s, node).await.map(Ok) })).await
    }

    async fn broke(&self) -> String {
        self.broken.wait().await.clone()
    }

    async fn used_key(
        &self,
        app: i64,
        hashes: ([u8; 32], [u8; 32]),
        now_ms: u64,
    ) -> Result<Option<AcceptAnswer>> {
        self.read(async |s| accept::used_key(s, app, hashes, now_ms).await).await
    }

    async fn last_id(&self) -> Result<Id> {
        self.read(work::last_id).await
    }

    async fn lease(&self, lease: Lease) -> Result<Vec<WorkItem>> {
        self.call(move |s| Box::pin(async move { work::lease(s, &lease).await.map(Ok) })).await
    }

    async fn lease_of(&self, message: Id, lease: Lease) -> Result<Vec<WorkItem>> {
        self.call(move |s| Box::pin(async move { work::lease_of(s, message, &lease).await.map(Ok) })).await
    }

    async fn hasten(&self, kind: WorkKind, channel: i64, until_ms: u64, now_ms: u64) -> Result<()> {
        self.call(move |s| {
            Box::pin(async move { work::hasten(s, kind, channel, until_ms, now_ms).await.map(Ok) })
        })
        .await
    }

    async fn next_due(&self, kind: WorkKind, channel: i64) -> Result<Option<u64>> {
        self.read(async |s| work::next_due(s, kind, channel).await).await
    }

    async fn backlog(&self) -> Result<Vec<(WorkKind, i64, u64)>> {
        // What watches over the gateway asks this: reading goes on where writing has ended for good.
        if let Some(cause) = self.broken.get() {
            return Err(StoreError::Broken(cause.clone()));
        }
        self.read(work::backlog).await
    }

    fn event_bell(&self) -> watch::Receiver<u64> {
        self.taps.bell()
    }

    fn event_head(&self, app: i64) -> u64 {
        self.taps.head(app)
    }

    async fn event_bounds(&self) -> Result<EventBounds> {
        self.read(events::bounds).await
    }

    async fn events_after(&self, app: i64, kinds: u32, after: u64, limit: usize) -> Result<EventPage> {
        self.read(async |s| events::after(s, app, kinds, after, limit).await).await
    }

    async fn events_numbered(&self, app: i64, numbers: &[u64]) -> Result<Vec<EventRow>> {
        self.read(async |s| events::numbered(s, app, numbers).await).await
    }

    async fn events_before(&self, app: i64, at_ms: u64) -> Result<u64> {
        self.read(async |s| events::before(s, app, at_ms).await).await
    }

    async fn watch_events(&self, app: i64, until_ms: u64, now_ms: u64) -> Result<u64> {
        self.call_and_listen(move |s| {
            Box::pin(async move { events::watch(s, app, until_ms, now_ms).await.map(Ok) })
        })
        .await
    }

    async fn purge_events(&self, before_ms: u64, now_ms: u64, limit: usize) -> Result<u64> {
        self.call_and_listen(move |s| {
            Box::pin(async move { events::purge(s, before_ms, now_ms, limit).await.map(Ok) })
        })
        .await
    }

    async fn put_webhook(
        &self,
        webhook: WebhookRecord,
        work: Option<NewWork>,
    ) -> Result<Option<WebhookRecord>> {
        let put = self.call_with((webhook, work), |s, given| {
            Box::pin(async move { webhooks::put(s, &given.0, given.1.as_ref()).await.map(Ok) })
        });
        let stored = put.await?;
        self.listen_anew().await?;
        Ok(stored)
    }

    async fn delete_webhook(&self, app: i64, webhook: i64) -> Result<bool> {
        self.call_and_listen(move |s| {
            Box::pin(async move { webhooks::delete(s, app, webhook).await.map(Ok) })
        })
        .await
    }

    async fn webhooks(&self, app: Option<i64>) -> Result<Vec<WebhookRecord>> {
        self.read(async |s| webhooks::list(s, app).await).await
    }

    async fn webhook(&self, webhook: i64) -> Result<Option<WebhookRecord>> {
        self.read(async |s| webhooks::find(s, webhook).await).await
    }

    async fn clear_webhook(&self, webhook: i64) -> Result<()> {
        self.call(move |s| Box::pin(async move { webhooks::clear(s, webhook).await.map(Ok) })).await
    }

    async fn webhook_attempts(&self, webhook: i64, before: u64, limit: usize) -> Result<Vec<WebhookAttempt>> {
        self.read(async |s| webhooks::attempts(s, webhook, before, limit).await).await
    }

    async fn use_quotas(&self, ask: QuotaAsk) -> Result<QuotaAnswer> {
        self.call_with(ask, move |s, given| Box::pin(async move { quotas::use_up(s, given).await.map(Ok) }))
            .await
    }

    async fn quotas_used(&self, keys: &[(i64, u64)]) -> Result<Vec<(i64, u64)>> {
        self.read(async |s| quotas::used(s, keys).await).await
    }

    async fn close_quota(&self, quota: i64, until: u64) -> Result<()> {
        self.call(move |s| Box::pin(async move { quotas::close(s, quota, until).await.map(Ok) })).await
    }

    async fn closed_quotas(&self, now_ms: u64) -> Result<Vec<(i64, u64)>> {
        self.read(async |s| quotas::closed(s, now_ms).await).await
    }

    async fn purge_quotas(&self, before: u64, limit: usize) -> Result<u64> {
        self.call(move |s| Box::pin(async move { quotas::purge(s, before, limit).await.map(Ok) })).await
    }

    async fn inbox(&self, device: u64, after: i64, limit: usize, now_ms: u64) -> Result<Vec<InboxEntry>> {
        let waiting = self.look_ups.inboxes.ask((), &[(device, after, limit, now_ms)]).await?;
        let new: Vec<_> =
            waiting.iter().filter(|(_, _, handed)| !handed).map(|(_, e, _)| (device, e.pos)).collect();
        if !new.is_empty() {
            // Before the phone sees them: its acknowledgement ends only what was handed out.
            self.send(|inbox| inbox.rest, |reply| Job::HandOut(new, now_ms, reply)).await?;
        }
        Ok(waiting.into_iter().map(|(_, entry, _)| entry).collect())
    }

    async fn acknowledge(&self, device: u64, ack: Ack, now_ms: u64) -> Result<u64> {
        self.send(|inbox| inbox.rest, |reply| Job::Acknowledge(device, ack, now_ms, reply)).await
    }

    async fn phone_events(&self, device: u64, events: Vec<PhoneEvent>, now_ms: u64) -> Result<u64> {
        self.send(|inbox| inbox.rest, |reply| Job::Report(device, events, now_ms, reply)).await
    }
}
