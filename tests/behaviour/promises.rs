//! What every provider promises, whatever it can do.

use std::collections::BTreeSet;
use std::time::Duration;

use anypush_providers::contract::{
    Certainty, Content, Notification, Outcome, Reason, Receipt, ReceiptEvent, Registration, Scope,
    SendContext, Verdict,
};
use libtest_mimic::Trial;
use serde_json::json;

use crate::receipts::Ear;
use crate::stage::{Stage, reason};
use crate::{Found, ensure, trial};

/// The promises, each a trial.
pub(crate) fn all(provider: &'static Registration) -> impl Iterator<Item = Trial> {
    [
        trial(provider, "a_good_target_is_accepted", a_good_target_is_accepted),
        trial(provider, "a_full_batch_gets_one_outcome_each", a_full_batch_gets_one_outcome_each),
        trial(provider, "one_bad_target_harms_no_other", one_bad_target_harms_no_other),
        trial(provider, "a_dead_target_is_told_apart", a_dead_target_is_told_apart),
        trial(provider, "a_repeat_is_the_same_request", a_repeat_is_the_same_request),
        trial(provider, "garbage_is_never_accepted", garbage_is_never_accepted),
        trial(provider, "an_outage_is_tried_again", an_outage_is_tried_again),
        trial(provider, "a_lost_answer_is_doubtful", a_lost_answer_is_doubtful),
        trial(provider, "refused_credentials_are_the_channels", refused_credentials_are_the_channels),
        trial(provider, "a_check_tells_good_from_refused", a_check_tells_good_from_refused),
        trial(provider, "being_too_fast_is_tried_again", being_too_fast_is_tried_again),
        trial(provider, "too_much_is_refused_before_the_vendor", too_much_is_refused_before_the_vendor),
        trial(provider, "no_time_left_is_still_a_request", no_time_left_is_still_a_request),
        trial(provider, "the_longest_time_is_taken", the_longest_time_is_taken),
        trial(provider, "a_preview_sends_nothing", a_preview_sends_nothing),
        trial(provider, "the_catalogue_entry_is_whole", the_catalogue_entry_is_whole),
    ]
    .into_iter()
}

/// Something to show that every provider can carry.
pub(crate) fn hello() -> Content {
    let notification = Notification {
        title: Some("Hello".into()),
        body: Some("It works".into()),
        ..Notification::default()
    };
    Content { notification: Some(notification), ..Content::default() }
}

async fn a_good_target_is_accepted(stage: Stage) -> Found {
    let token = &stage.tokens(1).await?[0];
    let outcome = stage.send_one(&hello(), token).await?;
    ensure(outcome.verdict == Verdict::Accepted, || format!("{outcome:?}"))
}

async fn a_full_batch_gets_one_outcome_each(stage: Stage) -> Found {
    let most = stage.registration.descriptor.capabilities.max_targets as usize;
    // One more than fits where the gateway would cut: a page of a one-token vendor.
    let count = if most == 1 { 50 } else { most };
    let outcomes = stage.send(stage.batch(&hello(), &stage.tokens(count).await?)).await?;
    let refused = outcomes.iter().filter(|outcome| outcome.verdict != Verdict::Accepted).count();
    ensure(refused == 0, || format!("{refused} of {count} good targets were not accepted"))
}

async fn one_bad_target_harms_no_other(stage: Stage) -> Found {
    let tokens = stage.tokens(3).await?;
    // Where the vendor learns later that a target is dead, it can still tell at once that one is none.
    for behaviour in ["dead", "malformed"] {
        stage.rule(&tokens[1], behaviour).await?;
        let outcomes = stage.send(stage.batch(&hello(), &tokens)).await?;
        let good: Vec<bool> = outcomes.iter().map(|outcome| outcome.verdict == Verdict::Accepted).collect();
        ensure(good[0] && good[2], || format!("{outcomes:?}"))?;
        if !good[1] {
            return Ok(());
        }
    }
    Err("the bad one was accepted".into())
}

