//! Which protocol a request speaks, and what is done for every one of them: who asks is found
//! out, the answer is counted and told.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{Method, Request, Response, StatusCode};

use crate::access::{Access, Caller};
use crate::actions::{self, Actions};
use crate::body::Body;
use crate::depot::Depot;
use crate::fault::Fault;
use crate::flow::{Arriving, Flow, outbound};
use crate::metrics::{Metrics, OfRequest};
use crate::oci::mirror::{Mirrors, Way};
use crate::oci::{self, Uploads};
use crate::rates::{Pace, Rates, Who};
use crate::ready::Ready;
use crate::reapi::{self, Writes};
use crate::request::{Asked, plain, refuse, with_body};
use crate::server::{Observer, Told};
use crate::tier::Tier;
use crate::{bazel, nx, turbo, values};

/// All that is served.
pub(crate) struct Site {
    pub(crate) depot: Arc<Depot>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) mirrors: Arc<Mirrors>,
    pub(crate) uploads: Uploads,
    pub(crate) writes: Arc<Writes>,
    /// Where it is to be served.
    pub(crate) actions: Option<Actions>,
    /// Answers that were given lately.
    pub(crate) ready: Ready,
    pub(crate) access: Access,
    pub(crate) rates: Rates,
    pub(crate) observer: Observer,
}

/// What a path asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    Oci,
    Values,
    Turbo,
    Nx,
    Actions,
    ActionsBlob,
    Reapi,
    Bazel,
    Health,
    Metrics,
    Unknown,
}

impl Protocol {
    /// All names.
    pub(crate) const NAMES: [&str; 10] = [
        "oci", "values", "turbo", "nx", "actions", "reapi", "bazel", "health", "metrics", "unknown",
    ];

    fn of(path: &str) -> Self {
        let is_below = |prefix: &str| path.strip_prefix(prefix).is_some_and(|r| r.starts_with('/'));
        match path {
            "/healthz" | "/readyz" => Self::Health,
            "/metrics" => Self::Metrics,
            "/v2" => Self::Oci,
            _ if is_below("/v2") => Self::Oci,
            _ if is_below("/v8/artifacts") || path == "/v8/artifacts" => Self::Turbo,
            _ if is_below("/v1/cache") => Self::Nx,
            _ if is_below("/cache") => Self::Values,
            _ if path.starts_with(actions::CALLS) => Self::Actions,
            _ if path.starts_with(actions::BLOBS) => Self::ActionsBlob,
            _ if bazel::parse(path).is_some() => Self::Bazel,
            _ => Self::Unknown,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Oci => "oci",
            Self::Values => "values",
            Self::Turbo => "turbo",
            Self::Nx => "nx",
            Self::Actions | Self::ActionsBlob => "actions",
            Self::Reapi => "reapi",
            Self::Bazel => "bazel",
            Self::Health => "health",
            Self::Metrics => "metrics",
            Self::Unknown => "unknown",
        }
    }
}

impl Site {
    pub(crate) fn new(
        depot: Arc<Depot>,
        (access, rates): (Access, Rates),
        actions: Option<Actions>,
        (metrics, mirrors): (Metrics, Mirrors),
        observer: Observer,
    ) -> Self {
        let (uploads, writes) = (Uploads::default(), Arc::default());
        let (metrics, mirrors) = (Arc::new(metrics), Arc::new(mirrors));
        let ready = Ready::default();
        Self { depot, metrics, mirrors, uploads, writes, actions, ready, access, rates, observer }
    }

    /// The way to other registries.
    pub(crate) fn way(&self) -> Way {
        let (mirrors, depot) = (Arc::clone(&self.mirrors), Arc::clone(&self.depot));
        Way { mirrors, depot, metrics: Arc::clone(&self.metrics) }
    }

