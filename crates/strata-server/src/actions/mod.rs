//! GitHub's cache for actions, version 2 (`@actions/cache`, sccache, BuildKit's `type=gha`): three
//! calls in twirp's words, JSON or protocol buffers, that hand out addresses; at those, bytes go
//! in and out as Azure's block blobs do.
//!
//! GitHub documents none of it, so it is served only where the configuration says so. Entries are
//! never replaced. Who may read an entry is asked when the address is given out: an address is
//! signed, holds for an hour, and needs no token.

mod blobs;
mod entries;
mod words;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use http::{Method, Response};
use ring::hmac;
use ring::rand::{SecureRandom as _, SystemRandom};
use strata_cas::BlobId;

use crate::access::Caller;
use crate::body::Body;
use crate::fault::Fault;
use crate::request::Asked;
use crate::site::Site;

pub(crate) use blobs::bearer;
pub(crate) use words::refuse;

/// The calls' path, before their names.
pub(crate) const CALLS: &str = "/twirp/github.actions.results.api.v1.CacheService/";
/// The addresses' path. Azure's clients want three parts.
pub(crate) const BLOBS: &str = "/actions-cache/";

/// An upload that nobody goes on with is given up after so long.
const IDLE: Duration = Duration::from_secs(3600);
const OPEN: usize = 1024;
/// Azure's own limit.
const BLOCKS: usize = 50_000;

/// What is under way, and what addresses are signed with.
pub(crate) struct Actions {
    key: hmac::Key,
    random: SystemRandom,
    scheme: &'static str,
    uploads: Mutex<HashMap<String, Upload>>,
}

/// Bytes that are in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Piece {
    id: BlobId,
    size: u64,
}

/// What an entry is found by.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Slot {
    version: String,
    key: String,
}

impl Slot {
    fn new(version: String, key: String) -> Result<Self, Fault> {
        let sign = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        if version.is_empty() || version.len() > 128 || !version.bytes().all(sign) {
            return Err(Fault::invalid("a version has letters, digits, `.`, `_` and `-`"));
        }
        let is_fine = |key: &str| !key.contains(',') && !key.chars().any(char::is_control);
        if key.is_empty() || key.len() > 512 || !is_fine(&key) {
            return Err(Fault::invalid("a key has 512 bytes at most, and no comma"));
        }
        Ok(Self { version, key })
    }

    fn space(&self) -> String {
        format!("actions-cache/{}", self.version)
    }
}

/// An entry on its way in.
struct Upload {
    caller: Caller,
    slot: Slot,
    touched: Instant,
    /// How many bytes have come.
    came: u64,
    blocks: HashMap<String, Piece>,
    /// All of it, in order.
    whole: Option<Vec<Piece>>,
}

