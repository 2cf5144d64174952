//! What a provider says that its vendor witnesses, against what the twin reports when a played phone gets a message and
//! a person taps it.

use std::time::Duration;

use anypush_providers::contract::{
    CallbackReply, CallbackRequest, Capabilities, Receipt, ReceiptEvent, ReceiptKey, Receipts, Registration,
    SendContext, Verdict,
};
use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use libtest_mimic::Trial;
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use crate::promises::hello;
use crate::stage::{Stage, param};
use crate::{Found, ensure, trial};

/// A vendor takes its time to report; nobody waits longer.
const PATIENCE: Duration = Duration::from_secs(20);

/// A trial for each witness that is declared, and for what is no receipt.
pub(crate) fn all(provider: &'static Registration) -> impl Iterator<Item = Trial> {
    let can = provider.descriptor.capabilities;
    let mut trials = vec![trial(provider, "its_receipts_are_declared_whole", declared_whole)];
    if can.receipts == Receipts::Callback {
        trials.push(trial(provider, "a_forged_callback_reports_nothing", a_forged_callback_reports_nothing));
        for (name, declared, event) in [
            ("witnesses_delivery", can.witnesses_delivered, ReceiptEvent::Delivered),
            ("witnesses_taps", can.witnesses_clicked, ReceiptEvent::Clicked),
        ] {
            if declared {
                trials.push(trial(provider, name, move |stage| witnesses(stage, event)));
            }
        }
    }
    if can.polls_receipts {
        trials.push(trial(provider, "says_when_asked_what_became_of_it", asked));
    } else {
        trials.push(trial(provider, "asks_nobody_what_became_of_it", asks_nobody));
    }
    trials.into_iter()
}

async fn declared_whole(stage: Stage) -> Found {
    let can: Capabilities = stage.registration.descriptor.capabilities;
    let some = can.receipts != Receipts::None;
    let witnesses = can.witnesses_delivered || can.witnesses_displayed || can.witnesses_clicked;
    ensure(some == (can.receipt_key != ReceiptKey::None), || {
        "receipts without a key, or the reverse".into()
    })?;
    ensure(some || !witnesses, || "it witnesses without receipts".into())?;
    ensure(can.polls_receipts || can.receipts != Receipts::Poll, || {
        "polling alone, and it cannot be asked".into()
    })?;
    ensure(some || !can.polls_receipts, || "it can be asked, and has no receipts".into())
}

/// A gateway's callback URL, and what is posted there.
pub(crate) struct Ear {
    pub(crate) url: String,
    heard: mpsc::UnboundedReceiver<CallbackRequest>,
}

impl Ear {
    #[expect(clippy::disallowed_methods, reason = "a test's server ends with the test")]
    pub(crate) async fn open() -> Result<Self, String> {
        let listener = TcpListener::bind("127.0.0.1:0").await.map_err(|error| error.to_string())?;
        let base = format!("http://{}", listener.local_addr().map_err(|error| error.to_string())?);
        let (sender, heard) = mpsc::unbounded_channel();
        let origin = base.clone();
        let router =
            Router::new().fallback(move |method: Method, uri: Uri, headers: HeaderMap, body: Bytes| {
                let received_at = std::time::SystemTime::now();
                let url = format!("{origin}{uri}");
                let _ = sender.send(CallbackRequest { method, url, headers, body, received_at });
                // Every vendor is content with one of these.
                let content = r#"{"code":"0","message":"success","errno":0}"#;
                std::future::ready((StatusCode::OK, content))
            });
        tokio::spawn(async move { axum::serve(listener, router).await });
        Ok(Self { url: format!("{base}/v1/callbacks/chn_behaviour/secret"), heard })
    }

    /// The first callback about a message to a played phone.
    pub(crate) async fn a_true_one(&mut self, stage: &Stage) -> Result<CallbackRequest, String> {
        delivered_to_a_phone(stage, self).await?;
        let patience = if stage.registration.descriptor.capabilities.receipts == Receipts::Callback {
            PATIENCE
        } else {
            Duration::ZERO
        };
        let heard = tokio::time::timeout(patience, self.heard.recv()).await;
        heard.ok().flatten().ok_or_else(|| "no callback came".to_owned())
    }

