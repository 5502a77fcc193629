//! Turns a job and a root into the order for the child: everything that can be done, and fail,
//! before a process is started.

use std::io;
use std::path::{Path, PathBuf};

use crate::emulator::Emulator;
use crate::namespace;
use crate::root::{MountPoints, PointKind};
use crate::spec::{KERNEL_MOUNTS, Placed, What, spec};
use crate::view::{Found, Resolved};
use crate::wire::Order;
use crate::{Attachments, ExecError, Job, Mount, MountKind, Root, Runtime, User, View, etc};

/// Of a tmpfs mount's root that hides nothing.
const TMPFS_MODE: u32 = 0o1777;

/// The files of a run, in its staging directory.
struct Files {
    points: PathBuf,
    etc: PathBuf,
    root: PathBuf,
    bundle: PathBuf,
    state: PathBuf,
    secrets: PathBuf,
    emulators: PathBuf,
}

impl Files {
    fn make(staging: &Path) -> io::Result<Self> {
        let run = staging.join("run");
        std::fs::create_dir(&run)?;
        let directory = |name| {
            let path = run.join(name);
            std::fs::create_dir(&path).map(|()| path)
        };
        Ok(Self {
            points: directory("points")?,
            etc: directory("etc")?,
            root: directory("root")?,
            bundle: directory("bundle")?,
            state: directory("state")?,
            secrets: directory("secrets")?,
            emulators: directory("emulators")?,
        })
    }
}

/// Makes all files of the run and writes down what the child does.
///
/// All paths are made absolute: the child works in `/`.
pub(crate) fn prepare(
    job: &Job,
    attachments: &Attachments<'_>,
    root: &Root<'_>,
    terminal: bool,
) -> Result<Order, ExecError> {
    job.check(attachments.secrets)?;
    if !namespace::may_mount() {
        return Err(ExecError::Unprivileged);
    }
    let User { uid, gid, additional_gids, .. } = &job.user;
    if !namespace::has_ids(*uid, &[&[*gid], &additional_gids[..]].concat()) {
        return Err(ExecError::NoSuchId { uid: *uid, gid: *gid });
    }
    root.prepare_upper()?;
    let absolute = |path: &Path| {
        std::path::absolute(path).map_err(ExecError::io("find the working directory"))
    };
    let staging = absolute(root.staging.path())?;
    let files = Files::make(&staging).map_err(ExecError::io("make the run's directories"))?;
    let view = View::new(&root.lowers);
    let mut cwds = working_directories(&view, job)?;
    let emulator = Emulator::needed(job, &view);
    let placed = place(job, view, &files)?;
    let enter = is_in_mount(&cwds, &placed).then(|| cwds.pop()).flatten();
    let started = Job { cwd: cwd_for_runtime(job, enter.is_some()), ..job.clone() };
    let config =
        spec(&started, text(&files.root)?, &placed, terminal).map_err(io::Error::from).and_then(
            |spec| std::fs::write(files.bundle.join("config.json"), serde_json::to_vec(&spec)?),
        );
    config.map_err(ExecError::io("write the runtime's configuration"))?;
    let mut lowers = vec![files.points.clone()];
    for lower in root.lowers.iter().rev() {
        lowers.push(absolute(lower)?);
    }
    let number = staging.file_name().unwrap_or_default().to_string_lossy();
    Ok(Order {
        job: job.clone(),
        id: format!("strata-{}-{}", std::process::id(), plain(&number)),
        lowers,
        upper: absolute(&root.staging.fs())?,
        work: absolute(&root.staging.work())?,
        root: files.root.clone(),
        bundle: files.bundle.clone(),
        state: files.state.clone(),
        secrets: files.secrets.clone(),
        secret_count: attachments.secrets.len(),
        emulator,
        emulators: files.emulators.clone(),
        cwds,
        enter,
        user_attributes: namespace::in_user_namespace(),
        terminal,
    })
}

/// Only what runtimes take in a name.
fn plain(text: &str) -> String {
    text.chars().filter(char::is_ascii_alphanumeric).collect()
}

