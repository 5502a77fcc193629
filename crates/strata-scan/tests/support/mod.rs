//! A context to scan, built from one-line descriptions. What is expected is in the tests.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use strata_cas::{BlobId, Directory, File, Metadata, Node, TreeId, TreePath};
use strata_scan::{
    Found, FoundKind, Glob, IgnoreRules, Scan, ScanError, ScanRequest, StampFile, scan,
};

/// A context in a directory of its own, with a stamp file beside it.
pub(crate) struct Context {
    directory: tempfile::TempDir,
}

impl Context {
    /// An empty context.
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        std::fs::create_dir(directory.path().join("context")).expect("create the context");
        Self { directory }
    }

    /// A context with files: a path's content is the path, `a -> b` is a link, `a/` a directory.
    pub(crate) fn with(files: &[&str]) -> Self {
        let context = Self::new();
        for file in files {
            context.add(file);
        }
        context
    }

    pub(crate) fn add(&self, file: &str) {
        let (name, target) = file.split_once(" -> ").unwrap_or((file, ""));
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().expect("it has a parent")).expect("create parents");
        if !target.is_empty() {
            std::os::unix::fs::symlink(target, path).expect("make a link");
        } else if name.ends_with('/') {
            std::fs::create_dir_all(path).expect("create a directory");
        } else {
            std::fs::write(path, name).expect("write a file");
        }
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.directory.path().join("context")
    }

    pub(crate) fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.root().join(name)
    }

    pub(crate) fn stamps(&self) -> PathBuf {
        self.directory.path().join("stamps")
    }

    /// Scans with the stamp file.
    pub(crate) fn scan(&self, rules: &str, wanted: &[&str]) -> Scan {
        self.try_scan(rules, wanted, Some(&self.stamps())).expect("the context can be scanned")
    }

    /// Scans from nothing.
    pub(crate) fn scan_cold(&self, rules: &str, wanted: &[&str]) -> Scan {
        self.try_scan(rules, wanted, None).expect("the context can be scanned")
    }

    pub(crate) fn try_scan(
        &self,
        rules: &str,
        wanted: &[&str],
        stamps: Option<&Path>,
    ) -> Result<Scan, ScanError> {
        let rules = IgnoreRules::parse(rules.as_bytes()).expect("good rules");
        let wanted: Vec<Glob> =
            wanted.iter().map(|glob| Glob::new(glob.as_bytes()).expect("a good glob")).collect();
        let stamps = stamps.map(StampFile::new);
        let (root, stamps) = (&self.root(), stamps.as_ref());
        scan(&ScanRequest { root, rules: &rules, wanted: &wanted, stamps, threads: 2 })
    }
}

/// Lets the clock move on, so that what was written so far can be believed.
pub(crate) fn settle() {
    std::thread::sleep(Duration::from_millis(40));
}

pub(crate) fn path(text: &str) -> TreePath {
    TreePath::new(text).expect("a clean path")
}

/// The paths of an answer in one line, without the root.
pub(crate) fn paths(scan: &Scan) -> String {
    let paths: Vec<String> = scan.entries().skip(1).map(|(path, _)| path.to_string()).collect();
    paths.join(" ")
}

/// All that an answer says.
pub(crate) fn answer(scan: &Scan) -> Vec<(TreePath, Found)> {
    scan.entries().collect()
}

/// The tree that an answer makes, put together from its paths one by one.
pub(crate) fn tree(scan: &Scan, at: &TreePath, mode: u32) -> TreeId {
    let mut directory = Directory { metadata: Metadata::root(mode), ..Directory::default() };
    for (path, found) in scan.children(at) {
        let metadata = Metadata::root(found.mode);
        let node = match found.kind {
            FoundKind::Directory => Node::Directory(tree(scan, &path, found.mode)),
            FoundKind::File { blob, size } => Node::File(File { blob, size, metadata }),
            FoundKind::Symlink { target } => Node::Symlink { target, metadata },
            FoundKind::Device(device) => Node::Device { device, metadata },
        };
        directory.entries.insert(path.name().to_vec(), node);
    }
    directory.id()
}

/// Fails unless every directory of an answer is called what it holds.
pub(crate) fn check_trees(scan: &Scan) {
    for (path, found) in scan.entries() {
        if found.kind == FoundKind::Directory {
            for mode in [found.mode, 0o755, 0o700] {
                assert_eq!(scan.tree(&path, mode), Some(tree(scan, &path, mode)), "{path}");
            }
        } else {
            assert_eq!(scan.tree(&path, 0o755), None, "{path}");
        }
    }
}

/// What is in the context, by another walker, without stamps and threads.
pub(crate) fn naive(root: &Path, rules: &IgnoreRules) -> Vec<(TreePath, FoundKind)> {
    let walk = ignore::WalkBuilder::new(root).standard_filters(false).follow_links(false).build();
    let mut found: Vec<(TreePath, FoundKind)> = walk
        .map(|entry| entry.expect("it can be walked"))
        .map(|entry| {
            let relative = entry.path().strip_prefix(root).expect("it is below the root");
            let path = TreePath::new(relative.as_os_str().as_bytes()).expect("clean");
            let file_type = entry.file_type().expect("it has a type");
            let kind = if file_type.is_dir() {
                FoundKind::Directory
            } else if file_type.is_symlink() {
                let target = std::fs::read_link(entry.path()).expect("it is a link");
                FoundKind::Symlink { target: target.as_os_str().as_bytes().to_vec() }
            } else {
                let bytes = std::fs::read(entry.path()).expect("it can be read");
                FoundKind::File { blob: BlobId::of(&bytes), size: bytes.len() as u64 }
            };
            (path, kind)
        })
        .collect();
    found.sort_by(|(a, _), (b, _)| a.cmp(b));
    let kept: Vec<TreePath> =
        found.iter().map(|(path, _)| path.clone()).filter(|path| !rules.excludes(path)).collect();
    found.retain(|(path, _)| path.is_root() || kept.iter().any(|kept| kept.below(path).is_some()));
    found
}
