//! A run's own cgroup, for its limits: made by the guard, who is in it while the run lasts, so
//! that everything that it starts is too, and who removes it at the end. Both of the kernel's
//! generations of cgroups are known, and machines that have both.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, AtFlags, access};

use crate::Limits;
use crate::child::{Failure, LIMITS};

/// What a run's cgroups are called, before the name that no other run has.
const PREFIX: &str = "strata-run-";

/// What a runtime that is a program calls those that it makes: it takes the container's name.
const CONTAINER: &str = "strata-";

/// How old a cgroup without processes must be to be a killed run's: a young one may be about to
/// get its first.
const STALE_SECONDS: i64 = 10;

/// A file of the second generation's, and one of the first generation's, with what goes into it.
struct Setting {
    controller: &'static str,
    file: &'static str,
    value: String,
}

/// The cgroups that this process is in for a run, and the way back. Open, since the cage takes
/// the file systems of cgroups out of the mount namespace that it shares with the guard.
pub(crate) struct Cgroup {
    name: String,
    made: Vec<PathBuf>,
    parents: Vec<File>,
    before: Vec<File>,
}

impl Cgroup {
    /// Makes the cgroups for these limits and enters them; none if nothing is limited. They are
    /// called after the container.
    pub(crate) fn enter(limits: &Limits, container: &str) -> Result<Option<Self>, Failure> {
        if !limits.want_cgroup() {
            return Ok(None);
        }
        let name = format!("{PREFIX}{}", container.trim_start_matches(CONTAINER));
        let mut cgroup = Self { name, made: Vec::new(), parents: Vec::new(), before: Vec::new() };
        match cgroup.fill(limits) {
            Ok(()) => Ok(Some(cgroup)),
            Err(failure) => {
                cgroup.leave();
                Err(format!("{LIMITS}: {failure}"))
            }
        }
    }

    /// Goes back and removes them. The run's processes are gone.
    pub(crate) fn leave(self) {
        let own = std::process::id().to_string();
        for mut before in &self.before {
            drop(before.write_all(own.as_bytes()));
        }
        for parent in &self.parents {
            remove(parent, &self.name);
        }
    }

    fn fill(&mut self, limits: &Limits) -> Result<(), Failure> {
        let mounts = read("/proc/self/mountinfo")?;
        let own = read("/proc/self/cgroup")?;
        let hierarchies = hierarchies(&mounts, &own);
        for setting in settings(limits, true) {
            let first = hierarchies.iter().find(|one| one.first_has(setting.controller));
            let Some(hierarchy) = first.or_else(|| hierarchies.iter().find(|one| one.is_second()))
            else {
                return Err(format!("this machine has no `{}` cgroup", setting.controller));
            };
            let is_second = hierarchy.is_second();
            let here = self.directory(hierarchy, limits, setting.controller)?;
            if is_second {
                continue;
            }
            write(&here.join(setting.file), &setting.value, setting.file.contains("memsw"))?;
        }
        if let Some(second) = self.made.iter().find(|made| made.join("cgroup.events").exists()) {
            for setting in settings(limits, false) {
                let has_it = second.join("cgroup.controllers");
                if read(&has_it)?.split_whitespace().any(|name| name == setting.controller) {
                    write(&second.join(setting.file), &setting.value, false)?;
                }
            }
        }
        for made in &self.made {
            write(&made.join("cgroup.procs"), &std::process::id().to_string(), false)?;
        }
        Ok(())
    }

