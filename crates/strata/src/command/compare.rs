//! `strata diff`: how two images differ, in words or as JSON. Exit code 0 means that they do not, 1
//! that they do, as with `diff`.

use serde_json::{Value, json};
use strata_build::{FieldChange, ImageDifference, LayerChange, PathChange, PathChangeKind};

use crate::arguments::{DiffArguments, Format};
use crate::environment::Environment;
use crate::failure::Failure;
use crate::printer::Printer;
use crate::request;
use crate::session::Session;
use crate::settings::Settings;
use crate::words::amount::counted;
use crate::words::build_error;

/// What two different images end with.
const DIFFERENT: u8 = 1;

pub(super) fn run(
    arguments: &DiffArguments,
    settings: Settings,
    environment: &Environment,
    printer: &Printer,
) -> Result<u8, Failure> {
    let platform = request::platform(arguments.platform.as_deref(), environment)?;
    let session = Session::open(settings, printer)?;
    let old = session.image(&arguments.old, &platform)?;
    let new = session.image(&arguments.new, &platform)?;
    let difference = session.images().compare(&old, &new);
    let difference = difference.map_err(|error| build_error::plain(&error))?;
    match arguments.format {
        Format::Json => printer.data(&format!("{:#}", object(&difference))),
        Format::Table if difference.is_empty() => {
            printer.data(&format!("the images are the same: {}", old.id));
        }
        Format::Table => printer.data(&text(&difference, arguments.all)),
    }
    Ok(if old.id == new.id { 0 } else { DIFFERENT })
}

/// So many paths are shown; `--all` shows the rest.
const SHOWN_PATHS: usize = 50;

fn text(difference: &ImageDifference, all: bool) -> String {
    let mut lines = Vec::new();
    let count = difference.config.len();
    if count > 0 {
        lines.push(format!("config: {}", differing(count, "field")));
        lines.extend(difference.config.iter().map(|change| format!("  {}", field(change))));
    }
    if !difference.layers.is_empty() {
        let (count, common) = (difference.layers.len(), difference.common_layers);
        let same = if common == 1 { "the lowest one is" } else { "the lowest are" };
        let same = match common {
            0 => "none below them is the same".to_owned(),
            common => format!("{same} the same: {common}"),
        };
        lines.push(format!("layers: {}, {same}", differing(count, "layer")));
        lines.extend(difference.layers.iter().map(|change| format!("  {}", layer(change))));
    }
    if !difference.paths.is_empty() {
        let count = difference.paths.len();
        lines.push(format!("files: {}", differing(count, "path")));
        let shown = if all { count } else { SHOWN_PATHS };
        lines.extend(
            difference.paths.iter().take(shown).map(|change| format!("  {}", path(change))),
        );
        if count > shown {
            lines.push(format!("  and {} more, which `--all` shows", count - shown));
        }
    }
    lines.join("\n")
}

fn differing(count: usize, what: &str) -> String {
    let verb = if count == 1 { "differs" } else { "differ" };
    format!("{} {verb}", counted(count, what))
}

fn field(change: &FieldChange) -> String {
    let name = &change.field;
    match (&change.old, &change.new) {
        (Some(old), Some(new)) => format!("{name}: {old} became {new}"),
        (None, Some(new)) => format!("{name}: {new} is new"),
        (Some(old), None) => format!("{name}: {old} is gone"),
        (None, None) => name.clone(),
    }
}

fn layer(change: &LayerChange) -> String {
    let place = change.place + 1;
    match (&change.old, &change.new) {
        (Some(old), Some(new)) => {
            let times = if change.only_times { ", only in times" } else { "" };
            format!("layer {place}: {} became {}{times}", old.short(), new.short())
        }
        (None, Some(new)) => format!("layer {place}: {} is new", new.short()),
        (Some(old), None) => format!("layer {place}: {} is gone", old.short()),
        (None, None) => format!("layer {place}"),
    }
}

fn path(change: &PathChange) -> String {
    let kinds: Vec<String> = change.kinds.iter().map(kind).collect();
    format!("/{}: {}", change.path, kinds.join(", "))
}

fn kind(kind: &PathChangeKind) -> String {
    match kind {
        PathChangeKind::Added => "is new".to_owned(),
        PathChangeKind::Removed => "is gone".to_owned(),
        PathChangeKind::Type(old, new) => format!("{old} became {new}"),
        PathChangeKind::Content(old, new) if old == new => {
            format!("other content of the same size, {old} bytes")
        }
        PathChangeKind::Content(old, new) => format!("other content, {old} bytes became {new}"),
        PathChangeKind::Target(old, new) => format!("link to `{old}` became `{new}`"),
        PathChangeKind::Mode(old, new) => format!("mode {old:o} became {new:o}"),
        PathChangeKind::Owner(old, new) => {
            format!("owner {}:{} became {}:{}", old.0, old.1, new.0, new.1)
        }
        PathChangeKind::Attributes => "other extended attributes".to_owned(),
        PathChangeKind::Time(old, new) => format!("time {old} became {new}"),
    }
}

fn object(difference: &ImageDifference) -> Value {
    let field =
        |change: &FieldChange| json!({"field": change.field, "old": change.old, "new": change.new});
    let layer = |change: &LayerChange| {
        let text = |digest: &Option<strata_oci::Digest>| digest.map(|digest| digest.to_string());
        json!({
            "layer": change.place + 1, "old": text(&change.old), "new": text(&change.new),
            "only_times": change.only_times,
        })
    };
    let path = |change: &PathChange| {
        let kinds: Vec<Value> = change.kinds.iter().map(kind_object).collect();
        json!({"path": format!("/{}", change.path), "changes": kinds})
    };
    json!({
        "config": difference.config.iter().map(field).collect::<Vec<_>>(),
        "common_layers": difference.common_layers,
        "layers": difference.layers.iter().map(layer).collect::<Vec<_>>(),
        "files": difference.paths.iter().map(path).collect::<Vec<_>>(),
    })
}

fn kind_object(kind: &PathChangeKind) -> Value {
    let octal = |mode: &u32| format!("{mode:o}");
    let owner = |owner: &(u32, u32)| format!("{}:{}", owner.0, owner.1);
    match kind {
        PathChangeKind::Added => json!({"what": "added"}),
        PathChangeKind::Removed => json!({"what": "removed"}),
        PathChangeKind::Type(old, new) => json!({"what": "type", "old": old, "new": new}),
        PathChangeKind::Content(old, new) => {
            json!({"what": "content", "old_bytes": old, "new_bytes": new})
        }
        PathChangeKind::Target(old, new) => json!({"what": "target", "old": old, "new": new}),
        PathChangeKind::Mode(old, new) => {
            json!({"what": "mode", "old": octal(old), "new": octal(new)})
        }
        PathChangeKind::Owner(old, new) => {
            json!({"what": "owner", "old": owner(old), "new": owner(new)})
        }
        PathChangeKind::Attributes => json!({"what": "attributes"}),
        PathChangeKind::Time(old, new) => json!({"what": "time", "old": old, "new": new}),
    }
}
