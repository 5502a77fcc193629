//! What something needs that names blobs: all of them, those that trees lead to included.

use std::collections::HashSet;

use prost::Message as _;
use strata_cas::entry::Need;
use tonic::Status;

use super::cas::whole;
use super::name::BlobName;
use crate::depot::Depot;
use strata_reapi::proto::{Digest, Directory, Tree};

/// Gathers what is needed, and finds out what of it is not here.
pub(super) struct Needs<'a> {
    depot: &'a Depot,
    function: i32,
    all: Vec<Need>,
    directories: HashSet<String>,
}

impl<'a> Needs<'a> {
    pub(super) fn new(depot: &'a Depot, function: i32) -> Self {
        Self { depot, function, all: Vec::new(), directories: HashSet::new() }
    }

    /// A blob.
    pub(super) fn blob(&mut self, digest: &Digest) -> Result<BlobName, Status> {
        let name = BlobName::new(digest, self.function)?;
        let content = name.find(self.depot)?.ok_or_else(|| missing(&name))?;
        self.all.extend(name.needs(&content));
        Ok(name)
    }

    /// A blob that is a tree, with the files in it.
    pub(super) fn tree(&mut self, digest: &Digest) -> Result<(), Status> {
        let name = self.blob(digest)?;
        let tree = Tree::decode(whole(self.depot, &name)?);
        let tree = tree.map_err(|error| Status::invalid_argument(error.to_string()))?;
        tree.root.iter().chain(&tree.children).try_for_each(|directory| self.files(directory))
    }

    /// A blob that is a directory, with all below it.
    pub(super) fn directory(&mut self, root: &Digest) -> Result<(), Status> {
        let mut rest = vec![root.clone()];
        while let Some(digest) = rest.pop() {
            if !self.directories.insert(digest.hash.clone()) {
                continue;
            }
            let name = self.blob(&digest)?;
            let directory = Directory::decode(whole(self.depot, &name)?);
            let directory =
                directory.map_err(|error| Status::invalid_argument(error.to_string()))?;
            self.files(&directory)?;
            rest.extend(directory.directories.into_iter().filter_map(|node| node.digest));
        }
        Ok(())
    }

    fn files(&mut self, directory: &Directory) -> Result<(), Status> {
        let digests = directory.files.iter().filter_map(|file| file.digest.as_ref());
        for digest in digests {
            self.blob(digest)?;
        }
        Ok(())
    }

    /// All of it, each once.
    pub(super) fn finish(mut self) -> Vec<Need> {
        self.all.sort_by_key(|need| format!("{need:?}"));
        self.all.dedup();
        self.all
    }
}

fn missing(name: &BlobName) -> Status {
    Status::failed_precondition(format!("blob {} is not here: it comes first", name.hex()))
}
