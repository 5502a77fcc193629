//! Extended attributes, and what overlayfs says with its own: whiteouts and opaque directories.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use rustix::fs::{FileType, Stat, XattrFlags};

use crate::namespace::in_user_namespace;

/// The prefixes of overlayfs's own attributes, as root and rootless.
const OVERLAY: [&[u8]; 2] = [b"trusted.overlay.", b"user.overlay."];

/// The attributes of what stands at `path` itself, without overlayfs's own.
pub(crate) fn read(path: &Path) -> io::Result<BTreeMap<Vec<u8>, Vec<u8>>> {
    let mut attributes = read_all(path)?;
    attributes.retain(|name, _| !OVERLAY.iter().any(|prefix| name.starts_with(prefix)));
    Ok(attributes)
}

fn read_all(path: &Path) -> io::Result<BTreeMap<Vec<u8>, Vec<u8>>> {
    let mut names = Vec::new();
    loop {
        let size = match rustix::fs::llistxattr_query(path) {
            Ok(size) => size,
            Err(rustix::io::Errno::OPNOTSUPP) => 0,
            Err(error) => return Err(error.into()),
        };
        if size == 0 {
            return Ok(BTreeMap::new());
        }
        names.resize(size, 0);
        match rustix::fs::llistxattr(path, &mut names[..]) {
            Ok(size) => {
                names.truncate(size);
                break;
            }
            Err(rustix::io::Errno::RANGE) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let mut attributes = BTreeMap::new();
    for name in names.split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        if let Some(value) = get(path, name)? {
            attributes.insert(name.to_vec(), value);
        }
    }
    Ok(attributes)
}

/// One attribute of what stands at `path` itself.
fn get(path: &Path, name: &[u8]) -> io::Result<Option<Vec<u8>>> {
    let mut value = Vec::new();
    loop {
        let answer = rustix::fs::lgetxattr_query(path, name).and_then(|size| {
            value.resize(size, 0);
            if size == 0 { Ok(0) } else { rustix::fs::lgetxattr(path, name, &mut value[..]) }
        });
        match answer {
            Ok(size) => {
                value.truncate(size);
                return Ok(Some(value));
            }
            Err(rustix::io::Errno::RANGE) => {}
            Err(rustix::io::Errno::NODATA | rustix::io::Errno::OPNOTSUPP) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
    }
}

/// Sets attributes of what stands at `path` itself.
pub(crate) fn write(path: &Path, attributes: &BTreeMap<Vec<u8>, Vec<u8>>) -> io::Result<()> {
    for (name, value) in attributes {
        rustix::fs::lsetxattr(path, &name[..], value, XattrFlags::empty())?;
    }
    Ok(())
}

/// Whether this says that lower layers have nothing here: a character device 0/0, or an empty
/// file that is marked as one.
pub(crate) fn is_whiteout(path: &Path, stat: &Stat) -> io::Result<bool> {
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::CharacterDevice => Ok(stat.st_rdev == 0),
        FileType::RegularFile if stat.st_size == 0 => has_overlay(path, b"whiteout", |_| true),
        _ => Ok(false),
    }
}

/// Whether this directory hides what lower layers have in it.
pub(crate) fn is_opaque(path: &Path) -> io::Result<bool> {
    has_overlay(path, b"opaque", |value| value == b"y")
}

/// Only the attributes that overlayfs looks at count: the others a process may have set.
fn has_overlay(path: &Path, name: &[u8], is: fn(&[u8]) -> bool) -> io::Result<bool> {
    let prefix = OVERLAY[usize::from(in_user_namespace())];
    Ok(get(path, &[prefix, name].concat())?.is_some_and(|value| is(&value)))
}
