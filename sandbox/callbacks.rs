//! Receipts: what vendors report to a gateway about pushes that they took.
//!
//! A twin hands over the reports of one push in their order, each signed as the vendor signs. Here they wait, are posted,
//! and are repeated as the vendor repeats them; the provider's switches make them late, double, reversed, or faster than
//! the answer to the push. What became of each stands in the ledger as operation `callback`. Nothing is ever posted to
//! another machine: a gateway that is tried here is on this one.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, StatusCode, Uri};
use serde_json::json;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::ledger::Ledger;
use crate::recording::Recording;
use crate::switches::{Receipts, Switches};

/// What the ledger calls a receipt that was posted.
const CALLBACK: &str = "callback";
/// Answers are read up to here: no vendor reads more than a short word.
const MAX_ANSWER: usize = 4096;

/// One request to the gateway's callback URL.
#[derive(Clone)]
pub(crate) struct Report {
    /// How long after the one before, or after the push.
    pub(crate) after: Duration,
    pub(crate) url: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

/// How a vendor treats a callback URL.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Manners {
    pub(crate) provider: &'static str,
    /// How long it waits for an answer.
    pub(crate) timeout: Duration,
    /// How long it waits before each repetition.
    pub(crate) retries: &'static [Duration],
    /// Which answers content it.
    pub(crate) is_good: fn(StatusCode, &[u8]) -> bool,
}

/// The postman; clones are the same one.
#[derive(Clone)]
pub(crate) struct Callbacks {
    http: reqwest::Client,
    ledger: Arc<Ledger>,
    recording: Arc<Recording>,
    switches: Arc<Switches>,
    tracker: TaskTracker,
    stop: CancellationToken,
}

/// What of the outside a postman needs.
pub(crate) struct Post {
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) recording: Arc<Recording>,
    pub(crate) switches: Arc<Switches>,
    pub(crate) tracker: TaskTracker,
    pub(crate) stop: CancellationToken,
}

impl Callbacks {
    pub(crate) fn new(post: Post) -> Self {
        let Post { ledger, recording, switches, tracker, stop } = post;
        Self { http: client(), ledger, recording, switches, tracker, stop }
    }

    /// Starts work after a while, unless the sandbox ends first: for vendors that gather their reports.
    pub(crate) fn after(&self, pause: Duration, work: impl Future<Output = ()> + Send + 'static) {
        let stop = self.stop.clone();
        self.tracker.spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = async { tokio::time::sleep(pause).await; work.await } => {}
            }
        });
    }

    /// Reports what became of one push. Returns at once, unless the first report is to come before the answer.
    pub(crate) async fn report(
        &self,
        manners: Manners,
        account: &str,
        token: &str,
        mut reports: Vec<Report>,
    ) {
        let switch = self.switches.of(manners.provider).receipts;
        if !switch.on || reports.is_empty() {
            return;
        }
        if switch.out_of_order {
            let pauses: Vec<_> = reports.iter().map(|report| report.after).collect();
            reports.reverse();
            for (report, after) in reports.iter_mut().zip(pauses) {
                report.after = after;
            }
        }
        let round =
            Round { postman: self.clone(), manners, account: account.into(), token: token.into(), switch };
        let mut reports = reports.into_iter();
        if switch.before_answer
            && let Some(first) = reports.next()
        {
            round.once(&first).await;
        }
        round.begin(reports);
    }

    /// Reports what became of a push that was answered long ago.
    pub(crate) fn report_later(&self, manners: Manners, account: &str, token: &str, report: Report) {
        let switch = self.switches.of(manners.provider).receipts;
        if switch.on {
            let round = Round {
                postman: self.clone(),
                manners,
                account: account.into(),
                token: token.into(),
                switch,
            };
            round.begin(std::iter::once(report));
        }
    }
}

/// The reports of one push on their way.
struct Round {
    postman: Callbacks,
    manners: Manners,
    account: Box<str>,
    token: Box<str>,
    switch: Receipts,
}

