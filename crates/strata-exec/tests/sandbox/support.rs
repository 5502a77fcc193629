//! A root file system of busybox, and a run over it.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use strata_cas::{Metadata, Staging};
use strata_exec::{
    Cancel, Changed, ExecError, Finished, Job, ReexecCommand, Root, Stream, changes, run,
};

/// Where Debian's `busybox-static` puts it.
fn busybox() -> &'static Path {
    static BUSYBOX: OnceLock<PathBuf> = OnceLock::new();
    BUSYBOX.get_or_init(|| {
        let path = PathBuf::from("/bin/busybox");
        let is_static = || std::fs::read(&path).is_ok_and(|bytes| bytes.len() > 1_000_000);
        if !is_static() {
            let mut apt = Command::new("apt-get");
            let status = apt.args(["install", "-y", "-qq", "busybox-static"]).status();
            assert!(status.is_ok_and(|status| status.success()), "needs `busybox-static`");
        }
        assert!(is_static(), "needs a static /bin/busybox");
        path
    })
}

/// A place for one run.
pub(crate) struct Place {
    pub(crate) directory: tempfile::TempDir,
    pub(crate) lowers: Vec<PathBuf>,
    pub(crate) staging: Staging,
    /// What the root directory itself is.
    pub(crate) own: Metadata,
    pub(crate) job: Job,
}

impl Place {
    /// Over busybox and a few files.
    pub(crate) fn new() -> Self {
        let place = Self::empty();
        fill(&place.lowers[0]);
        place
    }

    /// Over one empty layer.
    pub(crate) fn empty() -> Self {
        let directory = tempfile::tempdir().expect("temporary directory");
        let base = directory.path().join("base");
        std::fs::create_dir(&base).expect("create");
        std::fs::set_permissions(&base, PermissionsExt::from_mode(0o755)).expect("chmod");
        let staging = directory.path().join("staging");
        std::fs::create_dir(&staging).expect("create");
        let staging = Staging::new(staging).expect("staging");
        let own = Metadata::root(0o755);
        Self { directory, lowers: vec![base], staging, own, job: Job::default() }
    }

    /// The layer that is always there.
    pub(crate) fn base(&self) -> &Path {
        &self.lowers[0]
    }

    /// A new place with this one's changes as a further layer.
    pub(crate) fn next(&mut self) {
        let number = self.lowers.len();
        let kept = self.directory.path().join(format!("layer{number}"));
        std::fs::rename(self.staging.fs(), &kept).expect("keep the layer");
        self.lowers.push(kept);
        let staging = self.directory.path().join(format!("staging{number}"));
        std::fs::create_dir(&staging).expect("create");
        self.staging = Staging::new(staging).expect("staging");
    }

    pub(crate) fn root(&self) -> Root<'_> {
        let (lowers, metadata) = (self.lowers.clone(), self.own.clone());
        Root { lowers, metadata, staging: &self.staging }
    }

    /// Runs a shell script and gives its result and output, both streams apart.
    pub(crate) fn try_script(
        &mut self,
        script: &str,
    ) -> (Result<Finished, ExecError>, String, String) {
        self.job.argv = ["/bin/sh", "-c", script].map(str::to_owned).to_vec();
        self.try_run(&Cancel::new().expect("cancel"))
    }

    pub(crate) fn try_run(&self, cancel: &Cancel) -> (Result<Finished, ExecError>, String, String) {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let mut sink = |stream, bytes: &[u8]| match stream {
            Stream::Out => out.extend_from_slice(bytes),
            Stream::Err => err.extend_from_slice(bytes),
        };
        let program = ReexecCommand::default();
        let result = run(&program, &self.job, &self.root(), &mut sink, cancel);
        let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
        (result, text(out), text(err))
    }

    /// Runs a shell script that must succeed and gives its output.
    pub(crate) fn script(&mut self, script: &str) -> String {
        let (result, out, err) = self.try_script(script);
        let code = result.expect("run").status.code();
        assert_eq!((code, err.as_str()), (0, ""), "{script}\n{out}");
        out
    }

    pub(crate) fn changed(&self) -> Changed {
        changes(&self.root()).expect("changes")
    }
}

fn fill(base: &Path) {
    for directory in ["bin", "etc", "home/node", "var/lib/data", "tmp"] {
        std::fs::create_dir_all(base.join(directory)).expect("create");
    }
    std::fs::copy(busybox(), base.join("bin/busybox")).expect("copy");
    for applet in APPLETS.split_whitespace() {
        symlink("busybox", base.join("bin").join(applet)).expect("link");
    }
    let write = |path: &str, text: &str| std::fs::write(base.join(path), text).expect("write");
    write("etc/passwd", "root:x:0:0::/root:/bin/sh\nnode:x:1000:1000::/home/node:/bin/sh\n");
    write("etc/group", "root:x:0:\nnode:x:1000:\nstaff:x:50:node\n");
    write("var/lib/data/old", "old\n");
    write("var/lib/data/gone", "gone\n");
    std::fs::set_permissions(base.join("tmp"), PermissionsExt::from_mode(0o1777)).expect("chmod");
}

const APPLETS: &str = "sh true false cat echo env id pwd ls rm rmdir mkdir mknod mkfifo ln cp mv \
    chmod chown touch sleep kill hostname ip mount umount unshare grep sed awk head dd wc stat \
    tail ps seq yes readlink setsid test printf date df tr sort chroot";
