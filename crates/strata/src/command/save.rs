//! `strata save`: images of the store as an archive or a layout.

use std::io::{BufWriter, IsTerminal, Write};

use strata_build::{Export, ExportDest, ExportKind, Packing, StoredImage};
use strata_oci::Reference;

use super::{attest, deliver};
use crate::arguments::SaveArguments;
use crate::environment::Environment;
use crate::failure::Failure;
use crate::printer::Printer;
use crate::request;
use crate::session::Session;
use crate::settings::Settings;
use crate::words::build_error;

pub(super) fn run(
    arguments: &SaveArguments,
    settings: Settings,
    environment: &Environment,
    printer: &Printer,
) -> Result<u8, Failure> {
    if arguments.output.is_none() && std::io::stdout().is_terminal() {
        return Err(Failure::usage("an archive is not for a terminal")
            .hint("write it to a file with `-o FILE`"));
    }
    let platform = arguments.platform.as_deref();
    let platform = platform.map(|text| request::platform(Some(text), environment)).transpose()?;
    let session = Session::open(settings, printer)?;
    let mut groups: Vec<(Vec<StoredImage>, Vec<Reference>)> = Vec::new();
    for text in &arguments.names {
        let (images, name) = deliver::of_name(&session, text, platform.as_ref())?;
        let name = name.filter(|name| images.iter().all(|_| name.digest.is_none()));
        let by_id = text.bytes().all(|byte| byte.is_ascii_hexdigit()) || text.contains("sha256:");
        let name = name.filter(|_| !by_id || is_name(&session, text));
        groups.push((images, name.into_iter().collect()));
    }
    let written = match arguments.format.as_str() {
        "docker-archive" => docker(&session, arguments, &groups),
        _ => oci(&session, arguments, &groups),
    };
    written.map(|()| 0)
}

/// Whether the text is a name in the store, and not the beginning of an id.
fn is_name(session: &Session, text: &str) -> bool {
    let name = text.parse::<Reference>().ok();
    name.is_some_and(|name| session.images().of_name(&name).is_ok_and(|found| !found.is_empty()))
}

/// Docker's archives have images for one platform each.
fn docker(
    session: &Session,
    arguments: &SaveArguments,
    groups: &[(Vec<StoredImage>, Vec<Reference>)],
) -> Result<(), Failure> {
    let mut images: Vec<(StoredImage, Vec<Reference>)> = Vec::new();
    for (group, names) in groups {
        let native = strata_oci::Platform::native();
        let serves = group.iter().find(|image| image.config.platform().serves(&native));
        let Some(image) = serves.or(group.first()) else { continue };
        match images.iter_mut().find(|(other, _)| other.id == image.id) {
            Some((_, known)) => known.extend(names.iter().cloned()),
            None => images.push((image.clone(), names.clone())),
        }
    }
    let (store, packing) = (session.images(), Packing::default());
    let plain = |error| build_error::plain(&error);
    match &arguments.output {
        Some(path) => store.save_file(&images, &packing, path).map_err(plain),
        None => {
            let mut out = BufWriter::with_capacity(1 << 18, std::io::stdout().lock());
            store.save(&images, &packing, &mut out).map_err(plain)?;
            out.flush().map_err(|error| {
                Failure::environment(format!(
                    "write to standard output: {}",
                    crate::failure::plain(&error)
                ))
            })
        }
    }
}

fn oci(
    session: &Session,
    arguments: &SaveArguments,
    groups: &[(Vec<StoredImage>, Vec<Reference>)],
) -> Result<(), Failure> {
    let directory = arguments.format == "oci-dir";
    let dest = match (&arguments.output, directory) {
        (Some(path), true) => ExportDest::Directory(path.clone()),
        (Some(path), false) => ExportDest::File(path.clone()),
        (None, false) => ExportDest::Stdout,
        (None, true) => return Err(Failure::usage("`--format oci-dir` needs `-o DIRECTORY`")),
    };
    if groups.len() > 1 && !directory {
        return Err(Failure::usage("an OCI archive is written for one image at a time")
            .hint("`--format oci-dir` and `--format docker-archive` take several"));
    }
    for (images, names) in groups {
        let export = Export {
            kind: ExportKind::Oci,
            dest: dest.clone(),
            packing: Packing::default(),
            epoch: None,
            mirror: false,
        };
        let attest = |image: &_, manifest: &_| attest::kept(session, names, image, manifest);
        let written = session.images().export(images, names, &export, &attest);
        written.map_err(|error| build_error::plain(&error))?;
    }
    Ok(())
}
