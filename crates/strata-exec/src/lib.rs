//! Runs one process over one stack of snapshots and reports what changed.
//!
//! One decision carries the crate: **the kernel cleans up, not we**. A run is a second process of
//! the program itself, which lives in mount and pid namespaces of its own: whatever ends it, a
//! failure, Ctrl-C or `kill -9` of the caller, the kernel kills what is in the pid namespace and
//! drops the mounts with the last process. Nothing is ever mounted where anybody else sees it.
//! What only strata put into the root file system (`/proc`, `/etc/resolv.conf`, mount points)
//! never touches the overlay's upper directory, so what is there afterwards is what the process
//! changed, and nothing must be taken out of it.
//!
//! The sandbox itself is youki's libcontainer with an OCI runtime specification and Docker's
//! defaults; it must not fork in a process with threads, hence the second process.
//!
//! What the crate deliberately does not do: it knows no Dockerfile, cache or image, mounts no
//! cache directory by name, and keeps no snapshot; all it gets is paths. It prints nothing,
//! and reads no environment.
//!
//! ```no_run
//! use strata_exec::{Cancel, Job, ReexecCommand, Root, changes, run};
//! # fn example(root: Root<'_>) -> Result<(), Box<dyn std::error::Error>> {
//! let argv = ["/bin/sh", "-c", "echo hello > /greeting"].map(str::to_owned).to_vec();
//! let job = Job { argv, ..Job::default() };
//! let program = ReexecCommand::default();
//! let finished = run(&program, &job, &root, &mut |_, _| {}, &Cancel::new()?)?;
//! assert_eq!(finished.status.code(), 0);
//! assert_eq!(changes(&root)?.layer.changes().len(), 1);
//! # Ok(())
//! # }
//! ```

mod attributes;
mod cancel;
mod cgroup;
mod changes;
mod child;
mod emulator;
mod error;
mod etc;
mod hide;
mod job;
mod keeper;
mod leave;
mod limits;
mod namespace;
mod overlay;
mod pass;
pub mod passwd;
mod prepare;
mod root;
mod run;
mod sandbox;
mod seccomp;
mod secret;
mod spec;
mod subordinate;
mod terminal;
mod view;
mod wire;

pub use cancel::Cancel;
pub use changes::{Changed, Found, changes, find};
pub use child::child_main;
pub use error::ExecError;
pub use job::{Job, Mount, MountKind, Network, Runtime, Security, Stdio, User};
pub use keeper::ReexecCommand;
pub use leave::leave;
pub use limits::{Limits, Ulimit};
pub use namespace::{INSIDE, Ids, NamespaceError, Obstacle, enter, id_maps, in_user_namespace};
pub use root::Root;
pub use run::{Finished, Status, Stream, run, run_with};
pub use secret::{Attachments, Secret};
pub use view::View;

/// The first argument that makes the program a run's child.
pub const CHILD: &str = "strata-run-child";
