//! What a bad disk does to files, for the tests of all kinds.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

pub(crate) fn flip_a_bit(file: &Path) {
    let mut bytes = std::fs::read(file).expect("read");
    let at = bytes.len() / 2;
    bytes[at] ^= 1;
    let mode = std::fs::metadata(file).expect("metadata").permissions();
    std::fs::set_permissions(file, PermissionsExt::from_mode(0o600)).expect("chmod");
    std::fs::write(file, bytes).expect("write");
    std::fs::set_permissions(file, mode).expect("chmod");
}
