//! What is measured, one file each.

mod a;
mod a2;
mod b;
mod b2;
mod c;
mod d;
mod e;
mod f;
mod g;
mod h;
mod i;
mod j;
mod l;
mod o;

use crate::Bench;
use crate::report::Report;

/// The benchmarks, in the order in which they run, and what each is.
pub(crate) const ALL: [(&str, &str); 14] = [
    ("a", "single sends, durable before the answer"),
    ("a2", "from the call to the vendor's door"),
    ("b", "one call to many devices, one request each"),
    ("b2", "the adapter of b alone"),
    ("c", "a mixed audience, and vendors that take a thousand a request"),
    ("d", "phones on connections of their own"),
    ("e", "dashboards over a year of deliveries"),
    ("f", "kill -9 with many queued, until a vendor is asked again"),
    ("g", "single messages beside a campaign"),
    ("h", "one vendor is ill, the others are well"),
    ("i", "what a delivery costs, from few phones to many"),
    ("j", "receipts, at rest and beside a campaign"),
    ("l", "half of the load for long"),
    ("o", "a route"),
];

/// Runs one.
pub(crate) async fn run(id: &str, bench: &Bench) -> anyhow::Result<Report> {
    match id {
        "a" => a::run(bench).await,
        "a2" => a2::run(bench).await,
        "b" => b::run(bench).await,
        "b2" => b2::run(bench).await,
        "c" => c::run(bench).await,
        "d" => d::run(bench).await,
        "e" => e::run(bench).await,
        "f" => f::run(bench).await,
        "g" => g::run(bench).await,
        "h" => h::run(bench).await,
        "i" => i::run(bench).await,
        "j" => j::run(bench).await,
        "l" => l::run(bench).await,
        "o" => o::run(bench),
        _ => anyhow::bail!("there is no benchmark {id}; there are {}", ALL.map(|(id, _)| id).join(", ")),
    }
}
