//! What is counted, in Prometheus' words. What can be known beforehand is there from the start, at
//! zero, so that a rate of it has a beginning.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, AtomicU64};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use crate::quota::Quotas;

pub(crate) type Count = Counter<u64, AtomicU64>;
type Level = Gauge<i64, AtomicI64>;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct OfRequest {
    pub(crate) protocol: &'static str,
    pub(crate) method: &'static str,
    pub(crate) status: u16,
    /// gRPC's, which has its own; empty elsewhere.
    pub(crate) code: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfLookup {
    protocol: &'static str,
    kind: &'static str,
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfProtocol {
    protocol: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfRefusal {
    protocol: &'static str,
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfFetch {
    kind: &'static str,
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfNamespace {
    namespace: String,
}

/// What is looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Something under a key of the client's own.
    Entry,
    /// A manifest, by its digest or a tag.
    Manifest,
    /// A blob's bytes.
    Blob,
    /// Whether a blob is there.
    Presence,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Entry => "entry",
            Self::Manifest => "manifest",
            Self::Blob => "blob",
            Self::Presence => "presence",
        }
    }
}

/// What another registry is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Upstream {
    /// What a tag stands for.
    Check,
    /// A repository's tags.
    Tags,
    /// A manifest.
    Manifest,
    /// A blob.
    Blob,
}

impl Upstream {
    fn name(self) -> &'static str {
        match self {
            Self::Check => "check",
            Self::Tags => "tags",
            Self::Manifest => "manifest",
            Self::Blob => "blob",
        }
    }
}

/// What is counted of each protocol's every request.
#[derive(Debug, Clone)]
pub(crate) struct OfEach {
    pub(crate) seconds: Histogram,
    pub(crate) received: Count,
    pub(crate) sent: Count,
}

/// How full the store is, as its owner tells it.
#[derive(Debug, Clone, Default)]
pub struct Occupancy {
    store: Level,
    soft_limit: Level,
    hard_limit: Level,
    sweeps: Count,
    swept: Count,
}

impl Occupancy {
    /// The store takes so many bytes now.
    pub fn takes(&self, bytes: u64) {
        self.store.set(level(bytes));
    }

    /// The sizes in bytes above which it is swept, and above which nothing is written.
    pub fn limits(&self, soft: Option<u64>, hard: Option<u64>) {
        self.soft_limit.set(soft.map_or(0, level));
        self.hard_limit.set(hard.map_or(0, level));
    }

    /// It was swept, and so many bytes became free.
    pub fn swept(&self, bytes: u64) {
        self.sweeps.inc();
        self.swept.inc_by(bytes);
    }
}

