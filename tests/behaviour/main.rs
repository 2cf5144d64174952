//! What every provider promises, and what each says that it can do: one named trial for each provider and promise
//! or ability, against its twin in the sandbox. An ability that is declared and does nothing fails, and so does
//! one that works and is not declared.
//!
//! `cargo nextest run --workspace -E 'binary(behaviour)'`, or with a filter: `… -E 'binary(behaviour) & test(/^fcm::/)'`.

mod abilities;
mod hostile;
mod promises;
mod receipts;
mod stage;
mod wire;

use std::process::ExitCode;

use anypush_providers::contract::Registration;
use libtest_mimic::{Arguments, Failed, Trial};

use self::stage::Stage;

/// What a trial finds.
type Found = Result<(), String>;

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let providers = anypush_providers::catalogue().iter().copied();
    let trials = providers.flat_map(|provider| {
        promises::all(provider)
            .chain(abilities::all(provider))
            .chain(receipts::all(provider))
            .chain(hostile::all(provider))
    });
    libtest_mimic::run(&arguments, trials.collect()).exit_code()
}

/// A trial that plays on a stage of its own.
fn trial<F>(provider: &'static Registration, name: &str, play: F) -> Trial
where
    F: AsyncFnOnce(Stage) -> Found + Send + 'static,
{
    Trial::test(format!("{}::{name}", provider.descriptor.id), move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| Failed::from(error.to_string()))?;
        runtime.block_on(async {
            let stage = Stage::open(provider).await?;
            play(stage).await
        })?;
        Ok(())
    })
}

/// Fails with a sentence unless `held`.
fn ensure(held: bool, otherwise: impl FnOnce() -> String) -> Found {
    if held { Ok(()) } else { Err(otherwise()) }
}
