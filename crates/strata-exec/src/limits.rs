//! How much a process may use, as plain data, with Docker's meanings.

use serde::{Deserialize, Serialize};

use crate::ExecError;

/// How much all processes of a run may use together, and each of them. Nothing is limited by
/// default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Memory, in bytes.
    pub memory_bytes: Option<u64>,
    /// Memory and swap together, in bytes; −1 for no limit. Twice the memory if not given.
    pub memory_swap_bytes: Option<i64>,
    /// Weight among others that want processors; 1024 is everybody's.
    pub cpu_shares: Option<u64>,
    /// So often the quota is given anew, in microseconds; 100,000 if not given.
    pub cpu_period_micros: Option<u64>,
    /// Processor time in each period, in microseconds; −1 for no limit.
    pub cpu_quota_micros: Option<i64>,
    /// Which processors, such as `0-3,7`.
    pub cpuset_cpus: Option<String>,
    /// Which memory nodes, such as `0`.
    pub cpuset_mems: Option<String>,
    /// How many processes and threads.
    pub pids: Option<u64>,
    /// The cgroup below which the run's own is made.
    pub cgroup_parent: Option<String>,
    /// Limits of each process.
    pub ulimits: Vec<Ulimit>,
}

/// A limit of each process, as `ulimit` sets it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ulimit {
    /// Its name as Docker has it: one of [`Ulimit::NAMES`].
    pub name: String,
    /// The limit; `u64::MAX` for none.
    pub soft: u64,
    /// How far a process may raise it itself; `u64::MAX` for as far as it likes.
    pub hard: u64,
}

impl Ulimit {
    /// What can be limited: `RLIMIT_*` of getrlimit(2).
    pub const NAMES: [&str; 15] = [
        "core",
        "cpu",
        "data",
        "fsize",
        "locks",
        "memlock",
        "msgqueue",
        "nice",
        "nofile",
        "nproc",
        "rss",
        "rtprio",
        "rttime",
        "sigpending",
        "stack",
    ];

    /// The name in an OCI runtime specification.
    pub(crate) fn rlimit(&self) -> String {
        format!("RLIMIT_{}", self.name.to_uppercase())
    }
}

impl Limits {
    /// Whether a cgroup is needed for them.
    pub(crate) fn want_cgroup(&self) -> bool {
        // Taken apart, so that a new field is not forgotten here.
        let Self {
            memory_bytes,
            memory_swap_bytes,
            cpu_shares,
            cpu_period_micros,
            cpu_quota_micros,
            cpuset_cpus,
            cpuset_mems,
            pids,
            cgroup_parent,
            ulimits: _,
        } = self;
        [memory_bytes, cpu_shares, cpu_period_micros, pids].iter().any(|limit| limit.is_some())
            || [memory_swap_bytes, cpu_quota_micros].iter().any(|limit| limit.is_some())
            || [cpuset_cpus, cpuset_mems, cgroup_parent].iter().any(|limit| limit.is_some())
    }

    /// Refuses what no process can have.
    pub(crate) fn check(&self) -> Result<(), ExecError> {
        let refuse = |what, reason| Err(ExecError::Job { what, reason });
        for ulimit in &self.ulimits {
            if !Ulimit::NAMES.contains(&&*ulimit.name) {
                return refuse("ulimit", "there is none of this name");
            }
            if ulimit.soft > ulimit.hard {
                return refuse("ulimit", "the soft limit is above the hard one");
            }
        }
        let has_dots = |path: &String| path.split('/').any(|part| part == "..");
        if self.cgroup_parent.as_ref().is_some_and(has_dots) {
            return refuse("cgroup", "there is a `..` in its path");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_shared_needs_a_cgroup() {
        let ulimit = Ulimit { name: "nofile".to_owned(), soft: 1, hard: 2 };
        let limits = Limits { ulimits: vec![ulimit], ..Limits::default() };
        assert!(!limits.want_cgroup() && limits.check().is_ok());
        assert!(Limits { pids: Some(1), ..Limits::default() }.want_cgroup());
        let parent = Some("/a/../..".to_owned());
        assert!(Limits { cgroup_parent: parent, ..Limits::default() }.check().is_err());
        let ulimit = Ulimit { name: "nofile".to_owned(), soft: 3, hard: 2 };
        assert!(Limits { ulimits: vec![ulimit], ..Limits::default() }.check().is_err());
    }
}
