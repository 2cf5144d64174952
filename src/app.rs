//! Wires the rooms together, and nothing else.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::{Context as _, bail};
use anypush_providers::contract::Environment;
use anypush_providers::kit::egress::Egress;
use axum::Router;
use tokio::net::TcpListener;

use crate::api::{self, auth::Auth, events::Streams, limits::CallLimits, refusals::Refusals};
use crate::bulk::Bulk;
use crate::channels::Channels;
use crate::clock::Clock;
use crate::delivery::{self, Pipeline};
use crate::direct::Hub;
use crate::events::Teller;
use crate::ids::{IdCodec, IdMaker};
use crate::receipts::{self, CallbackUrls, Receipts};
use crate::retention;
use crate::rules::Rules;
use crate::secrets::{self, MasterKeys, Vault};
use crate::settings::Settings;
use crate::store::{Store, StoreError, sqlite};
use crate::tasks::Tasks;
use crate::telemetry::Metrics;
use crate::webhooks::{self, Webhooks};

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
    /// Who may call.
    pub auth: Arc<Auth>,
    /// How often somebody may call.
    pub limits: Arc<CallLimits>,
    /// Live channels.
    pub channels: Channels,
    /// The apps' own rules for routes.
    pub rules: Rules,
    /// Connected phones.
    pub hub: Hub,
    /// The way of a message.
    pub pipeline: Pipeline,
    /// The way of a receipt.
    pub receipts: Receipts,
    /// Where vendors are told to report to.
    pub callback_urls: CallbackUrls,
    /// Who was turned away.
    pub refusals: Arc<Refusals>,
    /// Where it may call: the guard for addresses that users give.
    pub egress: Egress,
    /// Makes events of what the journal holds.
    pub teller: Teller,
    /// Backends that are told of events.
    pub webhooks: Webhooks,
    /// Backends that read events live.
    pub streams: Arc<Streams>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// What shutdown waits for.
    pub tasks: Tasks,
    /// Where it listens, once it does.
    address: Arc<OnceLock<SocketAddr>>,
}

/// The product token for `User-Agent`.
const USER_AGENT: &str = concat!("anypush/", env!("CARGO_PKG_VERSION"));

impl Gateway {
    /// The address that users see, without a slash at the end.
    pub fn url(&self) -> String {
        match self.address.get() {
            Some(address) if self.settings.public_url.is_empty() => format!("http://{address}"),
            _ => self.settings.shown_url(),
        }
    }
}

/// The parts that the command line needs without a running gateway: store, and the vault that fits it.
pub async fn open(settings: &Settings, clock: &Clock) -> anyhow::Result<(Arc<dyn Store>, Arc<Vault>)> {
    let options = sqlite::SqliteOptions {
        clock: clock.clone(),
        log_alarm_bytes: settings.store.log_alarm_mebibytes << 20,
        ..sqlite::SqliteOptions::default()
    };
    let store: Arc<dyn Store> = sqlite::SqliteStore::open(&settings.data_dir, options).await?;
    let masters = match settings.key() {
        Some(key) => MasterKeys::from_text(key),
        None => MasterKeys::from_file(&settings.key_file()),
    };
    let masters = masters.context("the master key cannot be used")?;
    let vault = secrets::unlock(&masters, &*store, clock.now_ms()).await.with_context(|| {
        format!(
            "the master key is not the one that this data was made with; set ANYPUSH_MASTER_KEY or \
             master_key_file to that one, or to several, newest first ({} in a data directory that was copied whole)",
            settings.key_file().display()
        )
    })?;
    Ok((store, Arc::new(vault)))
}

