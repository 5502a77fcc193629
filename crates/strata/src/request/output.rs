//! `-o`: Docker's little language of `key=value,…`, and its two short forms: a directory, and
//! `-` for a tar on standard output.

use std::io::IsTerminal;
use std::path::PathBuf;

use strata_build::{Export, ExportDest, ExportKind};
use strata_oci::{Compression, Reference};

use super::options::unknown;
use crate::failure::Failure;

/// What Docker's exporters are called.
const TYPES: [&str; 4] = ["oci", "docker", "local", "tar"];
/// Those of them that strata has no equal of.
const NOT_YET: [&str; 3] = ["image", "registry", "cacheonly"];
const KEYS: [&str; 6] = ["type", "dest", "name", "compression", "compression-level", "tar"];

/// One output.
#[derive(Debug, Clone)]
pub(crate) struct Output {
    pub(crate) export: Export,
    /// The name in an archive, beside those of `-t`.
    pub(crate) name: Option<Reference>,
}

impl Output {
    /// Whether it takes standard output for itself.
    pub(crate) fn is_stdout(&self) -> bool {
        self.export.dest == ExportDest::Stdout
    }
}

/// All outputs that were asked for; only one of them may be standard output.
pub(crate) fn outputs(texts: &[String]) -> Result<Vec<Output>, Failure> {
    let outputs: Vec<Output> = texts.iter().map(|text| output(text)).collect::<Result<_, _>>()?;
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

/// The values as they are written.
#[derive(Default)]
struct Fields {
    kind: Option<String>,
    dest: Option<String>,
    name: Option<String>,
    compression: Option<String>,
    level: Option<String>,
    tar: Option<String>,
}

fn output(text: &str) -> Result<Output, Failure> {
    let mut fields = Fields::default();
    if !text.contains('=') {
        let kind = if text == "-" { "tar" } else { "local" };
        (fields.kind, fields.dest) = (Some(kind.to_owned()), Some(text.to_owned()));
        return fields.understand(text);
    }
    for field in text.split(',') {
        let Some((key, value)) = field.split_once('=') else {
            return Err(Failure::usage(format!("`-o {text}`: `{field}` has no `=`")));
        };
        let place = match key.trim().to_ascii_lowercase().as_str() {
            "type" => &mut fields.kind,
            "dest" => &mut fields.dest,
            "name" => &mut fields.name,
            "compression" => &mut fields.compression,
            "compression-level" => &mut fields.level,
            "tar" => &mut fields.tar,
            // They change nothing about what is written here.
            "oci-mediatypes" | "force-compression" => continue,
            other => return Err(unknown("key of `-o`", other, &KEYS)),
        };
        if place.replace(value.to_owned()).is_some() {
            return Err(Failure::usage(format!("`-o {text}`: `{key}` is there twice")));
        }
    }
    fields.understand(text)
}

impl Fields {
    fn understand(self, text: &str) -> Result<Output, Failure> {
        let invalid = |why: &str| Failure::usage(format!("`-o {text}`: {why}"));
        let kind = match self.kind.as_deref() {
            Some("oci") => ExportKind::Oci,
            Some("docker") => ExportKind::Docker,
            Some("local") => ExportKind::Local,
            Some("tar") => ExportKind::Tar,
            Some(kind) if NOT_YET.contains(&kind) => {
                return Err(invalid(&format!("`type={kind}` is not supported yet"))
                    .hint("every image is in the store after its build; see `strata images`"));
            }
            Some(kind) => return Err(unknown("type of `-o`", kind, &TYPES)),
            None => return Err(invalid("`type=` is missing")),
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
        let compression = self.compression()?;
        let compression_level = self.level(compression).map_err(|why| invalid(&why))?;
        let name = self.name.as_deref().map(super::name).transpose()?;
        let export = Export { kind, dest, compression, compression_level };
        Ok(Output { export, name })
    }

    fn compression(&self) -> Result<Compression, Failure> {
        match self.compression.as_deref() {
            None | Some("gzip") => Ok(Compression::Gzip),
            Some("zstd") => Ok(Compression::Zstd),
            Some("uncompressed") => Ok(Compression::None),
            Some(other) => Err(unknown("compression", other, &["gzip", "zstd", "uncompressed"])),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dockers_forms() {
        let check = |text: &str, kind, dest: ExportDest| {
            let export = output(text).expect(text).export;
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
    }

    #[test]
    fn compressions() {
        let export = output("type=oci,dest=f,compression=zstd,compression-level=22,name=a");
        let export = export.expect("an output");
        assert_eq!(export.export.compression, Compression::Zstd);
        assert_eq!(export.export.compression_level, Some(22));
        assert_eq!(export.name.expect("a name").familiar(), "a:latest");
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
    }
}
