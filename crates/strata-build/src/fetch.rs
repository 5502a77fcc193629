//! What lies elsewhere: downloads, repositories and archives, brought into the store as trees, so
//! that nothing comes twice. The network is behind [`Fetcher`], which the program fills in.
//!
//! A download is asked for with what the last answer said of it (`ETag`, `Last-Modified`), so a
//! server can say that it is unchanged. A repository is asked for its commit; the files of a
//! commit never change, so they are checked out once.

use std::fs::File;
use std::io::{self, Read, Seek};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use strata_cas::{
    Action, BlobId, BlobStore, Change, Directory, Item, Layer, LayerId, Metadata, Store, Time,
    TreeId, TreePath,
};
use strata_exec::Cancel;
use strata_image::{Decoder, OverlayForm, UnpackOptions};
use strata_oci::{Digest, DigestHasher};
use strata_plan::{GitSource, HttpSource, RemoteSource};
use strata_scan::{Glob, IgnoreRules, ScanRequest, scan};

use crate::copy::bring_files;
use crate::lay::{LayError, Laying};
use crate::selection::{SelectError, select_path};
use crate::view::{ContextView, RootView, View};
use crate::{BuildError, Credentials, Event, Material, Observer, layers};

/// Downloads by the names of their URLs. A URL may hold a password, so it is no name itself.
const DOWNLOADS: &str = "downloads-1";
/// The layers that hold trees which were fetched.
const TREES: &str = "trees-1";
/// What the file of a context is called that is no archive.
pub(crate) const LONE_FILE: &str = "context";

/// Brings what lies elsewhere.
pub trait Fetcher: Sync {
    /// Downloads a file into an empty one, unless it is what `known` says of it.
    ///
    /// # Errors
    ///
    /// When it can not be had as a whole.
    fn download(
        &self,
        source: &HttpSource,
        known: Option<&Validators>,
        into: &mut File,
        caller: Caller<'_>,
    ) -> Result<Downloaded, FetchError>;

    /// The id of the commit that a repository's reference names at the moment.
    ///
    /// # Errors
    ///
    /// When the repository can not be reached, or has no such reference.
    fn commit(&self, source: &GitSource, caller: Caller<'_>) -> Result<Commit, FetchError>;

    /// Checks a commit out into the empty directory `into`, using the empty directory `scratch`
    /// besides.
    ///
    /// # Errors
    ///
    /// When the repository does not have the commit or the subdirectory.
    fn check_out(
        &self,
        source: &GitSource,
        commit: &str,
        places: CheckoutPlaces<'_>,
        caller: Caller<'_>,
    ) -> Result<CheckedOut, FetchError>;
}

/// What a repository's reference names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commit {
    /// The commit's id.
    pub id: String,
    /// The id of the annotated tag that stands for it: `--checksum` may be that one, too.
    pub tag: Option<String>,
}

/// On whose behalf something is fetched. It has no `Debug`, since secrets have none.
#[derive(Clone, Copy)]
pub struct Caller<'a> {
    /// Says when it is not wanted any more.
    pub cancel: &'a Cancel,
    /// What may be shown to servers, if it is for them.
    pub credentials: &'a Credentials,
}

/// Where a commit is checked out: two empty directories.
#[derive(Debug, Clone, Copy)]
pub struct CheckoutPlaces<'a> {
    /// For the repository.
    pub scratch: &'a Path,
    /// For its files.
    pub into: &'a Path,
}

/// Files of a commit.
#[derive(Debug, Clone)]
pub struct CheckedOut {
    /// The directory that was asked for.
    pub root: PathBuf,
    /// When the commit was made, in seconds since 1970.
    pub committed: i64,
}

/// What a server said of a file, to be asked whether it still holds.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Validators {
    /// `ETag`.
    pub etag: Option<String>,
    /// `Last-Modified`, as it was written.
    pub last_modified: Option<String>,
}

/// What came of a download.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Downloaded {
    /// It is what it was.
    Unchanged,
    /// It is in the file.
    File {
        /// What the server says of it.
        validators: Validators,
        /// When it was last modified, in seconds since 1970; 0 if the server does not say.
        modified: i64,
    },
}

/// Why something could not be fetched.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// Nobody answers, or nobody who can be trusted.
    #[error("{0}")]
    Unreachable(String),
    /// It is not there, or not for us, or not what it should be.
    #[error("{0}")]
    Refused(String),
    /// There is no program `git`.
    #[error("the program `git` is not installed")]
    NoGit,
    /// The user ended the build.
    #[error("cancelled")]
    Cancelled,
    /// The operating system refused.
    #[error("{action}: {source}")]
    Io {
        /// What was attempted.
        action: String,
        /// The system's answer.
        source: io::Error,
    },
}

