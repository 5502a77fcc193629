//! `strata fsck`: looks for damage in the store, names it, and mends it when asked to.

use std::time::Duration;

use serde_json::{Value, json};
use strata_build::ImageLinks;
use strata_cas::StoreError;
use strata_store::{Checkup, Damage, DiskStore, OpenError, OpenOptions};

use super::table;
use crate::arguments::{Format, FsckArguments};
use crate::failure::{EXIT_BUILD, Failure};
use crate::printer::Printer;
use crate::settings::Settings;
use crate::words::{amount, lower_errors};

/// So long a process is waited for that opens or closes the database.
const WAIT_LIMIT: Duration = Duration::from_secs(60);

pub(super) fn run(
    arguments: &FsckArguments,
    settings: Settings,
    printer: &Printer,
) -> Result<u8, Failure> {
    let checkup = check(arguments, &settings)?;
    match arguments.format {
        Format::Table => printer.data(&rows(&checkup)),
        Format::Json => printer.data(&object(&checkup).to_string()),
    }
    // As fsck(8): nothing is left wrong, or something is.
    let is_left = checkup.damages.iter().any(|damage| !damage.is_mended);
    Ok(if is_left { EXIT_BUILD } else { 0 })
}

fn check(arguments: &FsckArguments, settings: &Settings) -> Result<Checkup, Failure> {
    let options = || OpenOptions { wait_limit: WAIT_LIMIT, ..OpenOptions::default() };
    let look = || -> Result<Checkup, Trouble> {
        let store = DiskStore::open(&settings.store, options()).map_err(Trouble::Open)?;
        store.check(&ImageLinks, arguments.repair).map_err(Trouble::Check)
    };
    let worded = |trouble: Trouble| match trouble {
        Trouble::Open(error) => lower_errors::open(&error),
        Trouble::Check(error) => lower_errors::store(&error),
    };
    let problem = match look() {
        Ok(checkup) => return Ok(checkup),
        Err(Trouble::Open(OpenError::Damaged { message, .. })) => message,
        Err(Trouble::Check(StoreError::Database { message, .. })) => message,
        Err(trouble) => return Err(worded(trouble)),
    };
    if !arguments.repair {
        let what = settings.store.display().to_string();
        let damage = Damage { kind: "database", what, problem, is_mended: false };
        return Ok(Checkup { damages: vec![damage], ..Checkup::default() });
    }
    let mended = strata_store::mend_database(&settings.store, &problem, &options());
    let mended = mended.map_err(|error| lower_errors::open(&error))?;
    let mut checkup = look().map_err(worded)?;
    checkup.damages.insert(0, mended);
    Ok(checkup)
}

/// What keeps a store from being looked at.
enum Trouble {
    Open(OpenError),
    Check(StoreError),
}

fn rows(checkup: &Checkup) -> String {
    let looked: Vec<String> =
        checkup.checked.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
    let looked = format!("looked at {}", looked.join(", "));
    if checkup.damages.is_empty() {
        return format!("{looked}: all is well");
    }
    let header = ["KIND", "WHAT", "DAMAGE", "MENDED"].map(str::to_owned).to_vec();
    let row = |damage: &Damage| {
        let mended = if damage.is_mended { "yes" } else { "no" };
        vec![damage.kind.to_owned(), damage.what.clone(), damage.problem.clone(), mended.to_owned()]
    };
    let rows: Vec<Vec<String>> =
        std::iter::once(header).chain(checkup.damages.iter().map(row)).collect();
    let count = amount::counted(checkup.damages.len(), "damage");
    let mended = checkup.damages.iter().all(|damage| damage.is_mended);
    let end = if mended { "mended" } else { "found: `strata fsck --repair` mends it" };
    format!("{}\n\n{looked}: {count} {end}", table::draw(&rows))
}

fn object(checkup: &Checkup) -> Value {
    let damages = checkup.damages.iter().map(|damage| {
        json!({
            "kind": damage.kind, "what": damage.what, "problem": damage.problem,
            "mended": damage.is_mended,
        })
    });
    json!({"checked": checkup.checked, "damages": damages.collect::<Vec<_>>()})
}