    /// Answers a request.
    pub(crate) async fn answer(
        self: &Arc<Self>,
        request: Request<Arriving>,
        peer: SocketAddr,
    ) -> Response<Body> {
        let start = Instant::now();
        let (method, path) = (request.method().clone(), Arc::<str>::from(request.uri().path()));
        let kind = request.headers().get(CONTENT_TYPE).map(http::HeaderValue::as_bytes);
        let protocol = match kind.is_some_and(|kind| kind.starts_with(b"application/grpc")) {
            true => Protocol::Reapi,
            false => Protocol::of(&path),
        };
        let each = self.metrics.of(protocol.name());
        let (caller, pace, response) = self.dispatch(protocol, request, peer).await;
        let took = start.elapsed();
        let (method_name, code) = match protocol {
            Protocol::Reapi => (reapi::method(&path), reapi::code(response.headers())),
            _ => (known(&method), ""),
        };
        let status = response.status().as_u16();
        let of_request = OfRequest { protocol: protocol.name(), method: method_name, status, code };
        self.metrics.requests.get_or_create(&of_request).inc();
        each.seconds.observe(took.as_secs_f64());
        let why = response.headers().get(reapi::REFUSED).and_then(|why| why.to_str().ok());
        if let Some(why) = why.and_then(Fault::known_refusal) {
            self.metrics.refuse(protocol.name(), why);
        }
        let length = response.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok());
        (self.observer)(&Told {
            caller: caller.into(),
            peer,
            method: known(&method),
            path,
            protocol: protocol.name(),
            status,
            bytes: length.and_then(|length| length.parse().ok()),
            micros: u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
        });
        response.map(|body| outbound(body, each.sent.clone(), pace))
    }

    async fn dispatch(
        self: &Arc<Self>,
        protocol: Protocol,
        request: Request<Arriving>,
        peer: SocketAddr,
    ) -> (String, Option<Arc<Pace>>, Response<Body>) {
        let asked = request.uri().path();
        match protocol {
            Protocol::Health => return (String::new(), None, self.health(asked).await),
            // A browser's question before the question carries no token.
            Protocol::Turbo if request.method() == Method::OPTIONS => {
                return (String::new(), None, turbo::preflight());
            }
            _ => {}
        }
        let word = |fault: Fault| self.word(protocol, fault);
        let known = match protocol {
            // The address says itself what may be done.
            Protocol::ActionsBlob => Ok(Arc::new(actions::bearer())),
            _ => self.access.caller(request.headers()),
        };
        // Who guesses tokens is counted, too.
        let who = match &known {
            Ok(caller) if caller.is_token => Who::Token(caller.name.clone()),
            _ => Who::address(peer.ip()),
        };
        let pace = self.rates.of(who);
        let is_in_time = pace.as_ref().map_or(Ok(()), |pace| pace.request(Instant::now()));
        let follows = self.depot.tier.as_ref().is_some_and(Tier::follows);
        let caller = match is_in_time.and(known) {
            // What it wrote would be nowhere else.
            Ok(caller) => Caller { writes: caller.writes && !follows, ..(*caller).clone() },
            Err(fault) => return (String::new(), None, word(fault)),
        };
        let name = caller.name.clone();
        let received = self.metrics.of(protocol.name()).received.clone();
        let request = request.map(|body| Flow::new(body, received, pace.clone()));
        let answer = async {
            caller.may_read()?;
            if protocol == Protocol::Reapi {
                return Ok(reapi::answer(self, caller, request).await);
            }
            let asked = Asked::new(request, caller)?;
            match protocol {
                Protocol::Oci => oci::answer(self, asked).await,
                Protocol::Values => values::answer(self, asked).await,
                Protocol::Turbo => turbo::answer(self, asked).await,
                Protocol::Nx => nx::answer(self, asked).await,
                Protocol::Actions => actions::call(self, asked).await,
                Protocol::ActionsBlob => actions::blob(self, asked).await,
                Protocol::Bazel => bazel::answer(self, asked).await,
                Protocol::Metrics => {
                    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
                    Ok(with_body(StatusCode::OK, kind, self.metrics.page(&self.depot.quotas)))
                }
                Protocol::Reapi | Protocol::Health | Protocol::Unknown => Err(Fault::NotFound),
            }
        };
        (name, pace, answer.await.unwrap_or_else(word))
    }

    /// A fault in a protocol's own words.
    fn word(&self, protocol: Protocol, fault: Fault) -> Response<Body> {
        // Those in a gRPC call are counted by what their answers say, like this one.
        if let Some(why) = fault.refusal().filter(|_| protocol != Protocol::Reapi) {
            self.metrics.refuse(protocol.name(), why);
        }
        match protocol {
            Protocol::Oci => oci::refuse(&fault),
            Protocol::Reapi => reapi::refuse(fault),
            Protocol::Actions => actions::refuse(&fault),
            _ => refuse(&fault),
        }
    }

    /// Alive is who answers; ready is who can ask the store.
    async fn health(&self, path: &str) -> Response<Body> {
        if path == "/healthz" {
            return with_body(StatusCode::OK, "text/plain", "alive\n");
        }
        let depot = Arc::clone(&self.depot);
        let ready = crate::body::blocking(move || Ok(depot.store.name("ready", "ready")?));
        match ready.await {
            Ok(_) => with_body(StatusCode::OK, "text/plain", "ready\n"),
            Err(_) => plain(StatusCode::SERVICE_UNAVAILABLE),
        }
    }
}

/// A method's name, if it is one that anything here speaks: a client's own inventions do not
/// become labels.
fn known(method: &Method) -> &'static str {
    let all = ["GET", "HEAD", "PUT", "POST", "PATCH", "DELETE", "OPTIONS", "PROPFIND", "MKCOL"];
    all.into_iter().find(|known| *known == method.as_str()).unwrap_or("other")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_lead_to_protocols() {
        for (path, protocol) in [
            ("/v2/", Protocol::Oci),
            ("/v2", Protocol::Oci),
            ("/v2/a/b/tags/list", Protocol::Oci),
            ("/v22/", Protocol::Unknown),
            ("/v8/artifacts/x", Protocol::Turbo),
            ("/v8/artifacts", Protocol::Turbo),
            ("/v1/cache/1", Protocol::Nx),
            ("/cache/ccache/ab/c", Protocol::Values),
            ("/cache", Protocol::Unknown),
            ("/metrics", Protocol::Metrics),
            ("/twirp/github.actions.results.api.v1.CacheService/X", Protocol::Actions),
            ("/actions-cache/uploads/x", Protocol::ActionsBlob),
            ("/", Protocol::Unknown),
        ] {
            assert_eq!(Protocol::of(path), protocol, "{path}");
        }
    }
}
