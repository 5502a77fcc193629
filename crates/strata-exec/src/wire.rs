//! What the two processes of a run tell each other, over the child's standard input: a socket
//! that carries one [`Order`] down, then signal numbers, and one [`Reply`] up. When it closes,
//! the other side is gone.

use std::io::{self, Read, Write};
use std::path::PathBuf;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::emulator::Emulator;
use crate::{Job, Secret};

/// An order holds the environment and the command line, which the kernel bounds as well.
const MESSAGE_BYTES_MAX: usize = 64 << 20;

/// All that the child does.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Order {
    /// What to run.
    pub(crate) job: Job,
    /// The container's name for the runtime, which names cgroups by it: no other run has it.
    pub(crate) id: String,
    /// The stack, top first, with the mount points on top.
    pub(crate) lowers: Vec<PathBuf>,
    /// Overlayfs's upper directory.
    pub(crate) upper: PathBuf,
    /// Overlayfs's work directory.
    pub(crate) work: PathBuf,
    /// Where the root file system is mounted.
    pub(crate) root: PathBuf,
    /// The directory with the runtime's `config.json`.
    pub(crate) bundle: PathBuf,
    /// Where a runtime that is a program keeps its state.
    pub(crate) state: PathBuf,
    /// The directories on the way to the working directory that must be there, and it itself, below
    /// the root, without links; made if they are missing.
    pub(crate) cwds: Vec<PathBuf>,
    /// The working directory where it is to be made in a mount, which only the container has.
    pub(crate) enter: Option<PathBuf>,
    /// Where files with secrets are, in memory.
    pub(crate) secrets: PathBuf,
    /// How many secrets come after the order.
    pub(crate) secret_count: usize,
    /// Who runs programs for other machines, if the kernel is to be told.
    pub(crate) emulator: Option<Emulator>,
    /// Where the kernel's list of such programs is mounted then.
    pub(crate) emulators: PathBuf,
    /// Whether overlayfs uses `user.overlay.*`.
    pub(crate) user_attributes: bool,
    /// Whether the process gets a terminal of its own.
    pub(crate) terminal: bool,
}

/// How it went.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Reply {
    /// The process ended by itself.
    Exited(i32),
    /// A signal ended it.
    Signaled(i32),
    /// It never ran.
    Failed(String),
    /// Not the end yet: the next thing on the socket is the process's terminal.
    Terminal,
}

/// Sends a message: its length in four bytes, then JSON.
pub(crate) fn send(to: &mut impl Write, message: &impl Serialize) -> io::Result<()> {
    let json = serde_json::to_vec(message)?;
    let length = u32::try_from(json.len()).map_err(io::Error::other)?;
    to.write_all(&length.to_be_bytes())?;
    to.write_all(&json)
}

/// Receives a message.
pub(crate) fn receive<T: DeserializeOwned>(from: &mut impl Read) -> io::Result<T> {
    let mut length = [0; 4];
    from.read_exact(&mut length)?;
    let length = u32::from_be_bytes(length) as usize;
    if length > MESSAGE_BYTES_MAX {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut json = vec![0; length];
    from.read_exact(&mut json)?;
    Ok(serde_json::from_slice(&json)?)
}

/// Sends a secret: its length in four bytes, then its bytes. Nothing of it is copied.
pub(crate) fn send_secret(to: &mut impl Write, secret: &Secret) -> io::Result<()> {
    let length = u32::try_from(secret.expose().len()).map_err(io::Error::other)?;
    to.write_all(&length.to_be_bytes())?;
    to.write_all(secret.expose())
}

/// Receives a secret.
pub(crate) fn receive_secret(from: &mut impl Read) -> io::Result<Secret> {
    let mut length = [0; 4];
    from.read_exact(&mut length)?;
    let length = u32::from_be_bytes(length) as usize;
    if length > MESSAGE_BYTES_MAX {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut value = vec![0; length];
    let answer = from.read_exact(&mut value);
    let secret = Secret::new(value);
    answer.map(|()| secret)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_arrives_as_it_was_sent() {
        let mut bytes = Vec::new();
        send(&mut bytes, &Reply::Exited(7)).expect("send");
        send(&mut bytes, &Reply::Failed("no".to_owned())).expect("send");
        let mut from = &bytes[..];
        assert_eq!(receive::<Reply>(&mut from).expect("receive"), Reply::Exited(7));
        assert_eq!(receive::<Reply>(&mut from).expect("receive"), Reply::Failed("no".to_owned()));
        assert!(receive::<Reply>(&mut from).is_err());
        assert!(receive::<Reply>(&mut &[0xff; 8][..]).is_err());
        let mut bytes = Vec::new();
        send_secret(&mut bytes, &Secret::new(b"s\n".to_vec())).expect("send");
        assert_eq!(receive_secret(&mut &bytes[..]).expect("receive").expose(), b"s\n");
        assert!(receive_secret(&mut &bytes[..4]).is_err());
    }
}