/// Starts everything but the listener: store with migrations, vault, channels, pipeline.
pub async fn start(settings: Settings, clock: Clock) -> anyhow::Result<Arc<Gateway>> {
    let (store, vault) = open(&settings, &clock).await?;
    let mut fresh = [0u8; 32];
    aws_lc_rs::rand::fill(&mut fresh).context("the system gives no random bytes")?;
    let key = store.meta("id key", &fresh).await?;
    let key = key.as_slice().try_into().context("the key of public ids in the database is damaged")?;
    let codec = Arc::new(IdCodec::new(key));
    let ids = Arc::new(IdMaker::new(settings.node));
    // The clock may have been set back while the gateway was down.
    ids.go_on_after(store.last_id().await?);
    let environment = Environment {
        user_agent: USER_AGENT.into(),
        egress: settings.egress.guard(),
        ..Environment::default()
    };
    let egress = environment.egress.clone();
    let channels = Channels::load(Arc::clone(&store), Arc::clone(&vault), environment, clock.clone()).await?;
    let rules = Rules::load(Arc::clone(&store)).await?;
    let (hub, metrics, tasks) = (Hub::default(), Arc::new(Metrics::default()), Tasks::default());
    let callback_urls = CallbackUrls::new(Arc::clone(&vault));
    if !settings.public_url.is_empty() {
        callback_urls.begin_with(settings.public_url.clone());
    }
    let parts = delivery::Parts {
        node: settings.node,
        clock: clock.clone(),
        ids: Arc::clone(&ids),
        codec: Arc::clone(&codec),
        store: Arc::clone(&store),
        channels: channels.clone(),
        callback_urls: callback_urls.clone(),
        hub: hub.clone(),
        metrics: Arc::clone(&metrics),
        tasks: tasks.clone(),
        bulk: Bulk::start().context("no threads for campaigns")?,
        own_wait_seconds: settings.route.own_connection_wait_seconds,
        ask_after_seconds: settings.receipts.ask_after_seconds,
    };
    let pipeline = Pipeline::start(parts.clone()).await?;
    let receipts = Receipts::start(receipts::Parts {
        clock: clock.clone(),
        codec: Arc::clone(&codec),
        vault: Arc::clone(&vault),
        store: Arc::clone(&store),
        channels: channels.clone(),
        pipeline: pipeline.clone(),
        metrics: Arc::clone(&metrics),
        tasks: tasks.clone(),
    })
    .await?;
    retention::start(ages(&parts, &settings)).await?;
    let (teller, webhooks) = tell_backends(parts, pipeline.epoch(), &vault, &settings, &egress).await?;
    let environment = settings.environment.clone();
    let limits = CallLimits::new(&settings.rate, clock.clone(), Arc::clone(&metrics));
    let auth =
        Auth::new(Arc::clone(&store), Arc::clone(&vault), clock.clone(), environment, Arc::clone(&metrics));
    Ok(Arc::new(Gateway {
        settings: Arc::new(settings),
        clock,
        ids,
        codec,
        vault,
        store,
        auth: Arc::new(auth),
        limits: Arc::new(limits),
        channels,
        rules,
        hub,
        pipeline,
        receipts,
        callback_urls,
        refusals: Arc::default(),
        egress,
        teller,
        webhooks,
        streams: Arc::default(),
        metrics,
        tasks,
        address: Arc::default(),
    }))
}

/// What is needed to forget what is too old.
fn ages(parts: &delivery::Parts, settings: &Settings) -> retention::Parts {
    retention::Parts {
        clock: parts.clock.clone(),
        store: Arc::clone(&parts.store),
        metrics: Arc::clone(&parts.metrics),
        tasks: parts.tasks.clone(),
        ages: settings.retention,
        webhook_hours: settings.webhooks.retention_hours,
    }
}

/// Starts what tells backends of events.
async fn tell_backends(
    parts: delivery::Parts,
    epoch: u64,
    vault: &Arc<Vault>,
    settings: &Settings,
    egress: &Egress,
) -> Result<(Teller, Webhooks), StoreError> {
    let delivery::Parts { node, clock, ids, codec, store, channels, metrics, tasks, .. } = parts;
    let teller = Teller::new(Arc::clone(&store), codec, channels);
    let webhooks = Webhooks::start(webhooks::Parts {
        node,
        epoch,
        clock,
        ids,
        vault: Arc::clone(vault),
        store,
        teller: teller.clone(),
        metrics,
        tasks,
        settings: settings.webhooks.clone(),
        user_agent: USER_AGENT.into(),
        egress: egress.clone(),
    });
    Ok((teller, webhooks.await?))
}

/// Serves until `shutdown` resolves, then ends in order: no new connections, requests finish, the pipeline writes what
/// it knows, the store closes. `Err`: the store broke. Then it ends at once and closes nothing: no answer that is given
/// now could be kept, and to close a database is to write to it.
pub async fn serve(
    gateway: Arc<Gateway>,
    listener: TcpListener,
    shutdown: impl Future<Output = ()> + Send,
) -> anyhow::Result<()> {
    serve_with(gateway, listener, Router::new(), shutdown).await
}

/// [`serve`] with more paths beside the API's.
pub async fn serve_with(
    gateway: Arc<Gateway>,
    listener: TcpListener,
    more: Router,
    shutdown: impl Future<Output = ()> + Send,
) -> anyhow::Result<()> {
    let address = listener.local_addr().context("the listener has no address")?;
    let _ = gateway.address.set(address);
    tracing::info!(%address, url = gateway.url(), "listening on {address}");
    let grace = Duration::from_secs(gateway.settings.shutdown_seconds);
    let router = api::router(&gateway).merge(more);
    let connections = api::listen::accept(listener, router);
    let life = async {
        let was_asked = tokio::select! {
            () = shutdown => true,
            // Whoever met a writer that is gone has logged so.
            () = gateway.tasks.stopped() => false,
            never = connections.run() => match never {},
        };
        tracing::info!("stopping");
        // Phones are told first: a held poll would otherwise use up the whole grace.
        gateway.tasks.stop();
        if !connections.drain(grace).await {
            tracing::warn!("some requests were still under way after {} s and were cut off", grace.as_secs());
        }
        gateway.pipeline.stop(grace).await;
        if !gateway.tasks.wait(grace).await {
            tracing::warn!("some background work did not end in time");
        }
        gateway.store.close().await;
        was_asked
    };
    tokio::select! {
        biased;
        cause = gateway.store.broke() => {
            let advice = "the gateway ended at once and wrote nothing more. What was answered with 202 is kept: look \
                at the disk, then start again";
            Err(anyhow::Error::new(StoreError::Broken(cause)).context(advice))
        }
        was_asked = life => if was_asked { Ok(()) } else { bail!("the gateway stopped by itself; its log says why") },
    }
}
