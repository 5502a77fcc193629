//! Sparse files in tars: the four ways in which GNU tar has written their maps, as one.

use std::collections::VecDeque;

use crate::entries::{decimal, number, until_nul};

/// A map has not more pieces than this.
const MAX_PIECES: usize = 1 << 20;

/// Which parts of a file are there; the rest is zeros.
#[derive(Debug)]
pub(crate) struct Map {
    pieces: VecDeque<(u64, u64)>,
    position: u64,
    size: u64,
}

impl Map {
    /// Offset and length of each piece, in order, with `stored` bytes in all.
    pub(crate) fn new(pieces: Vec<(u64, u64)>, size: u64, stored: u64) -> Option<Self> {
        let (mut end, mut sum) = (0_u64, 0_u64);
        for (offset, length) in &pieces {
            if *offset < end {
                return None;
            }
            end = offset.checked_add(*length)?;
            sum += length;
        }
        let pieces = pieces.into_iter().filter(|(_, length)| *length > 0).collect();
        (end <= size && sum == stored).then_some(Self { pieces, position: 0, size })
    }

    /// The file's size in bytes.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// Passes over zeros, as many as are next and `most` at most; `None` if data is next.
    pub(crate) fn hole(&mut self, most: usize) -> Option<usize> {
        while self.pieces.front().is_some_and(|(offset, length)| offset + length <= self.position) {
            self.pieces.pop_front();
        }
        let end = self.pieces.front().map_or(self.size, |(offset, _)| *offset);
        if end <= self.position {
            return None;
        }
        let zeros = usize::try_from(end - self.position).unwrap_or(usize::MAX).min(most);
        self.position += zeros as u64;
        Some(zeros)
    }

    /// How much data is next.
    pub(crate) fn piece(&self) -> u64 {
        self.pieces.front().map_or(0, |(offset, length)| offset + length - self.position)
    }

    /// Data was taken.
    pub(crate) fn took(&mut self, bytes: u64) {
        self.position += bytes;
    }
}

/// Adds the pieces of a GNU header: pairs of twelve-byte numbers, up to an empty one.
pub(crate) fn append_fields(fields: &[u8], pieces: &mut Vec<(u64, u64)>) -> Option<()> {
    for pair in fields.chunks_exact(24) {
        if until_nul(pair).is_empty() || pieces.len() >= MAX_PIECES {
            break;
        }
        let (offset, length) = (number(&pair[..12])?, number(&pair[12..])?);
        pieces.push((u64::try_from(offset).ok()?, u64::try_from(length).ok()?));
    }
    (pieces.len() < MAX_PIECES).then_some(())
}

/// PAX 0.0 (repeated records) and 0.1 (one record with commas).
pub(crate) fn from_records(records: &[(Vec<u8>, Vec<u8>)]) -> Option<Vec<(u64, u64)>> {
    let mut numbers: Vec<u64> = Vec::new();
    for (key, value) in records {
        match &key[..] {
            b"GNU.sparse.offset" | b"GNU.sparse.numbytes" => numbers.push(unsigned(value)?),
            b"GNU.sparse.map" => {
                for part in value.split(|byte| *byte == b',').filter(|part| !part.is_empty()) {
                    numbers.push(unsigned(part)?);
                }
            }
            _ => {}
        }
    }
    numbers.len().is_multiple_of(2).then(|| pairs(&numbers))
}

/// PAX 1.0: the number of pieces, then their numbers, a line each.
#[derive(Default)]
pub(crate) struct Lines {
    text: Vec<u8>,
    numbers: Vec<u64>,
}

impl Lines {
    /// Whether the map is complete with this block; `None` when it is malformed.
    pub(crate) fn add(&mut self, block: &[u8]) -> Option<bool> {
        for byte in block {
            if *byte != b'\n' {
                self.text.push(*byte);
                continue;
            }
            self.numbers.push(unsigned(&std::mem::take(&mut self.text))?);
            let count = usize::try_from(*self.numbers.first()?).ok()?;
            if count > MAX_PIECES {
                return None;
            }
            if self.numbers.len() == 1 + 2 * count {
                return Some(true);
            }
        }
        (self.text.len() < 64).then_some(false)
    }

    pub(crate) fn into_pieces(self) -> Vec<(u64, u64)> {
        pairs(self.numbers.get(1..).unwrap_or_default())
    }
}

fn pairs(numbers: &[u64]) -> Vec<(u64, u64)> {
    numbers.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect()
}

fn unsigned(text: &[u8]) -> Option<u64> {
    u64::try_from(decimal(text)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_maps_that_overlap_or_do_not_add_up() {
        assert!(Map::new(vec![(0, 5), (10, 5)], 20, 10).is_some());
        assert!(Map::new(vec![(0, 5), (4, 5)], 20, 10).is_none());
        assert!(Map::new(vec![(0, 5)], 4, 5).is_none());
        assert!(Map::new(vec![(0, 5)], 10, 6).is_none());
        assert!(Map::new(vec![(u64::MAX, 5)], 10, 5).is_none());
    }

    #[test]
    fn reads_the_lines_of_pax_1_0() {
        let mut lines = Lines::default();
        assert_eq!(lines.add(b"2\n0\n512\n10"), Some(false));
        assert_eq!(lines.add(b"24\n5\n\0\0"), Some(true));
        assert_eq!(lines.into_pieces(), [(0, 512), (1024, 5)]);
        assert_eq!(Lines::default().add(b"x\n"), None);
    }
}
