use std::{net::IpAddr, time::Duration};

use thiserror::Error;

/// Why nothing was sent, or no answer came.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum OutboundError {
    #[error("{0}")]
    Address(AddressError),
    #[error("the name {host} has no address: {reason}")]
    Unresolved { host: String, reason: String },
    #[error("{host} is at {address}, which is not on the internet (outbound.allow)")]
    Forbidden { host: String, address: IpAddr },
    #[error("{host} is not in a network of the operator's, so it must be called with https")]
    Plain { host: String },
    #[error("no connection: {reason}")]
    Connect { reason: String },
    #[error("no TLS: {reason}")]
    Tls { reason: String },
    #[error("no answer within {limit:?}")]
    Timeout { limit: Duration },
    #[error("no HTTP answer: {reason}")]
    Protocol { reason: String },
}

/// Why an address can't be called, whatever its name leads to.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum AddressError {
    #[error("is no URL")]
    NoUrl,
    #[error("has {found} characters, more than {limit}")]
    TooLong { limit: usize, found: usize },
    #[error("must begin with https://")]
    Scheme,
    #[error("must not hold a user name or password")]
    Credentials,
    #[error("names {0}, which is not on the internet")]
    Forbidden(IpAddr),
}
