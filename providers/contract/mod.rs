//! The provider contract: all that a new vendor needs to meet, and all that the gateway knows of a vendor.
//!
//! A provider **declares** ([`Descriptor`], [`Capabilities`]) and **translates** ([`Provider::send`]); it never
//! decides. What a reason does to an address, a delivery or a channel is one table in the gateway.
//!
//! The flow in `send` is the same in every adapter: build the payload, authenticate, post, read the answer. An
//! adapter never sleeps, never loops to retry, never spawns, and asks [`SendContext::gate`] before each vendor
//! request, so that rate, concurrency and breaker live outside.

mod batch;
mod capability;
mod content;
mod descriptor;
mod outcome;
mod provider;

pub use batch::{Address, Batch, Category, MessageRef, Target, Token};
pub use capability::{Capabilities, Cost, DeliveryMode, Gap, Needs, ReceiptKey, Receipts};
pub use content::{Badge, Class, Click, ClickAction, Content, Notification, Priority};
pub use descriptor::{
    AddressSpec, Build, CategorySpec, Descriptor, Quota, QuotaPeriod, QuotaScope, Registration, Tier,
};
pub use outcome::{Certainty, Failure, Hint, Outcome, Outcomes, Reason, Scope, VendorEcho, Verdict};
pub use provider::{
    CallbackReply, CallbackRequest, CheckReport, ConfigError, Dropped, Environment, Gate, Money, OpenGate,
    Pass, Preview, Provider, Receipt, ReceiptEvent, Refusal, SendContext, Then, Witness,
};