/// A tree that was fetched or unpacked, in the store.
#[derive(Debug, Clone)]
pub struct FetchedTree {
    /// None if there is nothing in it.
    pub(crate) tree: Option<TreeId>,
    /// Knows the files' times.
    pub(crate) layer: Arc<Layer>,
    is_lone: bool,
    /// What it is, if it came from elsewhere.
    pub(crate) origin: Option<Material>,
}

impl FetchedTree {
    /// A context without a file.
    pub fn empty() -> Self {
        Self { tree: None, layer: Arc::default(), is_lone: false, origin: None }
    }

    /// Whether it is a single file that is no archive, and no directory.
    pub fn is_lone_file(&self) -> bool {
        self.is_lone
    }

    pub(crate) fn view<'a>(&self, store: &'a dyn BlobStore) -> RootView<'a> {
        RootView::new(store, self.tree, vec![self.layer.clone()])
    }
}

/// What is known of a download.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Download {
    blob: BlobId,
    size: u64,
    sha256: Digest,
    modified: i64,
    validators: Validators,
}

/// Fetches into a store.
#[derive(Clone, Copy)]
pub(crate) struct Fetching<'a> {
    pub(crate) store: &'a dyn Store,
    pub(crate) fetcher: &'a dyn Fetcher,
    pub(crate) caller: Caller<'a>,
    pub(crate) observe: Observer<'a>,
}

