//! Runs a sandbox by itself: `cargo run -p anypush-sandbox --example serve -- 127.0.0.1:4400 [data directory]`.

use anypush_sandbox::{Options, start};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let mut options = Options::default();
    if let Some(listen) = arguments.next() {
        options.listen = listen.parse()?;
    }
    options.data_dir = arguments.next().map(Into::into);
    let running = start(options, async {
        let _ = tokio::signal::ctrl_c().await;
    })
    .await?;
    #[expect(clippy::print_stdout, reason = "the one thing that whoever started it must know")]
    {
        println!("{}", running.url());
    }
    running.wait().await;
    Ok(())
}
