//! Hands open files to another process over a Unix socket.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::{IoSlice, IoSliceMut};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

/// So many files go with one message at most.
const FILES_MAX: usize = 3;

/// Sends files, with one byte that says nothing.
pub(crate) fn send(to: impl AsFd, files: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FILES_MAX))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !ancillary.push(SendAncillaryMessage::ScmRights(files)) {
        return Err(io::ErrorKind::OutOfMemory.into());
    }
    sendmsg(to, &[IoSlice::new(b"f")], &mut ancillary, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// Receives what [`send`] sent: as many files as there are places.
pub(crate) fn receive<const N: usize>(from: impl AsFd) -> io::Result<[OwnedFd; N]> {
    let mut byte = [0];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FILES_MAX))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    recvmsg(from, &mut [IoSliceMut::new(&mut byte)], &mut ancillary, RecvFlags::CMSG_CLOEXEC)?;
    let mut received = Vec::new();
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(files) = message {
            received.extend(files);
        }
    }
    received.try_into().map_err(|_| io::ErrorKind::UnexpectedEof.into())
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn the_file_arrives() {
        let (here, there) = UnixStream::pair().expect("pair");
        let (mut mine, theirs) = UnixStream::pair().expect("pair");
        send(&here, &[theirs.as_fd()]).expect("send");
        let [theirs] = receive(&there).expect("receive");
        let mut theirs = UnixStream::from(theirs);
        theirs.write_all(b"hello").expect("write");
        let mut bytes = [0; 5];
        mine.read_exact(&mut bytes).expect("read");
        assert_eq!(&bytes, b"hello");
    }
}
