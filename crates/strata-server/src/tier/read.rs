//! What is not near is looked up far away, checked, and kept near.

use std::io::{self, Write};
use std::sync::Arc;

use sha2::{Digest as _, Sha256};
use strata_cas::entry::Entry;
use strata_cas::{BlobId, Incoming};
use strata_oci::far::{FarBlob, FarName, FarRecord};
use strata_oci::{Digest, blobs};

use super::arrivals::{Arrival, Begun, End};
use super::flights::Turn;
use super::{Away, Tier};
use crate::depot::Depot;
use crate::fault::Fault;

/// So many records of a list are fetched at a time.
const AT_A_TIME: usize = 16;
/// Of a longer list no more are fetched.
const LISTED: usize = 10_000;

/// How an entry is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Look {
    /// What is known lately will do.
    Lately,
    /// It must be the latest.
    Now,
}

/// Whether entries of a space may be replaced by other ones that mean something else. The others
/// are keyed by all that they depend on.
fn replaceable(table: &str) -> Option<Look> {
    let space = table.splitn(3, '/').nth(2).unwrap_or_default();
    match space {
        // What was pushed last is what is pulled.
        _ if space.starts_with("oci-tags/") => Some(Look::Now),
        _ if space.starts_with("values/") => Some(Look::Lately),
        _ => None,
    }
}

impl Depot {
    /// The blob's id near, where it is there now; fetched if need be.
    pub(crate) fn fetch(&self, tier: &Tier, name: FarName) -> Result<Option<BlobId>, Fault> {
        self.fetch_by(tier, name, None)
    }

    /// The same for one that is to be read while it comes.
    pub(crate) fn follow(self: &Arc<Self>, tier: &Tier, name: FarName) -> Result<Begun, Fault> {
        if let Some(id) = self.near_id(&name)? {
            return Ok(Begun::Near(id));
        }
        let (arrival, is_new) = tier.arrivals.join(name);
        if is_new {
            let (depot, its) = (Arc::clone(self), Arc::clone(&arrival));
            // However slow whoever reads it is, it comes at its own pace.
            let thread = std::thread::Builder::new().name("strata-fetch".to_owned());
            let spawned = thread.spawn(move || {
                let Some(tier) = &depot.tier else { return };
                let fetch = || depot.fetch_by(tier, name, Some(&its));
                let fetched = std::panic::catch_unwind(std::panic::AssertUnwindSafe(fetch));
                let bug = |_| Err(Fault::Internal("the server has a bug".to_owned()));
                tier.arrivals.end(&name, End::of(fetched.unwrap_or_else(bug)));
            });
            if let Err(error) = spawned {
                tier.arrivals.end(&name, End::Failed(error.to_string()));
            }
        }
        arrival.begun()
    }

    fn fetch_by(
        &self,
        tier: &Tier,
        name: FarName,
        arrival: Option<&Arrival>,
    ) -> Result<Option<BlobId>, Fault> {
        if let Some(id) = self.near_id(&name)? {
            return Ok(Some(id));
        }
        let _flight = match tier.flights.begin(name.to_string()) {
            Turn::Ask(flight) => flight,
            Turn::Asked => return self.near_id(&name),
        };
        // It may have come in between.
        if let Some(id) = self.near_id(&name)? {
            return Ok(Some(id));
        }
        let blob = FarBlob { name, size: tier.there.get(&name) };
        let mut arriving = Arriving {
            incoming: self.store.begin()?,
            sha256: Sha256::new(),
            limit: self.body_limit_bytes,
            arrival,
            fault: None,
        };
        let found = tier.ask("fetch", |far| match far.fetch(&blob, &mut arriving) {
            // Here is who failed.
            Err(_) if arriving.fault.is_some() => Ok(false),
            other => other,
        });
        if let Some(fault) = arriving.fault {
            return Err(fault);
        }
        if !found? {
            tier.there.forget(&name);
            tier.gone.set(name, ());
            return Ok(None);
        }
        let is_it = match &name {
            FarName::Sha256(digest) => {
                *digest == Digest::from_bytes(arriving.sha256.finalize().into())
            }
            FarName::Blake3(id) => *id == arriving.incoming.id(),
        };
        if !is_it {
            tier.note_damaged(name);
            return Ok(None);
        }
        let size = arriving.incoming.size();
        let id = self.store.finish(arriving.incoming)?;
        if let FarName::Sha256(digest) = &name {
            blobs::remember_soon(&*self.store, digest, &id)?;
        }
        tier.note_there(name, size);
        Ok(Some(id))
    }

    fn near_id(&self, name: &FarName) -> Result<Option<BlobId>, Fault> {
        Ok(match name {
            FarName::Sha256(digest) => blobs::known(&*self.store, digest)?,
            FarName::Blake3(id) => self.store.has(id)?.then_some(*id),
        })
    }

