//! Whole answers that were given lately, for those who ask for the same again: nothing is decoded,
//! composed or copied for them. The rules are asked each time, as for the first answer: who asks,
//! whether the entry is what it was, whether its bytes are there and stay. An answer for which one
//! of them says anything else is made anew, the long way.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http::header::{ORIGIN, RANGE};

use crate::access::{Access, Caller};
use crate::depot::Glance;
use crate::front::Head;
use crate::hot::Hot;
use crate::metrics::{Count, OfEach, OfRequest};
use crate::server::Told;
use crate::site::Site;

/// Of all together.
const MOST_BYTES: usize = 32 << 20;

/// The answers, by what was asked for.
pub(crate) struct Ready(Hot<Box<str>, Arc<Answer>>);

impl Default for Ready {
    fn default() -> Self {
        Self(Hot::new(MOST_BYTES))
    }
}

/// What a handler says of an answer that may be given again.
#[derive(Debug, Clone)]
pub(crate) struct Seed {
    pub(crate) protocol: &'static str,
    pub(crate) caller: Caller,
    pub(crate) glance: Glance,
}

/// One of them.
struct Answer {
    seed: Seed,
    /// All of it but the date.
    head: Box<[u8]>,
    body: Bytes,
    /// For the log.
    caller: Arc<str>,
    path: Arc<str>,
    requests: Count,
    hits: Count,
    each: OfEach,
}

/// Whether the answer to this says nothing but what the target and the caller decide.
fn is_usual(head: &Head<'_, '_>) -> bool {
    let is_odd = |name: &str| {
        let odd = [RANGE.as_str(), ORIGIN.as_str()];
        odd.iter().any(|odd| odd.eq_ignore_ascii_case(name))
    };
    !head.is_question && !head.closes && !head.headers.iter().any(|header| is_odd(header.name))
}

impl Site {
    /// Answers what was answered lately, if all is as it was; the head goes to `out`, without its
    /// date and its end.
    pub(crate) fn again(
        &self,
        head: &Head<'_, '_>,
        peer: SocketAddr,
        out: &mut Vec<u8>,
    ) -> Option<Bytes> {
        let start = Instant::now();
        let answer = self.ready.0.get(head.target)?;
        let Seed { protocol, caller, glance } = &answer.seed;
        // Who may be too fast is counted the long way.
        if !is_usual(head) || !self.rates.are_none() || start >= glance.until {
            return None;
        }
        let is_told = head.headers.iter().any(|header| Access::is_told_by(header.name));
        let is_same = |asks: &Caller| asks.reads && asks == caller;
        let is_same = match is_told {
            true => is_same(&*self.access.caller(&head.header_map()?).ok()?),
            false => is_same(self.access.nobody()),
        };
        if !is_same {
            return None;
        }
        let place = self.depot.places.take()?;
        let is_still = self.depot.is_still(glance).ok()?;
        drop(place);
        if !is_still {
            return None;
        }
        out.extend_from_slice(&answer.head);
        let (size, took) = (answer.body.len() as u64, start.elapsed());
        answer.hits.inc();
        answer.requests.inc();
        answer.each.sent.inc_by(size);
        answer.each.seconds.observe(took.as_secs_f64());
        (self.observer)(&Told {
            caller: Arc::clone(&answer.caller),
            peer,
            method: "GET",
            path: Arc::clone(&answer.path),
            protocol,
            status: 200,
            bytes: Some(size),
            micros: u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
        });
        Some(answer.body.clone())
    }

    /// Keeps an answer that was given to this.
    pub(crate) fn keep_ready(&self, asked: &Head<'_, '_>, seed: Seed, head: &[u8], body: &Bytes) {
        if !is_usual(asked) {
            return;
        }
        let protocol = seed.protocol;
        let label = OfRequest { protocol, method: "GET", status: 200, code: "" };
        let answer = Answer {
            head: head.into(),
            body: body.clone(),
            caller: seed.caller.name.as_str().into(),
            path: asked.target.split(['?', '#']).next().unwrap_or_default().into(),
            requests: self.metrics.requests.get_or_create(&label).clone(),
            hits: self.metrics.hits(protocol),
            each: self.metrics.of(protocol).clone(),
            seed,
        };
        // A target is kept twice, and may be long.
        let size = body.len() + 2 * asked.target.len() + head.len() + answer.seed.glance.size();
        self.ready.0.keep(asked.target.into(), Arc::new(answer), size);
    }
}
