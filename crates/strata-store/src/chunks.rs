//! Large tree nodes and layers, in pieces that are kept once.
//!
//! A rebuild that changes one file of thousands gives a directory and a layer that differ in one
//! line from those before. Cut where their content says so, all of their pieces but one or two
//! are there already, so that what a rebuild adds is about what it changed.

use std::sync::LazyLock;

use strata_cas::{BlobId, Directory, Layer, StoreError};

use crate::DiskStore;
use crate::codec::{self, Chunked};
use crate::database::Table;

/// Smaller values are kept whole.
const FROM_BYTES: usize = 8 << 10;

/// No piece is smaller, but for the last one.
const SMALLEST_BYTES: usize = 1 << 10;

/// No piece is larger.
const LARGEST_BYTES: usize = 16 << 10;

/// A cut is where these bits of the rolling hash are zero: after 4 KiB on average.
const CUT_MASK: u64 = 0xfff << 52;

/// A number for each byte, without any order: of BLAKE3, so that they are the same everywhere.
static GEAR: LazyLock<[u64; 256]> = LazyLock::new(|| {
    std::array::from_fn(|byte| {
        let name = BlobId::of(format!("strata gear 1 {byte}").as_bytes());
        let mut number = [0; 8];
        number.copy_from_slice(&name.as_bytes()[..8]);
        u64::from_le_bytes(number)
    })
});

/// Cuts bytes where their content says so ("gear" of FastCDC, Xia et al. 2016).
pub(crate) fn cut(bytes: &[u8]) -> Vec<&[u8]> {
    let (mut pieces, mut rest) = (Vec::new(), bytes);
    while !rest.is_empty() {
        let (piece, after) = rest.split_at(cut_at(rest));
        pieces.push(piece);
        rest = after;
    }
    pieces
}

fn cut_at(bytes: &[u8]) -> usize {
    let end = bytes.len().min(LARGEST_BYTES);
    let mut hash = 0_u64;
    for (at, byte) in bytes[..end].iter().enumerate().skip(SMALLEST_BYTES.min(end)) {
        hash = (hash << 1).wrapping_add(GEAR[usize::from(*byte)]);
        if hash & CUT_MASK == 0 {
            return at + 1;
        }
    }
    end
}

/// Whether a value is kept in pieces.
pub(crate) fn is_cut(bytes: &[u8]) -> bool {
    bytes.len() >= FROM_BYTES && (Layer::is_begun_by(bytes) || Directory::is_begun_by(bytes))
}

impl DiskStore {
    /// Keeps a value in pieces.
    pub(crate) fn put_chunked(&self, bytes: &[u8]) -> Result<BlobId, StoreError> {
        let id = BlobId::of(bytes);
        let pieces = cut(bytes).into_iter().map(|piece| self.put_inline(piece));
        let pieces = pieces.collect::<Result<Vec<BlobId>, StoreError>>()?;
        let list = codec::encode(&Chunked { size: bytes.len() as u64, pieces })?;
        self.reserve(2 * list.len() as u64)?;
        self.pending.put_list(id, list)?;
        Ok(id)
    }

    /// Which pieces a value is kept in, if it is.
    pub(crate) fn pieces(&self, id: &BlobId) -> Result<Option<Chunked>, StoreError> {
        let list = match self.pending.list(id) {
            Some(list) => Some(list),
            None => self.tables.get(Table::Chunked, id.as_bytes())?,
        };
        Ok(list.and_then(|list| codec::decode(&list)))
    }

    /// Reads a value that is kept in pieces and compares it with its name.
    pub(crate) fn get_chunked(&self, id: &BlobId) -> Result<Option<Vec<u8>>, StoreError> {
        let Some(Chunked { size, pieces }) = self.pieces(id)? else { return Ok(None) };
        let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or_default().min(1 << 20));
        for piece in pieces {
            // A lost piece is put again together with the whole.
            let Some(piece) = self.get_inline(&piece)? else { return Ok(None) };
            bytes.extend_from_slice(&piece);
        }
        Ok((BlobId::of(&bytes) == *id).then_some(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(count: u64) -> Vec<u8> {
        (0..count).flat_map(|number| *BlobId::of(&number.to_le_bytes()).as_bytes()).collect()
    }

    #[test]
    fn a_change_costs_a_piece_or_two() {
        let before = bytes(10_000);
        let mut after = before.clone();
        after[150_000] ^= 1;
        after.splice(200_000..200_000, *b"inserted");
        let (before_pieces, after_pieces) = (cut(&before), cut(&after));
        assert_eq!(after_pieces.concat(), after);
        let sizes = after_pieces.iter().map(|piece| piece.len());
        assert!(sizes.clone().all(|size| size <= LARGEST_BYTES));
        let average = after.len() / after_pieces.len();
        assert!((3_000..8_000).contains(&average), "{average}");
        let new = after_pieces.iter().filter(|piece| !before_pieces.contains(piece)).count();
        assert!(new <= 4, "{new} pieces are new");
    }

    #[test]
    fn nothing_and_little_are_cut_too() {
        assert!(cut(b"").is_empty());
        assert_eq!(cut(b"x"), [b"x"]);
        assert_eq!(cut(&[0; 100_000]).concat(), [0; 100_000]);
    }

    /// Another cut would find none of the pieces that are there.
    #[test]
    fn cuts_do_not_drift() {
        let ends: Vec<usize> = cut(&bytes(1_000)).iter().map(|piece| piece.len()).collect();
        let golden = include_str!("../tests/golden/cuts-1.txt");
        assert_eq!(format!("{ends:?}\n"), golden);
    }
}
