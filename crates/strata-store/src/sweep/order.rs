//! What goes first: everything that a sweep may remove, in the order in which it goes.

use std::collections::{HashMap, HashSet};

use strata_cas::{BlobId, FreeCache, LayerId, Link, StoreError, retention};

use super::{Kind, Reason, Sweep, SweepRequest, what_of};
use crate::inventory::{Item, KnownName, KnownRecord, item_of};
use crate::layout::Part;

/// Something that may go.
pub(super) struct Candidate {
    pub(super) target: Target,
    pub(super) kind: Kind,
    pub(super) what: String,
    pub(super) project: Option<String>,
    pub(super) reason: Reason,
}

#[derive(Clone)]
pub(super) enum Target {
    Record(BlobId),
    Item(Item),
    /// A cache that commands fill, by its directory's name.
    Cache(String),
}

impl Sweep<'_> {
    /// What may go, in the order in which it goes.
    pub(super) fn candidates(&self, request: &SweepRequest) -> Result<Vec<Candidate>, StoreError> {
        let wants = |kind: Kind| request.kinds.is_empty() || request.kinds.contains(&kind);
        let mut all = Vec::new();
        if request.project.is_none() && request.until.is_none() && wants(Kind::Leftover) {
            all.extend(self.leftovers()?);
        }
        if wants(Kind::Record) {
            all.extend(self.stale_records(request));
        }
        if wants(Kind::Derived) && request.project.is_none() && request.until.is_none() {
            all.extend(self.derived());
        }
        if request.all || request.keep_bytes.is_some() {
            if wants(Kind::Snapshot) && request.project.is_none() && request.until.is_none() {
                all.extend(self.copies());
            }
            if wants(Kind::CacheMount) && request.project.is_none() {
                all.extend(self.caches(request)?);
            }
            if wants(Kind::Record) {
                all.extend(self.current_records(request));
            }
        }
        Ok(all)
    }

    fn leftovers(&self) -> Result<Vec<Candidate>, StoreError> {
        let derived = self.kept_by_derived()?;
        let left = self.stock.items.iter().filter(|(item, entry)| {
            entry.uses == 0 && matches!(item, Item::Blob(_)) && !derived.contains(item)
        });
        let candidate = |(item, _): (&Item, _)| Candidate {
            target: Target::Item(item.clone()),
            kind: Kind::Leftover,
            what: what_of(item),
            project: None,
            reason: Reason::NothingNeedsIt,
        };
        // A snapshot of a layer that is gone itself.
        let orphans = self.stock.items.keys().filter(|item| match item {
            Item::Snapshot(layer) => !self.stock.items.contains_key(&Item::Blob(layer.blob())),
            _ => false,
        });
        let mut all: Vec<Candidate> = left.map(candidate).collect();
        all.extend(orphans.map(|item| candidate((item, &self.stock.items[item]))));
        all.sort_by(|one, other| one.what.cmp(&other.what));
        Ok(all)
    }

    /// What stays for the sake of a name that can be made again: it goes with that name.
    fn kept_by_derived(&self) -> Result<HashSet<Item>, StoreError> {
        let is_unused = |item: &Item| self.stock.items.get(item).is_some_and(|e| e.uses == 0);
        let unused = self.stock.names.iter().filter(|((table, name), known)| {
            !known.is_root && is_unused(&Item::Name(table.clone(), name.clone()))
        });
        let mut rest: Vec<Link> = unused.flat_map(|(_, known)| known.links.clone()).collect();
        let mut kept = HashSet::new();
        while let Some(link) = rest.pop() {
            let (item, _) = item_of(&link);
            // What is used has all below it used.
            if is_unused(&item) && kept.insert(item) {
                rest.extend(self.stock.below(self.store, &link)?);
            }
        }
        Ok(kept)
    }

    fn stale_records(&self, request: &SweepRequest) -> Vec<Candidate> {
        let mut stale: Vec<_> =
            self.stock.records.iter().filter(|(_, known)| known.next_use.is_none()).collect();
        stale.retain(|(_, known)| fits(request, &known.project, known.record.created));
        stale.sort_by_key(|(id, known)| (known.record.created, *id.as_bytes()));
        let candidate = |(id, _): (&BlobId, _)| self.record(id, Reason::NotInLatestBuild);
        stale.into_iter().filter_map(candidate).collect()
    }

    fn record(&self, id: &BlobId, reason: Reason) -> Option<Candidate> {
        let known = self.stock.records.get(id)?;
        Some(Candidate {
            target: Target::Record(*id),
            kind: Kind::Record,
            what: self.links.title_of(&known.record),
            project: Some(known.project.clone()),
            reason,
        })
    }

    fn derived(&self) -> Vec<Candidate> {
        let mut names: Vec<_> =
            self.stock.names.iter().filter(|(_, known)| !known.is_root).collect();
        names.sort_by_key(|(name, known)| (known.used, (*name).clone()));
        let candidate = |((table, name), known): (&(String, String), &KnownName)| {
            let item = Item::Name(table.clone(), name.clone());
            let is_unused =
                |item: &Item| self.stock.items.get(item).is_some_and(|entry| entry.uses == 0);
            let is_last = known.links.iter().any(|link| is_unused(&item_of(link).0));
            (is_unused(&item) && is_last).then(|| Candidate {
                what: what_of(&item),
                target: Target::Item(item),
                kind: Kind::Derived,
                project: None,
                reason: Reason::NothingNeedsIt,
            })
        };
        names.into_iter().filter_map(candidate).collect()
    }

    fn copies(&self) -> Vec<Candidate> {
        let mut copies: Vec<_> = self.stock.copies.iter().collect();
        copies.sort();
        let candidate = |layer: &LayerId| Candidate {
            target: Target::Item(Item::Snapshot(*layer)),
            kind: Kind::Snapshot,
            what: what_of(&Item::Snapshot(*layer)),
            project: None,
            reason: Reason::Copy,
        };
        copies.into_iter().map(candidate).collect()
    }

    /// What commands have filled and nobody uses now, the one first that was used longest ago.
    fn caches(&self, request: &SweepRequest) -> Result<Vec<Candidate>, StoreError> {
        let directory = self.store.layout.part(Part::Caches);
        let mut free = self.links.free_caches(&directory)?;
        free.retain(|cache| request.until.is_none_or(|until| cache.last_used < until));
        free.sort_by(|one, other| (one.last_used, &one.key).cmp(&(other.last_used, &other.key)));
        let is_asked = request.keep_bytes.is_none();
        let candidate = |FreeCache { key, title, last_used }| Candidate {
            target: Target::Cache(key),
            kind: Kind::CacheMount,
            what: title,
            project: None,
            reason: if is_asked { Reason::Asked } else { Reason::NotInUse { last_used } },
        };
        Ok(free.into_iter().map(candidate).collect())
    }

    /// Project by project; in each, what is cheapest to do again for its bytes.
    fn current_records(&self, request: &SweepRequest) -> Vec<Candidate> {
        // A project is as near as its nearest build.
        let mut next: HashMap<&str, u64> = HashMap::new();
        for known in self.stock.records.values() {
            let own = known.next_use.unwrap_or(u64::MAX);
            let next = next.entry(&known.project).or_insert(own);
            *next = own.min(*next);
        }
        let mut current: Vec<_> =
            self.stock.records.iter().filter(|(_, known)| known.next_use.is_some()).collect();
        current.retain(|(_, known)| fits(request, &known.project, known.record.created));
        let next_of = |project: &str| next.get(project).copied().unwrap_or(u64::MAX);
        let price = |known: &KnownRecord| retention::price(known.record.cost);
        current.sort_by_key(|(id, known)| {
            let later_first = u64::MAX - next_of(&known.project);
            (later_first, known.project.clone(), price(known), *id.as_bytes())
        });
        let candidate = |(id, known): (&BlobId, &KnownRecord)| {
            let reason = if request.keep_bytes.is_some() {
                Reason::LeastLikely { next_build: next_of(&known.project) }
            } else {
                Reason::Asked
            };
            self.record(id, reason)
        };
        current.into_iter().filter_map(candidate).collect()
    }
}

fn fits(request: &SweepRequest, project: &str, created: u64) -> bool {
    request.project.as_deref().is_none_or(|wanted| wanted == project)
        && request.until.is_none_or(|until| created < until)
}