fn level(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct OfFar {
    pub(crate) operation: &'static str,
    pub(crate) outcome: &'static str,
}

/// What is counted about the far tier.
#[derive(Clone, Default)]
pub(crate) struct FarMetrics {
    pub(crate) requests: Family<OfFar, Counter<u64, AtomicU64>>,
    pub(crate) up: Gauge<i64, AtomicI64>,
    pub(crate) queue: Gauge<i64, AtomicI64>,
}

/// All counters.
pub(crate) struct Metrics {
    registry: Registry,
    pub(crate) requests: Family<OfRequest, Count>,
    lookups: Family<OfLookup, Count>,
    refused: Family<OfRefusal, Count>,
    each: BTreeMap<&'static str, OfEach>,
    /// For a protocol that has no name here.
    other: OfEach,
    fetches: Family<OfFetch, Count>,
    pub(crate) fetched_bytes: Count,
    pub(crate) connections: Level,
    pub(crate) occupancy: Occupancy,
    used: Family<OfNamespace, Level>,
    quota: Family<OfNamespace, Level>,
}

impl Metrics {
    /// `connections`: how many there may be.
    pub(crate) fn new(protocols: &[&'static str], connections: usize) -> Self {
        let mut registry = Registry::with_prefix("strata");
        let requests = Family::default();
        registry.register("requests", "Requests that were answered", requests.clone());
        let lookups = Family::default();
        registry.register("lookups", "What was looked up, hit or miss", lookups.clone());
        let refused = Family::default();
        let help = "Requests that were refused, by why";
        registry.register("refused_requests", help, refused.clone());
        let buckets = || Histogram::new(exponential_buckets(0.0005, 4.0, 10));
        let seconds: Family<OfProtocol, Histogram> = Family::new_with_constructor(buckets);
        let help = "Time to the head of the answer, in seconds";
        registry.register("request_duration_seconds", help, seconds.clone());
        let (received, sent) = (Family::<OfProtocol, Count>::default(), Family::default());
        registry.register("received_bytes", "Bytes of requests' bodies", received.clone());
        registry.register("sent_bytes", "Bytes of answers' bodies", sent.clone());
        let of_each = |protocol: &'static str| {
            let label = OfProtocol { protocol };
            OfEach {
                seconds: seconds.get_or_create(&label).clone(),
                received: received.get_or_create(&label).clone(),
                sent: Family::<OfProtocol, Count>::get_or_create(&sent, &label).clone(),
            }
        };
        let (fetches, fetched_bytes) = (Family::default(), Count::default());
        let help = "What other registries were asked for";
        registry.register("upstream_requests", help, fetches.clone());
        let help = "Bytes of blobs that came from there";
        registry.register("upstream_received_bytes", help, fetched_bytes.clone());
        let (open, most) = (Level::default(), Level::default());
        registry.register("connections", "Connections that are open", open.clone());
        registry.register("connections_limit", "How many there may be", most.clone());
        most.set(i64::try_from(connections).unwrap_or(i64::MAX));
        let (used, quota) = (Family::default(), Family::default());
        let help = "What a namespace with a quota takes, in bytes";
        registry.register("namespace_bytes", help, used.clone());
        registry.register("namespace_quota_bytes", "Its quota", quota.clone());
        let occupancy = Occupancy::default();
        occupancy.register(&mut registry);
        let each = protocols.iter().map(|protocol| (*protocol, of_each(protocol))).collect();
        let other = of_each("other");
        let connections = open;
        Self {
            registry,
            requests,
            lookups,
            refused,
            each,
            other,
            fetches,
            fetched_bytes,
            connections,
            occupancy,
            used,
            quota,
        }
    }

    /// What is counted of this protocol's every request.
    pub(crate) fn of(&self, protocol: &'static str) -> &OfEach {
        self.each.get(protocol).unwrap_or(&self.other)
    }

    /// Counters of the far tier, where there is one.
    pub(crate) fn of_far(&mut self) -> FarMetrics {
        let far = FarMetrics::default();
        let help = "Questions to the far tier, by what was asked and what came of it";
        self.registry.register("far_requests", help, far.requests.clone());
        let help = "Whether the far tier answers: 1, or 0 while it is left alone";
        self.registry.register("far_up", help, far.up.clone());
        let help = "What is still to be sent to the far tier";
        self.registry.register("far_queue", help, far.queue.clone());
        far
    }

    /// Counts a look-up.
    pub(crate) fn looked_up(&self, protocol: &'static str, kind: Kind, is_hit: bool) {
        self.count(protocol, kind, usize::from(is_hit), usize::from(!is_hit));
    }

    /// Counts several of them.
    pub(crate) fn count(&self, protocol: &'static str, kind: Kind, hits: usize, misses: usize) {
        for (outcome, number) in [("hit", hits), ("miss", misses)] {
            if number > 0 {
                let label = OfLookup { protocol, kind: kind.name(), outcome };
                self.lookups.get_or_create(&label).inc_by(number as u64);
            }
        }
    }

    /// What counts the entries that this protocol finds.
    pub(crate) fn hits(&self, protocol: &'static str) -> Count {
        let label = OfLookup { protocol, kind: Kind::Entry.name(), outcome: "hit" };
        self.lookups.get_or_create(&label).clone()
    }

    /// Counts what another registry has answered.
    pub(crate) fn fetched(&self, what: Upstream, outcome: &'static str) {
        self.fetches.get_or_create(&OfFetch { kind: what.name(), outcome }).inc();
    }

    /// Counts a refusal.
    pub(crate) fn refuse(&self, protocol: &'static str, reason: &'static str) {
        self.refused.get_or_create(&OfRefusal { protocol, reason }).inc();
    }

    /// The page for Prometheus.
    pub(crate) fn page(&self, quotas: &Quotas) -> String {
        for quota in quotas.all() {
            let label = OfNamespace { namespace: quota.namespace.clone() };
            self.used.get_or_create(&label).set(level(quota.used_bytes()));
            self.quota.get_or_create(&label).set(level(quota.limit_bytes));
        }
        let mut text = String::new();
        match encode(&mut text, &self.registry) {
            Ok(()) => text,
            Err(_) => String::new(),
        }
    }
}

impl Occupancy {
    fn register(&self, registry: &mut Registry) {
        let Self { store, soft_limit, hard_limit, sweeps, swept } = self;
        registry.register("store_bytes", "What the store takes, in bytes", store.clone());
        let help = "Above so many bytes it is swept; 0 for no limit";
        registry.register("store_soft_limit_bytes", help, soft_limit.clone());
        let help = "Above so many bytes nothing is written; 0 for no limit";
        registry.register("store_hard_limit_bytes", help, hard_limit.clone());
        registry.register("sweeps", "Sweeps for the soft limit", sweeps.clone());
        registry.register("swept_bytes", "What became free with them", swept.clone());
    }
}
