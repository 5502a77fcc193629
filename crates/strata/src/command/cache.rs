//! `strata cache`: cache mounts, listed, exported, imported and removed.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;
use std::time::{Duration, SystemTime};

use serde_json::json;
use strata_build::{CacheArchiveError, CacheEntry, Caches, Removed};

use super::table;
use crate::arguments::{CacheArguments, CacheCommand, Format};
use crate::failure::{Failure, Kind};
use crate::printer::Printer;
use crate::session::Session;
use crate::settings::Settings;
use crate::words::{amount, lower_errors};

pub(super) fn run(
    arguments: &CacheArguments,
    settings: Settings,
    printer: &Printer,
) -> Result<u8, Failure> {
    let session = Session::open(settings, printer)?;
    let caches = session.caches();
    match &arguments.command {
        CacheCommand::Ls { format } => list(&caches, *format, printer),
        CacheCommand::Export { ids, output } => export(&caches, ids, output, printer),
        CacheCommand::Import { file, id, replace } => {
            import(&caches, file, id.as_deref(), *replace, printer)
        }
        CacheCommand::Rm { ids, all } => remove(&caches, ids, *all, printer),
    }
}

fn all(caches: &Caches) -> Result<Vec<CacheEntry>, Failure> {
    caches.list().map_err(|error| lower_errors::store(&error))
}

fn list(caches: &Caches, format: Format, printer: &Printer) -> Result<u8, Failure> {
    let entries = all(caches)?;
    match format {
        Format::Table => printer.data(&rows(&entries)),
        Format::Json => entries.iter().for_each(|entry| printer.data(&object(entry))),
    }
    Ok(0)
}

/// The key as people type it: as much of it as tells caches apart.
fn short(entry: &CacheEntry) -> String {
    let (hash, slot) = entry.key.split_once('.').unwrap_or((&entry.key, "0"));
    format!("{}.{slot}", &hash[..hash.len().min(12)])
}

fn rows(entries: &[CacheEntry]) -> String {
    let header = ["ID", "KEY", "SIZE", "ENTRIES", "LAST USED", "OWNER", "STATE"];
    let row = |entry: &CacheEntry| {
        let name = &entry.name;
        let used = Duration::from_secs(entry.last_used);
        let state = if entry.in_use { "in use" } else { "free" };
        vec![
            name.id.clone(),
            short(entry),
            amount::bytes(entry.bytes),
            entry.entries.to_string(),
            amount::ago(SystemTime::UNIX_EPOCH + used),
            format!("{}:{} {:o}", name.uid, name.gid, name.mode),
            state.to_owned(),
        ]
    };
    let header = header.map(str::to_owned).to_vec();
    table::draw(&std::iter::once(header).chain(entries.iter().map(row)).collect::<Vec<_>>())
}

fn object(entry: &CacheEntry) -> String {
    let CacheEntry { name, key, bytes, entries, last_used, in_use } = entry;
    json!({
        "ID": name.id, "Key": key, "Size": amount::bytes(*bytes), "SizeBytes": bytes,
        "Entries": entries, "LastUsed": last_used, "InUse": in_use,
        "Mode": format!("{:o}", name.mode), "UID": name.uid, "GID": name.gid, "Seed": name.seed,
    })
    .to_string()
}

/// The caches that are meant, by id or by the beginning of a key.
fn meant(entries: &[CacheEntry], ids: &[String]) -> Result<Vec<CacheEntry>, Failure> {
    let mut found: Vec<CacheEntry> = Vec::new();
    for id in ids {
        let is_meant =
            |entry: &&CacheEntry| entry.name.id == *id || entry.key == *id || short(entry) == *id;
        let before = found.len();
        found.extend(entries.iter().filter(is_meant).cloned());
        if found.len() == before {
            return Err(no_cache(id, entries));
        }
    }
    found.sort_by(|a, b| a.key.cmp(&b.key));
    found.dedup();
    Ok(found)
}

fn no_cache(id: &str, entries: &[CacheEntry]) -> Failure {
    let failure = Failure::new(Kind::Build, format!("there is no cache mount `{id}`"));
    let names = entries.iter().map(|entry| entry.name.id.as_str());
    match strata_dockerfile::suggest(id, names) {
        Some(close) => failure.hint(format!("did you mean `{close}`?")),
        None => failure.hint("see `strata cache ls`"),
    }
}

