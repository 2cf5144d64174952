//! Data keys: made, unlocked, wrapped anew under a newer master key; and secrets sealed anew under the newest of them.
//!
//! Each step is a transaction of its own and the next start goes on where one was killed: what is under an older key stays
//! readable as long as that master key is given.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, bail};
use aws_lc_rs::hmac;
use zeroize::Zeroizing;

use super::masters::shown;
use super::{KEY, MasterKeys, Purpose, Vault, number_of};
use crate::channels;
use crate::direct::registration;
use crate::failpoint::failpoint;
use crate::store::{DataKeyRecord, SealedSecret, SecretHome, Store};
use crate::webhooks::sign;

/// Opens the data keys, the first time makes them. Those under an older master key are wrapped anew under the newest, and a
/// new one is made that seals from now on.
pub async fn unlock(masters: &MasterKeys, store: &dyn Store, now_ms: u64) -> anyhow::Result<Vault> {
    let mut records = store.data_keys().await?;
    if records.is_empty() {
        let keys = [Purpose::Mac, Purpose::Seal].into_iter().zip(1..);
        let made = keys.map(|(purpose, id)| make(masters, id, purpose, now_ms)).collect::<Result<_, _>>()?;
        store.put_data_keys(made).await?;
        records = store.data_keys().await?;
    }
    let mut vault = open(masters, &records)?;
    if records.iter().all(|record| record.master == masters.newest()) {
        return Ok(vault);
    }
    // First the key that seals from now on: a start that dies here does not make a second one.
    if records.last().is_none_or(|last| last.master != masters.newest()) {
        let id = records.last().map_or(1, |last| last.id + 1);
        let made = make(masters, id, Purpose::Seal, now_ms)?;
        store.put_data_keys(vec![made.clone()]).await?;
        records.push(made);
        vault = open(masters, &records)?;
    }
    for record in records.iter().filter(|record| record.master != masters.newest()) {
        failpoint!("keys.before_wrap");
        let key = masters.unwrap(record.master, &name(record), &record.wrapped)?;
        let wrapped = masters.wrap(&name(record), &key);
        store
            .put_data_keys(vec![DataKeyRecord { master: masters.newest(), wrapped, ..record.clone() }])
            .await?;
    }
    tracing::info!(
        master_key = shown(masters.newest()),
        "all data keys are wrapped under the newest master key"
    );
    Ok(vault)
}

/// What [`rewrap`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rewrapped {
    /// Secrets that were sealed anew.
    pub sealed: usize,
    /// Secrets that cannot be opened: they were damaged before.
    pub damaged: usize,
    /// Data keys that nothing needs any more.
    pub dropped: usize,
    /// Callbacks that wait to be merged: they need an older data key, which stays.
    pub waiting: usize,
}

/// Seals all secrets anew under the newest data key and drops the older ones. No gateway may run on the store.
pub async fn rewrap(vault: &Vault, store: &dyn Store) -> anyhow::Result<Rewrapped> {
    let mut done = Rewrapped { sealed: 0, damaged: 0, dropped: 0, waiting: 0 };
    let mut needed = BTreeSet::from([vault.newest()]);
    for secret in store.sealed_secrets().await? {
        if number_of(&secret.sealed) == Some(vault.newest()) {
            continue;
        }
        failpoint!("keys.before_reseal");
        let place = place(&secret);
        let Ok(plain) = vault.open(&place, &secret.sealed) else {
            done.damaged += 1;
            continue;
        };
        if store.reseal(secret, vault.seal(&place, &plain)).await? {
            done.sealed += 1;
        }
    }
    let mut after = 0;
    loop {
        let rows = store.journal_after(after, 1000).await?;
        let Some(last) = rows.last() else { break };
        after = last.seq;
        for number in rows.iter().filter_map(|row| number_of(&row.envelope)) {
            done.waiting += usize::from(number != vault.newest());
            needed.insert(number);
        }
    }
    let seals =
        |record: &DataKeyRecord| record.purpose == Purpose::Seal as u8 && !needed.contains(&record.id);
    let idle: Vec<u32> = store.data_keys().await?.iter().filter(|r| seals(r)).map(|r| r.id).collect();
    // What could not be opened may be mended from a backup of its row: its key stays.
    if done.damaged == 0 {
        done.dropped = idle.len();
        store.delete_data_keys(idle).await?;
    }
    Ok(done)
}

/// What a secret is bound to.
fn place(secret: &SealedSecret) -> String {
    let SealedSecret { app, name, .. } = secret;
    match secret.home {
        SecretHome::Channel => channels::place(*app, name),
        SecretHome::Webhook => sign::place(*app, name),
        SecretHome::RegistrationKey => registration::place(name),
    }
}

fn make(masters: &MasterKeys, id: u32, purpose: Purpose, now_ms: u64) -> anyhow::Result<DataKeyRecord> {
    let mut key = Zeroizing::new([0u8; KEY]);
    aws_lc_rs::rand::fill(key.as_mut()).context("the system gives no random bytes")?;
    let mut record = DataKeyRecord {
        id,
        purpose: purpose as u8,
        master: masters.newest(),
        wrapped: Vec::new(),
        created_at: now_ms,
    };
    record.wrapped = masters.wrap(&name(&record), key.as_ref());
    Ok(record)
}

fn open(masters: &MasterKeys, records: &[DataKeyRecord]) -> anyhow::Result<Vault> {
    let mut data = BTreeMap::new();
    let mut pepper = None;
    for record in records {
        let Ok(key) = masters.unwrap(record.master, &name(record), &record.wrapped) else {
            bail!("data key {} was wrapped under master key {}", record.id, shown(record.master));
        };
        let key = hmac::Key::new(hmac::HMAC_SHA256, &key);
        if record.purpose == Purpose::Mac as u8 {
            pepper = Some(key);
        } else {
            data.insert(record.id, key);
        }
    }
    match pepper {
        Some(pepper) if !data.is_empty() => Ok(Vault::new(data, pepper)),
        _ => bail!("the table data_keys is not whole; restore it from a backup"),
    }
}

/// Where a data key is at home.
fn name(record: &DataKeyRecord) -> String {
    format!("data_keys|wrapped|{}|{}", record.id, record.purpose)
}
