//! RPM's database, where it is SQLite (`rpmdb.sqlite`, RPM 4.16 and later): the table of packages,
//! and of each package's header what an inventory says.
//!
//! Only as much of SQLite's file format (<https://www.sqlite.org/fileformat2.html>) is known here
//! as one table takes: no index, no statement, no journal. What does not fit is an error, and the
//! caller says that the database was not read.

use std::cell::Cell;

use crate::packages::Package;

/// The schema is a table whose root is the first page.
const SCHEMA: u32 = 1;
/// Trees of SQLite are never deeper (its own limit is 20).
const DEEPEST: usize = 20;

/// The packages of a database; an error says what is wrong with it.
pub(crate) fn packages(file: &[u8]) -> Result<Vec<Package>, &'static str> {
    let database = Database::open(file)?;
    let mut root = None;
    database.rows(SCHEMA, DEEPEST, &mut |row| {
        // type, name, table, root page, statement
        if row.text(0) == Some("table") && row.text(1) == Some("Packages") {
            root = row.number(3);
        }
        Ok(())
    })?;
    let root = root.and_then(|root| u32::try_from(root).ok()).ok_or("it has no packages' table")?;
    let mut packages = Vec::new();
    database.rows(root, DEEPEST, &mut |row| {
        let header = row.bytes(1).ok_or("a package has no header")?;
        packages.extend(package(header).ok_or("a package's header makes no sense")?);
        Ok(())
    })?;
    Ok(packages)
}

/// A package by its header (`rpm-headers(7)`, without the lead): none for keys, which RPM keeps as
/// packages, too.
fn package(header: &[u8]) -> Option<Option<Package>> {
    let header = Header::read(header)?;
    let (name, version) = (header.text(1000)?, header.text(1001)?);
    if name == "gpg-pubkey" {
        return Some(None);
    }
    let release = header.text(1002)?;
    Some(Some(Package {
        kind: "rpm",
        name: name.to_owned(),
        version: format!("{version}-{release}"),
        epoch: header.number(1003),
        architecture: header.text(1022).map(str::to_owned),
        source: header.text(1044).map(str::to_owned),
        license: header.text(1014).map(str::to_owned),
    }))
}

/// A header's index and its values.
struct Header<'f> {
    index: &'f [u8],
    values: &'f [u8],
}

impl<'f> Header<'f> {
    const ENTRY_BYTES: usize = 16;

    fn read(bytes: &'f [u8]) -> Option<Self> {
        let count = usize::try_from(big(bytes.get(..4)?)).ok()?;
        let length = usize::try_from(big(bytes.get(4..8)?)).ok()?;
        let (index, rest) =
            bytes.get(8..)?.split_at_checked(count.checked_mul(Self::ENTRY_BYTES)?)?;
        Some(Self { index, values: rest.get(..length)? })
    }

    /// Type, value and those behind it.
    fn value(&self, tag: u64) -> Option<(u64, &'f [u8])> {
        let mut entries = self.index.chunks_exact(Self::ENTRY_BYTES);
        let entry = entries.find(|entry| big(&entry[..4]) == tag)?;
        let at = usize::try_from(big(&entry[8..12])).ok()?;
        Some((big(&entry[4..8]), self.values.get(at..)?))
    }

    /// A text, or the first of several.
    fn text(&self, tag: u64) -> Option<&'f str> {
        let (kind, value) = self.value(tag)?;
        let end = value.iter().position(|byte| *byte == 0)?;
        // STRING, STRING_ARRAY, I18NSTRING.
        if !matches!(kind, 6 | 8 | 9) {
            return None;
        }
        std::str::from_utf8(&value[..end]).ok()
    }

    fn number(&self, tag: u64) -> Option<u64> {
        let (kind, value) = self.value(tag)?;
        // INT32.
        if kind == 4 { Some(big(value.get(..4)?)) } else { None }
    }
}

/// A number of at most 8 bytes, the highest first.
fn big(bytes: &[u8]) -> u64 {
    bytes.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// A database file.
struct Database<'f> {
    file: &'f [u8],
    page_bytes: usize,
    /// Bytes of a page that hold something.
    usable: usize,
    /// How many pages may still be looked at: each is for one thing only, so what takes more goes
    /// in circles.
    left: Cell<usize>,
}

