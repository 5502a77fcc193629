//! The three calls. An entry's body is the list of its pieces, and needs them: blocks stay as they
//! came, and nothing is copied.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::Response;
use strata_cas::BlobId;
use strata_cas::entry::{Entry, Need};

use super::words::{self, Create, Finalize, Find};
use super::{Actions, Piece, Slot};
use crate::access::Caller;
use crate::body::{Body, blocking};
use crate::depot::{Content, Depot, Value, now};
use crate::fault::Fault;
use crate::metrics::Kind;
use crate::request::Asked;
use crate::site::Site;

/// In seconds.
const HOUR: u64 = 3600;

/// The same caller, who reads one namespace alone.
fn only(caller: &Caller, namespace: &str) -> Caller {
    Caller { namespaces: vec![namespace.to_owned()], ..caller.clone() }
}

fn check_is_new(depot: &Depot, caller: &Caller, slot: &Slot) -> Result<(), Fault> {
    let own = only(caller, caller.namespace());
    match depot.entry(&own, &slot.space(), &slot.key)? {
        Some(_) => Err(Fault::Conflict(format!("there is an entry `{}` already", slot.key))),
        None => Ok(()),
    }
}

/// Begins an entry, and says where its bytes are to go.
pub(super) async fn create(
    site: &Arc<Site>,
    actions: &Actions,
    mut asked: Asked,
) -> Result<Response<Body>, Fault> {
    let Create { key, version } = words::read(&mut asked).await?;
    asked.caller.may_write()?;
    let slot = Slot::new(version, key)?;
    let (depot, caller, its) = (Arc::clone(&site.depot), asked.caller.clone(), slot.clone());
    blocking(move || check_is_new(&depot, &caller, &its)).await?;
    let id = actions.begin(asked.caller.clone(), slot)?;
    let address = actions.address(&asked, &format!("uploads/entry?id={id}"))?;
    Ok(words::address(&asked, "signed_upload_url", Some((address, String::new()))))
}

/// Keeps an entry whose bytes have come.
pub(super) async fn finalize(
    site: &Arc<Site>,
    actions: &Actions,
    mut asked: Asked,
) -> Result<Response<Body>, Fault> {
    let Finalize { key, size_bytes, version } = words::read(&mut asked).await?;
    asked.caller.may_write()?;
    let slot = Slot::new(version, key)?;
    let pieces = actions.finish(&asked.caller, &slot)?;
    let size: u64 = pieces.iter().map(|piece| piece.size).sum();
    // Some clients do not say it.
    if size_bytes != 0 && u64::try_from(size_bytes) != Ok(size) {
        let text = format!("{size} bytes came, and {size_bytes} were announced");
        return Err(Fault::Mismatch(text));
    }
    let hash = BlobId::of(format!("{}\0{}", slot.version, slot.key).as_bytes());
    let (depot, caller) = (Arc::clone(&site.depot), asked.caller.clone());
    blocking(move || keep(&depot, &caller, &slot, &pieces)).await?;
    let mut id = [0; 8];
    id.copy_from_slice(&hash.as_bytes()[..8]);
    Ok(words::finalized(&asked, i64::from_be_bytes(id) & i64::MAX))
}

fn keep(depot: &Depot, caller: &Caller, slot: &Slot, pieces: &[Piece]) -> Result<(), Fault> {
    check_is_new(depot, caller, slot)?;
    let list: String = pieces.iter().map(|Piece { id, size }| format!("{id} {size}\n")).collect();
    let body = depot.keep_bare_bytes(caller, list.as_bytes())?;
    let needs = pieces.iter().map(|piece| Need::Blob(piece.id)).collect();
    let value = Value { needs, ..Value::default() };
    depot.set_entry(caller, (&slot.space(), &slot.key), body, value)?;
    Ok(())
}

/// The pieces of an entry.
pub(super) fn pieces(depot: &Depot, entry: &Entry) -> Result<Option<Vec<Piece>>, Fault> {
    let content = Content::of_entry(entry);
    let Some(bytes) = depot.read(&content)? else { return Ok(None) };
    Ok(parse(&bytes))
}

