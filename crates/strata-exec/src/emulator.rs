//! Programs for other machines, in a user namespace: the kernel is told who runs them.
//!
//! Where root has told it already (binfmt_misc), for all of the machine, there is nothing to do.
//! Since Linux 6.7 a user namespace can have a list of its own, so an emulator that is installed
//! need not be registered by anybody. The list lives as long as a mount of it, which is the
//! run's own. An older kernel refuses that mount; then the program does not start, and whoever
//! asked for it is told what to install.
//!
//! root does nothing of this: a list of his would be the machine's.

use std::fmt::Write as _;
use std::io::{self, Read, Write as _};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::fs::{FileType, MemfdFlags, Mode, OFlags};
use rustix::mount::{MountFlags, mount};
use serde::{Deserialize, Serialize};

use crate::namespace::in_user_namespace;
use crate::view::Found;
use crate::{Job, View, spec};

/// What the kernel tells programs by: the first bytes of an ELF file, up to its machine.
/// <https://refspecs.linuxfoundation.org/elf/gabi4+/ch4.eheader.html>
const HEAD_BYTES: usize = 20;

/// `e_type` of a program that has a fixed address; 3 is one that has none.
const EXECUTABLE: u16 = 2;

/// A script names a program, which can be a script: the kernel follows four.
const SCRIPTS_MAX: usize = 4;

/// As `e_machine`: its number, whether it has words of 64 bits, whether the highest byte comes
/// first, and what QEMU calls it.
const MACHINES: [(u16, bool, bool, &str); 10] = [
    (3, false, false, "i386"),
    (8, true, false, "mips64el"),
    (8, true, true, "mips64"),
    (21, true, false, "ppc64le"),
    (22, true, true, "s390x"),
    (40, false, false, "arm"),
    (62, true, false, "x86_64"),
    (183, true, false, "aarch64"),
    (243, true, false, "riscv64"),
    (258, true, false, "loongarch64"),
];

/// An emulator that is to be registered in this process's user namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Emulator {
    /// <https://docs.kernel.org/admin-guide/binfmt-misc.html>
    registration: String,
}

impl Emulator {
    /// The one that the job's program needs and that the kernel does not know of, if it is
    /// installed and this process may tell the kernel.
    pub(crate) fn needed(job: &Job, view: &View) -> Option<Self> {
        if !in_user_namespace() {
            return None;
        }
        let head = program_head(job, view)?;
        let machine = machine(&head)?;
        let is_own = runs_by_itself(std::env::consts::ARCH, machine.3);
        if is_own || is_known_to_kernel(&magic(&machine)).unwrap_or(true) {
            return None;
        }
        let (interpreter, flags) = installed(machine.3)?;
        let registration = registration(&machine, &interpreter, flags);
        Some(Self { registration })
    }

    /// Mounts the namespace's list and adds the emulator to it.
    pub(crate) fn register(&self, place: &Path) -> io::Result<()> {
        let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
        mount("binfmt_misc", place, "binfmt_misc", flags, None)?;
        match std::fs::write(place.join("register"), &self.registration) {
            // Another run of this build has the same list.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            answer => answer,
        }
    }
}

/// The beginning of the program that the job starts, behind any `#!`.
fn program_head(job: &Job, view: &View) -> Option<[u8; HEAD_BYTES]> {
    let mut name = job.argv.first()?.clone();
    for _ in 0..=SCRIPTS_MAX {
        let mut bytes = Vec::new();
        open(job, view, &name)?.take(256).read_to_end(&mut bytes).ok()?;
        let Some(line) = bytes.strip_prefix(b"#!") else {
            return bytes.get(..HEAD_BYTES)?.try_into().ok();
        };
        let line = String::from_utf8_lossy(line.split(|byte| *byte == b'\n').next()?).into_owned();
        name = line.split_whitespace().next()?.to_owned();
    }
    None
}

/// Opens a program of the image, by its name in `PATH` or its path.
fn open(job: &Job, view: &View, name: &str) -> Option<std::fs::File> {
    let path = job.env.iter().rev().find(|(name, _)| name == "PATH");
    let path = path.map_or(spec::PATH, |(_, path)| path);
    let candidates: Vec<String> = match name.contains('/') {
        true if name.starts_with('/') => vec![name.to_owned()],
        true => vec![format!("{}/{name}", job.cwd)],
        false => path.split(':').map(|directory| format!("{directory}/{name}")).collect(),
    };
    let place = candidates.iter().find_map(|path| match view.resolve(path).ok()?.found {
        Found::Other(place, FileType::RegularFile) => Some(place),
        _ => None,
    })?;
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    rustix::fs::open(place, flags, Mode::empty()).ok().map(std::fs::File::from)
}

fn machine(head: &[u8; HEAD_BYTES]) -> Option<(u16, bool, bool, &'static str)> {
    if !head.starts_with(b"\x7fELF") {
        return None;
    }
    let (is_wide, is_big) = (head[4] == 2, head[5] == 2);
    let number = [head[18], head[19]];
    let number = if is_big { u16::from_be_bytes(number) } else { u16::from_le_bytes(number) };
    MACHINES
        .into_iter()
        .find(|(known, wide, big, _)| (*known, *wide, *big) == (number, is_wide, is_big))
}