impl<'f> Database<'f> {
    fn open(file: &'f [u8]) -> Result<Self, &'static str> {
        let head = file.get(..100).filter(|head| head.starts_with(b"SQLite format 3\0"));
        let head = head.ok_or("it is no SQLite database")?;
        let page_bytes = match big(&head[16..18]) {
            1 => 65_536,
            bytes => usize::try_from(bytes).unwrap_or(0),
        };
        let usable = page_bytes.saturating_sub(usize::from(head[20]));
        if !page_bytes.is_power_of_two() || usable < 480 {
            return Err("its pages have no size that SQLite's have");
        }
        // The schema and the table may have the first page in common.
        let left = Cell::new(file.len() / page_bytes + 1);
        Ok(Self { file, page_bytes, usable, left })
    }

    fn page(&self, number: u32) -> Result<&'f [u8], &'static str> {
        let left = self.left.get().checked_sub(1).ok_or("its pages are in a circle")?;
        self.left.set(left);
        let number = usize::try_from(number).unwrap_or(0);
        let start = number.checked_sub(1).and_then(|number| number.checked_mul(self.page_bytes));
        let page = start.and_then(|start| self.file.get(start..start.checked_add(self.usable)?));
        page.ok_or("it ends before one of its pages")
    }

    /// All rows of the table with this root, in order.
    fn rows(
        &self,
        root: u32,
        deepest: usize,
        take: &mut dyn FnMut(Row) -> Result<(), &'static str>,
    ) -> Result<(), &'static str> {
        const SHORT: &str = "one of its pages is cut short";
        let page = self.page(root)?;
        let start = if root == 1 { 100 } else { 0 };
        let kind = *page.get(start).ok_or(SHORT)?;
        let count = page.get(start + 3..start + 5).map(big).ok_or(SHORT)?;
        let head = match kind {
            0x05 => 12,
            0x0d => 8,
            _ => return Err("one of its pages is none of a table's"),
        };
        for cell in 0..usize::try_from(count).unwrap_or(0) {
            let place = start + head + 2 * cell;
            let place = page.get(place..place + 2).map(big).ok_or(SHORT)?;
            let cell = page.get(usize::try_from(place).unwrap_or(usize::MAX)..).ok_or(SHORT)?;
            if kind == 0x0d {
                take(Row(self.payload(cell).ok_or(SHORT)??))?;
                continue;
            }
            let below = cell.get(..4).map(big).ok_or(SHORT)?;
            self.below(below, deepest, take)?;
        }
        match kind {
            0x05 => {
                let last = page.get(start + 8..start + 12).map(big).ok_or(SHORT)?;
                self.below(last, deepest, take)
            }
            _ => Ok(()),
        }
    }

    fn below(
        &self,
        page: u64,
        deepest: usize,
        take: &mut dyn FnMut(Row) -> Result<(), &'static str>,
    ) -> Result<(), &'static str> {
        let deepest = deepest.checked_sub(1).ok_or("its tree is too deep")?;
        self.rows(u32::try_from(page).unwrap_or(0), deepest, take)
    }

    /// A leaf's cell: what it holds, gathered from all pages that it goes over. None where the
    /// cell is cut short.
    fn payload(&self, cell: &[u8]) -> Option<Result<Vec<u8>, &'static str>> {
        let (length, cell) = varint(cell)?;
        let (_, cell) = varint(cell)?;
        let length = usize::try_from(length).ok().filter(|length| *length <= self.file.len())?;
        let most = self.usable - 35;
        if length <= most {
            return Some(Ok(cell.get(..length)?.to_vec()));
        }
        // "Cell payload overflow pages" of the format.
        let least = (self.usable - 12) * 32 / 255 - 23;
        let rest = least + (length - least) % (self.usable - 4);
        let here = if rest <= most { rest } else { least };
        let mut bytes = cell.get(..here)?.to_vec();
        let mut next = big(cell.get(here..here + 4)?);
        while bytes.len() < length {
            let page = match self.page(u32::try_from(next).ok()?) {
                Ok(page) => page,
                Err(error) => return Some(Err(error)),
            };
            next = big(page.get(..4)?);
            let count = (length - bytes.len()).min(self.usable - 4);
            bytes.extend_from_slice(page.get(4..4 + count)?);
        }
        Some(Ok(bytes))
    }
}

/// A number of SQLite's own form: seven bits a byte, of the ninth all eight.
fn varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut number = 0_u64;
    for (at, byte) in bytes.iter().take(9).enumerate() {
        if at == 8 {
            return Some((number << 8 | u64::from(*byte), &bytes[9..]));
        }
        number = number << 7 | u64::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            return Some((number, &bytes[at + 1..]));
        }
    }
    None
}

/// A record: the types of its columns, then their values.
struct Row(Vec<u8>);

impl Row {
    /// A column's type and bytes.
    fn column(&self, wanted: usize) -> Option<(u64, &[u8])> {
        let (head, mut types) = varint(&self.0)?;
        let head = usize::try_from(head).ok()?;
        let mut value = self.0.get(head..)?;
        let end = self.0.len() - types.len();
        types = types.get(..head.checked_sub(end)?)?;
        for at in 0.. {
            let (kind, rest) = varint(types)?;
            types = rest;
            let length = match kind {
                0 | 8 | 9 => 0,
                1..=4 => kind,
                5 => 6,
                6 | 7 => 8,
                10 | 11 => return None,
                _ => (kind - 12) / 2,
            };
            let (this, rest) = value.split_at_checked(usize::try_from(length).ok()?)?;
            if at == wanted {
                return Some((kind, this));
            }
            value = rest;
        }
        None
    }

    fn text(&self, column: usize) -> Option<&str> {
        let (kind, bytes) = self.column(column)?;
        if kind >= 13 && kind % 2 == 1 { std::str::from_utf8(bytes).ok() } else { None }
    }

