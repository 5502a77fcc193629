//! `strata images`: the images in the store. The JSON has Docker's names and one object a line.

use serde_json::json;
use strata_build::{NamedImage, StoredImage};

use super::table;
use crate::arguments::{Format, ImagesArguments};
use crate::failure::Failure;
use crate::printer::Printer;
use crate::session::Session;
use crate::settings::Settings;
use crate::words::amount;
use crate::words::build_error;

pub(super) fn run(
    arguments: &ImagesArguments,
    settings: Settings,
    printer: &Printer,
) -> Result<u8, Failure> {
    let session = Session::open(settings, printer)?;
    let images = session.images().list().map_err(|error| build_error::plain(&error))?;
    match arguments.format {
        Format::Table => printer.data(&rows(&images)),
        Format::Json => images.iter().for_each(|image| printer.data(&object(image))),
    }
    Ok(0)
}

/// Bytes of all layers, uncompressed.
pub(super) fn size(image: &StoredImage) -> u64 {
    image.layers.iter().map(|layer| layer.bytes).sum()
}

/// `docker.io/library/node:18` → `node` and `18`.
fn repository_and_tag(named: &NamedImage) -> (String, String) {
    let familiar = named.name.familiar();
    let tag = named.name.tag.clone();
    let name = familiar.split('@').next().unwrap_or(&familiar);
    let name = tag.as_ref().and_then(|tag| name.strip_suffix(&format!(":{tag}"))).unwrap_or(name);
    (name.to_owned(), tag.unwrap_or_else(|| "<none>".to_owned()))
}

fn rows(images: &[NamedImage]) -> String {
    let header = ["REPOSITORY", "TAG", "IMAGE ID", "PLATFORM", "CREATED", "SIZE"];
    let row = |named: &NamedImage| {
        let (repository, tag) = repository_and_tag(named);
        let created = named.image.config.created.clone();
        let created =
            created.map_or_else(|| "-".to_owned(), |time| time.chars().take(19).collect());
        let (id, platform) = (named.image.id.short(), named.platform.to_string());
        vec![repository, tag, id, platform, created, amount::bytes(size(&named.image))]
    };
    let header = header.map(str::to_owned).to_vec();
    table::draw(&std::iter::once(header).chain(images.iter().map(row)).collect::<Vec<_>>())
}

fn object(named: &NamedImage) -> String {
    let (repository, tag) = repository_and_tag(named);
    json!({
        "Repository": repository, "Tag": tag, "ID": named.image.id.to_string(),
        "Platform": named.platform.to_string(), "CreatedAt": named.image.config.created,
        "Size": amount::bytes(size(&named.image)), "SizeBytes": size(&named.image),
    })
    .to_string()
}
