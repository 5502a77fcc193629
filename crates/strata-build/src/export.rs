//! Images out of the store: archives, directories, root file systems.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use strata_cas::{Action, Change, Layer, Time};
use strata_image::{Archive, OverlayForm};
use strata_oci::Reference;

use crate::BuildError;
use crate::images::{Images, StoredImage};
use crate::packing::{Attest, Packing};

/// What an image is written as, and where to.
#[derive(Debug, Clone)]
pub struct Export {
    /// In which form.
    pub kind: ExportKind,
    /// Where to.
    pub dest: ExportDest,
    /// How it is packed, in the forms that hold layers.
    pub packing: Packing,
    /// The time that all files get, in the forms that hold files, in seconds since 1970.
    pub epoch: Option<i64>,
    /// Whether files of a directory that the image does not have are removed from it.
    pub mirror: bool,
}

/// In which form an image is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExportKind {
    /// An OCI layout, as a tar or a directory.
    Oci,
    /// What `docker load` and `podman load` take.
    Docker,
    /// The files themselves, in a directory.
    Local,
    /// The files themselves, as a tar.
    Tar,
}

/// Where an image is written to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExportDest {
    /// A file; it is there only when it is complete.
    File(PathBuf),
    /// Standard output.
    Stdout,
    /// A directory.
    Directory(PathBuf),
}

