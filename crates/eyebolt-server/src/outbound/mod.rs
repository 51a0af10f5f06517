//! The room "outbound": the only HTTP client. It resolves a name once and connects to an address that it has checked, so
//! that a name which changes its address between both leads nowhere else. It follows no redirect, asks no proxy, and
//! takes a bounded time and answer. Connections are not kept: each is to one checked address, for one request.

mod connection;
mod error;
mod ranges;
mod settings;

use std::{
    fmt, io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::HeaderMap;
use rustls::pki_types::ServerName;
use tokio::{
    net::TcpStream,
    time::{Instant, timeout},
};
use url::{Host, Url};

pub(crate) use self::connection::Stream;
use self::connection::{CONNECTOR, connect, exchange, tls_failed};
pub use self::error::{AddressError, OutboundError};
use self::ranges::Ranges;
pub use self::settings::OutboundSettings;

/// Characters of an address at most.
const MAX_URL: usize = 2048;

/// A request to be sent.
#[derive(Debug, Clone)]
pub struct Post {
    /// Where to.
    pub url: Url,
    /// What it says of itself.
    pub headers: HeaderMap,
    /// What it carries.
    pub body: Bytes,
    /// How long everything may take, from the look-up of the name to the last byte of the answer that is read, but for the wait
    /// for its turn.
    pub limit: Duration,
    /// How much of the answer's body is read, bytes.
    pub most: usize,
}

/// An answer.
#[derive(Debug, Clone)]
pub struct Reply {
    /// HTTP status.
    pub status: u16,
    /// Its headers.
    pub headers: HeaderMap,
    /// The first bytes of its body.
    pub body: Vec<u8>,
}

type Look = dyn Fn(String, u16) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>> + Send + Sync;

/// What turns a name into addresses.
#[derive(Clone)]
pub struct Resolver(Arc<Look>);

impl Resolver {
    /// One that answers so.
    pub fn new<F>(look: impl Fn(String, u16) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = io::Result<Vec<SocketAddr>>> + Send + 'static,
    {
        Self(Arc::new(move |host, port| Box::pin(look(host, port))))
    }

    /// The system's.
    pub fn system() -> Self {
        Self::new(|host, port| async move { Ok(tokio::net::lookup_host((host, port)).await?.collect()) })
    }
}

/// The client. Cheap to clone.
#[derive(Clone)]
pub struct Outbound {
    ranges: Arc<Ranges>,
    plain: bool,
    resolver: Resolver,
}

impl fmt::Debug for Outbound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Outbound")
    }
}

impl Outbound {
    /// A client that calls the internet, and what the settings allow beside it. They must be sound.
    pub fn new(settings: &OutboundSettings, resolver: Resolver) -> Self {
        let allowed = settings.ranges();
        Self { plain: !allowed.is_empty(), ranges: Arc::new(Ranges::allowing(allowed)), resolver }
    }

