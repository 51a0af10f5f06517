use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// Section `outbound`: what this server calls.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OutboundSettings {
    /// Networks that may be called although they are not on the internet, such as `10.1.0.0/16`; these in plain HTTP
    /// too.
    pub allow: Vec<String>,
}

impl OutboundSettings {
    /// The networks that can be read.
    pub(super) fn ranges(&self) -> Vec<IpNet> {
        self.allow.iter().filter_map(|range| range.parse().ok()).collect()
    }

    /// What can't work, in a sentence each.
    pub fn check(&self) -> Vec<String> {
        let mut found = Vec::new();
        for range in &self.allow {
            match range.parse::<IpNet>() {
                Err(_) => found.push(format!(
                    "outbound.allow has {range:?}, which is no network such as \"10.1.0.0/16\" or \"fd00:1::/32\""
                )),
                Ok(range) if range.prefix_len() == 0 => found.push(format!(
                    "outbound.allow has {range}: whoever may name a webhook could call this machine and all around it"
                )),
                Ok(_) => {}
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_are_read_and_everything_is_none() {
        let check = |allow: &[&str]| {
            let allow = allow.iter().map(|range| (*range).to_owned()).collect();
            OutboundSettings { allow }.check().len()
        };
        assert_eq!(check(&["10.1.0.0/16", "fd00:1::/32", "127.0.0.1/32"]), 0);
        assert_eq!(check(&["10.1.0.0", "intern", "0.0.0.0/0", "::/0"]), 4);
    }
}
