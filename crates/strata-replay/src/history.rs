//! A repository's commits and objects, read where git keeps them: no checkout, no worktree, no
//! git command. Blobs may be missing (a partial clone): only the Dockerfile and the ignore file
//! are read, everything else counts by its object's name.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use gix::ObjectId;
use gix::bstr::ByteSlice;
use gix::traverse::commit::simple::CommitTimeOrder;
use gix::traverse::commit::topo;

/// In which order commits are built.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Order {
    /// The main line: from each commit to its first parent.
    #[default]
    FirstParent,
    /// All commits by their committer's date: what a server that builds every branch sees.
    Date,
    /// All commits, branch after branch: no line of history is mixed with another.
    Topo,
}

impl Order {
    /// Its name on the command line and in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::FirstParent => "first-parent",
            Self::Date => "date",
            Self::Topo => "topo",
        }
    }
}

/// Why a history can not be read.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// There is no repository.
    #[error("`{path}` is not in a git repository")]
    NoRepository {
        /// Where it was looked for.
        path: PathBuf,
        /// What git's library says.
        reason: String,
    },
    /// HEAD leads nowhere, and it can not be told which branch is meant.
    #[error("the repository's HEAD names no commit")]
    NoHead {
        /// The branches that there are.
        branches: Vec<String>,
    },
    /// A revision is none.
    #[error("`{revision}` names no commit")]
    NoRevision {
        /// What was asked for.
        revision: String,
    },
    /// An object can not be read.
    #[error("the object {id} can not be read: {reason}")]
    Object {
        /// Its name.
        id: String,
        /// What git's library says.
        reason: String,
    },
}

/// One commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commit {
    /// Its name.
    pub id: ObjectId,
    /// Its tree's name.
    pub tree: ObjectId,
    /// The first line of its message, at most 72 characters.
    pub subject: String,
    /// When it was committed, in seconds since 1970.
    pub time: i64,
}

/// Which commits.
#[derive(Debug, Clone, Default)]
pub struct Range {
    /// `A..B`, `A..`, `..B` or `B`; HEAD's history if not given.
    pub revisions: Option<String>,
    /// The newest ones only.
    pub last: Option<usize>,
    /// Their order.
    pub order: Order,
}

/// A repository.
pub struct History {
    repository: gix::Repository,
}

/// Raw bytes of an object, or that it is not there.
pub(crate) type Bytes = Option<Vec<u8>>;

impl History {
    /// Opens the repository that a path is in, bare or not. The user's own configuration of git
    /// is not read.
    pub fn open(path: &Path) -> Result<Self, HistoryError> {
        let options = gix::open::Options::isolated();
        let found = gix::discover_opts(path, Default::default(), options.clone());
        let found = found.or_else(|error| {
            // A bare repository whose directory has another name than git expects.
            gix::open_opts(path, options.open_path_as_is(true)).map_err(|_| error)
        });
        let mut repository = found.map_err(|error| HistoryError::NoRepository {
            path: path.to_path_buf(),
            reason: error.to_string(),
        })?;
        repository.object_cache_size_if_unset(4 << 20);
        Ok(Self { repository })
    }

    /// Another handle, for another thread.
    pub fn again(&self) -> Self {
        Self { repository: self.repository.clone() }
    }

    /// A handle that can be sent to other threads.
    pub fn shared(&self) -> SharedHistory {
        SharedHistory { repository: self.repository.clone().into_sync() }
    }

    /// Where the checkout is, if there is one.
    pub fn checkout(&self) -> Option<&Path> {
        self.repository.workdir()
    }

    /// Where git's own files are.
    pub fn directory(&self) -> &Path {
        self.repository.git_dir()
    }

    /// The commits of a range, oldest first. The second value says why it does not reach further
    /// back, if something is missing.
    pub fn commits(&self, range: &Range) -> Result<(Vec<Commit>, Option<String>), HistoryError> {
        let (from, to) = self.ends(range.revisions.as_deref())?;
        let limit = range.last.unwrap_or(usize::MAX);
        let (mut ids, gap) = match range.order {
            Order::FirstParent => self.first_parents(from, to, limit)?,
            Order::Date => self.by_date(from, to, limit)?,
            Order::Topo => self.topological(from, to, limit)?,
        };
        ids.reverse();
        let commits: Result<Vec<Commit>, _> = ids.into_iter().map(|id| self.commit(id)).collect();
        Ok((commits?, gap))
    }

    fn commit(&self, id: ObjectId) -> Result<Commit, HistoryError> {
        let unreadable = |error: gix::Error| HistoryError::Object {
            id: id.to_string(),
            reason: error.to_string(),
        };
        let commit = self.repository.find_commit(id).map_err(unreadable)?;
        let tree = commit.tree_id().map_err(unreadable)?.detach();
        let time = commit.time().map_or(0, |time| time.seconds);
        let first_line = commit.message_raw_sloppy().lines().next().unwrap_or_default();
        let subject = first_line.to_str_lossy().chars().take(72).collect();
        Ok(Commit { id, tree, subject, time })
    }

    fn ends(&self, revisions: Option<&str>) -> Result<(Option<ObjectId>, ObjectId), HistoryError> {
        let Some(text) = revisions else { return Ok((None, self.head()?)) };
        match text.split_once("..") {
            Some((from, to)) => {
                let from = if from.is_empty() { None } else { Some(self.revision(from)?) };
                let to = if to.is_empty() { self.head()? } else { self.revision(to)? };
                Ok((from, to))
            }
            None => Ok((None, self.revision(text)?)),
        }
    }

