//! The tables of a store, whoever holds the database.
//!
//! One process holds it and serves the others over a socket (`serve`), which ask it over
//! connections (`follow`). When it ends or is killed, the lock is free, and one of those that
//! need the tables next takes its place: their requests are sent again. A process that only
//! looks things up while nobody holds the database reads it without holding it.

use std::os::unix::fs::MetadataExt;
use std::sync::{PoisonError, RwLock};
use std::time::{Duration, Instant};

use strata_cas::StoreError;

use crate::database::{Database, Pair, Table};
use crate::follow::Follower;
use crate::layout::{Layout, Part};
use crate::lease;
use crate::lock::StoreLock;
use crate::serve::Leader;
use crate::wire::{Op, Request, Response};
use crate::{OpenError, OpenOptions};

const SHORTEST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(10);

/// How long a process that works already waits for a new holder: it has work to lose.
const PATIENCE: Duration = Duration::from_secs(600);

/// Why a request was not answered.
pub(crate) enum Unanswered {
    /// Whoever answered is gone, or can not answer this: the next one will.
    Gone,
    /// The answer is a failure.
    Failed(StoreError),
}

impl From<StoreError> for Unanswered {
    fn from(error: StoreError) -> Self {
        Self::Failed(error)
    }
}

/// What this process is to the database.
#[derive(Debug)]
enum Role {
    /// It reads what is there; nobody has held the database since it began.
    Reader(Reader),
    /// It holds the database and serves the others.
    Leader(Leader),
    /// Another one serves it.
    Follower(Follower),
}

/// The database as it was when nobody held it.
#[derive(Debug)]
struct Reader {
    database: Database,
    layout: Layout,
    /// What tells the opening of the database for writing that was the last one.
    opening: Option<Opening>,
}

/// RocksDB writes this file anew whenever it opens for writing.
type Opening = (u64, i64, i64);

fn opening(layout: &Layout) -> Option<Opening> {
    let current = std::fs::metadata(layout.part(Part::Database).join("CURRENT")).ok()?;
    Some((current.ino(), current.mtime(), current.mtime_nsec()))
}

impl Reader {
    /// The database, unless somebody has opened it for writing since: then others know more.
    fn database(&self) -> Result<&Database, Unanswered> {
        let is_fresh = self.opening.is_some() && opening(&self.layout) == self.opening;
        if is_fresh { Ok(&self.database) } else { Err(Unanswered::Gone) }
    }
}

#[derive(Debug)]
struct Acting {
    role: Option<Role>,
    /// How often the role has changed: who finds it gone changes it once, not once a thread.
    changes: u64,
}

/// The tables, as this process reaches them.
#[derive(Debug)]
pub(crate) struct Tables {
    layout: Layout,
    acting: RwLock<Acting>,
}

impl Tables {
    /// Finds the way to the tables that costs least: nobody waits here but for a process that is
    /// opening or closing the database at this moment.
    pub(crate) fn open(layout: &Layout, options: &OpenOptions<'_>) -> Result<Self, OpenError> {
        let role = match reader(layout) {
            Some(reader) => Role::Reader(reader),
            None => elect(layout, options)?,
        };
        let acting = Acting { role: Some(role), changes: 0 };
        Ok(Self { layout: layout.clone(), acting: RwLock::new(acting) })
    }

