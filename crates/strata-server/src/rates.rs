//! How fast callers may be: so many requests a second, and so many bytes.
//!
//! A request too many is refused, and told when to come again; bytes are never refused but come
//! and go as slowly as the limit says. Both allow what a second has at once, so that a client
//! which is idle between its builds notices nothing.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::fault::Fault;

const SECOND_NANOS: u64 = 1_000_000_000;
/// Callers that are remembered at a time: who has been idle for a second may be forgotten.
const CALLERS: usize = 10_000;

/// What a caller may do in a second; nothing said is no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Rate {
    pub(crate) requests: Option<NonZeroU64>,
    pub(crate) bytes: Option<NonZeroU64>,
}

impl Rate {
    /// These limits, and others where these are none.
    pub(crate) fn or(self, other: Self) -> Self {
        Self { requests: self.requests.or(other.requests), bytes: self.bytes.or(other.bytes) }
    }

    fn is_none(&self) -> bool {
        self.requests.is_none() && self.bytes.is_none()
    }
}

/// Who is counted for: a token, or an address where there is none.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Who {
    Token(String),
    Address(IpAddr),
}

impl Who {
    /// Whoever has an IPv6 address has all of its network.
    pub(crate) fn address(address: IpAddr) -> Self {
        Self::Address(match address.to_canonical() {
            IpAddr::V6(six) => {
                let [a, b, c, d, ..] = six.segments();
                IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
            }
            four => four,
        })
    }
}

/// The rates of all callers.
#[derive(Debug, Default)]
pub(crate) struct Rates {
    usual: Rate,
    tokens: HashMap<String, Rate>,
    callers: Mutex<HashMap<Who, Arc<Pace>>>,
}

impl Rates {
    /// The rate of each token that has its own, and that of all others.
    pub(crate) fn new(usual: Rate, tokens: HashMap<String, Rate>) -> Self {
        Self { usual, tokens, callers: Mutex::default() }
    }

    /// Whether nobody has a limit.
    pub(crate) fn are_none(&self) -> bool {
        self.usual.is_none() && self.tokens.is_empty()
    }

    /// The pace that a caller keeps; none where there is no limit.
    pub(crate) fn of(&self, who: Who) -> Option<Arc<Pace>> {
        if self.are_none() {
            return None;
        }
        let own = match &who {
            Who::Token(name) => self.tokens.get(name).copied().unwrap_or_default(),
            Who::Address(_) => Rate::default(),
        };
        let rate = own.or(self.usual);
        if rate.is_none() {
            return None;
        }
        let mut callers = self.callers.lock().unwrap_or_else(PoisonError::into_inner);
        if callers.len() >= CALLERS && !callers.contains_key(&who) {
            let now = Instant::now();
            callers.retain(|_, pace| Arc::strong_count(pace) > 1 || !pace.is_idle(now));
        }
        Some(Arc::clone(callers.entry(who).or_insert_with(|| Arc::new(Pace::new(rate)))))
    }
}

/// One caller's pace.
#[derive(Debug)]
pub(crate) struct Pace {
    rate: Rate,
    /// When what came so far would have come at the limit's rate.
    due: Mutex<Due>,
}

#[derive(Debug)]
struct Due {
    requests: Instant,
    bytes: Instant,
}

impl Pace {
    fn new(rate: Rate) -> Self {
        let now = Instant::now();
        Self { rate, due: Mutex::new(Due { requests: now, bytes: now }) }
    }

    fn due(&self) -> MutexGuard<'_, Due> {
        self.due.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_idle(&self, now: Instant) -> bool {
        let due = self.due();
        due.requests <= now && due.bytes <= now
    }

    /// Counts a request.
    ///
    /// # Errors
    ///
    /// When it is one too many; it is not counted then.
    pub(crate) fn request(&self, now: Instant) -> Result<(), Fault> {
        let Some(limit) = self.rate.requests else { return Ok(()) };
        let mut due = self.due();
        let next = due.requests.max(now) + share(1, limit);
        let early = (next - now).saturating_sub(Duration::from_nanos(SECOND_NANOS));
        if !early.is_zero() {
            return Err(Fault::TooMany { wait: early, limit: limit.get() });
        }
        due.requests = next;
        Ok(())
    }

