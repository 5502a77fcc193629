//! `-o`: Docker's little language of `key=value,…`, and its two short forms: a directory, and
//! `-` for a tar on standard output. `--push` and `--load` are short for outputs, too.

use std::io::IsTerminal;
use std::path::PathBuf;

use strata_build::{Annotations, Export, ExportDest, ExportKind, Packing};
use strata_image::ManifestFlavour;
use strata_oci::{Compression, Reference};

use super::annotation;
use super::options::unknown;
use crate::failure::Failure;
use crate::words::amount::parse_bytes;

/// What Docker's exporters are called.
const TYPES: [&str; 7] = ["oci", "docker", "local", "tar", "image", "registry", "cacheonly"];
const KEYS: [&str; 17] = [
    "type",
    "dest",
    "name",
    "push",
    "push-by-digest",
    "registry.insecure",
    "store",
    "compression",
    "compression-level",
    "force-compression",
    "oci-mediatypes",
    "rewrite-timestamp",
    "tar",
    "mode",
    "platform-split",
    "layer-split",
    "annotation.NAME",
];

const COMPRESSIONS: [&str; 5] = ["gzip", "zstd", "uncompressed", "estargz", "zstd:chunked"];
/// Formats of which single files can be fetched.
pub(crate) const CHUNKED: [&str; 2] = ["estargz", "zstd:chunked"];

/// Layers that are smaller are not worth a request each.
const LEAST_SPLIT_BYTES: u64 = 1_000_000;

/// One output.
#[derive(Debug, Clone)]
pub(crate) struct Output {
    pub(crate) target: Target,
    /// Names beside those of `-t`.
    pub(crate) names: Vec<Reference>,
    /// Whether files younger than the epoch get its time.
    pub(crate) rewrite: bool,
    /// Layers that are larger, in bytes, are shipped as several.
    pub(crate) split: Option<u64>,
    /// Whether single files of its layers can be fetched.
    pub(crate) chunked: bool,
}

/// Where an image goes.
#[derive(Debug, Clone)]
pub(crate) enum Target {
    /// Files.
    Export(Export),
    /// The store, under its names, and a registry if it is pushed.
    Image(ImageTarget),
    /// A Docker or Podman that runs here.
    Engine(Packing),
    /// Nowhere: it is built for the cache alone.
    Nothing,
}

/// What `type=image` and `type=registry` say.
#[derive(Debug, Clone)]
pub(crate) struct ImageTarget {
    pub(crate) packing: Packing,
    pub(crate) push: bool,
    /// Whether it gets no tag in the registry.
    pub(crate) by_digest: bool,
    /// Whether plain http will do.
    pub(crate) insecure: bool,
    /// Whether it gets its names in the store.
    pub(crate) store: bool,
}

impl Output {
    /// Whether it takes standard output for itself.
    pub(crate) fn is_stdout(&self) -> bool {
        matches!(&self.target, Target::Export(export) if export.dest == ExportDest::Stdout)
    }

    /// Whether it gives the image its names in the store.
    pub(crate) fn is_named(&self) -> bool {
        match &self.target {
            Target::Image(image) => image.store,
            Target::Nothing => false,
            Target::Export(_) | Target::Engine(_) => true,
        }
    }

    /// Whether what is said about the image is kept or goes with it.
    pub(crate) fn is_attested(&self) -> bool {
        match &self.target {
            Target::Export(export) => export.kind == ExportKind::Oci,
            Target::Image(image) => image.push || image.store,
            Target::Engine(_) | Target::Nothing => false,
        }
    }

    /// How its layers are packed if single files of them can be fetched.
    pub(crate) fn chunked(&self) -> Option<&Packing> {
        match &self.target {
            Target::Export(export) if self.chunked => Some(&export.packing),
            Target::Image(image) if self.chunked => Some(&image.packing),
            _ => None,
        }
    }

    fn packing(&mut self) -> Option<&mut Packing> {
        match &mut self.target {
            Target::Export(export) => Some(&mut export.packing),
            Target::Image(image) => Some(&mut image.packing),
            Target::Engine(packing) => Some(packing),
            Target::Nothing => None,
        }
    }
}

/// What the command line asks for, beside `-o`.
pub(crate) struct OutputFlags<'a> {
    pub(crate) outputs: &'a [String],
    pub(crate) push: bool,
    pub(crate) load: bool,
    pub(crate) annotations: Annotations,
}

