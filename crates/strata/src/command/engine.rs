//! `--load`: an image into the Docker or Podman that runs here. Docker's own store is asked which
//! layers it has, and gets only the others; other stores get the whole image.

use std::io::{BufWriter, Write};
use std::process::{Command, Stdio};

use strata_build::{Packing, StoredImage};
use strata_oci::{Compression, Digest, Reference};

use crate::failure::{Failure, Kind, plain};
use crate::session::Session;
use crate::words::build_error;

/// The programs, in the order in which they are looked for.
const PROGRAMS: [&str; 2] = ["docker", "podman"];
/// So many of Docker's images are compared with.
const MOST_IMAGES: usize = 2000;

/// Loads images under their names; says into what.
pub(super) fn load(
    session: &Session,
    images: &[StoredImage],
    names: &[Reference],
    packing: &Packing,
) -> Result<String, Failure> {
    let [image] = images else {
        let platforms = images.len();
        return Err(Failure::usage(format!(
            "`--load` takes an image for one platform, and this one has {platforms}"
        )));
    };
    // Whoever loads it unpacks it at once: compressing it would help nobody.
    let packing = Packing { compression: Compression::None, level: None, ..packing.clone() };
    let engine = find()?;
    let known = if engine == "docker" { layers_in_docker(image) } else { 0 };
    if known > 0 {
        let delta =
            |out: &mut dyn Write| session.images().save_delta(image, names, &packing, known, out);
        if feed(engine, delta).is_ok() {
            return Ok(format!(
                "{engine}: {} of {} layers",
                image.layers.len() - known,
                image.layers.len()
            ));
        }
    }
    let all = [(image.clone(), names.to_vec())];
    feed(engine, |out| session.images().save(&all, &packing, out))?;
    Ok(format!("{engine}: all {} layers", image.layers.len()))
}

fn find() -> Result<&'static str, Failure> {
    let answers = |program: &&str| {
        let format =
            if *program == "docker" { "{{.Server.Version}}" } else { "{{.Client.Version}}" };
        output(program, &["version", "--format", format]).is_some()
    };
    PROGRAMS.into_iter().find(answers).ok_or_else(|| {
        Failure::environment("neither Docker nor Podman answers here, so nothing can be loaded")
            .hint(
                "`-o type=docker,dest=FILE` writes what `docker load -i` and `podman load -i` take",
            )
    })
}

/// What a program says, if it succeeds.
fn output(program: &str, arguments: &[&str]) -> Option<String> {
    let mut command = Command::new(program);
    let output = command.args(arguments).stdin(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// How many of the image's lowest layers Docker has, one on top of the other. None, where its
/// images lie in containerd: what is loaded there has to be whole.
fn layers_in_docker(image: &StoredImage) -> usize {
    let Some(status) = output("docker", &["info", "--format", "{{json .DriverStatus}}"]) else {
        return 0;
    };
    if status.contains("io.containerd") {
        return 0;
    }
    let Some(ids) = output("docker", &["image", "ls", "-q", "--no-trunc"]) else { return 0 };
    let mut ids: Vec<&str> = ids.split_whitespace().take(MOST_IMAGES).collect();
    ids.sort_unstable();
    ids.dedup();
    if ids.is_empty() {
        return 0;
    }
    let question = ["image", "inspect", "--format", "{{json .RootFS.Layers}}"];
    let Some(answer) = output("docker", &[&question[..], &ids].concat()) else { return 0 };
    let wanted: Vec<Digest> = image.config.rootfs.diff_ids.clone();
    let common = |line: &str| {
        let layers: Vec<Digest> = serde_json::from_str(line).unwrap_or_default();
        layers.iter().zip(&wanted).take_while(|(there, wanted)| there == wanted).count()
    };
    answer.lines().map(common).max().unwrap_or(0)
}

/// Writes an archive into `PROGRAM load`.
fn feed(
    program: &str,
    write: impl FnOnce(&mut dyn Write) -> Result<(), strata_build::BuildError>,
) -> Result<(), Failure> {
    let refused = |error: &std::io::Error| {
        Failure::environment(format!("`{program} load` can not be run: {}", plain(error)))
    };
    let mut child = Command::new(program)
        .arg("load")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| refused(&error))?;
    let written = child.stdin.take().map(|stdin| {
        let mut out = BufWriter::with_capacity(1 << 18, stdin);
        let written = write(&mut out);
        let flushed = out.flush();
        (written, flushed)
    });
    let output = child.wait_with_output().map_err(|error| refused(&error))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let said = said.trim().lines().last().unwrap_or("it says nothing").to_owned();
        return Err(Failure::new(Kind::Environment, format!("`{program} load` fails: {said}")));
    }
    match written {
        Some((Err(error), _)) => Err(build_error::plain(&error)),
        Some((Ok(()), Err(error))) => Err(refused(&error)),
        _ => Ok(()),
    }
}