impl Fetching<'_> {
    /// The commit that a repository's reference names.
    pub(crate) fn commit(&self, source: &GitSource) -> Result<String, FetchError> {
        let Commit { id, tag } = self.fetcher.commit(source, self.caller)?;
        let is = |expected: &String| {
            id.starts_with(expected) || tag.as_ref().is_some_and(|tag| tag.starts_with(expected))
        };
        match &source.checksum {
            Some(expected) if !is(expected) => {
                Err(FetchError::Refused(format!("its commit is `{id}`, not `{expected}`")))
            }
            _ => Ok(id),
        }
    }

    /// A download as a tree with one file, which is kept in `nodes`.
    pub(crate) fn file(
        &self,
        source: &HttpSource,
        nodes: &dyn BlobStore,
    ) -> Result<FetchedTree, BuildOrFetch> {
        let download = self.download(source)?;
        Ok(lone_file(&source.file_name, &download, 0o600, nodes)?)
    }

    /// What stands behind a URL or in a repository, as a context.
    pub(crate) fn context(&self, source: &RemoteSource) -> Result<FetchedTree, BuildOrFetch> {
        let (tree, origin) = match source {
            RemoteSource::Git(git) => {
                (self.observe)(Event::Fetching { what: &shown(git) });
                let commit = self.commit(git)?;
                (self.check_out(git, &commit)?, Material::commit(source, &commit))
            }
            RemoteSource::Http(http) => {
                let download = self.download(http)?;
                let origin = Material::download(source, &download.sha256);
                (self.archive_or_file(&download)?, origin)
            }
        };
        Ok(FetchedTree { origin: Some(origin), ..tree })
    }

    /// What a download is that was fetched before.
    pub(crate) fn digest(&self, source: &HttpSource) -> Result<Option<Digest>, BuildError> {
        let name = BlobId::of(source.url.as_bytes()).to_string();
        Ok(self.known_download(&name)?.map(|download| download.sha256))
    }

    fn archive_or_file(&self, download: &Download) -> Result<FetchedTree, BuildOrFetch> {
        let open = || -> Result<_, BuildError> {
            let blob = self.store.open(&download.blob)?;
            let blob = blob.ok_or_else(|| BuildError::Damaged {
                what: "download",
                reason: format!("{} is gone", download.blob),
            })?;
            Ok(blob.reader(download.blob))
        };
        if !strata_image::is_archive(open()?) {
            let mut tree = lone_file(LONE_FILE, download, 0o600, self.store)?;
            tree.is_lone = true;
            return Ok(tree);
        }
        let name = format!("archive {}", download.blob);
        if let Some(known) = self.known(&name)? {
            return Ok(known);
        }
        let tree = self.unpack(&mut open()?)?;
        self.remember(&name, &tree)?;
        Ok(tree)
    }

    /// Downloads a file, or finds out that it is here.
    fn download(&self, source: &HttpSource) -> Result<Download, BuildOrFetch> {
        let what = RemoteSource::Http(source.clone()).shown();
        let name = BlobId::of(source.url.as_bytes()).to_string();
        let known = self.known_download(&name)?;
        if let (Some(checksum), Some(known)) = (&source.checksum, &known)
            && known.sha256 == *checksum
        {
            // Nobody needs to be asked what it is.
            return Ok(known.clone());
        }
        (self.observe)(Event::Fetching { what: &what });
        let staging = self.store.stage().map_err(BuildError::from)?;
        let path = staging.path().join("download");
        let action = || format!("write `{}`", path.display());
        let mut options = std::fs::OpenOptions::new();
        let opened = options.read(true).write(true).create_new(true).open(&path);
        let mut file = opened.map_err(BuildError::io(action()))?;
        let validators = known.as_ref().map(|known| &known.validators);
        let answer = self.fetcher.download(source, validators, &mut file, self.caller)?;
        let download = match (answer, known) {
            (Downloaded::Unchanged, Some(known)) => {
                (self.observe)(Event::Fetched { what: &what, bytes: None });
                known
            }
            (Downloaded::Unchanged, None) => {
                let reason = "the server says that it is unchanged, and was not asked";
                return Err(FetchError::Refused(reason.to_owned()).into());
            }
            (Downloaded::File { validators, modified }, _) => {
                file.rewind().map_err(BuildError::io(action()))?;
                let mut reader = Tee { file, hasher: DigestHasher::default() };
                let blob = self.store.put_from(&mut reader).map_err(BuildError::from)?;
                let (sha256, size) = reader.hasher.finish();
                (self.observe)(Event::Fetched { what: &what, bytes: Some(size) });
                let download = Download { blob, size, sha256, modified, validators };
                let value = serde_json::to_vec(&download);
                let value = value.map_err(BuildError::damaged("table of downloads"))?;
                self.store.set_name(DOWNLOADS, &name, Some(&value)).map_err(BuildError::from)?;
                download
            }
        };
        match &source.checksum {
            Some(expected) if download.sha256 != *expected => {
                let wrong = format!("its digest is {}, not {expected}", download.sha256);
                Err(FetchError::Refused(wrong).into())
            }
            _ => Ok(download),
        }
    }

    fn known_download(&self, name: &str) -> Result<Option<Download>, BuildError> {
        let Some(value) = self.store.name(DOWNLOADS, name)? else { return Ok(None) };
        let Ok(download) = serde_json::from_slice::<Download>(&value) else { return Ok(None) };
        Ok(if self.store.has(&download.blob)? { Some(download) } else { None })
    }

    /// The files of a commit.
    pub(crate) fn check_out(
        &self,
        source: &GitSource,
        commit: &str,
    ) -> Result<FetchedTree, BuildOrFetch> {
        let GitSource { keep_git_dir, submodules, subdirectory, .. } = source;
        let mut name = format!("commit {commit} {keep_git_dir} {submodules} {subdirectory}");
        if *submodules {
            // Where submodules come from may be told relative to where the repository is.
            name.push_str(&format!(" {}", BlobId::of(source.remote.as_bytes())));
        }
        if let Some(known) = self.known(&name)? {
            (self.observe)(Event::Fetched { what: &shown(source), bytes: None });
            return Ok(known);
        }
        let staging = self.store.stage().map_err(BuildError::from)?;
        let (scratch, into) = (staging.work(), staging.fs());
        let places = CheckoutPlaces { scratch: &scratch, into: &into };
        let checked_out = self.fetcher.check_out(source, commit, places, self.caller)?;
        let tree = self.directory(&checked_out.root, Time(checked_out.committed))?;
        let bytes = tree.layer.blobs().map(|(_, size)| size).sum();
        (self.observe)(Event::Fetched { what: &shown(source), bytes: Some(bytes) });
        self.remember(&name, &tree)?;
        Ok(tree)
    }

    /// A directory on the disk as a tree, all of it made at one time.
    fn directory(&self, root: &Path, modified: Time) -> Result<FetchedTree, BuildError> {
        let everything = [Glob::literal(&TreePath::ROOT)];
        let rules = IgnoreRules::default();
        let request =
            ScanRequest { root, rules: &rules, wanted: &everything, stamps: None, threads: 0 };
        let scanned = scan(&request)
            .map_err(|source| BuildError::Context { context: String::new(), source })?;
        let selection = select_path(&ContextView(&scanned), &TreePath::ROOT);
        let selection = selection.map_err(|error| match error {
            SelectError::Tree(error) => error.into(),
            _ => BuildError::Damaged { what: "checkout", reason: "it is gone".to_owned() },
        })?;
        let empty = Directory::empty_root().keep(self.store)?;
        let target = RootView::new(self.store, Some(empty), Vec::new());
        let mut laying = Laying::new(&target, None, modified);
        let failed = |error: LayError| match error {
            LayError::Tree(error) => error.into(),
            LayError::InTheWay { path, message } => {
                BuildError::Damaged { what: "checkout", reason: format!("`{path}` {message}") }
            }
        };
        laying.selection(&selection, "/").map_err(failed)?;
        bring_files(self.store, root, &laying.blobs)?;
        let layer = laying.into_layer().map_err(failed)?;
        let at_once = layer.changes().iter().cloned().map(|mut change| {
            if let Action::Set { modified: time, .. } = &mut change.action {
                *time = modified;
            }
            change
        });
        self.tree(Layer::new(at_once.collect()))
    }

    /// Unpacks an archive, compressed or not.
    pub(crate) fn unpack(&self, source: &mut (dyn Read + Send)) -> Result<FetchedTree, BuildError> {
        let staging = self.store.stage()?;
        let mut decoder = Decoder::new(source).map_err(BuildError::io("read the archive"))?;
        let options = UnpackOptions::new(OverlayForm::Plain);
        let unpacked = strata_image::unpack(&mut decoder, &staging.fs(), &options)?;
        bring_files(self.store, &staging.fs(), &unpacked.files)?;
        self.tree(unpacked.layer)
    }

    fn tree(&self, layer: Layer) -> Result<FetchedTree, BuildError> {
        let tree = Some(strata_cas::apply(self.store, None, &layer)?);
        Ok(FetchedTree { tree, layer: Arc::new(layer), is_lone: false, origin: None })
    }

    fn known(&self, name: &str) -> Result<Option<FetchedTree>, BuildError> {
        let Some(value) = self.store.name(TREES, name)? else { return Ok(None) };
        let id = std::str::from_utf8(&value).ok().and_then(|text| text.parse::<BlobId>().ok());
        let Some(id) = id.map(LayerId::from) else { return Ok(None) };
        if !layers::files_are_there(self.store, &id)? {
            return Ok(None);
        }
        let layer = layers::load(self.store, &id)?;
        let tree = Some(strata_cas::apply(self.store, None, &layer)?);
        Ok(Some(FetchedTree { tree, layer, is_lone: false, origin: None }))
    }

    fn remember(&self, name: &str, tree: &FetchedTree) -> Result<(), BuildError> {
        let id = self.store.put(&tree.layer.encode())?;
        Ok(self.store.set_name(TREES, name, Some(id.to_string().as_bytes()))?)
    }
}

