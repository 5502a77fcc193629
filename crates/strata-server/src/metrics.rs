//! What is counted, in Prometheus' words.

use std::sync::atomic::{AtomicI64, AtomicU64};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct OfRequest {
    pub(crate) protocol: &'static str,
    pub(crate) method: String,
    pub(crate) status: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct OfLookup {
    pub(crate) protocol: &'static str,
    pub(crate) outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct OfProtocol {
    pub(crate) protocol: &'static str,
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
    pub(crate) requests: Family<OfRequest, Counter<u64, AtomicU64>>,
    pub(crate) lookups: Family<OfLookup, Counter<u64, AtomicU64>>,
    pub(crate) seconds: Family<OfProtocol, Histogram>,
    pub(crate) connections: Gauge<i64, AtomicI64>,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let mut registry = Registry::with_prefix("strata");
        let requests = Family::default();
        registry.register("requests", "Requests that were answered", requests.clone());
        let lookups = Family::default();
        registry.register("lookups", "Look-ups of entries, hit or miss", lookups.clone());
        let buckets = || Histogram::new(exponential_buckets(0.0005, 4.0, 10));
        let seconds: Family<OfProtocol, Histogram> = Family::new_with_constructor(buckets);
        let help = "Time to the head of the answer, in seconds";
        registry.register("request_duration_seconds", help, seconds.clone());
        let connections = Gauge::default();
        registry.register("connections", "Connections that are open", connections.clone());
        Self { registry, requests, lookups, seconds, connections }
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
    pub(crate) fn looked_up(&self, protocol: &'static str, is_hit: bool) {
        let outcome = if is_hit { "hit" } else { "miss" };
        self.lookups.get_or_create(&OfLookup { protocol, outcome }).inc();
    }

    /// The page for Prometheus.
    pub(crate) fn page(&self) -> String {
        let mut text = String::new();
        match encode(&mut text, &self.registry) {
            Ok(()) => text,
            Err(_) => String::new(),
        }
    }
}