fn export(
    caches: &Caches,
    ids: &[String],
    output: &Path,
    printer: &Printer,
) -> Result<u8, Failure> {
    let entries = all(caches)?;
    let chosen = if ids.is_empty() { entries } else { meant(&entries, ids)? };
    let keys: Vec<String> = chosen.iter().map(|entry| entry.key.clone()).collect();
    let failed = |error: &io::Error| Failure::file("write", output, error);
    if output == Path::new("-") {
        let mut out = io::BufWriter::new(io::stdout().lock());
        caches.export(&keys, &mut out).map_err(|error| words(&error))?;
        out.flush().map_err(|error| failed(&error))?;
    } else {
        // Beside it first: a file of that name is never half an archive.
        let mut part = output.as_os_str().to_owned();
        part.push(".part");
        let written = write(caches, &keys, output, Path::new(&part));
        let kept =
            written.and_then(|()| std::fs::rename(&part, output).map_err(|error| failed(&error)));
        if kept.is_err() {
            drop(std::fs::remove_file(&part));
        }
        kept?;
    }
    let bytes = amount::bytes(chosen.iter().map(|entry| entry.bytes).sum());
    printer.talk(&format!("exported {}, {bytes}", amount::counted(keys.len(), "cache mount")));
    Ok(0)
}

fn write(caches: &Caches, keys: &[String], output: &Path, part: &Path) -> Result<(), Failure> {
    let failed = |error: io::Error| Failure::file("write", output, &error);
    let mut file = io::BufWriter::new(File::create(part).map_err(failed)?);
    if output.extension().is_some_and(|extension| extension == "zst") {
        let mut encoder = zstd::Encoder::new(&mut file, 0).map_err(failed)?;
        caches.export(keys, &mut encoder).map_err(|error| words(&error))?;
        encoder.finish().map_err(failed)?;
    } else {
        caches.export(keys, &mut file).map_err(|error| words(&error))?;
    }
    file.flush().map_err(failed)
}

fn import(
    caches: &Caches,
    file: &Path,
    id: Option<&str>,
    replace: bool,
    printer: &Printer,
) -> Result<u8, Failure> {
    let source: Box<dyn Read> = if file == Path::new("-") {
        Box::new(io::stdin().lock())
    } else {
        let opened = File::open(file).map_err(|error| Failure::file("read", file, &error))?;
        Box::new(io::BufReader::new(opened))
    };
    let names = caches.import(source, id, replace).map_err(|error| words(&error))?;
    for name in names {
        printer.data(&format!("imported {}", name.id));
    }
    Ok(0)
}

fn remove(caches: &Caches, ids: &[String], every: bool, printer: &Printer) -> Result<u8, Failure> {
    let entries = all(caches)?;
    let chosen = if every { entries } else { meant(&entries, ids)? };
    let mut in_use = None;
    for entry in &chosen {
        let removed = caches.remove(&entry.key).map_err(|error| lower_errors::store(&error))?;
        match removed {
            Removed::Done => printer.data(&format!("removed {}", entry.name.id)),
            Removed::Missing => {}
            Removed::InUse => in_use = Some(&entry.name.id),
        }
    }
    match in_use {
        Some(id) => Err(words(&CacheArchiveError::InUse { id: id.clone() })),
        None => Ok(0),
    }
}

fn words(error: &CacheArchiveError) -> Failure {
    let text = lower_errors::chain(error);
    match error {
        CacheArchiveError::InUse { .. } => {
            Failure::new(Kind::Environment, text).hint("try again when that build has ended")
        }
        CacheArchiveError::Exists { .. } => {
            Failure::usage(text).hint("`--replace` throws away what is in it")
        }
        CacheArchiveError::NoName => Failure::usage(text).hint("name it with `--id`"),
        CacheArchiveError::HasNames => Failure::usage(text).hint("leave `--id` out"),
        CacheArchiveError::Entry { .. } | CacheArchiveError::Names(_) => {
            Failure::new(Kind::Build, text)
        }
        CacheArchiveError::Io { source, .. } => lower_errors::io(error, source),
        CacheArchiveError::Caches(error) => lower_errors::store(error),
    }
}