impl Actions {
    /// `is_tls`: how clients reach this server. None where the system gives no random bytes.
    pub(crate) fn new(is_tls: bool) -> Option<Self> {
        let random = SystemRandom::new();
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &random).ok()?;
        let scheme = if is_tls { "https" } else { "http" };
        Some(Self { key, random, scheme, uploads: Mutex::default() })
    }

    fn uploads(&self) -> MutexGuard<'_, HashMap<String, Upload>> {
        self.uploads.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(&self, caller: Caller, slot: Slot) -> Result<String, Fault> {
        let mut random = [0; 16];
        let filled = self.random.fill(&mut random);
        filled.map_err(|_| Fault::Internal("the system gives no random bytes".to_owned()))?;
        let id: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
        let mut uploads = self.uploads();
        uploads.retain(|_, upload| upload.touched.elapsed() < IDLE);
        if uploads.len() >= OPEN {
            return Err(Fault::Busy("too many uploads are under way".to_owned()));
        }
        let (touched, blocks) = (Instant::now(), HashMap::new());
        let upload = Upload { caller, slot, touched, came: 0, blocks, whole: None };
        uploads.insert(id.clone(), upload);
        Ok(id)
    }

    /// Takes the upload of a slot out whose bytes are all there.
    fn finish(&self, caller: &Caller, slot: &Slot) -> Result<Vec<Piece>, Fault> {
        let mut uploads = self.uploads();
        let is_it = |upload: &Upload| {
            upload.whole.is_some() && upload.slot == *slot && upload.caller.name == caller.name
        };
        let newest = uploads.iter().filter(|(_, upload)| is_it(upload));
        let newest = newest.max_by_key(|(_, upload)| upload.touched).map(|(id, _)| id.clone());
        let upload = newest.and_then(|id| uploads.remove(&id));
        let whole = upload.and_then(|upload| upload.whole);
        whole.ok_or_else(|| Fault::invalid("nothing was uploaded for this key and version"))
    }

    /// Where a client finds a path of this server, by what it has called the server itself.
    fn address(&self, asked: &Asked, path: &str) -> Result<String, Fault> {
        let host = asked.header(http::header::HOST).or(asked.authority.as_deref());
        let host = host.ok_or_else(|| Fault::invalid("the request does not say to which host"))?;
        let scheme = match asked.header("x-forwarded-proto") {
            Some("https") => "https",
            _ => self.scheme,
        };
        Ok(format!("{scheme}://{host}{BLOBS}{path}"))
    }

    fn sign(&self, text: &str) -> String {
        let tag = hmac::sign(&self.key, text.as_bytes());
        tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn is_signed(&self, text: &str, signature: &str) -> bool {
        let pair = |at| signature.get(at..at + 2).and_then(|two| u8::from_str_radix(two, 16).ok());
        let tag: Option<Vec<u8>> = (0..signature.len()).step_by(2).map(pair).collect();
        tag.is_some_and(|tag| hmac::verify(&self.key, text.as_bytes(), &tag).is_ok())
    }
}

/// Answers a call.
pub(crate) async fn call(site: &Arc<Site>, asked: Asked) -> Result<Response<Body>, Fault> {
    let actions = site.actions.as_ref().ok_or(Fault::NotFound)?;
    if asked.method != Method::POST {
        return Err(Fault::Method);
    }
    match asked.path.strip_prefix(CALLS).unwrap_or_default() {
        "CreateCacheEntry" => entries::create(site, actions, asked).await,
        "FinalizeCacheEntryUpload" => entries::finalize(site, actions, asked).await,
        "GetCacheEntryDownloadURL" => entries::find(site, actions, asked).await,
        _ => Err(Fault::NotFound),
    }
}

/// Answers at an address that was given out.
pub(crate) async fn blob(site: &Arc<Site>, asked: Asked) -> Result<Response<Body>, Fault> {
    let actions = site.actions.as_ref().ok_or(Fault::NotFound)?;
    let path = asked.path.clone();
    match path.strip_prefix(BLOBS).and_then(|rest| rest.split_once('/')) {
        // Its id is in the query, which no log shows.
        Some(("uploads", "entry")) if asked.method == Method::PUT => {
            blobs::put(site, actions, asked).await
        }
        Some(("entries", what)) => blobs::get(site, actions, asked, what).await,
        _ => Err(Fault::NotFound),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_believed_only_as_it_was_signed() {
        let actions = Actions::new(false).expect("random bytes");
        let signature = actions.sign("a");
        assert!(actions.is_signed("a", &signature));
        for (text, signature) in [
            ("b", &*signature),
            ("a", ""),
            ("a", "zz"),
            ("a", &signature[2..]),
            ("a", &Actions::new(false).expect("random bytes").sign("a")),
            ("a", "ää"),
        ] {
            assert!(!actions.is_signed(text, signature), "{text} {signature}");
        }
    }

    #[test]
    fn slots() {
        let check = |version: &str, key: &str, is_fine| {
            let slot = Slot::new(version.to_owned(), key.to_owned());
            assert_eq!(slot.is_ok(), is_fine, "{version} {key}");
        };
        check("abc123", "Linux-node-../x y", true);
        check("a/b", "k", false);
        check("", "k", false);
        check("v", "", false);
        check("v", "a,b", false);
        check("v", "a\nb", false);
        check("v", &"k".repeat(513), false);
    }
}
