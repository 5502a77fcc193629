//! Words for errors of the crates below that are about no place in a Dockerfile: the store, the
//! disk, a registry, an archive, the sandbox.

use std::error::Error;
use std::io;

use strata_cas::{StoreError, TreeError};
use strata_exec::{ExecError, NamespaceError, Obstacle};
use strata_image::ImageError;
use strata_oci::RegistryError;
use strata_scan::ScanError;
use strata_store::OpenError;

use crate::failure::{Failure, Kind};
use crate::words::amount;

/// The error and what caused it, without saying anything twice.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    without_numbers(&text)
}

/// The system's words without the numbers of its errors: `… (os error 2)`.
fn without_numbers(text: &str) -> String {
    let mut pieces = text.split(" (os error ");
    let first = pieces.next().unwrap_or_default().to_owned();
    pieces.fold(first, |text, piece| {
        let rest = piece.trim_start_matches(|letter: char| letter.is_ascii_digit());
        text + rest.strip_prefix(')').unwrap_or(rest)
    })
}

/// What a refusal of the system means for the user.
fn io_hint(error: &io::Error) -> Option<String> {
    let hint = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "the disk is full: make room, or name another store with `--store`"
        }
        io::ErrorKind::PermissionDenied => "does the file belong to somebody else?",
        io::ErrorKind::ReadOnlyFilesystem => "the file system is mounted read-only",
        _ => return None,
    };
    Some(hint.to_owned())
}

/// A refusal of the system, in the words of an error that holds it.
pub(crate) fn io(error: &dyn Error, cause: &io::Error) -> Failure {
    let kind = match cause.kind() {
        // The system is in order: the bytes that were given are not.
        io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => Kind::Build,
        _ => Kind::Environment,
    };
    Failure::new(kind, chain(error)).hint_if(io_hint(cause))
}

pub(crate) fn open(error: &OpenError) -> Failure {
    Failure::environment(chain(error)).hint(error.hint())
}

pub(crate) fn store(error: &StoreError) -> Failure {
    match error {
        StoreError::Io { source, .. } => io(error, source),
        StoreError::Damaged { .. } => Failure::environment(chain(error))
            .hint("build again: what is damaged is a miss, and is made anew"),
        StoreError::NoRoom { needed_bytes, used_bytes, limit_bytes } => {
            let [needed, used, limit] =
                [needed_bytes, used_bytes, limit_bytes].map(|bytes| amount::bytes(*bytes));
            let message = format!(
                "the store may take {limit} and takes {used}, all of it in use: {needed} more do \
                 not fit"
            );
            Failure::environment(message)
                .hint("allow more with `--store-size`, or see `strata du` for what takes it")
        }
        StoreError::Database { .. } => Failure::environment(chain(error)).hint(
            "see whether the disk is full; if not, the store is damaged: \
                 name another one with `--store`",
        ),
    }
}

pub(crate) fn tree(error: &TreeError) -> Failure {
    match error {
        TreeError::Store(error) => store(error),
        TreeError::Missing(_) | TreeError::Damaged(_) => Failure::environment(chain(error))
            .hint("build again with `--no-cache`, or name another store with `--store`"),
    }
}

pub(crate) fn image(error: &ImageError) -> Failure {
    match error {
        ImageError::Io { source, .. } => io(error, source),
        ImageError::Store(error) => store(error),
        ImageError::MissingBlob { .. } => Failure::environment(chain(error))
            .hint("build again with `--no-cache`, or name another store with `--store`"),
        ImageError::NoSuchId { .. } => Failure::environment(chain(error)).hint(
            "the user's lines in `/etc/subuid` and `/etc/subgid` give too few ids: make their last \
             number larger, or run strata as root",
        ),
        ImageError::Unrepresentable { .. }
        | ImageError::Tar { .. }
        | ImageError::Entry { .. }
        | ImageError::LinkTarget { .. }
        | ImageError::Limit { .. }
        | ImageError::Layout { .. }
        | ImageError::NoImage { .. }
        | ImageError::Json { .. }
        | ImageError::Mismatch { .. } => Failure::new(Kind::Build, chain(error)),
    }
}

pub(crate) fn exec(error: &ExecError) -> Failure {
    match error {
        ExecError::Io { source, .. } => io(error, source),
        ExecError::Cancelled => Failure::new(Kind::Signal(2), "cancelled"),
        ExecError::Unprivileged => Failure::environment(chain(error))
            .hint("run strata as root, or where user namespaces may be made: see docs/rootless.md"),
        ExecError::Start { obstacle, .. } => {
            Failure::environment(chain(error)).hint(obstacle.map_or(
                "is this a container without the right to mount? see also `--oci-runtime`",
                way_around,
            ))
        }
        ExecError::NoSuchId { .. } => {
            Failure::environment(chain(error)).hint(crate::rights::ONE_ID)
        }
        ExecError::TimedOut { .. }
        | ExecError::Mount { .. }
        | ExecError::WorkingDirectory { .. }
        | ExecError::TooManyLayers { .. }
        | ExecError::PathTooLong { .. }
        | ExecError::Job { .. }
        | ExecError::Passwd(_) => Failure::new(Kind::Build, chain(error)),
    }
}

