//! What takes how much: by project, by image, by kind.

use std::collections::{BTreeMap, HashMap, HashSet};

use strata_cas::{Link, Links, StoreError};

use crate::DiskStore;
use crate::inventory::{Inventory, Item, Role, item_of};

/// What takes how much.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Usage {
    /// All that the store's directory takes on disk, in bytes.
    pub total_bytes: u64,
    /// What could be removed without anybody missing it at once: what no latest build used and
    /// no named image needs.
    pub reclaimable_bytes: u64,
    /// By kind, by name; adds up to about the total.
    pub kinds: BTreeMap<&'static str, Amount>,
    /// By project, sorted.
    pub projects: Vec<Share>,
    /// By root name, such as a named image, sorted.
    pub names: Vec<Share>,
}

/// Some things of a kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Amount {
    /// How many.
    pub count: u64,
    /// What they take, in bytes.
    pub bytes: u64,
}

/// What belongs to somebody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Share {
    /// The table of a name; empty for a project.
    pub table: String,
    /// The project or the name.
    pub name: String,
    /// Records that it has; 0 for a name.
    pub records: u64,
    /// What only it needs, in bytes: what would become free without it.
    pub own_bytes: u64,
    /// What others need too.
    pub shared_bytes: u64,
    /// When it was last built, in seconds since 1970, where that is known.
    pub last_build: Option<u64>,
}

/// One who leads to things: a project or a name.
type Owner = usize;

impl DiskStore {
    /// Counts everything. Costs one look at each thing in the store.
    pub fn usage(&self, links: &dyn Links) -> Result<Usage, StoreError> {
        let stock = self.take_stock(links)?;
        let mut usage = Usage {
            total_bytes: crate::inventory::size_of_tree(self.layout.root()),
            ..Usage::default()
        };
        usage.count_kinds(&stock);
        let mut below = Below { store: self, stock: &stock, known: HashMap::new() };
        usage.projects = projects(&stock, links, &mut below)?;
        usage.names = names(&stock, &mut below)?;
        usage.reclaimable_bytes = reclaimable(&stock, links, &mut below)?;
        Ok(usage)
    }
}

fn projects(
    stock: &Inventory,
    links: &dyn Links,
    below: &mut Below<'_>,
) -> Result<Vec<Share>, StoreError> {
    let mut shares: BTreeMap<&str, Share> = BTreeMap::new();
    for known in stock.records.values() {
        let share = shares.entry(&known.project).or_insert_with(|| Share {
            last_build: last_build(stock, &known.project),
            ..Share::of("", &known.project)
        });
        share.records += 1;
    }
    let numbers: HashMap<&str, Owner> =
        shares.keys().enumerate().map(|(number, project)| (*project, number)).collect();
    let mut owners = Owners::default();
    for (id, known) in &stock.records {
        let owner = numbers[&*known.project];
        owners.mark(owner, Item::Record(*id));
        owners.spread(owner, stock.links_of_record(id, links), below)?;
    }
    let mut shares: Vec<Share> = shares.into_values().collect();
    owners.divide(stock, &mut shares);
    Ok(shares)
}

fn names(stock: &Inventory, below: &mut Below<'_>) -> Result<Vec<Share>, StoreError> {
    let mut names: Vec<_> = stock.names.iter().filter(|(_, name)| name.is_root).collect();
    names.retain(|(_, name)| !name.links.is_empty());
    names.sort_by_key(|(name, _)| (*name).clone());
    let mut owners = Owners::default();
    for (number, (_, name)) in names.iter().enumerate() {
        owners.spread(number, name.links.clone(), below)?;
    }
    let mut shares: Vec<Share> =
        names.iter().map(|((table, name), _)| Share::of(table, name)).collect();
    owners.divide(stock, &mut shares);
    Ok(shares)
}

