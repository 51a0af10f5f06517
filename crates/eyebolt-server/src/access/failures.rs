use std::net::{IpAddr, Ipv6Addr};

use jiff::{SignedDuration, Timestamp};

use super::generations::Generations;

/// Time over which failures are counted.
const WINDOW: SignedDuration = SignedDuration::from_mins(1);

/// Client addresses that are remembered at once, in each of two generations.
const MOST: usize = 16 << 10;

/// Counts failed attempts by client address. Each one takes up a share of the next minute; an address whose minute is
/// full has to wait until the first share is over.
#[derive(Debug)]
pub(super) struct Failures {
    /// What one failure takes up; none where there is no limit.
    share: Option<SignedDuration>,
    /// Until when the shares of an address last.
    until: Generations<IpAddr, Timestamp>,
}

/// An address has to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wait {
    pub(super) time: SignedDuration,
    pub(super) found: u32,
}

impl Failures {
    /// `per_minute` failures are let through at once; 0: any number.
    pub(super) fn new(per_minute: u32) -> Self {
        let share = i32::try_from(per_minute).ok().filter(|&count| count > 0).map(|count| WINDOW / count);
        Self { share, until: Generations::new(WINDOW, MOST) }
    }

    /// How long this address has to wait before its next attempt.
    pub(super) fn wait(&self, address: IpAddr, now: Timestamp) -> Option<Wait> {
        let share = self.share?;
        let taken = self.taken(address, now);
        let over = taken + share - WINDOW;
        // Shares are rounded down, so that the last one fits.
        let found = (taken.as_nanos() + share.as_nanos() - 1) / share.as_nanos();
        (over > SignedDuration::ZERO).then_some(Wait { time: over, found: found as u32 })
    }

    /// An attempt failed.
    pub(super) fn add(&mut self, address: IpAddr, now: Timestamp) {
        let Some(share) = self.share else { return };
        let until = now + self.taken(address, now) + share;
        self.until.insert(network(address), until, now);
    }

    /// How much of the next minute is taken up. Never more than all of it, also where the clock was set back.
    fn taken(&self, address: IpAddr, now: Timestamp) -> SignedDuration {
        let until = self.until.get(&network(address)).copied().unwrap_or(now);
        until.duration_since(now).clamp(SignedDuration::ZERO, WINDOW)
    }
}

/// Whoever has an IPv6 address has 2⁶⁴ of them.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
        address @ IpAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn so_many_at_once_and_then_one_a_share() {
        let (mut failures, who) = (Failures::new(20), address("192.0.2.1"));
        for count in 0..20 {
            assert_eq!(failures.wait(who, at(0)), None, "after {count}");
            failures.add(who, at(0));
        }
        assert_eq!(failures.wait(who, at(0)), Some(Wait { time: SignedDuration::from_secs(3), found: 20 }));
        assert_eq!(failures.wait(who, at(2)).unwrap().time, SignedDuration::from_secs(1));
        assert_eq!(failures.wait(who, at(3)), None);
        failures.add(who, at(3));
        assert!(failures.wait(who, at(3)).is_some());
        assert_eq!(failures.wait(who, at(63)), None);
        assert_eq!(failures.wait(address("192.0.2.2"), at(3)), None, "another address");
    }

    #[test]
    fn an_ipv6_network_is_one_client_and_mapped_addresses_are_ipv4() {
        let mut failures = Failures::new(1);
        failures.add(address("2001:db8:1:2:aaaa::1"), at(0));
        failures.add(address("::ffff:192.0.2.1"), at(0));
        for (other, waits) in [
            ("2001:db8:1:2:ffff:1:2:3", true),
            ("2001:db8:1:3::1", false),
            ("192.0.2.1", true),
            ("::ffff:192.0.2.9", false),
        ] {
            assert_eq!(failures.wait(address(other), at(0)).is_some(), waits, "{other}");
        }
    }

    #[test]
    fn without_a_limit_nobody_waits_and_a_clock_set_back_blocks_for_a_minute_at_most() {
        let who = address("192.0.2.1");
        let mut free = Failures::new(0);
        (0..1000).for_each(|_| free.add(who, at(0)));
        assert_eq!(free.wait(who, at(0)), None);
        let mut failures = Failures::new(2);
        failures.add(who, at(86_400));
        assert_eq!(failures.wait(who, at(0)).unwrap().time, SignedDuration::from_secs(30));
    }
}
