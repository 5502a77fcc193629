//! What clients write goes far away, too: blobs first, then the entries that need them.

use std::io::{self, Write};

use strata_cas::entry::{Entry, Need};
use strata_oci::far::{Errand, FarBlob, FarName, FarRecord, INLINE_BYTES};
use strata_oci::{Digest, blobs};

use super::{FarWrites, Tier};
use crate::depot::{Content, Depot};
use crate::fault::Fault;

/// Blobs from this size on are looked for before they are sent.
const LOOK_FROM_BYTES: u64 = 256 << 10;
/// An entry needs entries, such as an index its manifests; those no others below this.
const DEPTH: usize = 8;

impl Depot {
    /// Sends a blob that was kept, now or afterwards.
    pub(crate) fn pass_on_blob(&self, name: FarName, content: &Content) -> Result<(), Fault> {
        let Some(tier) = &self.tier else { return Ok(()) };
        match tier.writes {
            FarWrites::None => Ok(()),
            FarWrites::Back if tier.queue.add(Errand::Blob(name))? => Ok(()),
            FarWrites::Back | FarWrites::Through => self.send_blob(tier, name, content),
        }
    }

    /// Sends an entry that is about to be kept, now or afterwards. Gives it as it is to be kept
    /// near. `layers`: blobs that lie here in pieces, which it needs.
    pub(crate) fn pass_on_entry(
        &self,
        (table, name): (&str, &str),
        entry: Entry,
        layers: &[Digest],
    ) -> Result<Entry, Fault> {
        let Some(tier) = &self.tier else { return Ok(entry) };
        let errand = || Errand::Record { table: table.to_owned(), name: name.to_owned() };
        match tier.writes {
            FarWrites::None => Ok(entry),
            // Layers in pieces are known by now only.
            FarWrites::Back if layers.is_empty() && tier.queue.add(errand())? => Ok(entry),
            FarWrites::Back | FarWrites::Through => {
                self.send_entry(tier, (table, name), &entry, layers, DEPTH)?;
                Ok(Entry { far: true, stays: false, ..entry })
            }
        }
    }

    /// Takes an entry back, now or afterwards.
    pub(crate) fn pass_on_removal(&self, table: &str, name: &str) -> Result<(), Fault> {
        let Some(tier) = &self.tier else { return Ok(()) };
        let errand = || Errand::Removal { table: table.to_owned(), name: name.to_owned() };
        match tier.writes {
            FarWrites::None => Ok(()),
            FarWrites::Back if tier.queue.add(errand())? => Ok(()),
            FarWrites::Back | FarWrites::Through => {
                Ok(tier.ask("remove", |far| far.set_record(table, name, None))?)
            }
        }
    }

    /// Does what was put off. Nothing is lost by doing it twice.
    pub(super) fn run_errand(&self, tier: &Tier, errand: &Errand) -> Result<(), Fault> {
        match errand {
            Errand::Blob(name) => match self.content_of(name)? {
                Some(content) => self.send_blob(tier, *name, &content),
                None => {
                    (tier.notice)(&format!("`{name}` is lost here before it was sent"));
                    Ok(())
                }
            },
            Errand::Record { table, name } => {
                let Some(entry) = self.settled(table, name)? else { return Ok(()) };
                self.send_entry(tier, (table, name), &entry, &[], DEPTH)?;
                self.note_sent(table, name, &entry)
            }
            Errand::Removal { table, name } => {
                if self.settled(table, name)?.is_some() {
                    // It is there again.
                    return Ok(());
                }
                Ok(tier.ask("remove", |far| far.set_record(table, name, None))?)
            }
        }
    }

    /// The entry under a name, when nobody is at it: an errand is put off before what it is about
    /// is done.
    fn settled(&self, table: &str, name: &str) -> Result<Option<Entry>, Fault> {
        let _one = self.locks.of(table, name);
        Ok(self.store.name(table, name)?.and_then(|value| Entry::decode(&value)))
    }

    fn note_sent(&self, table: &str, name: &str, sent: &Entry) -> Result<(), Fault> {
        let _one = self.locks.of(table, name);
        let there = self.store.name(table, name)?.and_then(|value| Entry::decode(&value));
        if let Some(there) = there.filter(|there| {
            (there.body, there.written, &there.writer) == (sent.body, sent.written, &sent.writer)
        }) {
            let entry = Entry { far: true, stays: false, ..there };
            self.store.set_name(table, name, Some(&entry.encode()))?;
        }
        Ok(())
    }

