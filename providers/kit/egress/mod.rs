//! Whom the gateway calls: the one guard for every address that somebody else gave (a channel's base URL, a webhook).
//!
//! `https` to usual ports of the public Internet, and what the configuration allows by name beside it. An address is looked
//! at twice: as it is written, when it is saved; and as what its name resolves to, each time a connection is made.
//! Connections go to the very addresses that were looked at, so a name that changes its mind in between gains nothing. One
//! refused address among several refuses them all.
//!
//! Clients that have it: [`super::http::client`] and [`super::h2::H2Pool`].

mod networks;
mod rule;
#[cfg(test)]
mod tests;

use std::fmt;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use reqwest::dns::{Name, Resolve, Resolving};
use url::{Host, Url};

use super::names::Names;

use self::rule::Rule;
pub use self::rule::is_rule;
pub use ipnet::IpNet;

/// Ports that are called. Others are those of databases and mail servers.
const PORTS: [u16; 3] = [443, 8443, 80];

/// Ends of names that no public server has.
const PRIVATE_ENDS: [&str; 6] = ["localhost", "internal", "local", "localdomain", "home.arpa", "onion"];

/// Longest time for a name when an address is saved.
const LOOKUP_TIME: Duration = Duration::from_secs(5);

/// What a name resolves to.
pub type Addresses<'a> = Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send + 'a>>;

/// Who resolves names.
pub trait Lookup: Send + Sync {
    /// All addresses of a name.
    fn lookup<'a>(&'a self, name: &'a str) -> Addresses<'a>;
}

/// The guard. Cloning shares it; the default allows nothing beside the public Internet.
#[derive(Clone)]
pub struct Egress(Arc<Policy>);

struct Policy {
    everywhere: bool,
    http: bool,
    rules: Vec<Rule>,
    names: Arc<dyn Lookup>,
}

/// Why an address is not called, and how to mend it. It says nothing about what a name resolved to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Neither https nor, where that is allowed, http.
    #[error(
        "must begin with https://; where http:// is meant, name the host in the gateway's setting `egress.allow`, or set \
         `egress.allow_http`"
    )]
    Scheme,
    /// It carries a user or a password.
    #[error("must have no user and no password")]
    Credentials,
    /// It has no host.
    #[error("must have a host")]
    Host,
    /// A port that is not called.
    #[error("has port {0}; only 443, 8443 and 80 are called")]
    Port(u16),
    /// It leads, or its name does, into a network that is not the public Internet.
    #[error(
        "leads into a private or reserved network; where that is meant, name the host in the gateway's setting \
         `egress.allow`"
    )]
    Network,
}