    /// This run's directory in a hierarchy, made if it is not there yet.
    fn directory(
        &mut self,
        hierarchy: &Hierarchy,
        limits: &Limits,
        controller: &str,
    ) -> Result<PathBuf, Failure> {
        let own = hierarchy.directory();
        let parent = match &limits.cgroup_parent {
            Some(parent) => hierarchy.mount.join(parent.trim_start_matches('/')),
            None => hierarchy.parent(|path| access(path, Access::WRITE_OK).is_ok()),
        };
        let here = parent.join(&self.name);
        if self.made.contains(&here) {
            return enable(hierarchy, &parent, controller).map(|()| here);
        }
        std::fs::create_dir_all(&parent).map_err(|error| refused("create", &parent, &error))?;
        enable(hierarchy, &parent, controller)?;
        let open = File::open(&parent).map_err(|error| refused("open", &parent, &error))?;
        let procs = own.join("cgroup.procs");
        let back = File::options().write(true).open(&procs);
        let back = back.map_err(|error| refused("write to", &procs, &error))?;
        std::fs::create_dir(&here).map_err(|error| refused("create", &here, &error))?;
        sweep(&parent, &here);
        self.made.push(here.clone());
        self.parents.push(open);
        self.before.push(back);
        if controller == "cpuset" && !hierarchy.is_second() {
            // They begin empty, and then nothing may run there.
            for file in ["cpuset.cpus", "cpuset.mems"] {
                write(&here.join(file), read(parent.join(file))?.trim(), false)?;
            }
        }
        Ok(here)
    }
}

/// Where a runtime that is a program makes cgroups for its container: below this process's own.
/// It removes them itself, unless it is killed.
///
/// Opened before the run, like [`Cgroup`]: the guard sees the `/proc` of the cage afterwards, where
/// it is not itself.
pub(crate) struct Runtimes {
    container: String,
    parents: Vec<File>,
}

impl Runtimes {
    pub(crate) fn of(container: &str) -> Self {
        let (mounts, own) = (read("/proc/self/mountinfo"), read("/proc/self/cgroup"));
        let found = hierarchies(&mounts.unwrap_or_default(), &own.unwrap_or_default());
        let open = |hierarchy: &Hierarchy| File::open(hierarchy.directory()).ok();
        Self { container: container.to_owned(), parents: found.iter().filter_map(open).collect() }
    }

    /// Removes what is left of them. The run's processes are gone.
    pub(crate) fn remove(self) {
        for parent in &self.parents {
            remove(parent, &self.container);
        }
    }
}

fn remove(parent: &File, name: &str) {
    // The kernel takes a moment to see that the last process has ended.
    for _ in 0..500 {
        match rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR) {
            Err(rustix::io::Errno::BUSY) => {}
            _ => break,
        }
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
}

/// Removes what killed runs have left below `parent`: what has no processes and is much older than
/// `young`, which was made just now.
fn sweep(parent: &Path, young: &Path) {
    let made = |path: &Path| std::fs::metadata(path).map(|metadata| metadata.mtime());
    let Ok(now) = made(young) else { return };
    for entry in std::fs::read_dir(parent).into_iter().flatten().flatten() {
        let is_ours = entry.file_name().to_string_lossy().starts_with(CONTAINER);
        if is_ours && made(&entry.path()).is_ok_and(|made| made + STALE_SECONDS < now) {
            drop(std::fs::remove_dir(entry.path()));
        }
    }
}

/// Turns a controller on for what is below `parent`, from the top down.
fn enable(hierarchy: &Hierarchy, parent: &Path, controller: &str) -> Result<(), Failure> {
    if !hierarchy.is_second() {
        return Ok(());
    }
    let mut way: Vec<&Path> =
        parent.ancestors().take_while(|path| path.starts_with(&hierarchy.mount)).collect();
    way.reverse();
    for directory in way {
        let file = directory.join("cgroup.subtree_control");
        if !read(&file)?.split_whitespace().any(|name| name == controller) {
            write(&file, &format!("+{controller}"), false)?;
        }
    }
    Ok(())
}

/// One tree of cgroups.
#[derive(Debug, PartialEq, Eq)]
struct Hierarchy {
    mount: PathBuf,
    /// First generation: its controllers. Second: none are named here.
    controllers: Vec<String>,
    /// Where this process is in it.
    own: String,
}

impl Hierarchy {
    /// This process's own cgroup.
    fn directory(&self) -> PathBuf {
        self.mount.join(self.own.trim_start_matches('/'))
    }