/// All outputs that were asked for; only one of them may be standard output.
pub(crate) fn outputs(asked: &OutputFlags<'_>) -> Result<Vec<Output>, Failure> {
    let parsed = asked.outputs.iter().map(|text| output(text));
    let mut outputs: Vec<Output> = parsed.collect::<Result<_, _>>()?;
    if asked.push && !push_them(&mut outputs) {
        outputs.push(output("type=registry")?);
    }
    if asked.load {
        outputs.push(Output {
            target: Target::Engine(Packing::default()),
            names: Vec::new(),
            rewrite: false,
            split: None,
            chunked: false,
        });
    }
    for output in &mut outputs {
        if let Some(packing) = output.packing() {
            packing.annotations.0.extend(asked.annotations.0.iter().cloned());
        }
    }
    match outputs.iter().filter(|output| output.is_stdout()).count() {
        0 => Ok(outputs),
        1 if std::io::stdout().is_terminal() => {
            Err(Failure::usage("an archive is not for a terminal")
                .hint("add `dest=FILE`, or send standard output to a file or program"))
        }
        1 => Ok(outputs),
        _ => Err(Failure::usage("only one output can be standard output")),
    }
}

/// `--push` beside `-o type=image` means that output. Whether there is one.
fn push_them(outputs: &mut [Output]) -> bool {
    let mut found = false;
    for output in outputs {
        if let Target::Image(image) = &mut output.target {
            (image.push, found) = (true, true);
        }
    }
    found
}

/// The values as they are written.
#[derive(Default)]
struct Fields {
    kind: Option<String>,
    dest: Option<String>,
    name: Option<String>,
    push: Option<String>,
    by_digest: Option<String>,
    insecure: Option<String>,
    store: Option<String>,
    compression: Option<String>,
    level: Option<String>,
    force: Option<String>,
    oci_types: Option<String>,
    rewrite: Option<String>,
    tar: Option<String>,
    mode: Option<String>,
    split: Option<String>,
    layer_split: Option<String>,
    annotations: Annotations,
}

fn output(text: &str) -> Result<Output, Failure> {
    let mut fields = Fields::default();
    if !text.contains('=') {
        let kind = if text == "-" { "tar" } else { "local" };
        (fields.kind, fields.dest) = (Some(kind.to_owned()), Some(text.to_owned()));
        return fields.understand(text);
    }
    for field in pieces(text).map_err(|why| Failure::usage(format!("`-o {text}`: {why}")))? {
        let Some((key, value)) = field.split_once('=') else {
            return Err(Failure::usage(format!("`-o {text}`: `{field}` has no `=`")));
        };
        let key = key.trim();
        if let Some(annotation) = annotation::of_output(key, value)? {
            fields.annotations.0.push(annotation);
            continue;
        }
        let Some(place) = fields.place(&key.to_ascii_lowercase())? else { continue };
        if place.replace(value.to_owned()).is_some() {
            return Err(Failure::usage(format!("`-o {text}`: `{key}` is there twice")));
        }
    }
    fields.understand(text)
}

/// The fields of a line of CSV, as Docker reads it: a field in double quotes may have commas.
pub(crate) fn pieces(text: &str) -> Result<Vec<String>, &'static str> {
    let (mut fields, mut field, mut quoted) = (Vec::new(), String::new(), false);
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '"' if quoted && letters.peek() == Some(&'"') => {
                field.push('"');
                letters.next();
            }
            '"' if quoted => quoted = false,
            '"' if field.is_empty() => quoted = true,
            ',' if !quoted => fields.push(std::mem::take(&mut field)),
            letter => field.push(letter),
        }
    }
    if quoted {
        return Err("a double quote is not closed");
    }
    fields.push(field);
    Ok(fields)
}

impl Fields {
    /// Where a key's value goes; nowhere for what changes nothing here.
    fn place(&mut self, key: &str) -> Result<Option<&mut Option<String>>, Failure> {
        Ok(Some(match key {
            "type" => &mut self.kind,
            "dest" => &mut self.dest,
            "name" => &mut self.name,
            "push" => &mut self.push,
            "push-by-digest" => &mut self.by_digest,
            "registry.insecure" => &mut self.insecure,
            "store" => &mut self.store,
            "compression" => &mut self.compression,
            "compression-level" => &mut self.level,
            "force-compression" => &mut self.force,
            "oci-mediatypes" => &mut self.oci_types,
            "rewrite-timestamp" => &mut self.rewrite,
            "tar" => &mut self.tar,
            "mode" => &mut self.mode,
            "platform-split" => &mut self.split,
            "layer-split" => &mut self.layer_split,
            // What they are about is always so here, or is nobody's matter but BuildKit's.
            "unpack" | "name-canonical" | "dangling-name-prefix" | "oci-artifact" => {
                return Ok(None);
            }
            other => return Err(unknown("key of `-o`", other, &KEYS)),
        }))
    }