    /// Reads an address, and refuses what could never be called.
    ///
    /// # Errors
    /// Where it is no URL of an allowed kind.
    pub fn address(&self, text: &str) -> Result<Url, AddressError> {
        if text.len() > MAX_URL {
            return Err(AddressError::TooLong { limit: MAX_URL, found: text.len() });
        }
        let mut url = Url::parse(text).map_err(|_| AddressError::NoUrl)?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err(AddressError::Credentials);
        }
        // A plain one may lead into the operator's network: that is seen when its name is resolved.
        match url.scheme() {
            "https" => {}
            "http" if self.plain => {}
            _ => return Err(AddressError::Scheme),
        }
        let literal = match url.host() {
            Some(Host::Ipv4(address)) => Some(IpAddr::from(address)),
            Some(Host::Ipv6(address)) => Some(address.into()),
            Some(Host::Domain(_)) => None,
            None => return Err(AddressError::NoUrl),
        };
        if let Some(address) = literal {
            if !self.ranges.allow(address) {
                return Err(AddressError::Forbidden(address));
            }
            if url.scheme() == "http" && !self.ranges.names(address) {
                return Err(AddressError::Scheme);
            }
        }
        url.set_fragment(None);
        Ok(url)
    }

    /// Sends a request and takes its answer. `turn` is awaited once there is a connection, and the request goes onto it as soon as
    /// that resolves.
    ///
    /// # Errors
    /// Where the address is refused, or no answer came in time. Whether the receiver got the request is unknown then.
    pub async fn post(&self, post: Post, turn: impl Future<Output = ()>) -> Result<Reply, OutboundError> {
        let (limit, began) = (post.limit, Instant::now());
        let late = |_| OutboundError::Timeout { limit };
        let stream = timeout(limit, self.connected(&post.url)).await.map_err(late)??;
        let left = limit.saturating_sub(began.elapsed());
        turn.await;
        timeout(left, exchange(stream, post)).await.map_err(late)?
    }

    async fn connected(&self, url: &Url) -> Result<Box<dyn Stream>, OutboundError> {
        let url = self.address(url.as_str()).map_err(OutboundError::Address)?;
        let host = url.host_str().unwrap_or_default().to_owned();
        let stream = connect(&self.checked(&url).await?).await?;
        if url.scheme() == "http" {
            return Ok(Box::new(stream));
        }
        encrypted(stream, host.trim_start_matches('[').trim_end_matches(']')).await
    }

    /// The addresses of a URL that may be called.
    async fn checked(&self, url: &Url) -> Result<Vec<SocketAddr>, OutboundError> {
        let host = url.host_str().unwrap_or_default().to_owned();
        let unresolved = |reason: String| OutboundError::Unresolved { host: host.clone(), reason };
        let port = url.port_or_known_default().unwrap_or(443);
        let found = match url.host() {
            Some(Host::Ipv4(address)) => vec![(address, port).into()],
            Some(Host::Ipv6(address)) => vec![(address, port).into()],
            _ => {
                (self.resolver.0)(host.clone(), port).await.map_err(|error| unresolved(error.to_string()))?
            }
        };
        let allowed: Vec<_> = found.iter().copied().filter(|found| self.ranges.allow(found.ip())).collect();
        match (allowed.first(), found.first()) {
            (Some(first), _) if url.scheme() == "http" && !self.ranges.names(first.ip()) => {
                Err(OutboundError::Plain { host })
            }
            (Some(_), _) if url.scheme() == "http" => {
                Ok(allowed.into_iter().filter(|address| self.ranges.names(address.ip())).collect())
            }
            (Some(_), _) => Ok(allowed),
            (None, Some(address)) => Err(OutboundError::Forbidden { host, address: address.ip() }),
            (None, None) => Err(unresolved("the answer is empty".to_owned())),
        }
    }
}

