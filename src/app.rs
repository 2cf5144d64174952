//! Wires the rooms together, and nothing else.

use std::sync::Arc;

use crate::channels::Channels;
use crate::clock::Clock;
use crate::delivery::Pipeline;
use crate::direct::Hub;
use crate::ids::{IdCodec, IdMaker};
use crate::secrets::Vault;
use crate::settings::Settings;
use crate::store::Store;
use crate::tasks::Tasks;
use crate::telemetry::Metrics;

/// Everything that a handler or a task may need. Cloned as an `Arc`.
#[derive(Clone)]
pub struct Gateway {
    /// Configuration.
    pub settings: Arc<Settings>,
    /// Time.
    pub clock: Clock,
    /// Makes internal ids.
    pub ids: Arc<IdMaker>,
    /// Translates public ids.
    pub codec: Arc<IdCodec>,
    /// Seals secrets; also the source of MACs for keys.
    pub vault: Arc<Vault>,
    /// Everything that lasts.
    pub store: Arc<dyn Store>,
    /// Live channels.
    pub channels: Channels,
    /// Connected phones.
    pub hub: Hub,
    /// The way of a message.
    pub pipeline: Pipeline,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// What shutdown waits for.
    pub tasks: Tasks,
}