    /// Receipts until one fits.
    pub(crate) async fn wait_for(
        &mut self,
        stage: &Stage,
        fits: impl Fn(&Receipt) -> bool,
    ) -> Result<Receipt, String> {
        let mut others = Vec::new();
        let fitting = async {
            while let Some(request) = self.heard.recv().await {
                let CallbackReply { receipts, authenticated, .. } =
                    stage.provider.parse_callback(&request).ok_or("it reads no callbacks")?;
                ensure(authenticated, || format!("a true callback is refused: {}", request.url))?;
                for receipt in receipts {
                    if fits(&receipt) {
                        return Ok(receipt);
                    }
                    others.push(receipt.event);
                }
            }
            Err("the ear was closed".to_owned())
        };
        let heard = tokio::time::timeout(PATIENCE, fitting).await;
        heard
            .unwrap_or_else(|_| Err(format!("none within {PATIENCE:?}")))
            .map_err(|why| format!("{why}; others: {others:?}"))
    }
}

/// Sends one message to a played phone.
async fn delivered_to_a_phone(stage: &Stage, ear: &Ear) -> Result<(String, Option<String>), String> {
    stage.enter_callback(&ear.url).await?;
    let tokens = stage.tokens(1).await?;
    stage.phone(&tokens[0]).await?;
    let outcomes = stage.send_to(stage.batch(&hello(), &tokens), Some(&ear.url)).await?;
    ensure(outcomes[0].verdict == Verdict::Accepted, || format!("{:?}", outcomes[0]))?;
    Ok((tokens[0].clone(), outcomes[0].vendor.id.clone()))
}

async fn witnesses(stage: Stage, event: ReceiptEvent) -> Found {
    let mut ear = Ear::open().await?;
    let (token, vendor_id) = delivered_to_a_phone(&stage, &ear).await?;
    if event == ReceiptEvent::Clicked {
        ear.wait_for(&stage, |receipt| receipt.event == ReceiptEvent::Delivered).await?;
        stage.tap().await?;
    }
    let receipt = ear.wait_for(&stage, |receipt| receipt.event == event).await?;
    let found = match stage.registration.descriptor.capabilities.receipt_key {
        ReceiptKey::Param => receipt.param == Some(param(0)),
        ReceiptKey::Token => receipt.param == Some(param(0)) && receipt.token == Some(token),
        ReceiptKey::VendorId => receipt.vendor_id == vendor_id,
        ReceiptKey::None => false,
    };
    ensure(found, || format!("it does not lead to its delivery: {receipt:?}"))
}

async fn a_forged_callback_reports_nothing(stage: Stage) -> Found {
    let mut ear = Ear::open().await?;
    delivered_to_a_phone(&stage, &ear).await?;
    let true_one = tokio::time::timeout(PATIENCE, ear.heard.recv()).await.map_err(|_| "no callback came")?;
    let true_one = true_one.ok_or("the ear was closed")?;
    // Cut, emptied, or turned into something else: whatever it is then, it is no receipt that names no parameter of ours.
    let bodies =
        [&b""[..], b"{", b"<html>", b"{\"statuses\":[{}]}", &true_one.body[..true_one.body.len() / 2]];
    for body in bodies {
        let request = CallbackRequest { body: Bytes::copy_from_slice(body), ..true_one.clone() };
        let Some(reply) = stage.provider.parse_callback(&request) else { continue };
        let ours = reply.receipts.iter().any(|receipt| reply.authenticated && receipt.param.is_some());
        ensure(!ours, || format!("{:?} became {:?}", String::from_utf8_lossy(body), reply.receipts))?;
    }
    Ok(())
}

async fn asked(stage: Stage) -> Found {
    let ear = Ear::open().await?;
    let (_, vendor_id) = delivered_to_a_phone(&stage, &ear).await?;
    let ids = [vendor_id.ok_or("the vendor gave no id")?];
    let told = tokio::time::timeout(PATIENCE, async {
        loop {
            let receipts = stage.provider.poll_receipts(&ids, SendContext::unlimited()).await;
            let receipts = receipts.map_err(|failure| format!("{failure:?}"))?;
            if receipts.iter().any(|receipt| receipt.event == ReceiptEvent::Delivered) {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    });
    told.await.unwrap_or_else(|_| Err("it never said that the phone has it".to_owned()))
}

/// Its ability is not declared, so nobody calls it; it must not be able to answer behind the gateway's back either.
async fn asks_nobody(stage: Stage) -> Found {
    let ids = ["an-id".to_owned()];
    let (receipts, seen) =
        stage.watch(async { Ok(stage.provider.poll_receipts(&ids, SendContext::unlimited()).await) }).await?;
    ensure(receipts == Ok(Vec::new()) && seen.is_empty(), || format!("{receipts:?}, {seen:?}"))
}