impl Images<'_> {
    /// Writes an image, or one for several platforms.
    ///
    /// # Errors
    ///
    /// When the store lacks something, or the destination can not be written.
    pub fn export(
        &self,
        images: &[StoredImage],
        names: &[Reference],
        export: &Export,
        attest: &Attest<'_>,
    ) -> Result<(), BuildError> {
        match (&export.kind, &export.dest) {
            (ExportKind::Local, ExportDest::Directory(path)) => {
                self.each_below(images, path, |image, path| self.lay_out(image, path, export))
            }
            (ExportKind::Oci, ExportDest::Directory(path)) => {
                let packed = self.pack(images, &export.packing, attest)?;
                Ok(strata_image::write_oci_directory(&[packed.parcel(names)], path)?)
            }
            (_, ExportDest::File(path)) => into_place(path, |place| match (export.kind, place) {
                (ExportKind::Oci | ExportKind::Docker, Place::NewFile(file)) => {
                    self.write_file(images, names, export, attest, file)
                }
                (_, place) => place.write(|out| self.write(images, names, export, attest, out)),
            }),
            (_, ExportDest::Stdout) => {
                let mut out = BufWriter::with_capacity(1 << 18, io::stdout().lock());
                self.write(images, names, export, attest, &mut out)?;
                out.flush().map_err(BuildError::io("write to standard output"))
            }
            (_, ExportDest::Directory(path)) => Err(BuildError::Io {
                action: format!("write `{}`", path.display()),
                source: io::ErrorKind::IsADirectory.into(),
            }),
        }
    }

    /// Writes what `docker load` and `podman load` take, of several images with their names.
    ///
    /// # Errors
    ///
    /// As [`Images::export`].
    pub fn save(
        &self,
        images: &[(StoredImage, Vec<Reference>)],
        packing: &Packing,
        out: &mut dyn Write,
    ) -> Result<(), BuildError> {
        self.save_into(Archive::begin(out)?, images, packing)
    }

    fn save_into<W: Write>(
        &self,
        archive: Archive<W>,
        images: &[(StoredImage, Vec<Reference>)],
        packing: &Packing,
    ) -> Result<(), BuildError> {
        let pack = |(image, _): &(StoredImage, _)| {
            self.pack(std::slice::from_ref(image), packing, &|_, _| Ok(None))
        };
        let packed: Vec<_> = images.iter().map(pack).collect::<Result<_, _>>()?;
        let parcels = packed.iter().zip(images).map(|(packed, (_, names))| packed.parcel(names));
        Ok(archive.finish_docker(&parcels.collect::<Vec<_>>())?)
    }

    /// The same into a file.
    ///
    /// # Errors
    ///
    /// As [`Images::export`].
    pub fn save_file(
        &self,
        images: &[(StoredImage, Vec<Reference>)],
        packing: &Packing,
        path: &Path,
    ) -> Result<(), BuildError> {
        into_place(path, |place| match place {
            Place::NewFile(file) => {
                let mut archive = Archive::begin(file)?;
                self.write_ahead(images.iter().map(|(image, _)| image), packing, &mut archive)?;
                self.save_into(archive, images, packing)
            }
            Place::Other(out) => self.save(images, packing, out),
        })
    }

    /// Writes an image for a Docker whose own store has the image's lowest `known` layers.
    ///
    /// # Errors
    ///
    /// As [`Images::export`].
    pub fn save_delta(
        &self,
        image: &StoredImage,
        names: &[Reference],
        packing: &Packing,
        known: usize,
        out: &mut dyn Write,
    ) -> Result<(), BuildError> {
        let packed = self.pack(std::slice::from_ref(image), packing, &|_, _| Ok(None))?;
        Ok(strata_image::write_docker_delta(&packed.parcel(names), known, out)?)
    }

    fn write(
        &self,
        images: &[StoredImage],
        names: &[Reference],
        export: &Export,
        attest: &Attest<'_>,
        out: &mut dyn Write,
    ) -> Result<(), BuildError> {
        match export.kind {
            ExportKind::Oci | ExportKind::Docker => {
                self.write_into(Archive::begin(out)?, images, names, export, attest)
            }
            ExportKind::Tar | ExportKind::Local => {
                let layer = self.files(images, export.epoch)?;
                Ok(strata_image::pack(&layer, self.store(), out)?)
            }
        }
    }

    /// Writes an archive into a new file: what must be compressed for it goes there at once.
    fn write_file(
        &self,
        images: &[StoredImage],
        names: &[Reference],
        export: &Export,
        attest: &Attest<'_>,
        file: &File,
    ) -> Result<(), BuildError> {
        let mut archive = Archive::begin(file)?;
        self.write_ahead(images.iter(), &export.packing, &mut archive)?;
        self.write_into(archive, images, names, export, attest)
    }

    fn write_into<W: Write>(
        &self,
        archive: Archive<W>,
        images: &[StoredImage],
        names: &[Reference],
        export: &Export,
        attest: &Attest<'_>,
    ) -> Result<(), BuildError> {
        if export.kind == ExportKind::Docker {
            // An index with attestations in it is not what every `docker load` takes.
            let packed = self.pack(images, &export.packing, &|_, _| Ok(None))?;
            return Ok(archive.finish_docker(&[packed.parcel(names)])?);
        }
        let packed = self.pack(images, &export.packing, attest)?;
        Ok(archive.finish_oci(&[packed.parcel(names)])?)
    }

    /// All files of an image as one layer; of several images, each below its platform's name.
    fn files(&self, images: &[StoredImage], epoch: Option<i64>) -> Result<Layer, BuildError> {
        if let [only] = images {
            return Ok(timed(self.squashed(only)?, epoch));
        }
        let mut changes = Vec::new();
        for image in images {
            let name = folder(image);
            let within = |path: &strata_cas::TreePath| {
                let path = [name.as_bytes(), b"/", path.as_bytes()].concat();
                strata_cas::TreePath::normalise(&path)
            };
            let layer = self.squashed(image)?;
            let has_root = layer.changes().first().is_some_and(|first| first.path.is_root());
            if !has_root {
                changes.push(directory(within(&strata_cas::TreePath::ROOT)));
            }
            changes.extend(layer.changes().iter().map(|change| {
                let action = match &change.action {
                    Action::Set { item: strata_cas::Item::HardLink { to }, metadata, modified } => {
                        let item = strata_cas::Item::HardLink { to: within(to) };
                        Action::Set { item, metadata: metadata.clone(), modified: *modified }
                    }
                    other => other.clone(),
                };
                Change { path: within(&change.path), action }
            }));
        }
        Ok(timed(Layer::new(changes), epoch))
    }

    /// One directory for one image; for several, one for each platform in it.
    fn each_below(
        &self,
        images: &[StoredImage],
        path: &Path,
        lay_out: impl Fn(&StoredImage, &Path) -> Result<(), BuildError>,
    ) -> Result<(), BuildError> {
        match images {
            [only] => lay_out(only, path),
            several => {
                several.iter().try_for_each(|image| lay_out(image, &path.join(folder(image))))
            }
        }
    }

    fn squashed(&self, image: &StoredImage) -> Result<Layer, BuildError> {
        self.shelf().bring_all(&image.layers)?;
        Ok(strata_cas::squash(self.layers(image)?.iter().map(|layer| &**layer)))
    }

    fn lay_out(&self, image: &StoredImage, path: &Path, export: &Export) -> Result<(), BuildError> {
        std::fs::create_dir_all(path)
            .map_err(BuildError::io(format!("create `{}`", path.display())))?;
        let layer = timed(self.squashed(image)?, export.epoch);
        if export.mirror {
            remove_others(&layer, path)?;
        }
        let form = match strata_exec::in_user_namespace() {
            true => OverlayForm::Mine,
            false => OverlayForm::Plain,
        };
        Ok(strata_image::materialise(&layer, self.store(), path, form)?)
    }
}

