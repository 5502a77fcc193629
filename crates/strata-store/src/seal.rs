//! Whether a snapshot still is what it was: commands read from it without anybody comparing what
//! they read with its name.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use strata_cas::{Action, BlobId, Item, LayerId, StoreError, TreeId, TreePath};

use crate::DiskStore;
use strata_cas::Link;

impl DiskStore {
    /// In what a snapshot is not what its layer says; `None` when it is as it should be, or when
    /// the layer itself is not known any more. Compares types, sizes and contents.
    pub(crate) fn differs_from_layer(&self, id: &LayerId) -> Result<Option<String>, StoreError> {
        let Some(layer) = self.layer(id)? else { return Ok(None) };
        let root = self.layout.snapshot(id).join("fs");
        let mut hashed: HashMap<(u64, u64), BlobId> = HashMap::new();
        for change in layer.changes() {
            let Action::Set { item, .. } = &change.action else { continue };
            let problem = differs(&root, &change.path, item, &mut hashed);
            match problem {
                Ok(None) => {}
                Ok(Some(problem)) => return Ok(Some(format!("`{}`: {problem}", change.path))),
                // It belongs to another user of the namespace that made it.
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
                Err(error) => return Ok(Some(format!("`{}`: {error}", change.path))),
            }
        }
        Ok(None)
    }

    /// The directories in a directory; `None` when it is not there.
    pub(crate) fn trees_below(&self, id: &TreeId) -> Result<Option<Vec<Link>>, StoreError> {
        use strata_cas::{BlobStore, Directory, Node};
        let bytes = self.get(&id.blob())?;
        let node = bytes.and_then(|bytes| Directory::decode(&bytes).ok());
        Ok(node.map(|node| {
            let tree = |node: Node| match node {
                Node::Directory(tree) => Some(Link::Tree(tree)),
                _ => None,
            };
            node.entries.into_values().filter_map(tree).collect()
        }))
    }
}

fn differs(
    root: &Path,
    path: &TreePath,
    item: &Item,
    hashed: &mut HashMap<(u64, u64), BlobId>,
) -> io::Result<Option<&'static str>> {
    use std::os::unix::ffi::OsStrExt;
    let full = root.join(std::ffi::OsStr::from_bytes(path.as_bytes()));
    let metadata = match fs::symlink_metadata(&full) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Some("it is gone")),
        Err(error) => return Err(error),
    };
    let kind = metadata.file_type();
    Ok(match item {
        Item::Directory { .. } if !kind.is_dir() => Some("it is no directory"),
        Item::Symlink { .. } if !kind.is_symlink() => Some("it is no symbolic link"),
        Item::Symlink { target } => {
            let there = fs::read_link(&full)?;
            (there.as_os_str().as_bytes() != &target[..]).then_some("it leads elsewhere")
        }
        Item::Device(_) => {
            let is_one = kind.is_char_device() || kind.is_block_device() || kind.is_fifo();
            (!is_one).then_some("it is no device")
        }
        Item::File { .. } if !kind.is_file() => Some("it is no file"),
        Item::File { size, .. } if metadata.len() != *size => Some("it has another size"),
        Item::File { blob, .. } => {
            let node = (metadata.dev(), metadata.ino());
            let there = match hashed.get(&node) {
                Some(there) => *there,
                None => hash(&full)?,
            };
            hashed.insert(node, there);
            (there != *blob).then_some("its bytes are others")
        }
        Item::HardLink { .. } | Item::Directory { .. } => None,
    })
}

fn hash(path: &Path) -> io::Result<BlobId> {
    let mut hasher = strata_cas::BlobHasher::default();
    let mut file = fs::File::open(path)?;
    let mut buffer = vec![0; 256 << 10];
    loop {
        match io::Read::read(&mut file, &mut buffer)? {
            0 => return Ok(hasher.finish()),
            count => hasher.update(&buffer[..count]),
        }
    }
}
