//! Entries: what protocols keep under keys of their clients' own, who may see and who may replace
//! them.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use strata_cas::BlobId;
use strata_cas::entry::{Entry, Need};
use strata_oci::far::{FarBlob, FarName};
use strata_oci::{Digest, blobs};

use super::{Depot, now, table_of};
use crate::access::Caller;
use crate::fault::Fault;
use crate::tier::Look;

/// In seconds.
const DAY: u64 = 24 * 60 * 60;

/// An entry is only glanced at for so many seconds: a clock may be set.
const LONGEST_GLANCES: u64 = 60 * 60;

/// An entry as it was found, without what it needs besides its bytes: enough to see whether it
/// is the same still.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Glance {
    table: String,
    name: String,
    value: Vec<u8>,
    body: BlobId,
    size: u64,
    /// Until when it need not be noted that it is of use.
    pub(crate) until: Instant,
}

/// What a protocol puts under a key, besides who and when.
#[derive(Debug, Clone, Default)]
pub(crate) struct Value {
    pub(crate) attributes: BTreeMap<String, String>,
    pub(crate) needs: Vec<Need>,
    pub(crate) stays: bool,
    /// Blobs among them that lie here in pieces; elsewhere they are needed whole.
    pub(crate) layers: Vec<Digest>,
    /// Whether it is of no use elsewhere.
    pub(crate) is_local: bool,
}

impl Glance {
    /// What it takes, in bytes.
    pub(crate) fn size(&self) -> usize {
        self.table.len() + self.name.len() + self.value.len()
    }
}

/// An entry with the value that the store has of it, which an entry from far away has not.
type Own = (Entry, Option<Vec<u8>>);

impl Depot {
    /// The entry under a key, in the first of the caller's namespaces that has it.
    pub(crate) fn entry(
        &self,
        caller: &Caller,
        space: &str,
        name: &str,
    ) -> Result<Option<Entry>, Fault> {
        for namespace in &caller.namespaces {
            if let Some((entry, _)) = self.own(namespace, space, name)? {
                return Ok(Some(entry));
            }
        }
        Ok(None)
    }

    /// The same, and how to see at a glance that it is still what it was.
    pub(crate) fn entry_to_keep(
        &self,
        caller: &Caller,
        space: &str,
        name: &str,
    ) -> Result<Option<(Entry, Option<Glance>)>, Fault> {
        let Some(first) = caller.namespaces.first().filter(|_| self.tier.is_none()) else {
            return Ok(self.entry(caller, space, name)?.map(|entry| (entry, None)));
        };
        let Some((entry, value)) = self.own(first, space, name)? else {
            return Ok(self.entry(caller, space, name)?.map(|entry| (entry, None)));
        };
        let left = entry.used.saturating_add(DAY).saturating_sub(now()).min(LONGEST_GLANCES);
        let value = value.filter(|_| entry.needs.is_empty());
        let glance = value.map(|value| Glance {
            table: table_of(first, space),
            name: name.to_owned(),
            value,
            body: entry.body,
            size: entry.size,
            until: Instant::now() + Duration::from_secs(left),
        });
        Ok(Some((entry, glance)))
    }

    /// Whether an entry is what it was, and all of it there; it stays from here on.
    pub(crate) fn is_still(&self, glance: &Glance) -> Result<bool, Fault> {
        let Glance { table, name, value, body, size, until: _ } = glance;
        let is_same = self.tier.is_none() && self.store.is_name(table, name, value)?;
        Ok(is_same && self.store.size(body)? == Some(*size))
    }

    fn own(&self, namespace: &str, space: &str, name: &str) -> Result<Option<Own>, Fault> {
        let table = table_of(namespace, space);
        let value = self.store.name(&table, name)?;
        let near = value.as_ref().and_then(|value| Entry::decode(value));
        let Some(entry) = self.usable(&table, name, near, Look::Lately)? else { return Ok(None) };
        self.touch(&table, name, &entry)?;
        Ok(Some((entry, value)))
    }

    /// The entry under a name, if its writer counts and all that it needs is there. One that has
    /// lost something near is looked for once more far away.
    fn usable(
        &self,
        table: &str,
        name: &str,
        near: Option<Entry>,
        look: Look,
    ) -> Result<Option<Entry>, Fault> {
        let (found, sizes) = match &self.tier {
            Some(tier) => self.entry_of_tiers(tier, (table, name), near, look)?,
            None => (near, Vec::new()),
        };
        let Some(entry) = found else { return Ok(None) };
        if self.revoked.contains(&entry.writer) {
            return Ok(None);
        }
        if self.is_whole(&entry, &sizes)? {
            return Ok(Some(entry));
        }
        match (&self.tier, look) {
            (Some(_), Look::Lately) if sizes.is_empty() => {
                self.usable(table, name, Some(entry), Look::Now)
            }
            _ => Ok(None),
        }
    }

    /// Notes that an entry is of use, once a day.
    fn touch(&self, table: &str, name: &str, entry: &Entry) -> Result<(), Fault> {
        let now = now();
        if entry.stays || now.saturating_sub(entry.used) < DAY {
            return Ok(());
        }
        let _one = self.locks.of(table, name);
        let there = self.store.name(table, name)?.and_then(|value| Entry::decode(&value));
        // Somebody may have replaced it.
        if there.as_ref() == Some(entry) {
            let entry = Entry { used: now, ..entry.clone() };
            self.store.set_name(table, name, Some(&entry.encode()))?;
        }
        Ok(())
    }

