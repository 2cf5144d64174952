//! The adapter alone: the gateway's own way to the vendor, from a batch to its outcomes, with nothing before it and nothing
//! recorded. What it costs more than the bare loop is the adapter's and the pool's.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use anypush_providers::contract::{
    Address, Batch, Content, Environment, MessageRef, Notification, Outcomes, SendContext, Target, Token,
    Verdict,
};
use anypush_providers::kit::egress::Egress;
use futures_util::stream::{self, StreamExt as _};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What to send.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Task {
    pub(crate) provider: String,
    /// A channel's configuration.
    pub(crate) config: Value,
    pub(crate) tokens: Vec<String>,
    /// Targets of one batch.
    pub(crate) batch: usize,
    /// Batches at the same time.
    pub(crate) abreast: usize,
    pub(crate) title: String,
    pub(crate) body: String,
}

/// Answers how many were taken.
pub(super) async fn run(task: Task) -> anyhow::Result<u64> {
    let registration = anypush_providers::find(&task.provider).context("no such provider")?;
    let environment = Environment { egress: Egress::everywhere(), ..Environment::default() };
    let provider = (registration.build)(&task.config, &environment)?;
    let kind = registration.descriptor.address.kinds[0];
    let notification = Notification {
        title: Some(task.title.clone()),
        body: Some(task.body.clone()),
        ..Notification::default()
    };
    let content = Arc::new(Content { notification: Some(notification), ..Content::default() });
    let batches = task.tokens.chunks(task.batch).enumerate().map(|(number, tokens)| Batch {
        message: MessageRef {
            id: "msg_".to_owned() + &"0".repeat(26),
            page_key: number as u128,
            label: None,
        },
        content: content.clone(),
        category: None,
        ttl: Duration::from_hours(24),
        targets: tokens
            .iter()
            .enumerate()
            .map(|(index, token)| target(kind, token, number * task.batch + index))
            .collect(),
        attempt: 1,
    });
    let taken = stream::iter(batches)
        .map(|batch| {
            let (provider, count) = (provider.clone(), batch.targets.len());
            async move {
                let (outcomes, mut answers) = Outcomes::channel();
                provider.send(batch, SendContext::unlimited(), outcomes).await;
                let mut taken = 0;
                while let Some(outcome) = answers.recv().await {
                    taken += u64::from(matches!(outcome.verdict, Verdict::Accepted));
                }
                ensure!(taken == count as u64, "{taken} of {count} were taken");
                Ok(taken)
            }
        })
        .buffer_unordered(task.abreast)
        .collect::<Vec<anyhow::Result<u64>>>()
        .await;
    taken.into_iter().sum()
}

fn target(kind: &str, token: &str, number: usize) -> Target {
    Target {
        address: Address { kind: kind.to_owned(), token: Token::new(token), params: BTreeMap::new() },
        key: number as u128,
        receipt_param: None,
        variables: None,
    }
}
