//! One tar entry's header as bytes: USTAR, with a PAX header before it where USTAR can not say it.
//! The rules for what needs PAX are those of Go's `archive/tar`, which every engine reads with.

use std::collections::BTreeMap;

use strata_cas::{Metadata, Time};
use tar::{EntryType, Header};

/// The size of a tar block in bytes.
pub(crate) const BLOCK: usize = 512;

const MAX_SMALL_NUMBER: u64 = 0o777_7777;
const MAX_LARGE_NUMBER: u64 = 0o777_7777_7777;

/// What an entry says.
pub(crate) struct Fields<'a> {
    /// Its name; a directory's ends with `/`.
    pub(crate) name: &'a [u8],
    pub(crate) kind: EntryType,
    /// Where a link leads; empty for other entries.
    pub(crate) link: &'a [u8],
    /// Bytes of content that follow.
    pub(crate) size: u64,
    pub(crate) metadata: &'a Metadata,
    pub(crate) modified: Time,
    /// A device's major and minor number.
    pub(crate) device: (u32, u32),
}

/// The bytes that stand before an entry's content.
pub(crate) fn encode(fields: &Fields<'_>) -> Result<Vec<u8>, &'static str> {
    let Metadata { mode, uid, gid, xattrs } = fields.metadata;
    let mut header = Header::new_ustar();
    let mut records = Records::default();
    set_name(&mut header, fields.name, &mut records);
    set_link(&mut header, fields.link, &mut records);
    header.set_entry_type(fields.kind);
    header.set_mode(mode & 0o7777);
    let (uid, gid) = (u64::from(*uid), u64::from(*gid));
    header.set_uid(records.number("uid", uid, MAX_SMALL_NUMBER));
    header.set_gid(records.number("gid", gid, MAX_SMALL_NUMBER));
    header.set_size(records.number("size", fields.size, MAX_LARGE_NUMBER));
    header.set_mtime(records.time(fields.modified));
    set_device(&mut header, fields.device)?;
    for (name, value) in xattrs {
        if name.is_empty() || name.contains(&b'=') || name.contains(&0) {
            return Err("the name of an extended attribute has a `=` in it or is empty");
        }
        records.add([b"SCHILY.xattr.", &name[..]].concat(), value);
    }
    header.set_cksum();
    let mut bytes = records.into_entry();
    bytes.extend_from_slice(header.as_bytes());
    Ok(bytes)
}

/// How many zero bytes fill the last block of a content.
pub(crate) fn padding(size: u64) -> u64 {
    size.wrapping_neg() % BLOCK as u64
}

fn set_name(header: &mut Header, name: &[u8], records: &mut Records) {
    let split = split_name(name);
    let Some(ustar) = header.as_ustar_mut() else { return };
    match split {
        Some((prefix, rest)) => {
            fill(&mut ustar.prefix, prefix);
            fill(&mut ustar.name, rest);
        }
        None => {
            records.add(b"path".to_vec(), name);
            fill(&mut ustar.name, name);
        }
    }
}

/// Prefix and name, if USTAR can hold it.
fn split_name(name: &[u8]) -> Option<(&[u8], &[u8])> {
    if !name.is_ascii() {
        return None;
    }
    if name.len() <= 100 {
        return Some((b"", name));
    }
    let end = if name.ends_with(b"/") { name.len() - 1 } else { name.len() };
    let at = name[..end.min(156)].iter().rposition(|byte| *byte == b'/')?;
    let (prefix, rest) = (&name[..at], &name[at + 1..]);
    (!prefix.is_empty() && !rest.is_empty() && rest.len() <= 100).then_some((prefix, rest))
}

fn set_link(header: &mut Header, link: &[u8], records: &mut Records) {
    if link.len() > 100 || !link.is_ascii() {
        records.add(b"linkpath".to_vec(), link);
    }
    fill(&mut header.as_old_mut().linkname, link);
}

fn set_device(header: &mut Header, (major, minor): (u32, u32)) -> Result<(), &'static str> {
    if u64::from(major.max(minor)) > MAX_SMALL_NUMBER {
        return Err("a tar can not hold its device number");
    }
    let Some(ustar) = header.as_ustar_mut() else { return Ok(()) };
    ustar.set_device_major(major);
    ustar.set_device_minor(minor);
    Ok(())
}

/// Puts what fits of a text into a field, ASCII only: readers without PAX see something sensible.
/// A cut text must not look like a directory's name.
fn fill(field: &mut [u8], text: &[u8]) {
    let ascii: Vec<u8> = text.iter().copied().filter(|byte| byte.is_ascii()).collect();
    let mut shown = &ascii[..ascii.len().min(field.len())];
    if shown.len() < ascii.len() {
        while let [rest @ .., b'/'] = shown {
            shown = rest;
        }
    }
    field[..shown.len()].copy_from_slice(shown);
}

/// PAX records, sorted by key.
#[derive(Default)]
struct Records(BTreeMap<Vec<u8>, Vec<u8>>);

impl Records {
    fn add(&mut self, key: Vec<u8>, value: &[u8]) {
        self.0.insert(key, value.to_vec());
    }

    /// What stands in the header's own field for this number.
    fn number(&mut self, key: &str, value: u64, max: u64) -> u64 {
        if value <= max {
            return value;
        }
        self.add(key.as_bytes().to_vec(), value.to_string().as_bytes());
        0
    }

    fn time(&mut self, Time(seconds): Time) -> u64 {
        match u64::try_from(seconds) {
            Ok(seconds) => self.number("mtime", seconds, MAX_LARGE_NUMBER),
            Err(_) => {
                self.add(b"mtime".to_vec(), seconds.to_string().as_bytes());
                0
            }
        }
    }

    /// The PAX header with its content; nothing when there is no record.
    fn into_entry(self) -> Vec<u8> {
        if self.0.is_empty() {
            return Vec::new();
        }
        let mut content = Vec::new();
        for (key, value) in &self.0 {
            content.extend_from_slice(&record(key, value));
        }
        let mut header = Header::new_ustar();
        if let Some(ustar) = header.as_ustar_mut() {
            fill(&mut ustar.name, b"PaxHeaders.0/entry");
            ustar.set_device_major(0);
            ustar.set_device_minor(0);
        }
        header.set_entry_type(EntryType::XHeader);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(content.len() as u64);
        header.set_cksum();
        let filled = content.len().next_multiple_of(BLOCK);
        content.resize(filled, 0);
        [&header.as_bytes()[..], &content].concat()
    }
}

/// `LENGTH KEY=VALUE\n`, where the length counts itself.
fn record(key: &[u8], value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let mut length = rest;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    [length.to_string().as_bytes(), b" ", key, b"=", value, b"\n"].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_counts_its_own_length() {
        assert_eq!(record(b"a", b"b"), b"6 a=b\n");
        assert_eq!(record(b"path", &[b'x'; 90]).len(), 99);
        assert!(record(b"path", &[b'x'; 91]).starts_with(b"101 path="));
    }

    #[test]
    fn splits_long_names_as_go_does() {
        let name = |directories: usize, file: usize| {
            [vec![b'd'; directories], b"/".to_vec(), vec![b'f'; file]].concat()
        };
        let check = |name: &[u8], prefix: Option<usize>| {
            assert_eq!(split_name(name).map(|(prefix, _)| prefix.len()), prefix);
        };
        check(&name(50, 49), Some(0));
        check(&name(50, 50), Some(50));
        check(&name(155, 100), Some(155));
        check(&name(156, 10), None);
        check(&name(10, 101), None);
        check("ü".as_bytes(), None);
        check(&[b'x'; 101], None);
    }
}
