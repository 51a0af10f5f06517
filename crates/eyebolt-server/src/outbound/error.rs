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

impl OutboundError {
    /// What whoever named the address is told. Of a name that leads nowhere or inside no more than that: what it leads to, and
    /// whether there is such a name, is the operator's own business.
    pub fn told(&self) -> String {
        match self {
            Self::Unresolved { .. } | Self::Forbidden { .. } => {
                "the name leads to no address that may be called".to_owned()
            }
            other => other.to_string(),
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_lead_nowhere_and_inside_are_told_alike() {
        let host = || "intern.example".to_owned();
        let nowhere = OutboundError::Unresolved { host: host(), reason: "no record".to_owned() };
        let inside = OutboundError::Forbidden { host: host(), address: [10, 0, 0, 1].into() };
        assert_eq!(nowhere.told(), inside.told());
        for secret in ["intern.example", "10.0.0.1", "no record"] {
            assert!(!inside.told().contains(secret), "{secret}");
        }
        let limit = Duration::from_secs(15);
        assert_eq!(OutboundError::Timeout { limit }.told(), "no answer within 15s");
    }
}