/// BuildKit's name for a platform's directory: `linux_amd64`.
fn folder(image: &StoredImage) -> String {
    image.config.platform().to_string().replace('/', "_")
}

fn directory(path: strata_cas::TreePath) -> Change {
    let item = strata_cas::Item::Directory { opaque: false };
    let metadata = strata_cas::Metadata::root(0o755);
    Change { path, action: Action::Set { item, metadata, modified: Time(0) } }
}

/// The layer with all times set to one.
fn timed(layer: Layer, epoch: Option<i64>) -> Layer {
    let Some(epoch) = epoch else { return layer };
    with_times(&layer, |_| Time(epoch))
}

/// The layer with other times.
pub(crate) fn with_times(layer: &Layer, time: impl Fn(Time) -> Time) -> Layer {
    let change = |change: &Change| {
        let action = match &change.action {
            Action::Set { item, metadata, modified } => Action::Set {
                item: item.clone(),
                metadata: metadata.clone(),
                modified: time(*modified),
            },
            Action::Remove => Action::Remove,
        };
        Change { path: change.path.clone(), action }
    };
    Layer::new(layer.changes().iter().map(change).collect())
}

/// Removes what a directory has and the layer has not (`mode=delete`). No link is followed.
fn remove_others(layer: &Layer, path: &Path) -> Result<(), BuildError> {
    remove_below(layer, path, &strata_cas::TreePath::ROOT)
}

fn remove_below(
    layer: &Layer,
    directory: &Path,
    at: &strata_cas::TreePath,
) -> Result<(), BuildError> {
    use std::os::unix::ffi::OsStrExt;
    let action = || BuildError::io(format!("clear `{}`", directory.display()));
    for entry in std::fs::read_dir(directory).map_err(action())? {
        let entry = entry.map_err(action())?;
        let Ok(path) = at.child(entry.file_name().as_bytes()) else { continue };
        let is_directory = entry.file_type().map_err(action())?.is_dir();
        let first_below = layer.changes().iter().any(|change| change.path.below(&path).is_some());
        match (first_below, is_directory) {
            (true, true) => remove_below(layer, &entry.path(), &path)?,
            (true, false) => {}
            (false, true) => std::fs::remove_dir_all(entry.path()).map_err(action())?,
            (false, false) => std::fs::remove_file(entry.path()).map_err(action())?,
        }
    }
    Ok(())
}

/// Where bytes go that were asked for at a path.
enum Place<'a> {
    /// Into a file that nobody else sees.
    NewFile(&'a File),
    /// Into what is there and is no file.
    Other(&'a mut dyn Write),
}

impl Place<'_> {
    fn write(
        self,
        write: impl FnOnce(&mut dyn Write) -> Result<(), BuildError>,
    ) -> Result<(), BuildError> {
        match self {
            Self::NewFile(file) => {
                let mut out = BufWriter::with_capacity(1 << 18, file);
                write(&mut out)?;
                out.flush().map_err(BuildError::io("write a file"))
            }
            Self::Other(out) => write(out),
        }
    }
}

/// Writes a file that has its name only when it is complete; what is no file is written to as it
/// is.
fn into_place(
    path: &Path,
    write: impl FnOnce(Place<'_>) -> Result<(), BuildError>,
) -> Result<(), BuildError> {
    let action = || BuildError::io(format!("write `{}`", path.display()));
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
    let name = name.unwrap_or_default();
    if path.is_dir() {
        return Err(action()(io::ErrorKind::IsADirectory.into()));
    }
    let metadata = std::fs::metadata(path);
    if metadata.is_ok_and(|metadata| !metadata.is_file()) {
        // A device or a pipe is written to: nothing may take its place.
        let file = File::options().write(true).open(path).map_err(action())?;
        let mut out = BufWriter::with_capacity(1 << 18, file);
        return write(Place::Other(&mut out)).and_then(|()| out.flush().map_err(action()));
    }
    let partial = path.with_file_name(format!(".{name}.{}.part", std::process::id()));
    let file = File::create(&partial).map_err(action())?;
    let written = write(Place::NewFile(&file));
    let renamed = written.and_then(|()| std::fs::rename(&partial, path).map_err(action()));
    if renamed.is_err() {
        drop(std::fs::remove_file(&partial));
    }
    renamed
}