    /// The value under a key. What the database finds damaged is not there.
    pub(crate) fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.ask(|role| match role {
            Role::Reader(reader) => {
                reader.database()?.get(table, key).map_err(|_| Unanswered::Gone)
            }
            Role::Leader(leader) => Ok(leader.database().get(table, key)?),
            Role::Follower(follower) => {
                let request = Request::Get { table, key: key.into() };
                follower.ask(&request, |response| match response {
                    Response::Value(value) => Some(value.map(|value| value.into_owned())),
                    _ => None,
                })
            }
        })
    }

    /// Shows the value under a key to `see`, without a copy where it lies here.
    pub(crate) fn see<T>(
        &self,
        table: Table,
        key: &[u8],
        see: impl Fn(&[u8]) -> T,
    ) -> Result<Option<T>, StoreError> {
        self.seen(table, key, &see, |database| database.see(table, key, &see))
    }

    fn seen<T>(
        &self,
        table: Table,
        key: &[u8],
        see: impl Fn(&[u8]) -> T,
        of_leader: impl Fn(&Database) -> Result<Option<T>, StoreError>,
    ) -> Result<Option<T>, StoreError> {
        self.ask(|role| match role {
            Role::Reader(reader) => {
                reader.database()?.see(table, key, &see).map_err(|_| Unanswered::Gone)
            }
            Role::Leader(leader) => Ok(of_leader(leader.database())?),
            Role::Follower(follower) => {
                let request = Request::Get { table, key: key.into() };
                follower.ask(&request, |response| match response {
                    Response::Value(value) => Some(value.map(|value| see(&value))),
                    _ => None,
                })
            }
        })
    }

    /// The same for a name.
    pub(crate) fn see_name<T>(
        &self,
        key: &[u8],
        see: impl Fn(&[u8]) -> T,
    ) -> Result<Option<T>, StoreError> {
        self.seen(Table::Names, key, &see, |database| database.see_name(key, &see))
    }

    /// Measures a small blob's value.
    pub(crate) fn measure(
        &self,
        key: &[u8],
        measure: impl Fn(&[u8]) -> Option<u64>,
    ) -> Result<Option<u64>, StoreError> {
        let of_leader = |database: &Database| Ok(Some(database.measure(key, &measure)?));
        Ok(self.seen(Table::Blobs, key, &measure, of_leader)?.flatten())
    }

    /// All keys that begin with `prefix`, which must be at least 32 bytes in [`Table::Places`],
    /// with their values and in order.
    pub(crate) fn list(&self, table: Table, prefix: &[u8]) -> Result<Vec<Pair>, StoreError> {
        let mut found = Vec::new();
        let mut pairs = |page: Vec<Pair>| found.extend(page);
        self.pages(table, prefix, false, &mut pairs)?;
        Ok(found)
    }

    /// Shows all keys that begin with `prefix`, page after page, with their values or their
    /// sizes alone.
    pub(crate) fn pages(
        &self,
        table: Table,
        prefix: &[u8],
        sizes: bool,
        take: &mut dyn FnMut(Vec<Pair>),
    ) -> Result<(), StoreError> {
        let mut after = Vec::new();
        loop {
            let (page, more) = self.page(table, prefix, &after, sizes)?;
            let last = page.last().map(|pair| pair.key.to_vec());
            take(page);
            match last {
                Some(last) if more => after = last,
                _ => return Ok(()),
            }
        }
    }

    fn page(
        &self,
        table: Table,
        prefix: &[u8],
        after: &[u8],
        sizes: bool,
    ) -> Result<(Vec<Pair>, bool), StoreError> {
        self.ask(|role| match role {
            Role::Reader(reader) => {
                reader.database()?.page(table, prefix, after, sizes).map_err(|_| Unanswered::Gone)
            }
            Role::Leader(leader) => Ok(leader.database().page(table, prefix, after, sizes)?),
            Role::Follower(follower) => {
                let (prefix, after) = (prefix.into(), after.into());
                let request = Request::List { table, prefix, after, sizes };
                follower.ask(&request, |response| match response {
                    Response::Pairs { pairs, more } => {
                        Some((pairs.into_iter().map(Pair::from).collect(), more))
                    }
                    _ => None,
                })
            }
        })
    }

    /// Makes changes visible together; with `sync`, they and all that was changed before survive
    /// a power cut when this returns. Without it they survive this process.
    pub(crate) fn apply(&self, ops: Vec<Op<'_>>, sync: bool) -> Result<(), StoreError> {
        let request = Request::Apply { ops, sync };
        self.ask(|role| match (role, &request) {
            (Role::Leader(leader), Request::Apply { ops, sync }) => {
                Ok(leader.database().apply(ops, *sync)?)
            }
            (Role::Follower(follower), request) => follower.ask(request, done),
            _ => Err(Unanswered::Gone),
        })
    }

    #[cfg(test)]
    pub(crate) fn put(&self, table: Table, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
        self.apply(vec![Op::put(table, key, value)], false)
    }

    /// Forgets one key.
    pub(crate) fn delete(&self, table: Table, key: &[u8]) -> Result<(), StoreError> {
        self.apply(vec![Op::delete(table, key)], false)
    }

    /// Gives the room of what was forgotten back to the file system.
    pub(crate) fn compact(&self) -> Result<(), StoreError> {
        self.ask(|role| match role {
            Role::Reader(_) => Err(Unanswered::Gone),
            Role::Leader(leader) => Ok(leader.database().compact()?),
            Role::Follower(follower) => follower.ask(&Request::Compact, done),
        })
    }

    /// From here on, reads see all that was written before this call, whoever wrote it.
    pub(crate) fn refresh(&self) -> Result<(), StoreError> {
        self.ask(|role| match role {
            Role::Reader(_) => Err(Unanswered::Gone),
            Role::Leader(_) | Role::Follower(_) => Ok(()),
        })
    }

    /// Whether this process reads without holding the database and without being served.
    pub(crate) fn is_reader(&self) -> bool {
        let acting = self.acting.read().unwrap_or_else(PoisonError::into_inner);
        matches!(acting.role, Some(Role::Reader(_)))
    }

    /// Whether this process holds the database.
    pub(crate) fn is_leader(&self) -> bool {
        let acting = self.acting.read().unwrap_or_else(PoisonError::into_inner);
        matches!(acting.role, Some(Role::Leader(_)))
    }

    fn ask<T>(
        &self,
        mut work: impl FnMut(&Role) -> Result<T, Unanswered>,
    ) -> Result<T, StoreError> {
        loop {
            let acting = self.acting.read().unwrap_or_else(PoisonError::into_inner);
            let answer = acting.role.as_ref().map_or(Err(Unanswered::Gone), &mut work);
            let changes = acting.changes;
            drop(acting);
            match answer {
                Ok(answer) => return Ok(answer),
                Err(Unanswered::Failed(error)) => return Err(error),
                Err(Unanswered::Gone) => self.change(changes)?,
            }
        }
    }

    /// Takes another role, unless another thread has done so already.
    fn change(&self, changes: u64) -> Result<(), StoreError> {
        let mut acting = self.acting.write().unwrap_or_else(PoisonError::into_inner);
        if acting.changes != changes {
            return Ok(());
        }
        // The old role's files and connections go first.
        acting.role = None;
        let options = OpenOptions { wait_limit: PATIENCE, ..OpenOptions::default() };
        let role = elect(&self.layout, &options).map_err(|error| StoreError::Database {
            action: "go on after another process",
            message: error.to_string(),
        })?;
        let leads = matches!(role, Role::Leader(_));
        acting.role = Some(role);
        acting.changes += 1;
        drop(acting);
        if leads {
            // A file that resists is looked at by the next one that comes to hold the database.
            drop(lease::clean(&self.layout));
        }
        Ok(())
    }
}

fn done(response: Response<'_>) -> Option<()> {
    matches!(response, Response::Done).then_some(())
}

/// The database as it is now, if nobody holds it. Nobody can begin to hold it meanwhile, so what
/// is read is of one moment.
fn reader(layout: &Layout) -> Option<Reader> {
    let _shared = StoreLock::share(layout)?;
    let opening = opening(layout);
    let database = Database::open_to_read(layout).ok()?;
    Some(Reader { database, layout: layout.clone(), opening })
}

/// Holds the database, or finds who does.
fn elect(layout: &Layout, options: &OpenOptions<'_>) -> Result<Role, OpenError> {
    let start = Instant::now();
    let mut pause = SHORTEST_PAUSE;
    loop {
        if let Some(lock) = StoreLock::take(layout)? {
            return Leader::start(layout, lock).map(Role::Leader);
        }
        if let Some(follower) = Follower::connect(layout)? {
            return Ok(Role::Follower(follower));
        }
        let waited = start.elapsed();
        if waited >= options.wait_limit {
            return Err(OpenError::Busy { path: layout.root().to_owned(), waited });
        }
        (options.on_wait)(waited);
        std::thread::sleep(pause.min(options.wait_limit - waited));
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}