/// Why no user namespace could be entered.
pub(crate) fn namespace(error: &NamespaceError) -> Failure {
    let failure = Failure::environment(chain(error));
    match error {
        NamespaceError::Refused { obstacle, .. } => failure.hint(way_around(*obstacle)),
        NamespaceError::Io { source, .. } => failure.hint_if(io_hint(source)),
    }
}

/// How to get what is missing.
fn way_around(obstacle: Obstacle) -> &'static str {
    match obstacle {
        Obstacle::Clone => {
            "user namespaces are turned off: `sudo sysctl kernel.unprivileged_userns_clone=1`, or \
             run strata as root"
        }
        Obstacle::Limit => {
            "user namespaces are turned off: `sudo sysctl user.max_user_namespaces=15000`, or run \
             strata as root"
        }
        Obstacle::AppArmor => {
            "AppArmor keeps user namespaces from doing anything: \
             `sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0`, or a profile for \
             strata with `userns,` in it, or run strata as root"
        }
        Obstacle::Filter => {
            "a filter of system calls forbids it, as containers have one: start the container \
             with `--security-opt seccomp=unconfined --security-opt apparmor=unconfined`, or with \
             `--privileged`"
        }
        Obstacle::MaskedProc => {
            "parts of this container's `/proc` are hidden, and no other one may be mounted: start \
             it with `--security-opt systempaths=unconfined` (docker) or \
             `--security-opt unmask=ALL` (podman)"
        }
        Obstacle::Overlay => {
            "overlayfs needs the store on a local file system that is not an overlay itself: name \
             another place with `--store`, in a container a volume; a user also needs Linux 5.11"
        }
        Obstacle::Cgroups => {
            "limits need cgroups that this user may write to: run strata as root, or with \
             `systemd-run --user --scope -p Delegate=yes strata …`, or in one that root has given \
             to you (docs/sandbox.md); or leave the limits out"
        }
        Obstacle::Unknown => {
            "the kernel gives nobody one in a chroot; elsewhere run strata as root, a container's \
             with `--privileged`, or see docs/rootless.md"
        }
    }
}

pub(crate) fn scan(error: &ScanError, message: String) -> Failure {
    match error {
        ScanError::Root { source, .. }
        | ScanError::Unreadable { source, .. }
        | ScanError::Threads(source) => Failure::environment(message).hint_if(io_hint(source)),
        ScanError::Vanished(_) | ScanError::Changing(_) => {
            Failure::new(Kind::Build, message).hint("build again when nothing writes to it")
        }
        ScanError::SymlinkLoop(_) => Failure::new(Kind::Build, message),
    }
}

/// Whose matter it is that an image could not be had.
pub(crate) fn registry_kind(error: &RegistryError) -> Kind {
    match error {
        RegistryError::Unreachable { .. }
        | RegistryError::Wrong { .. }
        | RegistryError::Failed { .. } => Kind::Environment,
        // A name that is not there, which Docker Hub calls denied, is the Dockerfile's matter.
        RegistryError::NotFound { .. } | RegistryError::Denied { .. } => Kind::Build,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_the_environments_matter_and_said_once() {
        let source = io::Error::from(io::ErrorKind::StorageFull);
        let failure = store(&StoreError::io("write `a`")(source));
        assert_eq!(failure.kind, Kind::Environment);
        assert_eq!(failure.message, "write `a`: no storage space");
        assert!(failure.hint.is_some_and(|hint| hint.contains("full")));
    }

    #[test]
    fn the_systems_numbers_are_left_out() {
        let error = StoreError::io("read `a`")(io::Error::from_raw_os_error(2));
        assert_eq!(chain(&error), "read `a`: No such file or directory");
        assert_eq!(without_numbers("a (os error 13), b"), "a, b");
    }

    #[test]
    fn a_wrong_name_is_not_the_environments_matter() {
        let (reference, registry) = ("a:b".to_owned(), "r".to_owned());
        let missing = RegistryError::NotFound { reference, registry: registry.clone() };
        assert_eq!(registry_kind(&missing), Kind::Build);
        let down = RegistryError::Unreachable { registry, reason: String::new() };
        assert_eq!(registry_kind(&down), Kind::Environment);
    }
}