    /// The entry under a name, near or far, and the sizes of what it needs where they are known.
    pub(crate) fn entry_of_tiers(
        &self,
        tier: &Tier,
        (table, name): (&str, &str),
        near: Option<Entry>,
        look: Look,
    ) -> Result<(Option<Entry>, Vec<FarBlob>), Fault> {
        let key = (table.to_owned(), name.to_owned());
        // What is still to be sent is newer than what is there.
        if tier.queue.holds(table, name) {
            return Ok((near, Vec::new()));
        }
        if look == Look::Lately && self.is_known_lately(tier, &key, near.as_ref()) {
            return Ok((near, Vec::new()));
        }
        let _flight = match tier.flights.begin(format!("{table}\0{name}")) {
            Turn::Ask(flight) => flight,
            Turn::Asked => {
                let value = self.store.name(table, name)?;
                return Ok((value.and_then(|value| Entry::decode(&value)), Vec::new()));
            }
        };
        let Ok(found) = tier.ask("entry", |far| far.record(table, name)) else {
            return Ok((near, Vec::new()));
        };
        let Some(bytes) = found else {
            tier.no_record.set(key, ());
            return match near {
                // It was there, so it was taken back.
                Some(entry) if entry.far => {
                    self.store.set_name(table, name, None)?;
                    Ok((None, Vec::new()))
                }
                near => Ok((near, Vec::new())),
            };
        };
        let Some(record) = FarRecord::decode(&bytes, table, name) else {
            (tier.notice)(&format!("the far tier has no entry under `{name}` of `{table}`"));
            return Ok((near, Vec::new()));
        };
        tier.confirmed.set(key, ());
        self.take_over(record, near).map(|(entry, blobs)| (Some(entry), blobs))
    }

    /// Whether far away needs not be asked about an entry.
    fn is_known_lately(&self, tier: &Tier, key: &(String, String), near: Option<&Entry>) -> bool {
        let replaceable = replaceable(&key.0);
        match near {
            Some(near) if near.far => match replaceable {
                None => true,
                Some(Look::Lately) => tier.confirmed.get(key).is_some(),
                Some(Look::Now) => false,
            },
            // One that never went there, such as from before there was a far tier.
            Some(_) if replaceable.is_none() => true,
            _ => replaceable != Some(Look::Now) && tier.no_record.get(key).is_some(),
        }
    }

    /// Keeps near what came from far away.
    fn take_over(
        &self,
        record: FarRecord,
        near: Option<Entry>,
    ) -> Result<(Entry, Vec<FarBlob>), Fault> {
        let FarRecord { key: (table, name), entry, blobs, body } = record;
        let is_same = |near: &Entry| {
            (near.body, near.written, &near.writer) == (entry.body, entry.written, &entry.writer)
        };
        if let Some(near) = near.filter(|near| near.far && is_same(near)) {
            return Ok((near, blobs));
        }
        if let Some(body) = body {
            self.store.put(&body)?;
        }
        // Near it is a copy, which may go.
        let entry = Entry { far: true, stays: false, used: crate::depot::now(), ..entry };
        self.store.set_name_soon(&table, &name, &entry.encode())?;
        Ok((entry, blobs))
    }

    /// Brings the entries of a table near that are there, and takes those back that are there no
    /// more.
    pub(crate) fn list_of_tiers(&self, tier: &Tier, table: &str) -> Result<(), Fault> {
        let Ok(Some(mut there)) = tier.ask("list", |far| far.records(table)) else {
            return Ok(());
        };
        let near = self.store.names(table)?;
        let known = |name: &String| near.binary_search_by(|(near, _)| near.cmp(name)).is_ok();
        for (name, value) in &near {
            let entry = Entry::decode(value);
            if entry.is_some_and(|entry| entry.far)
                && !there.contains(name)
                && !tier.queue.holds(table, name)
                && tier.ask("entry", |far| far.record(table, name)).is_ok_and(|r| r.is_none())
            {
                self.store.set_name(table, name, None)?;
            }
        }
        there.retain(|name| !known(name));
        there.truncate(LISTED);
        for names in there.chunks(AT_A_TIME) {
            let look = |name: &String| {
                self.entry_of_tiers(tier, (table, name), None, Look::Lately).map(drop)
            };
            std::thread::scope(|scope| {
                let asking: Vec<_> = names.iter().map(|name| scope.spawn(|| look(name))).collect();
                let answers = asking.into_iter().map(|asking| asking.join());
                answers.map(|answer| answer.unwrap_or(Ok(()))).collect::<Result<Vec<()>, Fault>>()
            })?;
        }
        Ok(())
    }

    /// Whether blobs are far away that are not near, of the sizes that a record says.
    pub(crate) fn are_far(
        &self,
        tier: &Tier,
        names: &[FarName],
        sizes: &[FarBlob],
    ) -> Result<bool, Away> {
        let size = |name: &FarName| sizes.iter().find(|known| known.name == *name)?.size;
        let blobs: Vec<FarBlob> =
            names.iter().map(|name| FarBlob { name: *name, size: size(name) }).collect();
        Ok(tier.sizes(&blobs)?.iter().all(Option::is_some))
    }
}

/// Bytes on their way from far away.
struct Arriving<'a> {
    incoming: Incoming,
    sha256: Sha256,
    limit: u64,
    /// Who reads them while they come.
    arrival: Option<&'a Arrival>,
    /// Why they can not be kept here.
    fault: Option<Fault>,
}

impl Write for Arriving<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let kept = match self.incoming.size().saturating_add(bytes.len() as u64) > self.limit {
            true => Err(Fault::TooLarge { limit: self.limit }),
            false => self.incoming.write(bytes).map_err(Fault::from),
        };
        if let Some(arrival) = self.arrival {
            arrival.came(&self.incoming)?;
        }
        self.sha256.update(bytes);
        match kept {
            Ok(()) => Ok(bytes.len()),
            Err(fault) => {
                let error = io::Error::other(fault.to_string());
                self.fault = Some(fault);
                Err(error)
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
