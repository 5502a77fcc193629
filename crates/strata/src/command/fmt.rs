//! `strata fmt`: Dockerfiles as they should look, with the meaning that they have.

use std::io::{Read, Write};
use std::path::Path;

use super::diff;
use crate::arguments::FmtArguments;
use crate::failure::{EXIT_BUILD, Failure, Kind};
use crate::printer::Printer;
use crate::request::Dockerfile;
use crate::words::build_error;

pub(super) fn run(arguments: &FmtArguments, printer: &Printer) -> Result<u8, Failure> {
    let mut unformatted = 0;
    for file in &arguments.files {
        let (shown, source) = read(file)?;
        let formatted = formatted(&shown, &source)?;
        let differs = formatted != source;
        unformatted += usize::from(differs);
        if arguments.diff && differs {
            printer.bytes(diff::unified(&shown, &source, &formatted).as_bytes());
        } else if arguments.check && differs {
            printer.data(&shown);
        }
        let writes = !arguments.check && !arguments.diff;
        match file.as_os_str() == "-" {
            true if writes => printer.bytes(&formatted),
            false if writes && differs => replace(file, &formatted)?,
            _ => {}
        }
    }
    let fails = (arguments.check || arguments.diff) && unformatted > 0;
    Ok(if fails { EXIT_BUILD } else { 0 })
}

fn read(file: &Path) -> Result<(String, Vec<u8>), Failure> {
    if file.as_os_str() != "-" {
        let source = std::fs::read(file);
        let source = source.map_err(|error| Failure::file("read the Dockerfile", file, &error))?;
        return Ok((file.display().to_string(), source));
    }
    let mut source = Vec::new();
    let read = std::io::stdin().lock().read_to_end(&mut source);
    read.map_err(|error| Failure::file("read", file, &error))?;
    Ok(("<stdin>".to_owned(), source))
}

/// A file that can not be read has no form.
fn formatted(shown: &str, source: &[u8]) -> Result<Vec<u8>, Failure> {
    let parse = strata_dockerfile::parse(source);
    let wrong = build_error::wrong(&parse.diagnostics);
    let Some(first) = wrong.first() else { return Ok(strata_dockerfile::format(&parse.tree)) };
    let (shown, bytes) = (shown.to_owned(), source.to_vec());
    let dockerfile = Dockerfile { shown, bytes, path: None };
    Err(Failure::new(Kind::Build, first.message.clone()).at(&dockerfile, wrong))
}

/// Puts other bytes in a file's place at once, so that it is never half written.
pub(super) fn replace(file: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let failed = |error: std::io::Error| Failure::file("write", file, &error);
    // A link stays one: its target is what is written.
    let target = std::fs::canonicalize(file).map_err(failed)?;
    let mut name = target.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.tmp", std::process::id()));
    let beside = target.with_file_name(name);
    let written = std::fs::File::create(&beside).and_then(|mut new| {
        new.write_all(bytes)?;
        new.set_permissions(std::fs::metadata(&target)?.permissions())?;
        std::fs::rename(&beside, &target)
    });
    written.map_err(|error| {
        drop(std::fs::remove_file(&beside));
        failed(error)
    })
}