async fn a_dead_target_is_told_apart(stage: Stage) -> Found {
    let token = stage.tokens(1).await?.remove(0);
    stage.rule(&token, "dead").await?;
    let mut ear = Ear::open().await?;
    stage.enter_callback(&ear.url).await?;
    let batch = stage.batch(&hello(), &[token]);
    let outcome = stage.send_to(batch, Some(&ear.url)).await?.remove(0);
    let reason = match &outcome.verdict {
        Verdict::Failed(failure) => {
            ensure(failure.scope == Scope::Target, || format!("{failure:?}"))?;
            failure.reason
        }
        // Accepted, and found out later.
        Verdict::Accepted => {
            let failed = |receipt: &Receipt| matches!(receipt.event, ReceiptEvent::Failed { .. });
            match ear.wait_for(&stage, failed).await?.event {
                ReceiptEvent::Failed { reason, .. } => reason,
                event => return Err(format!("{event:?}")),
            }
        }
    };
    let told = matches!(reason, Reason::InvalidToken | Reason::UnreachableRecipient);
    ensure(told, || format!("{reason:?}"))
}

async fn a_repeat_is_the_same_request(stage: Stage) -> Found {
    let batch = stage.batch(&hello(), &stage.tokens(2).await?);
    // Requests of one-token vendors run side by side: their order is nobody's promise.
    let sorted = |mut seen: Vec<_>| {
        seen.sort_by_key(|seen| format!("{seen:?}"));
        seen
    };
    // A time to live that a vendor wants as the end of it, in seconds, is another text where a second ends in between.
    let mut found = Err("not sent".into());
    for _ in 0..3 {
        let (_, first) = stage.watch(stage.send(batch.clone())).await?;
        let (_, again) = stage.watch(stage.send(batch.clone())).await?;
        ensure(!first.is_empty(), || "the twin saw no request".into())?;
        let (first, again) = (sorted(first), sorted(again));
        found = ensure(first == again, || format!("first {first:#?}\nagain {again:#?}"));
        if found.is_ok() {
            break;
        }
    }
    found
}

async fn garbage_is_never_accepted(stage: Stage) -> Found {
    let token = &stage.tokens(1).await?[0];
    stage.rule(token, "garbage").await?;
    // The twin's kinds of garbage come in turn.
    for round in 0..8 {
        let outcome = stage.send_one(&hello(), token).await?;
        let Verdict::Failed(failure) = &outcome.verdict else {
            return Err(format!("round {round} was accepted"));
        };
        let blames = matches!(
            failure.reason,
            Reason::InvalidToken | Reason::WrongApp | Reason::UnreachableRecipient | Reason::OptedOut
        );
        ensure(!blames, || format!("round {round} blames the target: {failure:?}"))?;
        // A success that cannot be read may be one; a refusal without words is still a refusal.
        if outcome.vendor.status.is_none_or(|status| status < 300) {
            let unsure = failure.reason == Reason::ProtocolError && failure.certainty == Certainty::Doubtful;
            ensure(unsure, || format!("round {round}: {failure:?}"))?;
        }
    }
    Ok(())
}

/// Faults that the gateway repeats.
fn passes(outcome: &Outcome) -> bool {
    matches!(reason(outcome), Some(Reason::VendorUnavailable | Reason::RateLimited))
}

async fn an_outage_is_tried_again(stage: Stage) -> Found {
    let token = &stage.tokens(1).await?[0];
    // With an access token in hand: after a refused one an adapter may wait before it asks for the next.
    stage.send_one(&hello(), token).await?;
    for outage in ["http_503", "refuse"] {
        stage.switch(&json!({"outage": outage})).await?;
        let outcome = stage.send_one(&hello(), token).await?;
        ensure(passes(&outcome), || format!("{outage}: {outcome:?}"))?;
    }
    stage.switch(&json!({"outage": "none"})).await?;
    let outcome = stage.send_one(&hello(), token).await?;
    ensure(outcome.verdict == Verdict::Accepted, || format!("afterwards: {outcome:?}"))
}

async fn a_lost_answer_is_doubtful(stage: Stage) -> Found {
    // Connection and access token are there already: what hangs is the send.
    let tokens = stage.tokens(3).await?;
    stage.send_one(&hello(), &tokens[0]).await?;
    for (token, behaviour) in [(&tokens[1], "hang"), (&tokens[2], "reset")] {
        stage.rule(token, behaviour).await?;
        let outcome = stage.send_one(&hello(), token).await?;
        let Verdict::Failed(failure) = &outcome.verdict else {
            return Err(format!("{behaviour} was accepted"));
        };
        let fits = failure.reason == Reason::VendorUnavailable && failure.certainty == Certainty::Doubtful;
        ensure(fits, || format!("{behaviour}: {failure:?}"))?;
    }
    Ok(())
}

