//! What goes into the store and comes out of it.

pub(in crate::store) mod attributes;
mod audit;
mod changes;
mod data_keys;
mod devices;
mod events;
mod inbox;
mod messages;
mod quotas;
mod registration;
mod reports;
mod retention;
mod rules;
mod tenants;
mod work;

pub use attributes::{FIELD, field_names, is_unknown_field, is_version};
pub use audit::{Audit, AuditChain, AuditFilter, AuditRow};
pub use changes::{Changes, Refusable};
pub use data_keys::{DataKeyRecord, SealedSecret, SecretHome};
pub use devices::{
    AddressVerdict, DeviceFilter, DevicePatch, DevicePut, DeviceRecord, NewAddress, PhoneRecord, Round,
    SendAddress, StoredAddress, TargetAddress, TargetDevice,
};
pub use events::{EventBounds, EventPage, EventRow, Signature, WebhookAttempt, WebhookChange, WebhookRecord};
pub use inbox::{Ack, InboxEntry, NewInbox, PhoneEvent};
pub use messages::{
    AcceptAnswer, Counter, DeliveryFilter, MessageFilter, MessageRecord, NewMessage, NewTarget,
};
pub use quotas::{QuotaAnswer, QuotaAsk, QuotaBack, QuotaLimit};
pub use registration::{Registered, Registration, RegistrationKeyRecord};
pub use reports::{
    ChannelStats, Counted, OTHER_LABELS, PLATFORMS, QUARTER_MS, ReportAsk, ReportBy, ReportGroup, ReportRow,
    latency_bucket,
};
pub use retention::{Aged, Forgotten};
pub use rules::RulesRecord;
pub use tenants::{AppRecord, CategoryRecord, ChannelRecord, KeyRecord};
pub use work::{Lease, NewWork, WorkItem, WorkKind, WorkLane, WorkUpdate};