fn shown(source: &GitSource) -> String {
    RemoteSource::Git(source.clone()).shown()
}

/// A tree with one file.
fn lone_file(
    name: &str,
    download: &Download,
    mode: u32,
    nodes: &dyn BlobStore,
) -> Result<FetchedTree, BuildError> {
    let path = TreePath::new(name).map_err(|_| BuildError::Damaged {
        what: "download",
        reason: format!("`{name}` is no file's name"),
    })?;
    let Download { blob, size, modified, .. } = download;
    let item = Item::File { blob: *blob, size: *size };
    let (metadata, modified) = (Metadata::root(mode), Time(*modified));
    let action = Action::Set { item, metadata, modified };
    let layer = Layer::new(vec![Change { path, action }]);
    let tree = Some(strata_cas::apply(nodes, None, &layer)?);
    Ok(FetchedTree { tree, layer: Arc::new(layer), is_lone: false, origin: None })
}

/// Reads a file of a tree; none if it is not there or no file.
pub(crate) fn read_file(
    store: &dyn Store,
    tree: &FetchedTree,
    path: &TreePath,
    limit: u64,
) -> Result<Option<Vec<u8>>, BuildError> {
    let view = tree.view(store);
    let Some(found) = view.resolve(path)? else { return Ok(None) };
    let Some(crate::view::Kind::File { blob, .. }) = view.get(&found)?.map(|seen| seen.kind) else {
        return Ok(None);
    };
    let Some(opened) = store.open(&blob)? else { return Ok(None) };
    let mut bytes = Vec::new();
    let read = opened.reader(blob).take(limit).read_to_end(&mut bytes);
    read.map_err(BuildError::io(format!("read `{path}`")))?;
    Ok(Some(bytes))
}

/// Either of two ways to fail; who knows what was fetched makes one of it.
#[derive(Debug)]
pub(crate) enum BuildOrFetch {
    Build(BuildError),
    Fetch(FetchError),
}

impl From<BuildError> for BuildOrFetch {
    fn from(error: BuildError) -> Self {
        Self::Build(error)
    }
}

impl From<FetchError> for BuildOrFetch {
    fn from(error: FetchError) -> Self {
        Self::Fetch(error)
    }
}

impl BuildOrFetch {
    /// The error, with what was fetched and where that is asked for.
    pub(crate) fn of(self, what: &RemoteSource, span: strata_dockerfile::Span) -> BuildError {
        match self {
            Self::Build(error) => error,
            Self::Fetch(FetchError::Cancelled) => BuildError::Cancelled,
            Self::Fetch(source) => BuildError::Fetch { what: what.shown(), span, source },
        }
    }
}

/// Names a file while it is read.
struct Tee {
    file: File,
    hasher: DigestHasher,
}

impl Read for Tee {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read(buffer)?;
        io::Write::write_all(&mut self.hasher, &buffer[..count])?;
        Ok(count)
    }
}
