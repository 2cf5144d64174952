//! Names of vendors' hosts: looked up by the system, remembered for when that fails.
//!
//! Both HTTP stacks ask here, by way of the guard ([`super::egress`]). A name server that fails for a moment takes no vendor away: the addresses that were found
//! last are good for five minutes. Nothing else is cached: that is the system's business.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::time::{Instant, timeout};

use super::egress::{Addresses, Lookup};

/// How long addresses are good for that cannot be looked up any more.
const REMEMBERED: Duration = Duration::from_mins(5);

/// How long the system may take where there are addresses to go on with.
const PATIENCE: Duration = Duration::from_secs(3);

/// Looks one name up.
type Ask = dyn Fn(String) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> + Send + Sync;

/// What was found last, by name.
type Found = HashMap<String, (Instant, Vec<IpAddr>)>;

/// Finds addresses. Cloning shares what is remembered.
#[derive(Clone)]
pub struct Names {
    lookup: Arc<Ask>,
    found: Arc<Mutex<Found>>,
}

impl Default for Names {
    fn default() -> Self {
        Self::by(|name| {
            Box::pin(async move {
                let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
                Ok(found.map(|address| address.ip()).collect())
            })
        })
    }
}

impl fmt::Debug for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Names").finish_non_exhaustive()
    }
}

impl Names {
    /// Names that are looked up by this function.
    pub(crate) fn by(
        lookup: impl Fn(String) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> + Send + Sync + 'static,
    ) -> Self {
        Self { lookup: Arc::new(lookup), found: Arc::default() }
    }

    /// The addresses of a host; never none.
    pub(crate) async fn find(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        let looking = (self.lookup)(host.to_owned());
        let known = self.known(host);
        let found = match &known {
            None => looking.await,
            Some(_) => {
                timeout(PATIENCE, looking).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
            }
        };
        match (found, known) {
            (Ok(addresses), _) if !addresses.is_empty() => {
                self.found().insert(host.to_owned(), (Instant::now(), addresses.clone()));
                Ok(addresses)
            }
            (_, Some(known)) => Ok(known),
            (Ok(_), None) => Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address")),
            (Err(error), None) => Err(error),
        }
    }

    fn known(&self, host: &str) -> Option<Vec<IpAddr>> {
        let found = self.found();
        let (at, addresses) = found.get(host)?;
        (at.elapsed() < REMEMBERED).then(|| addresses.clone())
    }