fn parse(bytes: &Bytes) -> Option<Vec<Piece>> {
    let line = |line: &str| {
        let (id, size) = line.split_once(' ')?;
        Some(Piece { id: id.parse().ok()?, size: size.parse().ok()? })
    };
    std::str::from_utf8(bytes).ok()?.lines().map(line).collect()
}

/// Finds an entry, and says where its bytes are.
pub(super) async fn find(
    site: &Arc<Site>,
    actions: &Actions,
    mut asked: Asked,
) -> Result<Response<Body>, Fault> {
    let Find { key, restore_keys, version } = words::read(&mut asked).await?;
    let slot = Slot::new(version, key)?;
    let (depot, caller, its) = (Arc::clone(&site.depot), asked.caller.clone(), slot.clone());
    let found = blocking(move || best(&depot, &caller, &its, &restore_keys)).await?;
    site.metrics.looked_up("actions", Kind::Entry, found.is_some());
    let address = match found {
        Some((namespace, key)) => {
            let until = now() + HOUR;
            let what = Found { namespace, slot: Slot { key, ..slot }, until };
            let text = what.text();
            let query = format!("se={until}&sig={}", actions.sign(&text));
            let path = format!("entries/{}?{query}", URL_SAFE_NO_PAD.encode(&text));
            Some((actions.address(&asked, &path)?, what.slot.key))
        }
        None => None,
    };
    Ok(words::address(&asked, "signed_download_url", address))
}

/// As GitHub looks: the key itself, what begins with it, what begins with one of the others in
/// their order, the newest of several; and all of that in the caller's own namespace first.
fn best(
    depot: &Depot,
    caller: &Caller,
    slot: &Slot,
    others: &[String],
) -> Result<Option<(String, String)>, Fault> {
    let space = slot.space();
    for namespace in &caller.namespaces {
        let own = only(caller, namespace);
        if depot.entry(&own, &space, &slot.key)?.is_some() {
            return Ok(Some((namespace.clone(), slot.key.clone())));
        }
        let mut all: Vec<_> = depot.entries(&own, &space)?.into_iter().collect();
        all.sort_by_key(|(_, entry)| std::cmp::Reverse(entry.written));
        for prefix in [&slot.key].into_iter().chain(others) {
            for (name, _) in all.iter().filter(|(name, _)| name.starts_with(prefix)) {
                if depot.entry(&own, &space, name)?.is_some() {
                    return Ok(Some((namespace.clone(), name.clone())));
                }
            }
        }
    }
    Ok(None)
}

/// What an address leads to.
pub(super) struct Found {
    namespace: String,
    slot: Slot,
    until: u64,
}

impl Found {
    fn text(&self) -> String {
        let Self { namespace, slot, until } = self;
        format!("{until}\n{namespace}\n{}\n{}", slot.version, slot.key)
    }

    /// Reads an address; none where it is not one that was given out, or has run out.
    pub(super) fn of(actions: &Actions, asked: &Asked, what: &str) -> Option<Self> {
        let text = String::from_utf8(URL_SAFE_NO_PAD.decode(what).ok()?).ok()?;
        if !actions.is_signed(&text, asked.parameter("sig")?) {
            return None;
        }
        let mut parts = text.splitn(4, '\n');
        let until = parts.next()?.parse().ok().filter(|until| *until >= now())?;
        let namespace = parts.next()?.to_owned();
        let (version, key) = (parts.next()?.to_owned(), parts.next()?.to_owned());
        Some(Self { namespace, slot: Slot { version, key }, until })
    }

    /// The pieces that it leads to.
    pub(super) fn pieces(&self, depot: &Depot, caller: &Caller) -> Result<Vec<Piece>, Fault> {
        let own = only(caller, &self.namespace);
        let entry = depot.entry(&own, &self.slot.space(), &self.slot.key)?;
        let pieces = entry.map(|entry| pieces(depot, &entry)).transpose()?.flatten();
        pieces.ok_or(Fault::NotFound)
    }
}