    fn content_of(&self, name: &FarName) -> Result<Option<Content>, Fault> {
        match name {
            FarName::Sha256(digest) => self.find_near(digest),
            FarName::Blake3(id) => self.find_id_near(id),
        }
    }

    fn send_blob(&self, tier: &Tier, name: FarName, content: &Content) -> Result<(), Fault> {
        let size = content.size;
        // Others will ask for it without knowing its size, and must find it so.
        let blob = FarBlob { name, size: None };
        let is_damaged = tier.damaged.get(&name).is_some();
        let is_known = tier.there.get(&name) == Some(size);
        if is_known || size >= LOOK_FROM_BYTES && !is_damaged && tier.sizes(&[blob])?[0].is_some() {
            return Ok(());
        }
        let bytes = |out: &mut dyn Write| self.pour(content, out);
        tier.ask("send", |far| far.send((&name, size), &bytes))?;
        tier.note_there(name, size);
        Ok(())
    }

    fn send_entry(
        &self,
        tier: &Tier,
        (table, name): (&str, &str),
        entry: &Entry,
        layers: &[Digest],
        depth: usize,
    ) -> Result<(), Fault> {
        let lost = || Fault::invalid("something that this refers to is not here");
        let mut names: Vec<FarName> =
            layers.iter().map(|digest| FarName::Sha256(*digest)).collect();
        for need in &entry.needs {
            match need {
                Need::Blob(id) => names.push(FarName::Blake3(*id)),
                Need::Name { table, name } if table == blobs::TABLE => {
                    names.push(FarName::Sha256(name.parse().map_err(|_| lost())?));
                }
                Need::Name { table, name } => self.send_needed(tier, (table, name), depth)?,
            }
        }
        let is_small = entry.size <= INLINE_BYTES;
        let body = match is_small {
            true => Some(self.store.get(&entry.body)?.ok_or_else(lost)?),
            false => {
                names.push(FarName::Blake3(entry.body));
                None
            }
        };
        let mut blobs = Vec::with_capacity(names.len());
        for name in names {
            let size = match self.content_of(&name)? {
                Some(content) => {
                    self.send_blob(tier, name, &content)?;
                    Some(content.size)
                }
                None => tier.sizes(&[FarBlob { name, size: None }])?[0],
            };
            blobs.push(FarBlob { name, size: Some(size.ok_or_else(lost)?) });
        }
        let key = (table.to_owned(), name.to_owned());
        let entry = Entry { far: false, ..entry.clone() };
        let record = FarRecord { key: key.clone(), entry, blobs, body };
        tier.ask("set", |far| far.set_record(table, name, Some(&record)))?;
        tier.no_record.forget(&key);
        tier.confirmed.set(key, ());
        Ok(())
    }

    /// Sends an entry that another one needs, unless it is there. It is not noted that it is: the
    /// lock of the other one may be held, and no thread holds two.
    fn send_needed(
        &self,
        tier: &Tier,
        (table, name): (&str, &str),
        depth: usize,
    ) -> Result<(), Fault> {
        let there = self.store.name(table, name)?;
        match there.and_then(|value| Entry::decode(&value)) {
            Some(entry) if !entry.far && depth > 0 => {
                self.send_entry(tier, (table, name), &entry, &[], depth - 1)
            }
            _ => Ok(()),
        }
    }

    /// Writes a blob's bytes, which are near.
    fn pour(&self, content: &Content, out: &mut dyn Write) -> io::Result<()> {
        for piece in &content.pieces {
            let id = self.id_near(piece).map_err(|fault| io::Error::other(fault.to_string()))?;
            let blob = match &id {
                Some(id) => self.store.open(id).map_err(io::Error::other)?,
                None => None,
            };
            let (Some(id), Some(blob)) = (id, blob) else {
                return Err(io::Error::new(io::ErrorKind::NotFound, "a blob is gone"));
            };
            io::copy(&mut blob.reader(id), out)?;
        }
        Ok(())
    }
}