/// The same connection over TLS, to a host that shows a certificate which the system trusts.
pub(crate) async fn encrypted(stream: TcpStream, host: &str) -> Result<Box<dyn Stream>, OutboundError> {
    let name = ServerName::try_from(host.to_owned()).map_err(|error| tls_failed(&error))?;
    let stream = CONNECTOR.connect(name, stream).await.map_err(|error| tls_failed(&error))?;
    Ok(Box::new(stream))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::{TcpListener, TcpStream},
        sync::oneshot,
    };

    use super::*;

    fn client(allow: &[&str], resolver: Resolver) -> Outbound {
        let allow = allow.iter().map(|range| (*range).to_owned()).collect();
        Outbound::new(&OutboundSettings { allow }, resolver)
    }

    fn post(url: &str) -> Post {
        Post {
            url: Url::parse(url).unwrap(),
            headers: HeaderMap::new(),
            body: Bytes::from_static(b"{}"),
            limit: Duration::from_secs(20),
            most: 8,
        }
    }

    #[test]
    fn an_address_is_https_to_a_host_on_the_internet() {
        let outbound = client(&[], Resolver::system());
        assert_eq!(
            outbound.address("https://example.com/a?b=c#d").unwrap().as_str(),
            "https://example.com/a?b=c"
        );
        let cases = [
            ("http://example.com/", AddressError::Scheme),
            ("ftp://example.com/", AddressError::Scheme),
            ("file:///etc/passwd", AddressError::Scheme),
            ("example.com", AddressError::NoUrl),
            ("https://", AddressError::NoUrl),
            ("https://user:pass@example.com/", AddressError::Credentials),
            ("https://127.0.0.1/", AddressError::Forbidden([127, 0, 0, 1].into())),
            // Other ways to write it.
            ("https://2130706433/", AddressError::Forbidden([127, 0, 0, 1].into())),
            ("https://0x7f.1/", AddressError::Forbidden([127, 0, 0, 1].into())),
            ("https://0177.0.0.1/", AddressError::Forbidden([127, 0, 0, 1].into())),
        ];
        for (text, refused) in cases {
            assert_eq!(outbound.address(text), Err(refused), "{text}");
        }
        assert!(matches!(outbound.address("https://[::ffff:7f00:1]/"), Err(AddressError::Forbidden(_))));
        let long = format!("https://example.com/{}", "a".repeat(MAX_URL));
        assert!(matches!(outbound.address(&long), Err(AddressError::TooLong { .. })));
    }

    #[test]
    fn plain_http_stays_in_the_operators_network() {
        let outbound = client(&["10.0.0.0/8"], Resolver::system());
        assert!(outbound.address("http://10.0.0.1:81/").is_ok());
        assert_eq!(outbound.address("http://8.8.8.8/"), Err(AddressError::Scheme));
        assert!(outbound.address("http://intern.example/").is_ok(), "its name tells later");
    }

    /// Answers the first look-up with one address and all further ones with another.
    fn flipping(first: SocketAddr, then: SocketAddr) -> (Resolver, Arc<AtomicUsize>) {
        let looked = Arc::new(AtomicUsize::new(0));
        let counts = Arc::clone(&looked);
        let resolver = Resolver::new(move |_, _| {
            let found = if counts.fetch_add(1, Ordering::SeqCst) == 0 { first } else { then };
            async move { Ok(vec![found]) }
        });
        (resolver, looked)
    }

    #[tokio::test]
    async fn a_name_is_resolved_once_and_its_checked_address_is_called() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let near = listener.local_addr().unwrap();
        let serve = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = vec![0; 4096];
            let count = stream.read(&mut head).await.unwrap();
            stream
                .write_all(b"HTTP/1.1 302 Found\r\nlocation: http://10.0.0.1/\r\n\r\nmore than eight")
                .await
                .unwrap();
            String::from_utf8_lossy(&head[..count]).into_owned()
        });
        let (resolver, looked) = flipping(near, "10.0.0.1:80".parse().unwrap());
        let outbound = client(&["127.0.0.0/8"], resolver);
        let reply = outbound.post(post("http://flips.example:99/hook?x=1"), async {}).await.unwrap();
        assert_eq!((reply.status, reply.body.as_slice()), (302, b"more tha".as_slice()), "no redirect");
        assert_eq!(looked.load(Ordering::SeqCst), 1);
        let sent = serve.await.unwrap();
        assert!(sent.starts_with("POST /hook?x=1 HTTP/1.1\r\n"), "{sent}");
        assert!(sent.contains("host: flips.example:99\r\n"), "{sent}");
        let second = outbound.post(post("http://flips.example:99/hook"), async {}).await;
        assert!(matches!(second, Err(OutboundError::Forbidden { .. })), "{second:?}");
    }

    #[tokio::test]
    async fn a_name_that_leads_inside_is_refused_and_one_that_leads_outside_is_not_called_in_plain() {
        let inside = Resolver::new(|_, port| async move {
            Ok(vec![([169, 254, 169, 254], port).into(), ([127, 0, 0, 1], port).into()])
        });
        let refused = client(&[], inside).post(post("https://metadata.example/"), async {}).await;
        assert!(matches!(refused, Err(OutboundError::Forbidden { .. })), "{refused:?}");
        let outside = Resolver::new(|_, port| async move { Ok(vec![([8, 8, 8, 8], port).into()]) });
        let refused = client(&["127.0.0.0/8"], outside).post(post("http://public.example/"), async {}).await;
        assert!(matches!(refused, Err(OutboundError::Plain { .. })), "{refused:?}");
        let nowhere = Resolver::new(|_, _| async { Ok(Vec::new()) });
        let refused = client(&[], nowhere).post(post("https://nowhere.example/"), async {}).await;
        assert!(matches!(refused, Err(OutboundError::Unresolved { .. })), "{refused:?}");
    }

    #[tokio::test]
    async fn a_request_goes_onto_its_connection_when_it_is_its_turn() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let (come, comes) = oneshot::channel();
        let turn = async move {
            let (stream, _) = listener.accept().await.unwrap();
            let nothing = stream.try_read(&mut [0]).map_err(|error| error.kind());
            assert_eq!(nothing, Err(io::ErrorKind::WouldBlock));
            come.send(stream).unwrap();
        };
        let answers = async {
            let mut stream: TcpStream = comes.await.unwrap();
            assert!(stream.read(&mut vec![0; 4096]).await.unwrap() > 0);
            stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
        };
        let outbound = client(&["127.0.0.0/8"], Resolver::system());
        let (reply, ()) = tokio::join!(outbound.post(post(&url), turn), answers);
        assert_eq!(reply.unwrap().status, 204);
    }

    #[tokio::test]
    async fn who_never_answers_is_left() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let outbound = client(&["127.0.0.0/8"], Resolver::system());
        let limit = Duration::from_millis(20);
        let hangs = Post { limit, ..post(&format!("http://{address}/")) };
        assert_eq!(outbound.post(hangs, async {}).await.unwrap_err(), OutboundError::Timeout { limit });
        drop(listener);
        let closed = outbound.post(post(&format!("http://{address}/")), async {}).await;
        assert!(matches!(closed, Err(OutboundError::Connect { .. })), "{closed:?}");
    }
}
