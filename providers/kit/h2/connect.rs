//! Opens one connection: name, TCP, TLS where asked for, HTTP/2.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsConnector;
use url::{Host, Url};

use super::H2Options;
use super::drive::{Opened, speak};
use super::errors::refuses_certificate;
use crate::kit::egress::{Egress, Refused};
use crate::kit::failure::{TransportError, TransportErrorKind, chain};
use crate::kit::http::CONNECT_TIMEOUT;
use crate::kit::tls;

/// One address of several gets this much ahead of the next (RFC 8305): one that is silent must not hold up the others.
const HEAD_START: Duration = Duration::from_millis(250);

/// TLS and HTTP/2 together.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// Where to connect, and how.
pub(super) struct Connector {
    host: String,
    port: u16,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    one_stream_first: bool,
    egress: Egress,
    /// What the guard says of the address as it is written.
    permitted: Result<(), Refused>,
}

impl Connector {
    pub(super) fn new(base: &Url, options: &H2Options) -> Result<Self, String> {
        let host = match base.host() {
            Some(Host::Domain(name)) => name.to_owned(),
            Some(Host::Ipv4(address)) => address.to_string(),
            Some(Host::Ipv6(address)) => address.to_string(),
            None => return Err("has no host".to_owned()),
        };
        let port = base.port_or_known_default().ok_or("has no port")?;
        let tls = match base.scheme() {
            "http" => None,
            "https" => {
                let name = ServerName::try_from(host.clone())
                    .map_err(|_| "has a host that no certificate can name".to_owned())?;
                let config = tls::http2_client(options.ca_pem.as_deref(), options.identity.as_ref())?;
                Some((TlsConnector::from(config), name))
            }
            _ => return Err("is neither https nor http".to_owned()),
        };
        Ok(Self {
            host,
            port,
            tls,
            one_stream_first: options.warmed_by.is_some(),
            egress: options.egress.clone(),
            permitted: options.egress.permits(base),
        })
    }

    pub(super) async fn open(&self) -> Result<Opened, TransportError> {
        self.permitted.clone().map_err(|why| self.error(format!("the address is refused: it {why}")))?;
        let tcp = timeout(CONNECT_TIMEOUT, self.tcp())
            .await
            .map_err(|_| self.error(format!("not connected within {CONNECT_TIMEOUT:?}")))?
            .map_err(|error| self.error(error))?;
        timeout(HANDSHAKE_TIMEOUT, self.handshake(tcp))
            .await
            .map_err(|_| self.error(format!("no handshake within {HANDSHAKE_TIMEOUT:?}")))?
            .map_err(|error| self.error(error))
    }

    async fn tcp(&self) -> io::Result<TcpStream> {
        let addresses = self.egress.addresses(&self.host, self.port).await?;
        let stream = first_of(&alternating(addresses)).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    async fn handshake(&self, tcp: TcpStream) -> Result<Opened, String> {
        let Some((connector, name)) = &self.tls else {
            return speak(tcp, self.one_stream_first).await;
        };
        let stream =
            connector.connect(name.clone(), tcp).await.map_err(|error| format!("TLS: {}", chain(&error)))?;
        if stream.get_ref().1.alpn_protocol() != Some(b"h2") {
            return Err("the peer does not speak HTTP/2".to_owned());
        }
        speak(stream, self.one_stream_first).await
    }

    fn error(&self, detail: impl std::fmt::Display) -> TransportError {
        let detail = format!("connecting to {}:{}: {detail}", self.host, self.port);
        let refused = refuses_certificate(&detail);
        let kind = if refused { TransportErrorKind::CertificateRefused } else { TransportErrorKind::NotSent };
        TransportError::new(kind, detail)
    }
}

/// The two families by turns, beginning with the one that the system prefers.
fn alternating(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let prefers_v6 = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (preferred, others): (Vec<_>, Vec<_>) =
        addresses.into_iter().partition(|address| address.is_ipv6() == prefers_v6);
    let (mut preferred, mut others) = (preferred.into_iter(), others.into_iter());
    let mut all = Vec::new();
    loop {
        let pair = [preferred.next(), others.next()];
        if pair == [None, None] {
            return all;
        }
        all.extend(pair.into_iter().flatten());
    }
}

/// Connects to whichever answers first: the next is tried as soon as one fails, or when it is silent.
async fn first_of(addresses: &[SocketAddr]) -> io::Result<TcpStream> {
    let mut waiting = addresses.iter();
    let mut trying = FuturesUnordered::new();
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    loop {
        let begun = waiting.next().map(|address| trying.push(TcpStream::connect(*address)));
        if begun.is_none() && trying.is_empty() {
            return Err(last);
        }
        let is_last = waiting.len() == 0;
        tokio::select! {
            Some(connected) = trying.next() => match connected {
                Ok(stream) => return Ok(stream),
                Err(error) => last = error,
            },
            () = sleep(HEAD_START), if !is_last => {}
        }
    }
}
