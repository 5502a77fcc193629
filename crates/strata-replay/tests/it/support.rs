//! Repositories, made commit by commit with git's objects: no git command is needed.

use std::collections::BTreeMap;
use std::path::PathBuf;

use gix::ObjectId;
use gix::objs::tree::{Entry, EntryKind};
use strata_replay::{
    Commit, History, Range, Report, Request, Scheme, Study, Tally, WhatIf, replay,
};

/// A bare repository.
pub(crate) struct Repo {
    directory: tempfile::TempDir,
    repository: gix::Repository,
    files: BTreeMap<String, (EntryKind, Vec<u8>)>,
    last: Option<ObjectId>,
    time: i64,
}

impl Repo {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let repository = gix::init_bare(directory.path()).expect("a repository");
        std::fs::write(directory.path().join("HEAD"), "ref: refs/heads/main\n").expect("HEAD");
        Self { directory, repository, files: BTreeMap::new(), last: None, time: 1_700_000_000 }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.directory.path().to_path_buf()
    }

    /// Sets files, or removes those without content, and commits.
    pub(crate) fn commit(&mut self, files: &[(&str, Option<&str>)]) -> ObjectId {
        for (path, content) in files {
            match content {
                Some(content) => self.set(path, EntryKind::Blob, content),
                None => drop(self.files.remove(*path)),
            }
        }
        let parents = self.last.into_iter().collect();
        self.commit_on(parents)
    }

    pub(crate) fn set(&mut self, path: &str, kind: EntryKind, content: &str) {
        self.files.insert(path.to_owned(), (kind, content.as_bytes().to_vec()));
    }

    /// Commits the files as they are, on these parents.
    pub(crate) fn commit_on(&mut self, parents: Vec<ObjectId>) -> ObjectId {
        let tree = self.tree("");
        self.time += 60;
        let who = gix::actor::Signature {
            name: "a".into(),
            email: "a@b".into(),
            time: gix::date::Time { seconds: self.time, offset: 0 },
        };
        let commit = gix::objs::Commit {
            tree,
            parents: parents.into(),
            author: who.clone(),
            committer: who,
            encoding: None,
            message: format!("at {}", self.time).into(),
            extra_headers: Vec::new(),
        };
        let id = self.repository.write_object(&commit).expect("a commit").detach();
        let heads = self.directory.path().join("refs/heads");
        std::fs::create_dir_all(&heads).expect("refs");
        std::fs::write(heads.join("main"), format!("{id}\n")).expect("a branch");
        self.last = Some(id);
        id
    }

    fn tree(&self, below: &str) -> ObjectId {
        let mut entries: BTreeMap<String, Entry> = BTreeMap::new();
        for (path, (kind, content)) in &self.files {
            let Some(rest) = path.strip_prefix(below) else { continue };
            let (name, entry) = match rest.split_once('/') {
                Some((name, _)) => {
                    if entries.contains_key(name) {
                        continue;
                    }
                    let oid = self.tree(&format!("{below}{name}/"));
                    (name, Entry { mode: EntryKind::Tree.into(), filename: name.into(), oid })
                }
                None => {
                    let oid = match kind {
                        EntryKind::Commit => ObjectId::from_hex(content).expect("an id"),
                        _ => self.repository.write_blob(content).expect("a blob").detach(),
                    };
                    (rest, Entry { mode: (*kind).into(), filename: rest.into(), oid })
                }
            };
            entries.insert(name.to_owned(), entry);
        }
        let mut entries: Vec<Entry> = entries.into_values().collect();
        entries.sort();
        let tree = gix::objs::Tree { entries };
        self.repository.write_object(&tree).expect("a tree").detach()
    }

    pub(crate) fn history(&self) -> History {
        History::open(self.directory.path()).expect("a history")
    }

    pub(crate) fn commits(&self) -> Vec<Commit> {
        self.history().commits(&Range::default()).expect("commits").0
    }

    pub(crate) fn replay(&self, request: &Request) -> Tally {
        replay(&self.history(), &self.commits(), request, &mut |_| true).expect("a replay")
    }

    pub(crate) fn report(&self, request: &Request) -> Report {
        let (history, commits) = (self.history(), self.commits());
        let study = Study { history: &history, commits: &commits, request, main: Scheme::Strata };
        let tally = study.with(request.what_if.clone(), &mut |_| true).expect("a replay");
        study.report(&tally, &Range::default(), "test")
    }

    pub(crate) fn what_if(&self, what_if: WhatIf) -> Tally {
        self.replay(&Request { what_if, ..Request::new("Dockerfile") })
    }
}

/// A node application that installs before it copies.
pub(crate) const NODE: &str = "FROM node:22\n\
    RUN apt-get install -y git\n\
    COPY package.json .\n\
    RUN npm ci\n\
    COPY . .\n\
    RUN npm run build\n";