/// Whether Linux on this machine, in Rust's word, runs programs for that one, in QEMU's.
fn runs_by_itself(own: &str, wanted: &str) -> bool {
    let names: &[&str] = match own {
        "x86_64" | "x86" => &["x86_64", "i386"],
        "aarch64" => &["aarch64", "arm"],
        "powerpc64" => &["ppc64le"],
        other => return other == wanted,
    };
    names.contains(&wanted)
}

/// How the programs of a machine begin.
fn magic((number, is_wide, is_big, _): &(u16, bool, bool, &'static str)) -> [u8; HEAD_BYTES] {
    let word = |value: u16| if *is_big { value.to_be_bytes() } else { value.to_le_bytes() };
    let mut magic = [0; HEAD_BYTES];
    magic[..4].copy_from_slice(b"\x7fELF");
    magic[4..7].copy_from_slice(&[1 + u8::from(*is_wide), 1 + u8::from(*is_big), 1]);
    magic[16..18].copy_from_slice(&word(EXECUTABLE));
    magic[18..20].copy_from_slice(&word(*number));
    magic
}

/// Whether the kernel takes a file with this beginning for a program. It is none, and nothing of
/// it is the image's: who is asked to run it finds nothing to do.
fn is_known_to_kernel(head: &[u8; HEAD_BYTES]) -> io::Result<bool> {
    const NOT_A_PROGRAM: i32 = libc::ENOEXEC;
    let memory = rustix::fs::memfd_create("strata-probe", MemfdFlags::CLOEXEC)?;
    let mut memory = std::fs::File::from(memory);
    let mut bytes = head.to_vec();
    bytes.resize(4096, 0);
    memory.write_all(&bytes)?;
    // Whoever writes to a file can not execute it.
    let place = format!("/proc/self/fd/{}", memory.as_raw_fd());
    let memory = std::fs::File::open(place)?;
    let mut probe = Command::new(format!("/proc/self/fd/{}", memory.as_raw_fd()));
    probe.env_clear().stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    match probe.status() {
        Err(error) => Ok(error.raw_os_error() != Some(NOT_A_PROGRAM)),
        Ok(_) => Ok(true),
    }
}

/// Where Debian, Fedora and others have an emulator that needs no library, with the flags of its
/// registration: `F`, it is opened now and need not be in the image; `C`, setuid programs work;
/// `P`, it is told the name by which the program was called.
fn installed(name: &str) -> Option<(PathBuf, &'static str)> {
    let places = [
        (format!("/usr/libexec/qemu-binfmt/{name}-binfmt-P"), "PCF"),
        (format!("/usr/bin/qemu-{name}-static"), "CF"),
        (format!("/usr/local/bin/qemu-{name}-static"), "CF"),
    ];
    let places = places.into_iter().map(|(place, flags)| (PathBuf::from(place), flags));
    places.into_iter().find(|(place, _)| place.is_file())
}

fn registration(
    machine: &(u16, bool, bool, &'static str),
    interpreter: &Path,
    flags: &str,
) -> String {
    // Of which system it says to be (the eighth byte) does not matter, nor its last bit whether
    // it has a fixed address.
    let (_, _, is_big, name) = machine;
    let mut mask = [0xff; HEAD_BYTES];
    mask[7] = 0;
    mask[if *is_big { 17 } else { 16 }] = 0xfe;
    let escaped = |bytes: &[u8]| {
        bytes.iter().fold(String::new(), |mut text, byte| {
            // Writing to a string does not fail.
            let _ = write!(text, "\\x{byte:02x}");
            text
        })
    };
    let (magic, mask) = (escaped(&magic(machine)), escaped(&mask));
    format!(":strata-{name}:M::{magic}:{mask}:{}:{flags}", interpreter.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registers_as_debian_does() {
        let head: [u8; HEAD_BYTES] = *b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x03\0\xb7\0";
        let arm = machine(&head).expect("known");
        assert_eq!(
            registration(&arm, Path::new("/usr/bin/qemu-aarch64-static"), "F"),
            concat!(
                r":strata-aarch64:M:",
                r":\x7f\x45\x4c\x46\x02\x01\x01\x00",
                r"\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00",
                r":\xff\xff\xff\xff\xff\xff\xff\x00",
                r"\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff",
                ":/usr/bin/qemu-aarch64-static:F"
            )
        );
        let head: [u8; HEAD_BYTES] = *b"\x7fELF\x02\x02\x01\0\0\0\0\0\0\0\0\0\0\x02\0\x16";
        let big = machine(&head).expect("known");
        assert_eq!(big.3, "s390x");
        let text = registration(&big, Path::new("/q"), "F");
        assert!(text.contains(r"\x00\x02\x00\x16:") && text.ends_with(r"\xff\xfe\xff\xff:/q:F"));
        assert_eq!(machine(b"#!/bin/sh\n0123456789"), None);
    }

    #[test]
    fn sisters_need_no_emulator() {
        assert!(runs_by_itself("x86_64", "i386"));
        assert!(!runs_by_itself("x86_64", "aarch64"));
        assert!(runs_by_itself("aarch64", "arm"));
        assert!(runs_by_itself("riscv64", "riscv64"));
    }

    #[test]
    fn the_kernel_knows_nothing_of_a_machine_that_never_was() {
        let mut head: [u8; HEAD_BYTES] = *b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\xfe\xfe";
        assert!(!is_known_to_kernel(&head).expect("asked"));
        // A script's interpreter is looked for: the file is taken for a program.
        head[..11].copy_from_slice(b"#!/missing\n");
        assert!(is_known_to_kernel(&head).expect("asked"));
    }
}
