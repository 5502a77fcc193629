//! Moving many bytes from a slow reader to a slow writer, each on a thread of its own: a tar's
//! digest takes one core all the time, and copying out of the page cache and comparing with a
//! name would stop it.

use std::io::{self, Read, Write};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};

const BUFFER_BYTES: usize = 256 << 10;
/// So many buffers are filled before one must be empty again.
const BUFFERS: usize = 8;

/// Copies all of it and counts, as [`crate::copy::copy`].
pub(crate) fn copy_ahead(source: &mut (dyn Read + Send), out: &mut dyn Write) -> io::Result<u64> {
    let (fill, filled) = sync_channel(BUFFERS);
    let (give_back, empty) = channel();
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("read ahead".to_owned());
        thread.spawn_scoped(scope, move || read(source, &fill, &empty))?;
        let mut total = 0;
        // Where this ends early, the reader finds nobody who takes what it has read.
        let filled: Receiver<io::Result<Vec<u8>>> = filled;
        for buffer in filled {
            let buffer = buffer?;
            out.write_all(&buffer)?;
            total += buffer.len() as u64;
            // Nobody wants it any more once all was read.
            let _ = Sender::send(&give_back, buffer);
        }
        Ok(total)
    })
}

/// Fills buffers until there is no more, or nobody to take them.
fn read(source: &mut dyn Read, fill: &SyncSender<io::Result<Vec<u8>>>, empty: &Receiver<Vec<u8>>) {
    loop {
        let mut buffer = empty.try_recv().unwrap_or_default();
        buffer.resize(BUFFER_BYTES, 0);
        let read = loop {
            match source.read(&mut buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => break read,
            }
        };
        let is_end = !matches!(read, Ok(1..));
        let filled = read.map(|count| {
            buffer.truncate(count);
            buffer
        });
        if fill.send(filled).is_err() || is_end {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives a byte less each time than was asked for, and fails at a place.
    struct Odd {
        left: usize,
        fails_at: Option<usize>,
        number: u8,
    }

    impl Read for Odd {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.number = self.number.wrapping_add(1);
            if self.number.is_multiple_of(5) {
                return Err(io::ErrorKind::Interrupted.into());
            }
            if self.fails_at.is_some_and(|at| self.left <= at) {
                return Err(io::Error::other("broken"));
            }
            let count = buffer.len().saturating_sub(usize::from(self.number)).min(self.left);
            buffer[..count].fill(self.number);
            self.left -= count;
            Ok(count)
        }
    }

    /// Takes so many bytes, and all of them in order.
    struct Narrow(Vec<u8>, usize);

    impl Write for Narrow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if self.0.len() + bytes.len() > self.1 {
                return Err(io::Error::other("full"));
            }
            self.0.extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn it_is_a_copy() {
        for left in [0, 1, BUFFER_BYTES - 1, BUFFER_BYTES, 20 * BUFFER_BYTES + 17] {
            let odd = || Odd { left, fails_at: None, number: 0 };
            let (mut plain, mut ahead) = (Vec::new(), Vec::new());
            let count = crate::copy::copy(&mut odd(), &mut plain).expect("copied");
            // The buffers are as large, so both see the same reads.
            assert_eq!(copy_ahead(&mut odd(), &mut ahead).expect("copied"), count);
            assert_eq!(count, left as u64);
            assert!(plain == ahead, "{left}");
        }
    }

    #[test]
    fn both_sides_may_fail() {
        let left = 100 * BUFFER_BYTES;
        let mut broken = Odd { left, fails_at: Some(left / 2), number: 0 };
        let error = copy_ahead(&mut broken, &mut io::sink()).expect_err("broken");
        assert_eq!(error.to_string(), "broken");
        let mut whole = Odd { left, fails_at: None, number: 0 };
        let mut narrow = Narrow(Vec::new(), left / 3);
        let error = copy_ahead(&mut whole, &mut narrow).expect_err("full");
        assert_eq!(error.to_string(), "full");
        // It was not read to its end for nobody.
        assert!(whole.left > 0);
    }
}