    fn found(&self) -> std::sync::MutexGuard<'_, Found> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lookup for Names {
    fn lookup<'a>(&'a self, name: &'a str) -> Addresses<'a> {
        Box::pin(self.find(name))
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use bytes::Bytes;
    use futures_util::future::join_all;
    use tokio::net::{TcpSocket, TcpStream};
    use url::Url;

    use super::*;
    use crate::kit::egress::Egress;
    use crate::kit::failure::{TransportError, TransportErrorKind};
    use crate::kit::h2::{H2Options, H2Pool};
    use crate::kit::http::{self, HttpOptions};
    use crate::kit::testing::{FakeVendor, Reply};

    /// Answers these in turn, the last one for ever.
    fn scripted(answers: Vec<io::Result<Vec<IpAddr>>>) -> (Names, Arc<AtomicUsize>) {
        let asked = Arc::new(AtomicUsize::new(0));
        let (count, last) = (Arc::clone(&asked), answers.len() - 1);
        let names = Names::by(move |_| {
            let n = count.fetch_add(1, Ordering::SeqCst).min(last);
            let answer = answers[n].as_ref().map(Clone::clone).map_err(|error| error.kind().into());
            Box::pin(async move { answer })
        });
        (names, asked)
    }

    fn at(address: &str) -> Vec<IpAddr> {
        vec![address.parse().unwrap()]
    }

    fn fails() -> io::Result<Vec<IpAddr>> {
        Err(io::ErrorKind::NotFound.into())
    }

    #[tokio::test(start_paused = true)]
    async fn a_name_that_is_not_found_any_more_keeps_its_addresses_for_five_minutes() {
        let (names, asked) = scripted(vec![Ok(at("192.0.2.1")), fails()]);
        assert_eq!(names.find("push.example").await.unwrap(), at("192.0.2.1"));
        tokio::time::advance(REMEMBERED.saturating_sub(Duration::from_millis(1))).await;
        assert_eq!(names.find("push.example").await.unwrap(), at("192.0.2.1"));
        assert!(names.find("other.example").await.is_err(), "not another's");
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(names.find("push.example").await.is_err());
        assert_eq!(asked.load(Ordering::SeqCst), 4, "it is looked up each time");
    }

    #[tokio::test(start_paused = true)]
    async fn a_name_that_moves_is_found_where_it_is_now() {
        let (names, _) = scripted(vec![Ok(at("192.0.2.1")), Ok(at("192.0.2.2")), fails()]);
        for expected in ["192.0.2.1", "192.0.2.2", "192.0.2.2"] {
            assert_eq!(names.find("push.example").await.unwrap(), at(expected));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_name_server_that_is_silent_is_waited_for_only_by_who_knows_no_address() {
        let first = AtomicUsize::new(0);
        let names = Names::by(move |_| {
            let is_first = first.fetch_add(1, Ordering::SeqCst) == 0;
            Box::pin(async move {
                if !is_first {
                    tokio::time::sleep(Duration::from_secs(20)).await;
                }
                Ok(at("192.0.2.1"))
            })
        });
        names.find("push.example").await.unwrap();
        let began = Instant::now();
        names.find("push.example").await.unwrap();
        assert_eq!(began.elapsed(), PATIENCE);
        names.find("other.example").await.unwrap();
        assert_eq!(began.elapsed(), PATIENCE + Duration::from_secs(20));
    }

    #[tokio::test]
    async fn a_name_without_addresses_is_an_error() {
        let (names, _) = scripted(vec![Ok(Vec::new())]);
        assert_eq!(names.find("push.example").await.unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    /// One request by each HTTP stack.
    async fn by_both(vendor: &FakeVendor, names: &Names) -> [Result<Bytes, TransportError>; 2] {
        let base = vendor.url("").replace("127.0.0.1", "push.example");
        let egress = Egress::everywhere().with_names(Arc::new(names.clone()));
        let client = http::client(&HttpOptions { egress: egress.clone(), ..HttpOptions::default() }).unwrap();
        let options = H2Options { egress, ..H2Options::default() };
        let pool = H2Pool::new(&Url::parse(&base).unwrap(), options).unwrap();
        let request = ::http::Request::get(format!("{base}/")).body(Bytes::new()).unwrap();
        let (one, other) = tokio::join!(http::send(client.get(base)), pool.send(request));
        [one, other].map(|answer| answer.map(::http::Response::into_body))
    }

    /// An address, with the vendor's port, at which nobody ever answers: its queue of connections is full. `None` where
    /// this machine has no such address.
    async fn black_hole(vendor: &FakeVendor, address: &str) -> Option<(IpAddr, Vec<TcpStream>)> {
        let port = Url::parse(&vendor.url("")).unwrap().port().unwrap();
        let hole = SocketAddr::new(address.parse().unwrap(), port);
        let socket = if hole.is_ipv6() { TcpSocket::new_v6() } else { TcpSocket::new_v4() }.ok()?;
        socket.bind(hole).ok()?;
        let listener = socket.listen(1).ok()?;
        let fill = (0..8).map(|_| timeout(Duration::from_millis(500), TcpStream::connect(hole)));
        let held: Vec<_> = join_all(fill).await;
        assert!(held.iter().any(Result::is_err), "it takes everybody");
        std::mem::forget(listener);
        Some((hole.ip(), held.into_iter().flatten().flatten().collect()))
    }

    /// C32.
    #[tokio::test]
    async fn a_silent_address_among_good_ones_is_gone_around() {
        let vendor = FakeVendor::start(|_| Reply::ok("here")).await;
        let good: IpAddr = "127.0.0.1".parse().unwrap();
        for address in ["127.0.0.2", "::1"] {
            let Some((hole, _held)) = black_hole(&vendor, address).await else {
                eprintln!("skipped: this machine has no {address}");
                continue;
            };
            let (names, _) = scripted(vec![Ok(vec![hole, good])]);
            let answers = timeout(http::CONNECT_TIMEOUT, by_both(&vendor, &names)).await;
            for answer in answers.expect("not as long as no address at all") {
                assert_eq!(answer.unwrap(), "here", "{address}");
            }
        }
    }

    /// C32.
    #[tokio::test]
    async fn a_host_that_is_not_found_or_has_moved_was_asked_for_nothing_and_is_found_the_next_time() {
        let vendor = FakeVendor::start(|_| Reply::ok("here")).await;
        // Nobody listens on the second one.
        let answers = vec![fails(), fails(), Ok(at("127.0.0.9")), Ok(at("127.0.0.9")), Ok(at("127.0.0.1"))];
        let (names, _) = scripted(answers);
        for _ in 0..2 {
            for answer in by_both(&vendor, &names).await {
                assert_eq!(answer.unwrap_err().kind, TransportErrorKind::NotSent);
            }
        }
        for answer in by_both(&vendor, &names).await {
            assert_eq!(answer.unwrap(), "here");
        }
    }
}