/// The directories that the path of the working directory leads through: each from which a `..`
/// leads up, as what is made on the way there must be, and the last one.
fn working_directories(view: &View, job: &Job) -> Result<Vec<PathBuf>, ExecError> {
    let refuse = |reason| ExecError::Job { what: "working directory", reason };
    let resolve = |path: &str| {
        let resolved = view
            .resolve(path)
            .map_err(ExecError::io(format!("find the working directory `{}`", job.cwd)))?;
        match resolved {
            Resolved { found: Found::Other(..), .. } => Err(refuse("it is not a directory")),
            Resolved { path, .. } => {
                String::from_utf8(path.into()).map_err(|_| refuse("it is not UTF-8"))
            }
        }
    };
    let (mut through, mut here) = (Vec::new(), String::new());
    for name in job.cwd.split('/') {
        if name != ".." {
            here.push('/');
            here.push_str(name);
            continue;
        }
        let reached = resolve(&here)?;
        let up = reached.rfind('/').unwrap_or(0);
        here = format!("/{}", &reached[..up]);
        through.push(PathBuf::from(reached));
    }
    through.push(PathBuf::from(resolve(&here)?));
    Ok(through)
}

/// Whether the working directory is missing in what is mounted above it, and not in the image.
fn is_in_mount(cwds: &[PathBuf], placed: &[Placed]) -> bool {
    let Some(cwd) = cwds.last() else { return false };
    let below = |target: &str| cwd.strip_prefix(target.trim_start_matches('/')).ok();
    // The last mount that is above it is the one that shows.
    let above = placed.iter().rev().find_map(|placed| Some((placed, below(&placed.target)?)));
    match above {
        Some((Placed { what: What::Bind { source, .. }, .. }, below)) => {
            !Path::new(source).join(below).is_dir()
        }
        Some((_, below)) => below != Path::new(""),
        None => {
            let is_below = |target| below(target).is_some_and(|below| below != Path::new(""));
            KERNEL_MOUNTS.iter().any(|(target, ..)| is_below(target))
        }
    }
}

/// Where the runtime starts the process. Runtimes that are programs make the directory, and the
/// built-in one is helped by our last steps.
fn cwd_for_runtime(job: &Job, in_mount: bool) -> String {
    match job.runtime == Runtime::Libcontainer && in_mount {
        true => "/".to_owned(),
        false => job.cwd.clone(),
    }
}

/// Finds or makes all mount points.
fn place(job: &Job, view: View, files: &Files) -> Result<Vec<Placed>, ExecError> {
    let mut points =
        MountPoints::new(view, &files.points).map_err(ExecError::io("make the mount points"))?;
    for (target, ..) in KERNEL_MOUNTS {
        points.add(target, PointKind::Directory)?;
    }
    let mut placed = Vec::new();
    let hostname =
        job.tells_hostname.then(|| ("/etc/hostname", format!("{}\n", job.hostname).into_bytes()));
    let contents = [
        ("/etc/hosts", etc::hosts(job).into_bytes()),
        ("/etc/resolv.conf", etc::resolv_conf().map_err(ExecError::io("read `/etc/resolv.conf`"))?),
    ];
    for (target, content) in contents.into_iter().chain(hostname) {
        let name = target.trim_start_matches("/etc/");
        let source = files.etc.join(name);
        std::fs::write(&source, content).map_err(ExecError::io(format!("write `{target}`")))?;
        let options = vec!["bind", "ro", "nosuid", "nodev", "noexec"];
        let what = What::Bind { source: text(&source)?.to_owned(), options };
        placed.push(Placed { target: add(&mut points, target, PointKind::File)?, what });
    }
    for (number, mount) in job.mounts.iter().enumerate() {
        let secret = files.secrets.join(number.to_string());
        let (one, kind) = place_one(&mut points, mount, &secret)?;
        check_inside(&placed, &one, kind)?;
        placed.push(one);
    }
    points.finish().map_err(ExecError::io("make the mount points"))?;
    Ok(placed)
}