    /// Counts bytes, and says how long to wait before there are more.
    pub(crate) fn bytes(&self, count: u64, now: Instant) -> Duration {
        let Some(limit) = self.rate.bytes else { return Duration::ZERO };
        let mut due = self.due();
        due.bytes = due.bytes.max(now) + share(count, limit);
        (due.bytes - now).saturating_sub(Duration::from_nanos(SECOND_NANOS))
    }

    /// Whether bytes have a limit.
    pub(crate) fn slows(&self) -> bool {
        self.rate.bytes.is_some()
    }
}

/// What so many of a second's are of the second.
fn share(count: u64, of: NonZeroU64) -> Duration {
    let nanos = u128::from(count) * u128::from(SECOND_NANOS) / u128::from(of.get());
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(requests: u64, bytes: u64) -> Rate {
        Rate { requests: NonZeroU64::new(requests), bytes: NonZeroU64::new(bytes) }
    }

    #[test]
    fn a_second_at_once_and_then_one_by_one() {
        let pace = Pace::new(rate(4, 0));
        let start = Instant::now() + Duration::from_secs(10);
        let after = |millis| start + Duration::from_millis(millis);
        let asked = |millis| pace.request(after(millis)).is_ok();
        assert_eq!([(); 6].map(|()| asked(0)), [true, true, true, true, false, false]);
        let refused = pace.request(after(100)).expect_err("one too many");
        let wait = Duration::from_millis(150);
        assert!(matches!(refused, Fault::TooMany { wait: found, limit: 4 } if found == wait));
        assert_eq!([asked(250), asked(250), asked(500)], [true, false, true]);
        // A long pause gives no more than a second's.
        assert_eq!([(); 5].map(|()| asked(60_000)), [true, true, true, true, false]);
    }

    #[test]
    fn bytes_are_slowed_down() {
        let pace = Pace::new(rate(0, 1000));
        let start = Instant::now() + Duration::from_secs(10);
        let wait =
            |count, millis| pace.bytes(count, start + Duration::from_millis(millis)).as_millis();
        assert_eq!([wait(600, 0), wait(400, 0), wait(500, 0)], [0, 0, 500]);
        assert_eq!(wait(0, 500), 0);
        assert_eq!(wait(3_000, 500), 3_000);
        assert_eq!(
            wait(u64::MAX, 500).checked_div(u128::from(u64::MAX / SECOND_NANOS)),
            Some(1000)
        );
    }

    #[test]
    fn whose_rate_it_is() {
        let tokens = HashMap::from([("ci".to_owned(), rate(9, 0))]);
        let rates = Rates::new(rate(2, 7), tokens.clone());
        let of = |who| rates.of(who).expect("a limit").rate;
        assert_eq!(of(Who::Token("ci".to_owned())), rate(9, 7));
        assert_eq!(of(Who::Token("dev".to_owned())), rate(2, 7));
        let address = |text: &str| Who::address(text.parse().expect("an address"));
        assert_eq!(of(address("192.0.2.1")), rate(2, 7));
        assert_eq!(address("2001:db8:1:2::1"), address("2001:db8:1:2:ffff::"));
        assert_ne!(address("2001:db8:1:2::1"), address("2001:db8:1:3::1"));
        assert_eq!(address("::ffff:192.0.2.1"), address("192.0.2.1"));
        let rates = Rates::new(Rate::default(), tokens);
        assert!(rates.of(address("192.0.2.1")).is_none());
        assert!(Rates::default().of(Who::Token("ci".to_owned())).is_none());
    }

    #[test]
    fn who_is_idle_is_forgotten() {
        let rates = Rates::new(rate(5, 0), HashMap::new());
        let busy = rates.of(Who::Token("busy".to_owned())).expect("a limit");
        for number in 0..CALLERS {
            rates.of(Who::Token(number.to_string()));
        }
        let known = rates.callers.lock().expect("callers").len();
        assert!(known <= 2, "{known}");
        assert!(Arc::ptr_eq(&busy, &rates.of(Who::Token("busy".to_owned())).expect("a limit")));
    }
}