    fn understand(self, text: &str) -> Result<Output, Failure> {
        let invalid = |why: &str| Failure::usage(format!("`-o {text}`: {why}"));
        let kind = self.kind.as_deref().ok_or_else(|| invalid("`type=` is missing"))?;
        if !TYPES.contains(&kind) {
            return Err(unknown("type of `-o`", kind, &TYPES));
        }
        let rewrite = flag(&self.rewrite, false).map_err(|why| invalid(&why))?;
        let names = match &self.name {
            Some(names) => names.split(',').map(super::name).collect::<Result<_, _>>()?,
            None => Vec::new(),
        };
        let target = match kind {
            "cacheonly" => Target::Nothing,
            "image" | "registry" => Target::Image(self.image(kind, &invalid)?),
            _ => Target::Export(self.export(kind, &invalid)?),
        };
        let split = self.layer_split().map_err(|why| invalid(&why))?;
        let has_layers = match &target {
            Target::Export(export) => matches!(export.kind, ExportKind::Oci | ExportKind::Docker),
            Target::Image(_) | Target::Engine(_) => true,
            Target::Nothing => false,
        };
        if split.is_some() && !has_layers {
            return Err(invalid("`layer-split` is only for what has layers"));
        }
        let chunked = self.chunked(&target).map_err(|why| invalid(&why))?;
        Ok(Output { target, names, rewrite, split, chunked })
    }

    fn chunked(&self, target: &Target) -> Result<bool, String> {
        let Some(format) = self.compression.as_deref().filter(|format| CHUNKED.contains(format))
        else {
            return Ok(false);
        };
        let packing = match target {
            Target::Export(export) if export.kind == ExportKind::Oci => &export.packing,
            Target::Image(image) => &image.packing,
            _ => {
                let types = "`type=image`, `registry` and `oci`";
                return Err(format!("`compression={format}` is only for {types}"));
            }
        };
        if packing.flavour == ManifestFlavour::Docker {
            let other = "`oci-mediatypes=false`";
            return Err(format!("{other} and `compression={format}` contradict each other"));
        }
        if packing.force {
            let other = "`force-compression`: layers of the base image stay as they came";
            return Err(format!("`compression={format}` does not go with {other}"));
        }
        Ok(true)
    }

    fn image(&self, kind: &str, invalid: &dyn Fn(&str) -> Failure) -> Result<ImageTarget, Failure> {
        let wrong = |why: String| invalid(&why);
        if self.dest.is_some() {
            return Err(invalid(&format!("`type={kind}` writes no file: `dest` has no meaning")));
        }
        let push = flag(&self.push, kind == "registry").map_err(wrong)?;
        if kind == "registry" && !push {
            return Err(invalid("`type=registry` and `push=false` contradict each other"));
        }
        Ok(ImageTarget {
            packing: self.packing(invalid)?,
            push,
            by_digest: flag(&self.by_digest, false).map_err(wrong)?,
            insecure: flag(&self.insecure, false).map_err(wrong)?,
            store: flag(&self.store, true).map_err(wrong)?,
        })
    }

