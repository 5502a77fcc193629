//! Directory → values, never hashing a file twice.
//!
//! [`scan`] answers, for the part of a build context that a plan's COPY and ADD select, which
//! paths are there and what their content is called. It has two promises, and all of its design
//! follows from them:
//!
//! 1. **Never stale.** A file's name is taken from the stamp file only if device, inode, size,
//!    mtime, ctime and mode are what they were when it was read, and if both times lie before
//!    the start of the scan that read it: a change that no stamp could show is read again. The
//!    ctime is what makes this safe against tools that set the mtime back.
//! 2. **One look for each file.** The stamp file also keeps what directories hold, under the
//!    directories' own stamps and the same rule, so an unchanged context is not even listed; and
//!    what each directory's tree is called, so that it is not even put together.
//!
//! [`IgnoreRules`] are BuildKit's and [`Glob`]s are Go's, both matched here and tested against
//! their documented cases, since git's rules and Rust's globs answer otherwise.
//!
//! What the crate deliberately does not do: it knows no Dockerfile and no image, names trees as if
//! all were root's (other owners are the COPY's decision), looks at no owner and no extended
//! attribute, and keeps no content. It prints nothing. It asks the clock once, for the first
//! promise, and nothing that it answers depends on what the clock says.
//!
//! The rules do not need a directory on a disk: [`IgnoreRules::below`] and [`Selection`] go down
//! any tree name by name, which is how `strata replay` reads a context out of git's objects.
//!
//! What no stamp can show is a file that a process changes through a mapping which it wrote to
//! before: the kernel moves the mtime at the first write only, until it wrote the page back.
//!
//! ```
//! use strata_cas::{BlobId, TreePath};
//! use strata_scan::{FoundKind, Glob, IgnoreRules, ScanRequest, scan};
//!
//! let root = tempfile::tempdir()?;
//! std::fs::write(root.path().join("app.js"), "1")?;
//! std::fs::write(root.path().join("app.log"), "2")?;
//!
//! let answer = scan(&ScanRequest {
//!     root: root.path(),
//!     rules: &IgnoreRules::parse(b"*.log")?,
//!     wanted: &[Glob::new(b".")?],
//!     stamps: None,
//!     threads: 1,
//! })?;
//! let file = answer.get(&TreePath::new("app.js")?).expect("it is there");
//! assert_eq!(file.kind, FoundKind::File { blob: BlobId::of(b"1"), size: 1 });
//! assert_eq!(answer.stats().files, 1);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod answer;
mod follow;
mod glob;
mod hash;
mod ignore_rules;
mod keep;
mod links;
mod name;
mod pattern;
mod scan;
mod select;
mod stamp;
mod stamp_file;
mod stamps;
mod walk;
mod walked;

pub use answer::{Found, FoundKind, Scan, ScanStats};
pub use glob::{BadPattern, Glob};
pub use ignore_rules::{IgnoreError, IgnoreRules, RulesBelow, Verdict};
pub use links::resolve;
pub use scan::{Note, ScanError, ScanRequest, scan};
pub use select::Selection;
pub use stamp::Timestamp;
pub use stamp_file::StampFile;
