//! What becomes of an image that was built: files, a registry, an engine that runs here.

use strata_build::{BuildError, BuildReport, Images, Packed, Push, PushEvent, StoredImage};
use strata_oci::{Descriptor, Digest, ManifestBytes, Pushed, Reference};

use super::engine;
use crate::failure::Failure;
use crate::printer::{Label, Printer};
use crate::request::{ImageTarget, Output, Target};
use crate::session::Session;
use crate::signals::Watch;
use crate::words::{amount, build_error};

/// An image for one platform, as it was built.
pub(super) struct Built {
    pub(super) image: StoredImage,
    pub(super) report: BuildReport,
}

/// What deliveries work with.
#[derive(Clone, Copy)]
pub(super) struct Delivery<'a> {
    pub(super) session: &'a Session,
    pub(super) watch: &'a Watch,
    pub(super) printer: &'a Printer,
    /// Whether anything is said about it.
    pub(super) talks: bool,
    /// The names of `-t`.
    pub(super) names: &'a [Reference],
    /// `SOURCE_DATE_EPOCH`.
    pub(super) epoch: Option<i64>,
    /// What is said about each image.
    pub(super) attest: &'a strata_build::Attest<'a>,
    /// Keeps with an image what is said about it.
    pub(super) keep: &'a dyn Fn(&StoredImage) -> Result<(), BuildError>,
}

/// Why a delivery failed: in the build's terms, or in words already.
pub(super) enum NotDelivered {
    Build(BuildError),
    Failure(Failure),
}

impl From<BuildError> for NotDelivered {
    fn from(error: BuildError) -> Self {
        Self::Build(error)
    }
}

/// Says what is missing for an output, before anything is built.
pub(super) fn check(outputs: &[Output], names: &[Reference]) -> Result<(), Failure> {
    let is_nameless = |output: &&Output| match &output.target {
        Target::Image(image) => image.push && names.is_empty() && output.names.is_empty(),
        _ => false,
    };
    match outputs.iter().find(is_nameless) {
        Some(_) => Err(Failure::usage("an image that is pushed needs a name")
            .hint("`-t REGISTRY/NAME:TAG`, or `name=` in `-o`")),
        None => Ok(()),
    }
}