    /// Whether all that an entry needs is there; it stays from here on. Its bytes are near then;
    /// what it needs besides may be far away. `sizes`: of blobs that may be.
    fn is_whole(&self, entry: &Entry, sizes: &[FarBlob]) -> Result<bool, Fault> {
        if !self.has_body(entry)? {
            return Ok(false);
        }
        let mut missing = Vec::new();
        for need in &entry.needs {
            match need {
                Need::Blob(id) if self.store.has(id)? => {}
                Need::Blob(id) => missing.push(FarName::Blake3(*id)),
                Need::Name { table, name } if table == blobs::TABLE => match name.parse() {
                    Ok(digest) if self.find_near(&digest)?.is_some() => {}
                    Ok(digest) => missing.push(FarName::Sha256(digest)),
                    Err(_) => return Ok(false),
                },
                Need::Name { table, name } if !self.has_entry(table, name)? => return Ok(false),
                Need::Name { .. } => {}
            }
        }
        match &self.tier {
            _ if missing.is_empty() => Ok(true),
            // Who does not answer has nothing.
            Some(tier) => Ok(self.are_far(tier, &missing, sizes).unwrap_or(false)),
            None => Ok(false),
        }
    }

    fn has_body(&self, entry: &Entry) -> Result<bool, Fault> {
        if self.store.has(&entry.body)? {
            return Ok(true);
        }
        let Some(tier) = &self.tier else { return Ok(false) };
        match self.fetch(tier, FarName::Blake3(entry.body)) {
            Ok(found) => Ok(found.is_some()),
            // Who does not answer has nothing.
            Err(Fault::Busy(_)) => Ok(false),
            Err(fault) => Err(fault),
        }
    }

    /// Whether there is an entry under a name, near or far.
    pub(crate) fn has_entry(&self, table: &str, name: &str) -> Result<bool, Fault> {
        if self.store.name(table, name)?.is_some() {
            return Ok(true);
        }
        let Some(tier) = &self.tier else { return Ok(false) };
        let (found, _) = self.entry_of_tiers(tier, (table, name), None, Look::Lately)?;
        Ok(found.is_some())
    }

    /// Puts an entry into the caller's own namespace.
    ///
    /// # Errors
    ///
    /// When what is there was written by somebody who is trusted more, or when something that the
    /// entry needs is not here.
    pub(crate) fn set_entry(
        &self,
        caller: &Caller,
        (space, name): (&str, &str),
        (body, size): (BlobId, u64),
        value: Value,
    ) -> Result<Entry, Fault> {
        let Value { attributes, needs, stays, layers, is_local } = value;
        let (writer, trust, written) = (caller.name.clone(), caller.trust, now());
        let used = written;
        let far = false;
        let entry =
            Entry { body, size, attributes, needs, stays, writer, trust, written, used, far };
        if !self.is_whole(&entry, &[])? {
            return Err(Fault::invalid("something that this refers to is not here"));
        }
        let table = table_of(caller.namespace(), space);
        let _one = self.locks.of(&table, name);
        let entry = match self.more_trusted(caller, &table, name)? {
            // The same once more takes nothing from who is trusted more, and leaves it theirs.
            Some(there) if there.body == entry.body => {
                Entry { stays: there.stays || entry.stays, needs: entry.needs, ..there }
            }
            Some(there) => return Err(denied(caller, &there)),
            None => entry,
        };
        let entry = match is_local {
            true => entry,
            false => self.pass_on_entry((&table, name), entry, &layers)?,
        };
        self.store.set_name(&table, name, Some(&entry.encode()))?;
        if let Some(quota) = self.quotas.of(caller.namespace()) {
            quota.entered();
        }
        Ok(entry)
    }

    /// Takes an entry of the caller's own namespace back; says whether there was one.
    pub(crate) fn remove_entry(
        &self,
        caller: &Caller,
        space: &str,
        name: &str,
    ) -> Result<bool, Fault> {
        let table = table_of(caller.namespace(), space);
        let _one = self.locks.of(&table, name);
        if self.latest(&table, name)?.is_none() {
            return Ok(false);
        }
        if let Some(there) = self.more_trusted(caller, &table, name)? {
            return Err(denied(caller, &there));
        }
        self.pass_on_removal(&table, name)?;
        self.store.set_name(&table, name, None)?;
        Ok(true)
    }

    /// The entry under a name, whoever has written it, near or far.
    fn latest(&self, table: &str, name: &str) -> Result<Option<Entry>, Fault> {
        let near = self.store.name(table, name)?.and_then(|value| Entry::decode(&value));
        match &self.tier {
            Some(tier) => Ok(self.entry_of_tiers(tier, (table, name), near, Look::Now)?.0),
            None => Ok(near),
        }
    }

    /// The entry under a key, if its writer is trusted more than the caller.
    fn more_trusted(
        &self,
        caller: &Caller,
        table: &str,
        name: &str,
    ) -> Result<Option<Entry>, Fault> {
        let there = self.latest(table, name)?;
        Ok(there
            .filter(|there| there.trust > caller.trust && !self.revoked.contains(&there.writer)))
    }

    /// All entries of a space that the caller sees, by name.
    pub(crate) fn entries(
        &self,
        caller: &Caller,
        space: &str,
    ) -> Result<BTreeMap<String, Entry>, Fault> {
        let mut all = BTreeMap::new();
        for namespace in &caller.namespaces {
            let table = table_of(namespace, space);
            if let Some(tier) = &self.tier {
                self.list_of_tiers(tier, &table)?;
            }
            for (name, value) in self.store.names(&table)? {
                let entry = Entry::decode(&value);
                if let Some(entry) = entry.filter(|e| !self.revoked.contains(&e.writer)) {
                    all.entry(name).or_insert(entry);
                }
            }
        }
        Ok(all)
    }
}

fn denied(caller: &Caller, there: &Entry) -> Fault {
    let (writer, name) = (&there.writer, &caller.name);
    Fault::Denied(format!("`{writer}` has written this, and is trusted more than `{name}`"))
}
