//! Puts secrets where only the run's process finds them: into files in memory, or into the
//! configuration of a runtime that is a program, moved into memory. All of it is mounted in the
//! cage's own namespace and is gone with it.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::{Gid, Mode, Uid, chmod, chown, fchmod, fchown};
use rustix::mount::{MountFlags, mount};
use serde_json::{Value, json};

use crate::child::{Failure, failed};
use crate::wire::Order;
use crate::{MountKind, Secret};

/// Makes the files of the job's mounts: those with secrets, and the sockets' owners.
pub(crate) fn files(order: &Order, secrets: &[Secret]) -> Result<(), Failure> {
    let is_secret = |kind: &MountKind| matches!(kind, MountKind::Secret { .. });
    if order.job.mounts.iter().any(|mount| is_secret(&mount.kind)) {
        in_memory(&order.secrets)?;
    }
    for (place, mount) in order.job.mounts.iter().enumerate() {
        let path = order.secrets.join(place.to_string());
        let made = match &mount.kind {
            MountKind::Secret { number, mode, uid, gid } => {
                let value = secrets.get(*number).map_or(&[][..], Secret::expose);
                secret_file(&path, value, (*uid, *gid), *mode)
            }
            MountKind::Socket { source, mode, uid, gid } => socket(source, (*uid, *gid), *mode),
            MountKind::Bind { .. } | MountKind::Tmpfs { .. } => Ok(()),
        };
        made.map_err(failed(&format!("make the mount at `{}`", mount.target)))?;
    }
    Ok(())
}

fn secret_file(path: &Path, value: &[u8], owner: (u32, u32), mode: u32) -> io::Result<()> {
    let mut file = File::options().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(value)?;
    fchown(&file, Some(Uid::from_raw(owner.0)), Some(Gid::from_raw(owner.1)))?;
    Ok(fchmod(&file, Mode::from_raw_mode(mode))?)
}

fn socket(path: &Path, owner: (u32, u32), mode: u32) -> io::Result<()> {
    chown(path, Some(Uid::from_raw(owner.0)), Some(Gid::from_raw(owner.1)))?;
    Ok(chmod(path, Mode::from_raw_mode(mode))?)
}

/// Adds variables with secrets to the configuration of a runtime that is a program. It and what
/// the runtime makes of it (crun keeps a copy) are in memory only.
pub(crate) fn environment(order: &Order, secrets: &[Secret]) -> Result<(), Failure> {
    if order.job.secret_env.is_empty() {
        return Ok(());
    }
    let path = order.bundle.join("config.json");
    let text = std::fs::read(&path).map_err(failed("read the runtime's configuration"))?;
    let mut config: Value =
        serde_json::from_slice(&text).map_err(failed("read the runtime's configuration"))?;
    let env = config.pointer_mut("/process/env").and_then(Value::as_array_mut);
    let env = env.ok_or_else(|| "the runtime's configuration has no environment".to_owned())?;
    for (name, number) in &order.job.secret_env {
        let value = secrets.get(*number).map_or(&[][..], Secret::expose);
        let value = std::str::from_utf8(value).map_err(|_| {
            format!("the secret in `{name}` is not UTF-8, as this runtime needs it")
        })?;
        let is_same = |known: &Value| {
            known.as_str().and_then(|text| text.split_once('=')).is_some_and(|(of, _)| of == name)
        };
        env.retain(|known| !is_same(known));
        env.push(json!(format!("{name}={value}")));
    }
    in_memory(&order.bundle)?;
    in_memory(&order.state)?;
    let text = serde_json::to_vec(&config).map_err(failed("write the runtime's configuration"))?;
    std::fs::write(&path, text).map_err(failed("write the runtime's configuration"))
}

/// Covers a directory with memory, which is kept off the swap where the kernel can do that.
fn in_memory(directory: &Path) -> Result<(), Failure> {
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    let cover = |options| mount("tmpfs", directory, "tmpfs", flags, Some(options));
    // `noswap` is there since Linux 6.4, and not for everybody.
    cover(c"mode=0700,noswap")
        .or_else(|_| cover(c"mode=0700"))
        .map_err(failed(&format!("cover `{}` with memory", directory.display())))
}