    fn revision(&self, text: &str) -> Result<ObjectId, HistoryError> {
        let none = || HistoryError::NoRevision { revision: text.to_owned() };
        let id = self.repository.rev_parse_single(text).map_err(|_| none())?;
        let object = id.object().map_err(|_| none())?;
        let commit = object.peel_to_kind(gix::object::Kind::Commit).map_err(|_| none())?;
        Ok(commit.id)
    }

    /// HEAD, or the only branch that it can mean: a bundle's clone often has a HEAD that names a
    /// branch which is not there.
    fn head(&self) -> Result<ObjectId, HistoryError> {
        if let Ok(id) = self.repository.head_id() {
            return Ok(id.detach());
        }
        let branches = self.branches();
        let named = |name: &str| branches.iter().find(|(branch, _)| branch == name);
        let only = match branches.as_slice() {
            [only] => Some(only),
            _ => named("main").or_else(|| named("master")),
        };
        only.map(|(_, id)| *id).ok_or_else(|| HistoryError::NoHead {
            branches: branches.iter().map(|(name, _)| name.clone()).collect(),
        })
    }

    fn branches(&self) -> Vec<(String, ObjectId)> {
        let Ok(references) = self.repository.references() else { return Vec::new() };
        let Ok(branches) = references.local_branches() else { return Vec::new() };
        let branch = |branch: gix::Reference<'_>| {
            let name = branch.name().shorten().to_string();
            Some((name, branch.into_fully_peeled_id().ok()?.detach()))
        };
        branches.filter_map(|found| branch(found.ok()?)).collect()
    }

    fn first_parents(
        &self,
        from: Option<ObjectId>,
        to: ObjectId,
        limit: usize,
    ) -> Result<(Vec<ObjectId>, Option<String>), HistoryError> {
        let hidden = self.reachable(from)?;
        let (mut ids, mut next) = (Vec::new(), Some(to));
        while let Some(id) = next {
            if ids.len() == limit || hidden.contains(&id) {
                break;
            }
            let commit = match self.repository.find_commit(id) {
                Ok(commit) => commit,
                // The cut end of a shallow clone.
                Err(error) if !ids.is_empty() => {
                    return Ok((ids, Some(format!("{id} is not there: {error}"))));
                }
                Err(error) => {
                    let reason = error.to_string();
                    return Err(HistoryError::Object { id: id.to_string(), reason });
                }
            };
            ids.push(id);
            next = commit.parent_ids().next().map(gix::Id::detach);
        }
        Ok((ids, None))
    }

    fn reachable(&self, from: Option<ObjectId>) -> Result<HashSet<ObjectId>, HistoryError> {
        let Some(from) = from else { return Ok(HashSet::new()) };
        let walk =
            self.repository.rev_walk([from]).all().map_err(|error| unwalkable(from, &error))?;
        Ok(walk.map_while(Result::ok).map(|info| info.id).collect())
    }

    fn by_date(
        &self,
        from: Option<ObjectId>,
        to: ObjectId,
        limit: usize,
    ) -> Result<(Vec<ObjectId>, Option<String>), HistoryError> {
        let newest_first = CommitTimeOrder::NewestFirst;
        let walk = self.repository.rev_walk([to]).with_hidden(from);
        let walk = walk.sorting(gix::revision::walk::Sorting::ByCommitTime(newest_first));
        let walk = walk.all().map_err(|error| unwalkable(to, &error))?;
        collect(walk.map(|info| info.map(|info| info.id).map_err(|e| e.to_string())), to, limit)
    }

    fn topological(
        &self,
        from: Option<ObjectId>,
        to: ObjectId,
        limit: usize,
    ) -> Result<(Vec<ObjectId>, Option<String>), HistoryError> {
        let walk = topo::Builder::from_iters(&self.repository.objects, [to], Some(from));
        let walk = walk.sorting(topo::Sorting::TopoOrder).build();
        let walk = walk.map_err(|error| HistoryError::Object {
            id: to.to_string(),
            reason: error.to_string(),
        })?;
        collect(walk.map(|info| info.map(|info| info.id).map_err(|e| e.to_string())), to, limit)
    }

    /// The bytes of a tree or blob.
    pub(crate) fn bytes(&self, id: ObjectId) -> Result<Bytes, HistoryError> {
        match self.repository.try_find_object(id) {
            Ok(object) => Ok(object.map(|object| object.detach().data)),
            Err(error) => {
                Err(HistoryError::Object { id: id.to_string(), reason: error.to_string() })
            }
        }
    }

    /// How many bytes an object has, if it is there.
    pub(crate) fn size(&self, id: ObjectId) -> Option<u64> {
        self.repository.try_find_header(id).ok().flatten().map(|header| header.size())
    }
}

/// A [`History`] for other threads.
pub struct SharedHistory {
    repository: gix::ThreadSafeRepository,
}

impl SharedHistory {
    /// A handle for this thread.
    pub fn open(&self) -> History {
        History { repository: self.repository.to_thread_local() }
    }
}

fn unwalkable(id: ObjectId, error: &gix::Error) -> HistoryError {
    HistoryError::Object { id: id.to_string(), reason: error.to_string() }
}

/// Takes commits until one is missing, as at the end of a shallow clone.
fn collect(
    walk: impl Iterator<Item = Result<ObjectId, String>>,
    to: ObjectId,
    limit: usize,
) -> Result<(Vec<ObjectId>, Option<String>), HistoryError> {
    let mut ids = Vec::new();
    for id in walk.take(limit) {
        match id {
            Ok(id) => ids.push(id),
            Err(reason) if ids.is_empty() => {
                return Err(HistoryError::Object { id: to.to_string(), reason });
            }
            Err(reason) => return Ok((ids, Some(reason))),
        }
    }
    Ok((ids, None))
}