async fn refused_credentials_are_the_channels(stage: Stage) -> Found {
    stage.switch(&json!({"credentials": "refused"})).await?;
    let tokens = stage.tokens(2).await?;
    for outcome in stage.send(stage.batch(&hello(), &tokens)).await? {
        let Verdict::Failed(failure) = &outcome.verdict else { return Err("it was accepted".into()) };
        let fits = failure.reason == Reason::AuthFailed && failure.scope == Scope::Channel;
        ensure(fits, || format!("{failure:?}"))?;
    }
    Ok(())
}

async fn a_check_tells_good_from_refused(stage: Stage) -> Found {
    let good = stage.provider.check(SendContext::unlimited()).await;
    ensure(good.ok, || format!("good credentials: {good:?}"))?;
    stage.switch(&json!({"credentials": "refused"})).await?;
    let refused = stage.check_anew().await?;
    ensure(!refused.ok && refused.reason == Some(Reason::AuthFailed), || format!("refused: {refused:?}"))
}

async fn being_too_fast_is_tried_again(stage: Stage) -> Found {
    let token = &stage.tokens(1).await?[0];
    stage.rule(token, "limited").await?;
    let outcome = stage.send_one(&hello(), token).await?;
    ensure(passes(&outcome), || format!("{outcome:?}"))
}

async fn too_much_is_refused_before_the_vendor(stage: Stage) -> Found {
    let most = stage.registration.descriptor.capabilities.max_payload_bytes as usize;
    if most == 0 {
        return Ok(());
    }
    let mut content = hello();
    content.data.insert("much".into(), "x".repeat(most + 1));
    let token = &stage.tokens(1).await?[0];
    let (outcome, seen) = stage.watch(stage.send_one(&content, token)).await?;
    if stage.registration.descriptor.capabilities.data {
        ensure(reason(&outcome) == Some(Reason::PayloadTooLarge), || format!("{outcome:?}"))?;
        ensure(seen.is_empty(), || "the vendor was asked".into())?;
        let refused = stage.preview(&content, token).and_then(|preview| preview.refused);
        ensure(refused.is_some_and(|refusal| refusal.reason == Reason::PayloadTooLarge), || {
            "the preview does not say so".into()
        })?;
    }
    Ok(())
}

async fn no_time_left_is_still_a_request(stage: Stage) -> Found {
    let mut batch = stage.batch(&hello(), &stage.tokens(1).await?);
    batch.ttl = Duration::ZERO;
    let outcomes = stage.send(batch).await?;
    ensure(outcomes[0].verdict == Verdict::Accepted, || format!("{:?}", outcomes[0]))
}

async fn the_longest_time_is_taken(stage: Stage) -> Found {
    let mut batch = stage.batch(&hello(), &stage.tokens(1).await?);
    batch.ttl = stage.registration.descriptor.capabilities.max_ttl;
    let outcomes = stage.send(batch).await?;
    ensure(outcomes[0].verdict == Verdict::Accepted, || format!("{:?}", outcomes[0]))
}

async fn a_preview_sends_nothing(stage: Stage) -> Found {
    let token = stage.tokens(1).await?.remove(0);
    let (preview, seen) = stage.watch(async { Ok(stage.preview(&hello(), &token)) }).await?;
    let preview = preview.ok_or("it has no preview")?;
    ensure(seen.is_empty(), || "the vendor was asked".into())?;
    ensure(preview.refused.is_none() && preview.bytes > 0, || format!("{preview:?}"))?;
    let shown = preview.payload.to_string();
    ensure(shown.contains("Hello") && shown.contains("It works"), || format!("it does not show: {shown}"))?;
    ensure(!shown.contains(&token), || "it shows the whole token".into())
}

async fn the_catalogue_entry_is_whole(stage: Stage) -> Found {
    let descriptor = &stage.registration.descriptor;
    let mut names = BTreeSet::new();
    for quota in descriptor.quotas {
        ensure(names.insert(quota.name), || format!("two quotas are called {}", quota.name))?;
        ensure(quota.source.contains("20"), || format!("{}: no source with its date", quota.name))?;
        ensure(quota.limit > 0, || format!("{}: nothing may be sent", quota.name))?;
    }
    let schemas = [(stage.registration.config_schema)(), (stage.registration.category.schema)()];
    for schema in schemas {
        for (name, property) in schema.as_value()["properties"].as_object().into_iter().flatten() {
            let told = ["title", "description"].iter().all(|key| property[key].is_string());
            let shown = property.get("examples").or(property.get("example")).is_some();
            ensure(told && shown, || format!("{name}: a title, a description or an example is missing"))?;
        }
    }
    Ok(())
}