    fn export(&self, kind: &str, invalid: &dyn Fn(&str) -> Failure) -> Result<Export, Failure> {
        if self.push.is_some() {
            return Err(invalid("`push` is only for `type=image`"));
        }
        let kind = match kind {
            "oci" => ExportKind::Oci,
            "docker" => ExportKind::Docker,
            "local" => ExportKind::Local,
            _ => ExportKind::Tar,
        };
        let dest = self.dest.clone().filter(|dest| !dest.is_empty());
        let as_directory = match self.tar.as_deref() {
            None | Some("true") => kind == ExportKind::Local,
            Some("false") if kind == ExportKind::Oci => true,
            Some(_) => return Err(invalid("`tar=false` is only for `type=oci`")),
        };
        let dest = match (as_directory, dest.as_deref()) {
            (true, None | Some("-")) => return Err(invalid("`dest=DIRECTORY` is missing")),
            (true, Some(path)) => ExportDest::Directory(PathBuf::from(path)),
            (false, None | Some("-")) => ExportDest::Stdout,
            (false, Some(path)) if PathBuf::from(path).is_dir() => {
                return Err(invalid(&format!("`{path}` is a directory, and a file is written")));
            }
            (false, Some(path)) => ExportDest::File(PathBuf::from(path)),
        };
        if let ExportDest::File(path) = &dest
            && let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty())
            && !folder.is_dir()
        {
            return Err(invalid(&format!("there is no directory `{}`", folder.display())));
        }
        let mirror = match self.mode.as_deref() {
            None | Some("copy") => false,
            Some("delete") if kind == ExportKind::Local => true,
            Some("delete") => return Err(invalid("`mode=delete` is only for `type=local`")),
            Some(other) => return Err(unknown("mode", other, &["copy", "delete"])),
        };
        if !flag(&self.split, true).map_err(|why| invalid(&why))? {
            return Err(invalid("`platform-split=false` is not supported"));
        }
        Ok(Export { kind, dest, packing: self.packing(invalid)?, epoch: None, mirror })
    }

    fn packing(&self, invalid: &dyn Fn(&str) -> Failure) -> Result<Packing, Failure> {
        let compression = self.compression.as_deref().map_or(Ok(Compression::Gzip), compression)?;
        let oci = flag(&self.oci_types, true).map_err(|why| invalid(&why))?;
        Ok(Packing {
            compression,
            level: self.level(compression).map_err(|why| invalid(&why))?,
            force: flag(&self.force, false).map_err(|why| invalid(&why))?,
            flavour: if oci { ManifestFlavour::Oci } else { ManifestFlavour::Docker },
            annotations: self.annotations.clone(),
        })
    }

    fn layer_split(&self) -> Result<Option<u64>, String> {
        let Some(text) = &self.layer_split else { return Ok(None) };
        match parse_bytes(text) {
            Some(bytes) if bytes >= LEAST_SPLIT_BYTES => Ok(Some(bytes)),
            _ => Err(format!("`layer-split={text}`: a size from 1M is expected, such as 64M")),
        }
    }

    fn level(&self, compression: Compression) -> Result<Option<i32>, String> {
        let Some(text) = &self.level else { return Ok(None) };
        let range = match compression {
            Compression::Gzip => 0..=9,
            Compression::Zstd => 1..=22,
            Compression::None => return Err("what is not compressed has no level".to_owned()),
        };
        match text.parse::<i32>() {
            Ok(level) if range.contains(&level) => Ok(Some(level)),
            _ => Err(format!("a level from {} to {} is expected", range.start(), range.end())),
        }
    }
}

/// How layers are compressed by the format's name; those of [`CHUNKED`] are one of the others
/// with something added.
pub(crate) fn compression(name: &str) -> Result<Compression, Failure> {
    match name {
        "gzip" | "estargz" => Ok(Compression::Gzip),
        "zstd" | "zstd:chunked" => Ok(Compression::Zstd),
        "uncompressed" => Ok(Compression::None),
        other => Err(unknown("compression", other, &COMPRESSIONS)),
    }
}

