//! zstd on its way in: what comes out is counted while it does, so a small bomb stays small.

use tonic::Status;
use zstd::stream::raw::{DParameter, Decoder as Raw, InBuffer, Operation as _, OutBuffer};

use crate::depot::Upload;

const BUFFER_BYTES: usize = 128 << 10;
/// 32 MiB: a frame that wants more memory than that is refused.
const WINDOW_LOG: u32 = 25;

/// Decompresses pieces of a stream into an upload.
pub(crate) struct Decoder {
    raw: Raw<'static>,
    /// Whether a frame has ended, and nothing of the next one has come.
    is_at_end: bool,
}

impl Decoder {
    pub(crate) fn new() -> Result<Self, Status> {
        let failed = |error: std::io::Error| Status::internal(error.to_string());
        let mut raw = Raw::new().map_err(failed)?;
        raw.set_parameter(DParameter::WindowLogMax(WINDOW_LOG)).map_err(failed)?;
        Ok(Self { raw, is_at_end: false })
    }

    /// Adds the next compressed bytes. The upload refuses more than its blob is to have.
    pub(crate) fn write(&mut self, bytes: &[u8], upload: &mut Upload) -> Result<(), Status> {
        let mut input = InBuffer::around(bytes);
        let mut buffer = vec![0; BUFFER_BYTES];
        loop {
            let before = input.pos();
            let mut output = OutBuffer::around(&mut buffer[..]);
            let hint = self.raw.run(&mut input, &mut output);
            let hint = hint.map_err(|error| {
                Status::invalid_argument(format!("the bytes are no zstd: {error}"))
            })?;
            let count = output.pos();
            upload.write(&buffer[..count])?;
            if count > 0 || input.pos() > before {
                self.is_at_end = hint == 0;
            }
            if input.pos() == bytes.len() && count < BUFFER_BYTES {
                return Ok(());
            }
            if count == 0 && input.pos() == before {
                return Err(Status::invalid_argument("the bytes are no zstd"));
            }
        }
    }

    /// Whether all of it has come.
    pub(crate) fn finish(self) -> Result<(), Status> {
        match self.is_at_end {
            true => Ok(()),
            false => Err(Status::invalid_argument("the zstd stream ends early")),
        }
    }
}