impl Egress {
    /// A guard with these exceptions: names, addresses, networks (`10.1.0.0/16`). A text that is none is left out;
    /// [`is_rule`] tells.
    pub fn new<'a>(allow: impl IntoIterator<Item = &'a str>, http: bool) -> Self {
        let rules = allow.into_iter().filter_map(Rule::read).collect();
        Self(Arc::new(Policy { everywhere: false, http, rules, names: Arc::new(Names::default()) }))
    }

    /// No guard: for calls to where the person who runs the program said.
    pub fn everywhere() -> Self {
        let policy =
            Policy { everywhere: true, http: true, rules: Vec::new(), names: Arc::new(Names::default()) };
        Self(Arc::new(policy))
    }

    /// The same guard with another source of names.
    #[must_use]
    pub fn with_names(&self, names: Arc<dyn Lookup>) -> Self {
        let Policy { everywhere, http, ref rules, .. } = *self.0;
        Self(Arc::new(Policy { everywhere, http, rules: rules.clone(), names }))
    }

    /// Whether an address may be called, as far as it says itself: no name is resolved.
    pub fn permits(&self, url: &Url) -> Result<(), Refused> {
        if self.0.everywhere {
            return Ok(());
        }
        if !matches!(url.scheme(), "https" | "http") {
            return Err(Refused::Scheme);
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(Refused::Credentials);
        }
        let host = url.host().ok_or(Refused::Host)?;
        if self.is_allowed(&host) {
            return Ok(());
        }
        if url.scheme() == "http" && !self.0.http {
            return Err(Refused::Scheme);
        }
        match address_of(&host) {
            Some(address) if !networks::is_public(address) => return Err(Refused::Network),
            None if is_private_name(&name_of(&host)) => return Err(Refused::Network),
            _ => {}
        }
        let port = url.port_or_known_default().unwrap_or_default();
        if PORTS.contains(&port) { Ok(()) } else { Err(Refused::Port(port)) }
    }

    /// The same, and what its name resolves to now. A name that does not resolve now may later, and is looked at then.
    pub async fn permits_now(&self, url: &Url) -> Result<(), Refused> {
        self.permits(url)?;
        let Some(Host::Domain(name)) = url.host() else { return Ok(()) };
        match tokio::time::timeout(LOOKUP_TIME, self.0.names.lookup(name)).await {
            Ok(Ok(found)) if !found.iter().all(|address| self.is_open(name, *address)) => {
                Err(Refused::Network)
            }
            _ => Ok(()),
        }
    }

    /// The addresses of a host, all of which may be called; for a connection that is made to one of them.
    pub async fn addresses(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        let found = match host.parse::<IpAddr>() {
            Ok(address) => vec![address],
            Err(_) => self.0.names.lookup(host).await?,
        };
        if found.is_empty() {
            return Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address"));
        }
        if !found.iter().all(|address| self.is_open(host, *address)) {
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, Refused::Network));
        }
        Ok(found.into_iter().map(|address| SocketAddr::new(address, port)).collect())
    }

    /// For reqwest: names that it resolves. Addresses that stand in a URL it does not bring here; see [`Self::detour`].
    pub(super) fn resolver(&self) -> Arc<dyn Resolve> {
        Arc::new(Guarded(self.clone()))
    }

    /// Where a refused call ends. reqwest asks for the proxy of each connection: the one hook of its that sees the address
    /// as it stands in the URL, scheme and port too. A refused one is given a proxy whose name does not resolve.
    pub(super) fn detour(&self) -> reqwest::Proxy {
        let guard = self.clone();
        reqwest::Proxy::custom(move |url| guard.permits(url).is_err().then_some(NOWHERE))
    }

    fn is_allowed(&self, host: &Host<&str>) -> bool {
        let name = name_of(host);
        let address = address_of(host);
        self.0.rules.iter().any(|rule| rule.is_name(&name) || address.is_some_and(|own| rule.has(own)))
    }

    /// Whether an address that this host was resolved to may be called.
    fn is_open(&self, host: &str, address: IpAddr) -> bool {
        let name = host.trim_end_matches('.').to_ascii_lowercase();
        let address = networks::canonical(address);
        self.0.everywhere
            || networks::is_public(address)
            || self.0.rules.iter().any(|rule| rule.is_name(&name) || rule.has(address))
    }
}

impl Default for Egress {
    fn default() -> Self {
        Self::new([], false)
    }
}

impl fmt::Debug for Egress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Egress").field("rules", &self.0.rules).finish_non_exhaustive()
    }
}

fn name_of(host: &Host<&str>) -> String {
    match host {
        Host::Domain(name) => name.trim_end_matches('.').to_ascii_lowercase(),
        _ => String::new(),
    }
}

fn address_of(host: &Host<&str>) -> Option<IpAddr> {
    match host {
        Host::Domain(_) => None,
        Host::Ipv4(address) => Some(IpAddr::V4(*address)),
        Host::Ipv6(address) => Some(networks::canonical(IpAddr::V6(*address))),
    }
}

/// A name without a dot is one of the local network's.
fn is_private_name(name: &str) -> bool {
    let ends = |end: &str| name.strip_suffix(end).is_some_and(|rest| rest.ends_with('.'));
    !name.contains('.') || PRIVATE_ENDS.iter().any(|end| *end == name || ends(end))
}

/// `.invalid` never resolves (RFC 6761), and [`Guarded`] does not even ask.
const NOWHERE: &str = "http://refused.invalid";
const NOWHERE_NAME: &str = "refused.invalid";

struct Guarded(Egress);

impl Resolve for Guarded {
    fn resolve(&self, name: Name) -> Resolving {
        let guard = self.0.clone();
        Box::pin(async move {
            if name.as_str() == NOWHERE_NAME {
                return Err(format!("the address is refused: it {}", Refused::Network).into());
            }
            let found = guard.addresses(name.as_str(), 0).await?;
            Ok(Box::new(found.into_iter()) as reqwest::dns::Addrs)
        })
    }
}