/// `true` or `false`, in the forms that Go reads.
pub(crate) fn flag(text: &Option<String>, default: bool) -> Result<bool, String> {
    match text.as_deref() {
        None => Ok(default),
        Some("true" | "1" | "t" | "T" | "TRUE" | "True" | "") => Ok(true),
        Some("false" | "0" | "f" | "F" | "FALSE" | "False") => Ok(false),
        Some(other) => Err(format!("`{other}` is neither `true` nor `false`")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn export(text: &str) -> Export {
        match output(text).expect(text).target {
            Target::Export(export) => export,
            other => unreachable!("{other:?}"),
        }
    }

    #[test]
    fn dockers_forms() {
        let check = |text: &str, kind, dest: ExportDest| {
            let export = export(text);
            assert_eq!((export.kind, export.dest), (kind, dest), "{text}");
        };
        let file = || ExportDest::File(PathBuf::from("f"));
        let directory = |path: &str| ExportDest::Directory(PathBuf::from(path));
        check("type=oci,dest=f", ExportKind::Oci, file());
        check("type=oci,dest=f,tar=false", ExportKind::Oci, directory("f"));
        check("type=docker,dest=f", ExportKind::Docker, file());
        check("type=docker", ExportKind::Docker, ExportDest::Stdout);
        check("type=local,dest=d", ExportKind::Local, directory("d"));
        check("d/e", ExportKind::Local, directory("d/e"));
        check("-", ExportKind::Tar, ExportDest::Stdout);
        check("type=tar,dest=-", ExportKind::Tar, ExportDest::Stdout);
        assert!(export("type=local,dest=d,mode=delete").mirror);
    }

    #[test]
    fn images_and_registries() {
        let image = |text: &str| match output(text).expect(text) {
            Output { target: Target::Image(image), names, .. } => (image, names),
            other => unreachable!("{other:?}"),
        };
        let (pushed, names) = image("type=registry,\"name=a,b:1\",push-by-digest=true");
        let names: Vec<String> = names.iter().map(Reference::familiar).collect();
        assert_eq!(names, ["a:latest", "b:1"]);
        assert!(pushed.push && pushed.by_digest && pushed.store);
        let (kept, _) = image("type=image,store=false,oci-mediatypes=false");
        assert!(!kept.push && !kept.store);
        assert_eq!(kept.packing.flavour, ManifestFlavour::Docker);
        assert!(matches!(output("type=cacheonly").expect("it").target, Target::Nothing));
        let asked = |texts: &[String], push| {
            let annotations = Annotations::default();
            outputs(&OutputFlags { outputs: texts, push, load: false, annotations })
                .expect("outputs")
        };
        assert_eq!(asked(&["type=image".to_owned()], true).len(), 1);
        assert_eq!(asked(&["type=oci,dest=f".to_owned()], true).len(), 2);
    }

    #[test]
    fn compressions() {
        let export = export("type=oci,dest=f,compression=zstd,compression-level=22,name=a");
        assert_eq!(export.packing.compression, Compression::Zstd);
        assert_eq!(export.packing.level, Some(22));
    }

    #[test]
    fn layers_of_which_files_can_be_fetched() {
        for (name, compression) in
            [("estargz", Compression::Gzip), ("zstd:chunked", Compression::Zstd)]
        {
            let output = output(&format!("type=registry,compression={name}")).expect("an output");
            let packing = output.chunked().expect("it is chunked");
            assert_eq!((packing.compression, output.chunked), (compression, true));
        }
        let plain = output("type=oci,dest=f,compression=zstd").expect("an output");
        assert!(plain.chunked().is_none() && !plain.chunked);
    }

    #[test]
    fn layers_are_split_where_there_are_some() {
        let split = |text: &str| output(text).map(|output| output.split).ok();
        assert_eq!(split("type=registry,layer-split=64MiB"), Some(Some(64 << 20)));
        assert_eq!(split("type=oci,dest=f"), Some(None));
        for wrong in ["type=oci,dest=f,layer-split=0", "type=oci,dest=f,layer-split=x"] {
            assert_eq!(split(wrong), None, "{wrong}");
        }
        assert_eq!(split("type=local,dest=d,layer-split=64M"), None);
    }

    #[test]
    fn mistakes_are_named() {
        let check = |text: &str, message: &str, hint: Option<&str>| {
            let failure = output(text).expect_err(text);
            assert!(failure.message.contains(message), "{}", failure.message);
            assert_eq!((failure.hint.as_deref(), failure.code()), (hint, 2));
        };
        let close = Some("did you mean `docker`?");
        check("type=dokcer,dest=f", "unknown type of `-o` `dokcer`", close);
        let close = Some("did you mean `dest`?");
        check("type=oci,dst=f", "unknown key of `-o` `dst`", close);
        check("type=local", "`dest=DIRECTORY` is missing", None);
        check("dest=f", "`type=` is missing", None);
        check("type=oci,type=tar", "`type` is there twice", None);
        check("type=oci,compression=gzip,compression-level=10", "from 0 to 9", None);
        check("type=image,push=maybe", "neither `true` nor `false`", None);
        check("type=registry,push=false", "contradict each other", None);
        check("type=oci,dest=f,push=true", "only for `type=image`", None);
        let only = "`compression=estargz` is only for `type=image`, `registry` and `oci`";
        check("type=docker,dest=f,compression=estargz", only, None);
        check("type=local,dest=d,compression=estargz", only, None);
        let docker = "`oci-mediatypes=false` and `compression=zstd:chunked` contradict each other";
        check("type=image,compression=zstd:chunked,oci-mediatypes=false", docker, None);
        let force = "does not go with `force-compression`";
        check("type=image,compression=estargz,force-compression=true", force, None);
        let close = Some("did you mean `estargz`?");
        check("type=image,compression=stargz", "unknown compression `stargz`", close);
        check("type=oci,\"name=a", "a double quote is not closed", None);
    }
}