    /// Where the run's cgroup goes. One of the second generation with processes in it has no
    /// limited ones below: there it goes beside this process's own, unless what is above belongs
    /// to somebody else.
    fn parent(&self, may_write: impl Fn(&Path) -> bool) -> PathBuf {
        let own = self.directory();
        let above = own.parent().filter(|_| self.is_second() && own != self.mount);
        above.filter(|above| may_write(above)).map_or_else(|| own.clone(), Path::to_owned)
    }

    fn is_second(&self) -> bool {
        self.controllers.is_empty()
    }

    fn first_has(&self, controller: &str) -> bool {
        self.controllers.iter().any(|name| name == controller)
    }
}

fn hierarchies(mounts: &str, own: &str) -> Vec<Hierarchy> {
    let own_in = |controllers: &str| {
        own.lines().find_map(|line| {
            let mut fields = line.splitn(3, ':').skip(1);
            let (names, path) = (fields.next()?, fields.next()?);
            let same = match controllers {
                "" => names.is_empty(),
                wanted => names.split(',').any(|name| name == wanted),
            };
            same.then(|| path.to_owned())
        })
    };
    let hierarchy = |line: &str| {
        let (left, right) = line.split_once(" - ")?;
        let target = left.split(' ').nth(4)?;
        let mut right = right.split(' ');
        let (kind, options) = (right.next()?, right.nth(1)?);
        let mount = PathBuf::from(target);
        match kind {
            "cgroup2" => Some(Hierarchy { mount, controllers: Vec::new(), own: own_in("")? }),
            "cgroup" => {
                let skip = ["rw", "ro", "xattr", "clone_children"];
                let names = options.split(',').filter(|name| !skip.contains(name));
                let controllers: Vec<String> = names.map(str::to_owned).collect();
                let own = own_in(controllers.first()?)?;
                Some(Hierarchy { mount, controllers, own })
            }
            _ => None,
        }
    };
    mounts.lines().filter_map(hierarchy).collect()
}

/// What is to be written, in an order that the kernel takes: for the first generation or the
/// second.
fn settings(limits: &Limits, first: bool) -> Vec<Setting> {
    let mut settings = Vec::new();
    let mut add = |controller, one: &'static str, two: &'static str, value: String| {
        settings.push(Setting { controller, file: if first { one } else { two }, value });
    };
    let number =
        |limit: i64| if limit < 0 && !first { "max".to_owned() } else { limit.to_string() };
    if let Some(memory) = limits.memory_bytes {
        add("memory", "memory.limit_in_bytes", "memory.max", memory.to_string());
        let both = limits
            .memory_swap_bytes
            .unwrap_or_else(|| i64::try_from(memory.saturating_mul(2)).unwrap_or(i64::MAX));
        let swap = match both < 0 || first {
            true => both,
            false => both.saturating_sub(i64::try_from(memory).unwrap_or(i64::MAX)).max(0),
        };
        add("memory", "memory.memsw.limit_in_bytes", "memory.swap.max", number(swap));
    }
    if let Some(shares) = limits.cpu_shares {
        // As runc: 2 to 262,144 become 1 to 10,000.
        let weight = 1 + shares.clamp(2, 262_144).saturating_sub(2) * 9_999 / 262_142;
        let value = if first { shares } else { weight };
        add("cpu", "cpu.shares", "cpu.weight", value.to_string());
    }
    let (period, quota) = (limits.cpu_period_micros, limits.cpu_quota_micros);
    if first {
        if let Some(period) = period {
            add("cpu", "cpu.cfs_period_us", "", period.to_string());
        }
        if let Some(quota) = quota {
            add("cpu", "cpu.cfs_quota_us", "", quota.to_string());
        }
    } else if period.is_some() || quota.is_some() {
        let value = format!("{} {}", number(quota.unwrap_or(-1)), period.unwrap_or(100_000));
        add("cpu", "", "cpu.max", value);
    }
    if let Some(cpus) = &limits.cpuset_cpus {
        add("cpuset", "cpuset.cpus", "cpuset.cpus", cpus.clone());
    }
    if let Some(mems) = &limits.cpuset_mems {
        add("cpuset", "cpuset.mems", "cpuset.mems", mems.clone());
    }
    // A parent alone asks for a cgroup too.
    if let Some(pids) = limits.pids.map(|pids| pids.to_string()).or_else(|| {
        limits.cgroup_parent.as_ref().filter(|_| settings.is_empty()).map(|_| "max".to_owned())
    }) {
        let file = "pids.max";
        settings.push(Setting { controller: "pids", file, value: pids });
    }
    settings
}