/// `secret` is where the child puts the file with the mount's secret, if it is one.
fn place_one(
    points: &mut MountPoints<'_>,
    mount: &Mount,
    secret: &Path,
) -> Result<(Placed, PointKind), ExecError> {
    let (kind, what) = match &mount.kind {
        MountKind::Bind { source, read_only } => {
            let metadata = std::fs::metadata(source)
                .map_err(ExecError::io(format!("look at `{}`", source.display())))?;
            let kind = if metadata.is_dir() { PointKind::Directory } else { PointKind::File };
            let access = if *read_only { "ro" } else { "rw" };
            let options = vec!["rbind", access, "nosuid", "nodev"];
            (kind, What::Bind { source: text(source)?.to_owned(), options })
        }
        MountKind::Tmpfs { size_bytes } => {
            let mode = points.mode_of(&mount.target)?;
            let mode = mode.unwrap_or(TMPFS_MODE);
            let mut options = vec!["nosuid".to_owned(), "nodev".to_owned()];
            options.push(format!("mode={mode:o}"));
            options.extend(size_bytes.map(|size| format!("size={size}")));
            (PointKind::Directory, What::Tmpfs { options })
        }
        MountKind::Secret { .. } => {
            let options = vec!["bind", "ro", "nosuid", "nodev", "noexec"];
            (PointKind::File, What::Bind { source: text(secret)?.to_owned(), options })
        }
        MountKind::Socket { source, .. } => {
            let options = vec!["bind", "rw", "nosuid", "nodev", "noexec"];
            (PointKind::File, What::Bind { source: text(source)?.to_owned(), options })
        }
    };
    Ok((Placed { target: add(points, &mount.target, kind)?, what }, kind))
}

/// Refuses a mount inside of an earlier one where its mount point is not and can not be made, as
/// far as that can be told without following links: the runtime's words would not say so.
fn check_inside(placed: &[Placed], new: &Placed, kind: PointKind) -> Result<(), ExecError> {
    let below = |above: &Placed| Path::new(&new.target).strip_prefix(&above.target).ok();
    // The last mount that is above it is the one that shows.
    let above = placed.iter().rev().find_map(|above| Some((above, below(above)?.to_owned())));
    let Some((Placed { what: What::Bind { source, options }, .. }, below)) = above else {
        return Ok(());
    };
    let refuse = |reason| Err(ExecError::Mount { target: new.target.clone(), reason });
    let mut here = PathBuf::from(source);
    let mut names = below.components().peekable();
    while let Some(name) = names.next() {
        here.push(name);
        let is_last = names.peek().is_none();
        match std::fs::symlink_metadata(&here).map(|metadata| metadata.file_type()) {
            Ok(found) if found.is_symlink() => return Ok(()),
            Ok(found) if found.is_dir() && is_last && kind == PointKind::File => {
                return refuse("it is a directory, and a file is mounted");
            }
            Ok(found) if found.is_dir() => {}
            Ok(_) if !is_last => return refuse("it is below a file"),
            Ok(_) if kind == PointKind::Directory => {
                return refuse("it is a file, and a directory is mounted");
            }
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound && options.contains(&"ro") => {
                return refuse("it is not in the mount above it, which is read-only");
            }
            Err(_) => return Ok(()),
        }
    }
    Ok(())
}

fn add(points: &mut MountPoints<'_>, target: &str, kind: PointKind) -> Result<String, ExecError> {
    let path: Vec<u8> = points.add(target, kind)?.into();
    match String::from_utf8(path) {
        Ok(path) => Ok(format!("/{path}")),
        Err(_) => {
            let (target, reason) = (target.to_owned(), "it leads to a path that is not UTF-8");
            Err(ExecError::Mount { target, reason })
        }
    }
}

/// A path of this machine as the runtime's configuration can carry it.
fn text(path: &Path) -> Result<&str, ExecError> {
    path.to_str().ok_or(ExecError::Job { what: "path", reason: "it is not UTF-8" })
}