impl Delivery<'_> {
    /// Delivers to all outputs; gives what the first of them says that the image is, by its
    /// manifest or index, where one was made.
    pub(super) fn deliver(
        &self,
        outputs: &[Output],
        built: &[Built],
    ) -> Result<Option<Descriptor>, NotDelivered> {
        let mut described = None;
        if outputs.is_empty() || outputs.iter().any(Output::is_named) {
            built.iter().try_for_each(|built| (self.keep)(&built.image))?;
        }
        for output in outputs {
            let given = self.one(output, built)?;
            described = described.or(given);
        }
        Ok(described)
    }

    fn one(&self, output: &Output, built: &[Built]) -> Result<Option<Descriptor>, NotDelivered> {
        let session = self.session;
        let images = self.images(output, built)?;
        let names: Vec<Reference> = self.names.iter().chain(&output.names).cloned().collect();
        match &output.target {
            Target::Nothing => Ok(None),
            Target::Engine(packing) => {
                let into = engine::load(session, &images, &names, packing);
                let into = into.map_err(NotDelivered::Failure)?;
                self.say(&format!("loaded into {into}"));
                Ok(None)
            }
            Target::Export(export) => {
                let export = strata_build::Export { epoch: self.epoch, ..export.clone() };
                session.images().export(&images, &names, &export, self.attest)?;
                Ok(None)
            }
            Target::Image(target) => self.image(target, &images, &names, output),
        }
    }

    /// The images, with their times rewritten and their layers split where that is asked for.
    fn images(&self, output: &Output, built: &[Built]) -> Result<Vec<StoredImage>, BuildError> {
        let images = self.session.images();
        let epoch = self.epoch.filter(|_| output.rewrite);
        if output.rewrite && epoch.is_none() {
            let text = "`rewrite-timestamp` does nothing without `SOURCE_DATE_EPOCH`";
            self.printer.labelled(Label::Warning, text);
        }
        let ship = |built: &Built| {
            let (mut image, base) = (built.image.clone(), built.report.base_layers);
            if let Some(epoch) = epoch {
                image = images.clamp(&image, epoch, base)?;
            }
            if let Some(bytes) = output.split {
                image = images.split(&image, bytes, base)?;
            }
            if let Some(packing) = output.chunked() {
                image = images.in_chunks(&image, packing)?;
            }
            Ok(image)
        };
        built.iter().map(ship).collect()
    }

    fn image(
        &self,
        target: &ImageTarget,
        images: &[StoredImage],
        names: &[Reference],
        output: &Output,
    ) -> Result<Option<Descriptor>, NotDelivered> {
        let in_store = self.session.images();
        if target.store {
            let is_another = output.rewrite || output.split.is_some() || output.chunked;
            let fresh: &[Reference] = if is_another { names } else { &output.names };
            for (name, image) in fresh.iter().flat_map(|name| images.iter().map(move |i| (name, i)))
            {
                in_store.tag(image, name)?;
            }
            images.iter().try_for_each(self.keep)?;
        }
        if !target.push {
            return Ok(None);
        }
        let (printer, talks) = (self.printer, self.talks);
        let observe = |event: PushEvent<'_>| {
            if let Some(line) = line(&event).filter(|_| talks) {
                printer.talk(&line);
            }
        };
        let (registry, cancel) = (self.session.registry(), &self.watch.cancel);
        let mut packed: Option<Packed<'_>> = None;
        for name in names {
            let under = match target.by_digest {
                true => Reference { tag: None, digest: None, ..name.clone() },
                false => name.clone(),
            };
            self.say(&format!("pushing {}", name.familiar()));
            let push = Push { name: &under, registry, cancel, observe: &observe };
            let packed = match &mut packed {
                Some(packed) => packed,
                none => {
                    none.insert(in_store.pack_for(images, &target.packing, self.attest, &push)?)
                }
            };
            in_store.push(packed, &push)?;
        }
        Ok(packed.map(|packed| packed.described))
    }

    fn say(&self, text: &str) {
        if self.talks {
            self.printer.talk(text);
        }
    }
}

/// An event in words, where it is worth a line.
pub(super) fn line(event: &PushEvent<'_>) -> Option<String> {
    match event {
        PushEvent::Sending { .. } => None,
        PushEvent::Blob { blob, pushed } => {
            let how = match pushed {
                Pushed::Present => "is there already",
                Pushed::Mounted => "taken over from another repository",
                Pushed::Sent => "pushed",
            };
            Some(format!("{}: {how}, {}", blob.digest.short(), amount::bytes(blob.size)))
        }
        PushEvent::Named { name, digest, was_there: true } => {
            Some(format!("{} is there already, digest {digest}", name.familiar()))
        }
        PushEvent::Named { name, digest, was_there: false } => {
            Some(format!("{} has the digest {digest}", name.familiar()))
        }
    }
}

/// Nothing is said about an image.
pub(super) fn nothing_to_attest(
    _: &StoredImage,
    _: &ManifestBytes,
) -> Result<Option<strata_build::Attestation>, BuildError> {
    Ok(None)
}

/// The images of a name in the store: all platforms, or the one that is wanted.
pub(super) fn of_name(
    session: &Session,
    text: &str,
    platform: Option<&strata_oci::Platform>,
) -> Result<(Vec<StoredImage>, Option<Reference>), Failure> {
    let images: Images<'_> = session.images();
    let name = text.parse::<Reference>().ok();
    if platform.is_none()
        && let Some(name) = &name
    {
        let found = images.of_name(name).map_err(|error| build_error::plain(&error))?;
        if !found.is_empty() {
            return Ok((found, Some(name.clone())));
        }
    }
    let wanted = platform.cloned().unwrap_or_else(strata_oci::Platform::native);
    Ok((vec![session.image(text, &wanted)?], name))
}

/// The id that `--iidfile` gets: the config's digest, or that of an index over several images.
pub(super) fn id_of(built: &[Built], described: Option<&Descriptor>) -> Option<Digest> {
    match (built, described) {
        ([only], _) => Some(only.report.image),
        (_, Some(described)) => Some(described.digest),
        ([first, ..], None) => Some(first.report.image),
        ([], None) => None,
    }
}
