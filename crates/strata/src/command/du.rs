//! `strata du`: what takes how much in the store, by kind, by project and by image.

use serde_json::{Value, json};
use strata_build::ImageLinks;
use strata_store::{Share, Usage};

use super::table;
use crate::arguments::{DuArguments, Format};
use crate::failure::Failure;
use crate::printer::Printer;
use crate::session::Session;
use crate::settings::Settings;
use crate::words::{amount, lower_errors};

pub(super) fn run(
    arguments: &DuArguments,
    settings: Settings,
    printer: &Printer,
) -> Result<u8, Failure> {
    let session = Session::open(settings, printer)?;
    let usage = session.store().usage(&ImageLinks);
    let usage = usage.map_err(|error| lower_errors::store(&error))?;
    match arguments.format {
        Format::Table => printer.data(&rows(&usage)),
        Format::Json => printer.data(&object(&usage).to_string()),
    }
    Ok(0)
}

fn rows(usage: &Usage) -> String {
    let cells = |cells: &[&str]| cells.iter().map(|cell| (*cell).to_owned()).collect::<Vec<_>>();
    let mut kinds = vec![cells(&["KIND", "COUNT", "SIZE"])];
    for (kind, amount) in &usage.kinds {
        kinds.push(vec![(*kind).to_owned(), amount.count.to_string(), amount::bytes(amount.bytes)]);
    }
    let mut projects = vec![cells(&["PROJECT", "STEPS", "OWN", "SHARED", "LAST BUILD"])];
    for share in &usage.projects {
        let built = share.last_build.map_or_else(|| "-".to_owned(), amount::day);
        let (name, records) = (share.name.clone(), share.records.to_string());
        let (own, shared) = (amount::bytes(share.own_bytes), amount::bytes(share.shared_bytes));
        projects.push(vec![name, records, own, shared, built]);
    }
    let mut images = vec![cells(&["IMAGE", "OWN", "SHARED"])];
    for share in &usage.names {
        let (own, shared) = (amount::bytes(share.own_bytes), amount::bytes(share.shared_bytes));
        images.push(vec![familiar(&share.name), own, shared]);
    }
    let tables = [kinds, projects, images].map(|rows| table::draw(&rows)).join("\n\n");
    let (total, free) = (amount::bytes(usage.total_bytes), amount::bytes(usage.reclaimable_bytes));
    format!("{tables}\n\ntotal {total}, of which `strata prune` frees about {free}")
}

/// A name as people write it.
fn familiar(name: &str) -> String {
    name.parse::<strata_oci::Reference>().map_or_else(|_| name.to_owned(), |name| name.familiar())
}

fn object(usage: &Usage) -> Value {
    let kinds: Vec<Value> = usage
        .kinds
        .iter()
        .map(|(kind, amount)| json!({"kind": kind, "count": amount.count, "bytes": amount.bytes}))
        .collect();
    let project = |share: &Share| {
        json!({
            "project": share.name, "steps": share.records, "own_bytes": share.own_bytes,
            "shared_bytes": share.shared_bytes, "last_build": share.last_build,
        })
    };
    let image = |share: &Share| {
        json!({
            "image": familiar(&share.name), "own_bytes": share.own_bytes,
            "shared_bytes": share.shared_bytes,
        })
    };
    json!({
        "total_bytes": usage.total_bytes,
        "reclaimable_bytes": usage.reclaimable_bytes,
        "kinds": kinds,
        "projects": usage.projects.iter().map(project).collect::<Vec<_>>(),
        "images": usage.names.iter().map(image).collect::<Vec<_>>(),
    })
}