    fn bytes(&self, column: usize) -> Option<&[u8]> {
        let (kind, bytes) = self.column(column)?;
        (kind >= 12 && kind % 2 == 0).then_some(bytes)
    }

    fn number(&self, column: usize) -> Option<u64> {
        match self.column(column)? {
            (8, _) => Some(0),
            (9, _) => Some(1),
            (1..=6, bytes) => Some(big(bytes)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A database of pages of 512 bytes by hand: the schema, and what is given behind it.
    fn database(pages: &[Vec<u8>]) -> Vec<u8> {
        let mut record = vec![6, 23, 29, 29, 1, 23];
        record.extend_from_slice(b"tablePackagesPackages\x02sql()");
        let mut first = vec![0; 512];
        first[..16].copy_from_slice(b"SQLite format 3\0");
        first[16..18].copy_from_slice(&[2, 0]);
        leaf(&mut first, 100, &[(1, record)]);
        let pages = pages.iter().flat_map(|page| {
            let mut page = page.clone();
            page.resize(512, 0);
            page
        });
        first.into_iter().chain(pages).collect()
    }

    /// Puts rows into a page of a table.
    fn leaf(page: &mut [u8], at: usize, rows: &[(u8, Vec<u8>)]) {
        page[at] = 0x0d;
        page[at + 4] = u8::try_from(rows.len()).expect("few");
        let mut end = page.len();
        for (number, (id, record)) in rows.iter().enumerate() {
            let length = u8::try_from(record.len()).expect("short");
            let cell: Vec<u8> = match length {
                0..=127 => [&[length, *id], &record[..]].concat(),
                _ => [&[0x81, length & 0x7f, *id], &record[..]].concat(),
            };
            end -= cell.len();
            page[end..end + cell.len()].copy_from_slice(&cell);
            let place = u16::try_from(end).expect("small").to_be_bytes();
            page[at + 8 + 2 * number..at + 10 + 2 * number].copy_from_slice(&place);
        }
    }

    /// A package's row: its number, which is in the cell, and its header.
    fn row(texts: &[(u32, &str)]) -> Vec<u8> {
        let (mut index, mut values) = (Vec::new(), Vec::new());
        for (tag, text) in texts {
            let numbers = [*tag, 6, u32::try_from(values.len()).expect("small"), 1];
            index.extend(numbers.iter().flat_map(|number| number.to_be_bytes()));
            values.extend_from_slice(text.as_bytes());
            values.push(0);
        }
        let count = u32::try_from(texts.len()).expect("few").to_be_bytes();
        let length = u32::try_from(values.len()).expect("short").to_be_bytes();
        let header = [&count[..], &length, &index, &values].concat();
        let kind = 12 + 2 * header.len();
        let [high, low] = u16::try_from(kind).expect("short").to_be_bytes();
        let [first, second] = [0x80 | high << 1 | low >> 7, low & 0x7f];
        [&[4, 0, first, second], &header[..]].concat()
    }

    fn bash() -> Vec<u8> {
        let texts = [(1000, "bash"), (1001, "5.2"), (1002, "3.fc40"), (1022, "x86_64")];
        row(&texts)
    }

    #[test]
    fn packages_are_read_and_keys_are_none() {
        let mut page = vec![0; 512];
        let key = row(&[(1000, "gpg-pubkey"), (1001, "a"), (1002, "b")]);
        leaf(&mut page, 0, &[(1, bash()), (2, key)]);
        let packages = packages(&database(&[page])).expect("read");
        let [bash] = &packages[..] else { unreachable!("{packages:?}") };
        assert_eq!((&*bash.name, &*bash.version), ("bash", "5.2-3.fc40"));
        assert_eq!(bash.architecture.as_deref(), Some("x86_64"));
    }

    #[test]
    fn what_makes_no_sense_is_an_error() {
        let check = |file: &[u8], expected: &str| {
            assert_eq!(packages(file).expect_err(expected), expected);
        };
        check(b"", "it is no SQLite database");
        let mut page = vec![0; 512];
        leaf(&mut page, 0, &[(1, bash())]);
        let good = database(&[page]);
        check(&good[..600], "it ends before one of its pages");
        let mut wrong = good.clone();
        wrong[512] = 9;
        check(&wrong, "one of its pages is none of a table's");
        wrong[16..18].copy_from_slice(&[2, 1]);
        check(&wrong, "its pages have no size that SQLite's have");
        // A page whose children are it, many times.
        let mut circle = vec![0; 512];
        circle[0] = 5;
        circle[4] = 100;
        for cell in 0..100 {
            circle[12 + 2 * cell..14 + 2 * cell].copy_from_slice(&[1, 100]);
        }
        circle[356..360].copy_from_slice(&2_u32.to_be_bytes());
        check(&database(&[circle]), "its pages are in a circle");
        // Any byte may be anything.
        for at in 0..good.len() {
            for value in [0, 1, 0x7f, 0x80, 0xff] {
                let mut wrong = good.clone();
                wrong[at] = value;
                drop(packages(&wrong));
            }
        }
    }
}