impl Round {
    fn begin(self, reports: impl Iterator<Item = Report> + Send + 'static) {
        let (stop, tracker) = (self.postman.stop.clone(), self.postman.tracker.clone());
        tracker.spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = self.run(reports) => {}
            }
        });
    }

    async fn run(&self, reports: impl Iterator<Item = Report>) {
        tokio::time::sleep(Duration::from_millis(self.switch.late_ms)).await;
        for report in reports {
            tokio::time::sleep(report.after).await;
            self.deliver(&report).await;
            if self.switch.duplicate {
                self.deliver(&report).await;
            }
        }
    }

    /// Until the gateway is content or the vendor gives up.
    async fn deliver(&self, report: &Report) {
        for wait in self.manners.retries {
            if self.once(report).await {
                return;
            }
            tokio::time::sleep(*wait).await;
        }
        self.once(report).await;
    }

    /// One post; says whether the vendor is done with it.
    async fn once(&self, report: &Report) -> bool {
        let mut call = self.postman.ledger.call(self.manners.provider, CALLBACK, &self.account);
        call.target(&self.token, "");
        if !is_on_this_machine(&report.url) {
            call.finish("not_this_machine", 0);
            return true;
        }
        let request =
            self.postman.http.post(&report.url).headers(report.headers.clone()).body(report.body.clone());
        let (verdict, status) = match request.timeout(self.manners.timeout).send().await {
            Ok(mut answer) => {
                let status = answer.status();
                let mut text = Vec::new();
                while let Ok(Some(more)) = answer.chunk().await
                    && text.len() < MAX_ANSWER
                {
                    text.extend_from_slice(&more);
                }
                (if (self.manners.is_good)(status, &text) { "taken" } else { "refused" }, status.as_u16())
            }
            Err(error) if error.is_timeout() => ("no_answer", 0),
            Err(_) => ("unreachable", 0),
        };
        call.finish(verdict, status);
        self.record(report, status);
        verdict == "taken"
    }

    /// A receipt is part of what is recorded: its reader is tested against it.
    fn record(&self, report: &Report, status: u16) {
        if !self.postman.recording.is_on() {
            return;
        }
        let header = |(name, value): (&http::HeaderName, &http::HeaderValue)| {
            (name.to_string(), value.to_str().unwrap_or_default().into())
        };
        let headers: serde_json::Map<_, _> = report.headers.iter().map(header).collect();
        self.postman.recording.keep(json!({
            "provider": self.manners.provider, "operation": CALLBACK, "method": "POST", "url": report.url,
            "headers": headers, "body": String::from_utf8_lossy(&report.body), "status": status,
        }));
    }
}

#[expect(clippy::disallowed_methods, reason = "a vendor's client is no part of the gateway")]
fn client() -> reqwest::Client {
    let here = SocketAddr::from(([127, 0, 0, 1], 0));
    reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .resolve("localhost", here)
        .build()
        .expect("a client without options of its own can be made")
}

/// Whether a URL leads to this machine, whatever a name server says.
fn is_on_this_machine(url: &str) -> bool {
    let Ok(url) = url.parse::<Uri>() else { return false };
    let Some(host) = url.host() else { return false };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::is_on_this_machine;

    #[test]
    fn receipts_never_leave_this_machine() {
        for here in ["http://127.0.0.1:8080/cb", "http://localhost/cb?x=1", "https://[::1]:9/cb"] {
            assert!(is_on_this_machine(here), "{here}");
        }
        let elsewhere = [
            "http://10.0.0.1/cb",
            "https://push.example.com/cb",
            "http://localhost.example.com/",
            "http://127.0.0.1.example.com/",
            "http://localhost@example.com/",
            "/cb",
            "",
        ];
        for there in elsewhere {
            assert!(!is_on_this_machine(there), "{there}");
        }
    }
}
