//! Where each commit has its Dockerfile. It may appear, go, and move: going back from the newest
//! commit, a Dockerfile that is not there under its name any more is looked for among those that
//! are only in the older commit, first with the same content, then with the most lines in common.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

use gix::ObjectId;
use gix::objs::TreeRefIter;
use gix::objs::tree::EntryKind;
use strata_cas::TreePath;

use crate::context::find;
use crate::history::{Commit, History, HistoryError};

/// A moved Dockerfile has at least this share of its lines, in per cent.
const ALIKE_PERCENT: usize = 50;

/// For each commit, its Dockerfile's path and object.
pub(crate) struct Located {
    pub(crate) dockerfiles: Vec<Option<(PathBuf, ObjectId)>>,
    /// What happened to it.
    pub(crate) notes: Vec<String>,
}

pub(crate) fn locate(
    history: &History,
    commits: &[Commit],
    path: &Path,
) -> Result<Located, HistoryError> {
    let mut located = Located { dockerfiles: vec![None; commits.len()], notes: Vec::new() };
    let mut current = path.to_path_buf();
    let mut newer: Option<(ObjectId, ObjectId)> = None;
    for (number, commit) in commits.iter().enumerate().rev() {
        let mut found = file_at(history, commit.tree, &current)?;
        if found.is_none()
            && let Some((tree, blob)) = newer
            && let Some(older) = moved_from(history, commit.tree, tree, blob)?
        {
            let note = format!(
                "the Dockerfile was `{}` up to {}",
                older.display(),
                &commit.id.to_string()[..10]
            );
            located.notes.push(note);
            current = older;
            found = file_at(history, commit.tree, &current)?;
        }
        newer = found.map(|blob| (commit.tree, blob));
        located.dockerfiles[number] = found.map(|blob| (current.clone(), blob));
    }
    located.notes.reverse();
    Ok(located)
}

fn file_at(
    history: &History,
    tree: ObjectId,
    path: &Path,
) -> Result<Option<ObjectId>, HistoryError> {
    let found = find(history, tree, path)?;
    Ok(found
        .filter(|(_, kind)| matches!(kind, EntryKind::Blob | EntryKind::BlobExecutable))
        .map(|(id, _)| id))
}

/// Where a Dockerfile was in the older commit.
fn moved_from(
    history: &History,
    older: ObjectId,
    newer: ObjectId,
    blob: ObjectId,
) -> Result<Option<PathBuf>, HistoryError> {
    let (before, after) = (dockerfiles(history, older)?, dockerfiles(history, newer)?);
    let mut gone = before.into_iter().filter(|(path, _)| !after.contains_key(path));
    let candidates: Vec<(TreePath, ObjectId)> = gone.by_ref().collect();
    let path = |path: &TreePath| PathBuf::from(path.to_string());
    if let Some((same, _)) = candidates.iter().find(|(_, id)| *id == blob) {
        return Ok(Some(path(same)));
    }
    let Some(text) = history.bytes(blob)? else { return Ok(None) };
    let mut best: Option<(usize, &TreePath)> = None;
    for (candidate, id) in &candidates {
        let Some(old) = history.bytes(*id)? else { continue };
        let alike = alike_percent(&text, &old);
        if alike >= ALIKE_PERCENT && best.is_none_or(|(most, _)| alike > most) {
            best = Some((alike, candidate));
        }
    }
    Ok(best.map(|(_, found)| path(found)))
}

fn alike_percent(one: &[u8], other: &[u8]) -> usize {
    let lines = |text: &[u8]| -> HashSet<Vec<u8>> {
        let lines = text.split(|byte| *byte == b'\n').map(|line| line.trim_ascii().to_vec());
        lines.filter(|line| !line.is_empty()).collect()
    };
    let (one, other) = (lines(one), lines(other));
    let longer = one.len().max(other.len()).max(1);
    one.intersection(&other).count() * 100 / longer
}

/// All files of a tree that are called like a Dockerfile.
pub(crate) fn dockerfiles(
    history: &History,
    tree: ObjectId,
) -> Result<BTreeMap<TreePath, ObjectId>, HistoryError> {
    let mut found = BTreeMap::new();
    let mut open = vec![(TreePath::ROOT, tree)];
    while let Some((at, tree)) = open.pop() {
        let Some(bytes) = history.bytes(tree)? else { continue };
        for entry in TreeRefIter::from_bytes(&bytes, tree.kind()).filter_map(Result::ok) {
            let Ok(path) = at.child(entry.filename) else { continue };
            let name = entry.filename.to_ascii_lowercase();
            let called = |word: &[u8]| name.windows(word.len()).any(|part| part == word);
            match entry.mode.kind() {
                EntryKind::Tree => open.push((path, entry.oid.to_owned())),
                EntryKind::Blob | EntryKind::BlobExecutable
                    if (called(b"dockerfile") || called(b"containerfile"))
                        && !name.ends_with(b"ignore") =>
                {
                    found.insert(path, entry.oid.to_owned());
                }
                _ => {}
            }
        }
    }
    Ok(found)
}

/// The Dockerfile that is meant when none is named, or those that there are.
pub fn default_dockerfile(
    history: &History,
    commits: &[Commit],
    context: &Path,
) -> Result<Result<PathBuf, Vec<String>>, HistoryError> {
    let Some(newest) = commits.last() else { return Ok(Err(Vec::new())) };
    for commit in commits.iter().rev() {
        for name in ["Dockerfile", "dockerfile"] {
            let path = context.join(name);
            if file_at(history, commit.tree, &path)?.is_some() {
                return Ok(Ok(path));
            }
        }
    }
    let others = dockerfiles(history, newest.tree)?;
    Ok(Err(others.keys().map(ToString::to_string).collect()))
}
