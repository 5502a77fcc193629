//! Blobs on their way out, from near or far.

use std::io::{self, Read};
use std::sync::Arc;

use strata_cas::BlobReader;

use super::{Content, Depot, Piece};
use crate::fault::Fault;
use crate::tier::{Begun, Follower};

impl Depot {
    /// What reads a blob, checked against its names.
    pub(crate) fn reader(self: &Arc<Self>, content: &Content) -> ContentReader {
        let mut pieces = content.pieces.clone();
        pieces.reverse();
        ContentReader { depot: Arc::clone(self), pieces, open: None }
    }

    /// The same for one that may be far away: the first bytes are here then.
    ///
    /// # Errors
    ///
    /// When it is not there any more, or nobody answers.
    pub(crate) fn reader_of(self: &Arc<Self>, content: &Content) -> Result<ContentReader, Fault> {
        let mut reader = self.reader(content);
        if self.tier.is_some() {
            reader.next()?;
        }
        Ok(reader)
    }

    /// Opens a piece, which may be on its way.
    fn source(self: &Arc<Self>, piece: &Piece) -> Result<Source, Fault> {
        let id = match (&self.tier, piece) {
            (Some(tier), piece) => match self.follow(tier, piece.far())? {
                Begun::Near(id) => id,
                Begun::Coming(follower) => return Ok(Source::Coming(follower)),
                Begun::Gone => return Err(Fault::NotFound),
            },
            (None, piece) => self.bring_piece(piece)?.ok_or(Fault::NotFound)?,
        };
        let blob = self.store.open(&id)?.ok_or(Fault::NotFound)?;
        Ok(Source::Near(blob.reader(id)))
    }
}

/// Reads a blob's pieces, one after the other, each checked against its name.
pub(crate) struct ContentReader {
    depot: Arc<Depot>,
    /// Those to come, the next one last.
    pieces: Vec<Piece>,
    open: Option<Source>,
}

/// Where a piece's bytes come from.
enum Source {
    Near(BlobReader),
    Coming(Follower),
}

impl Read for Source {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Near(reader) => reader.read(buffer),
            Self::Coming(follower) => follower.read(buffer),
        }
    }
}

impl ContentReader {
    /// Goes on with the next piece; says whether there is one.
    fn next(&mut self) -> Result<bool, Fault> {
        let Some(next) = self.pieces.pop() else { return Ok(false) };
        self.open = Some(self.depot.source(&next)?);
        Ok(true)
    }
}

impl Read for ContentReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if let Some(reader) = &mut self.open {
                let count = reader.read(buffer)?;
                if count > 0 || buffer.is_empty() {
                    return Ok(count);
                }
            }
            if !self.next().map_err(|fault| io::Error::other(fault.to_string()))? {
                return Ok(0);
            }
        }
    }
}