fn reclaimable(
    stock: &Inventory,
    links: &dyn Links,
    below: &mut Below<'_>,
) -> Result<u64, StoreError> {
    let mut owners = Owners::default();
    for (id, _) in stock.records.iter().filter(|(_, known)| known.next_use.is_some()) {
        owners.mark(0, Item::Record(*id));
        owners.spread(0, stock.links_of_record(id, links), below)?;
    }
    let roots = stock.names.values().filter(|name| name.is_root);
    owners.spread(0, roots.flat_map(|name| name.links.clone()).collect(), below)?;
    let kept = owners.of;
    let is_free = |item: &Item| !kept.contains_key(item) && !matches!(item, Item::Name(..));
    let free = stock.items.iter().filter(|(item, _)| is_free(item));
    Ok(free.map(|(_, entry)| entry.bytes).sum())
}

fn last_build(stock: &Inventory, project: &str) -> Option<u64> {
    let builds = stock.builds.iter().filter(|build| build.project == project);
    builds.filter_map(|build| build.ended.first().copied()).max()
}

impl Share {
    fn of(table: &str, name: &str) -> Self {
        let (table, name) = (table.to_owned(), name.to_owned());
        Self { table, name, records: 0, own_bytes: 0, shared_bytes: 0, last_build: None }
    }
}

impl Usage {
    fn count_kinds(&mut self, stock: &Inventory) {
        for (item, entry) in &stock.items {
            if entry.bytes == 0 {
                continue;
            }
            let kind = match (item, entry.role) {
                (Item::Record(_), _) => "records",
                (Item::Snapshot(_), _) => "snapshots",
                (Item::Name(..), _) => "names",
                (Item::Blob(_), Role::Tree) => "trees",
                (Item::Blob(_), Role::Layer) => "layers",
                (Item::Blob(_), Role::Left) => "unused",
                (Item::Blob(_), _) => "files",
            };
            let amount = self.kinds.entry(kind).or_default();
            amount.count += 1;
            amount.bytes += entry.bytes;
        }
        for (part, bytes) in &stock.other_bytes {
            let kind = match part.split('-').next() {
                Some("caches") => "cache mounts",
                Some("logs") => "logs",
                Some("stamps") => "stamps",
                Some("staging") => "in the making",
                // Its contents are counted above.
                _ => continue,
            };
            self.kinds.insert(kind, Amount { count: 1, bytes: *bytes });
        }
    }
}

/// What things lead to, each looked up once.
struct Below<'a> {
    store: &'a DiskStore,
    stock: &'a Inventory,
    known: HashMap<Link, Vec<Link>>,
}

impl Below<'_> {
    fn of(&mut self, link: &Link) -> Result<Vec<Link>, StoreError> {
        if let Some(below) = self.known.get(link) {
            return Ok(below.clone());
        }
        let below = self.stock.below(self.store, link)?;
        self.known.insert(link.clone(), below.clone());
        Ok(below)
    }
}

/// Who leads to what.
#[derive(Default)]
struct Owners {
    of: HashMap<Item, HashSet<Owner>>,
}

impl Owners {
    /// Whether this is new to the owner.
    fn mark(&mut self, owner: Owner, item: Item) -> bool {
        self.of.entry(item).or_default().insert(owner)
    }

    fn spread(
        &mut self,
        owner: Owner,
        links: Vec<Link>,
        below: &mut Below<'_>,
    ) -> Result<(), StoreError> {
        let mut rest = links;
        while let Some(link) = rest.pop() {
            let (item, _) = item_of(&link);
            if !below.stock.items.contains_key(&item) || !self.mark(owner, item) {
                continue;
            }
            if let Link::Layer(layer) = &link {
                self.mark(owner, Item::Snapshot(*layer));
            }
            rest.extend(below.of(&link)?);
        }
        Ok(())
    }

    fn divide(&self, stock: &Inventory, shares: &mut [Share]) {
        for (item, owners) in &self.of {
            let Some(entry) = stock.items.get(item) else { continue };
            for owner in owners {
                let share = &mut shares[*owner];
                if owners.len() == 1 {
                    share.own_bytes += entry.bytes;
                } else {
                    share.shared_bytes += entry.bytes;
                }
            }
        }
    }
}