fn read(path: impl AsRef<Path>) -> Result<String, Failure> {
    let path = path.as_ref();
    std::fs::read_to_string(path).map_err(|error| refused("read", path, &error))
}

fn write(path: &Path, value: &str, may_be_missing: bool) -> Result<(), Failure> {
    match std::fs::write(path, value) {
        Err(error) if may_be_missing && error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) if may_be_missing && error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        done => done.map_err(|error| refused(&format!("write {value} to"), path, &error)),
    }
}

fn refused(action: &str, path: &Path, error: &io::Error) -> Failure {
    format!("{action} `{}`: {error}", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "\
25 20 0:22 / /sys/fs/cgroup rw - tmpfs tmpfs rw
26 25 0:23 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
27 25 0:24 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct
28 25 0:25 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
";

    #[test]
    fn both_generations_are_found_where_this_process_is() {
        let own = "5:memory:/a/b\n3:cpu,cpuacct:/\n1:name=systemd:/x\n0::/c\n";
        let found = hierarchies(MOUNTS, own);
        let summary: Vec<String> = found
            .iter()
            .map(|one| format!("{} {:?} {}", one.mount.display(), one.controllers, one.own))
            .collect();
        assert_eq!(
            summary,
            [
                "/sys/fs/cgroup/memory [\"memory\"] /a/b",
                "/sys/fs/cgroup/cpu,cpuacct [\"cpu\", \"cpuacct\"] /",
                "/sys/fs/cgroup/unified [] /c",
            ]
        );
    }

    #[test]
    fn a_cgroup_goes_where_this_process_may_make_one() {
        let check = |controllers: &[&str], own: &str, writable: &str, expected: &str| {
            let hierarchy = Hierarchy {
                mount: PathBuf::from("/cgroup"),
                controllers: controllers.iter().map(|name| (*name).to_owned()).collect(),
                own: own.to_owned(),
            };
            let parent = hierarchy.parent(|path| path.starts_with(writable));
            assert_eq!(parent, Path::new(expected), "{own}");
        };
        check(&["pids"], "/a/b", "/", "/cgroup/a/b");
        check(&[], "/a/b", "/", "/cgroup/a");
        check(&[], "/", "/", "/cgroup");
        // Delegated: what is above is not the user's.
        check(&[], "/given/shell", "/cgroup/given", "/cgroup/given");
        check(&[], "/given", "/cgroup/given", "/cgroup/given");
    }

    #[test]
    fn limits_have_dockers_meaning_in_both_generations() {
        let limits = Limits {
            memory_bytes: Some(100),
            memory_swap_bytes: Some(150),
            cpu_shares: Some(1024),
            cpu_quota_micros: Some(50_000),
            pids: Some(7),
            ..Limits::default()
        };
        let lines = |first| -> Vec<String> {
            let settings = settings(&limits, first);
            settings.iter().map(|one| format!("{} {}", one.file, one.value)).collect()
        };
        let first = [
            "memory.limit_in_bytes 100",
            "memory.memsw.limit_in_bytes 150",
            "cpu.shares 1024",
            "cpu.cfs_quota_us 50000",
            "pids.max 7",
        ];
        assert_eq!(lines(true), first);
        let second =
            ["memory.max 100", "memory.swap.max 50", "cpu.weight 39", "cpu.max 50000 100000"];
        assert_eq!(lines(false)[..4], second);
    }
}
