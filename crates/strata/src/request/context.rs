//! Where a build's files are: the context, its Dockerfile and ignore file, and named contexts.
//! Rules and their order are those of `docker build`.

use std::collections::BTreeSet;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use strata_build::Context;
use strata_plan::RemoteSource;

use super::{Dockerfile, remote, shown};
use crate::failure::{Failure, Kind};
use crate::session::Opening;

pub(super) const DEFAULT_NAME: &str = "Dockerfile";
/// What a Dockerfile may be called in a pinch, as for Docker.
pub(super) const LOWER_CASE_NAME: &str = "dockerfile";
const IGNORE_NAME: &str = ".dockerignore";
/// No Dockerfile is that long: it is another file that was named by mistake.
pub(super) const LONGEST_BYTES: u64 = 16 << 20;

/// The main context and its Dockerfile.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) dockerfile: Dockerfile,
    pub(super) main: Context,
    /// What tells this project from others.
    pub(super) project: String,
}

/// Finds context, Dockerfile and ignore file.
pub(super) fn find(
    context: &Path,
    file: Option<&Path>,
    keep_git_dir: bool,
    opening: &Opening<'_>,
) -> Result<Found, Failure> {
    let text = context.to_string_lossy();
    if text == "-" {
        return remote::standard_input(file, opening);
    }
    if !context.is_dir()
        && let Some(mut source) = RemoteSource::parse_context(&text)
            .map_err(|reason| Failure::usage(format!("the context `{text}`: {reason}")))?
    {
        if let RemoteSource::Git(git) = &mut source {
            git.keep_git_dir |= keep_git_dir;
        }
        return remote::elsewhere(&source, file, opening);
    }
    let directory = directory(context)?;
    let (dockerfile, at) = match file {
        Some(file) if file == Path::new("-") => (from_stdin()?, None),
        Some(file) => match remote::downloaded(file, opening)? {
            Some(dockerfile) => (dockerfile, None),
            None => named_file(file)?,
        },
        None => default_file(context)?,
    };
    let ignore = ignore_file(at.as_deref(), context)?;
    let project = project_of(&directory, at.as_deref());
    Ok(Found { dockerfile, main: Context::Directory { path: directory, ignore }, project })
}

/// What tells the project of a context on this machine and its Dockerfile from others.
pub(super) fn project(context: &Path, file: Option<&Path>) -> Result<String, Failure> {
    let directory = directory(context)?;
    let at = match file {
        Some(file) if file == Path::new("-") => None,
        Some(file) => named_file(file)?.1,
        None => default_file(context)?.1,
    };
    Ok(project_of(&directory, at.as_deref()))
}

fn project_of(directory: &Path, dockerfile: Option<&Path>) -> String {
    match dockerfile {
        Some(at) if *at == directory.join(DEFAULT_NAME) => directory.display().to_string(),
        Some(at) => format!("{} {}", directory.display(), at.display()),
        None => format!("{} -", directory.display()),
    }
}

fn directory(context: &Path) -> Result<PathBuf, Failure> {
    let text = context.to_string_lossy();
    match std::fs::canonicalize(context) {
        Ok(path) if path.is_dir() => Ok(path),
        Ok(_) => Err(Failure::usage(format!("the context `{text}` is not a directory")).hint(
            "the Dockerfile is named with `-f`; an archive can come on standard input, as `-`",
        )),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            Err(Failure::usage(format!("the context `{text}` does not exist")))
        }
        Err(error) => Err(Failure::file("open the context", context, &error)),
    }
}

pub(super) fn from_stdin() -> Result<Dockerfile, Failure> {
    let mut bytes = Vec::new();
    let read = std::io::stdin().lock().take(LONGEST_BYTES + 1).read_to_end(&mut bytes);
    read.map_err(|error| Failure::file("read", Path::new("-"), &error))?;
    checked("<stdin>".to_owned(), bytes, None)
}

/// Relative to the current directory, as for Docker. One of the default name may be written in
/// lower case.
pub(super) fn named_file(file: &Path) -> Result<(Dockerfile, Option<PathBuf>), Failure> {
    let lower = file.with_file_name(LOWER_CASE_NAME);
    let is_default = file.file_name().is_some_and(|name| name == DEFAULT_NAME);
    let file = if is_default && !file.exists() && lower.exists() { &lower } else { file };
    let bytes = read(file).map_err(|error| Failure::file("read the Dockerfile", file, &error))?;
    let at = std::fs::canonicalize(file).ok();
    Ok((checked(shown(file), bytes, Some(file))?, at))
}

fn default_file(context: &Path) -> Result<(Dockerfile, Option<PathBuf>), Failure> {
    for name in [DEFAULT_NAME, LOWER_CASE_NAME] {
        let path = context.join(name);
        match read(&path) {
            Ok(bytes) => {
                let found = checked(shown(&path), bytes, Some(&path))?;
                return Ok((found, std::fs::canonicalize(&path).ok()));
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => {
                let path = PathBuf::from(shown(&path));
                return Err(Failure::file("read the Dockerfile", &path, &error));
            }
        }
    }
    let path = context.join(DEFAULT_NAME);
    Err(Failure::usage(format!("there is no Dockerfile `{}`", shown(&path)))
        .hint(other_names(context)))
}

/// What else in the context looks like a Dockerfile.
fn other_names(context: &Path) -> String {
    let entries = std::fs::read_dir(context).into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let looks_like = |name: &String| {
        let lower = name.to_lowercase();
        (lower.contains("dockerfile") || lower.contains("containerfile"))
            && !lower.ends_with("ignore")
    };
    match names.filter(looks_like).collect::<BTreeSet<String>>().first() {
        Some(name) => format!("is it `-f {}`?", shown(&context.join(name))),
        None => "name it with `-f`".to_owned(),
    }
}

fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(LONGEST_BYTES + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

pub(super) fn checked(
    shown: String,
    bytes: Vec<u8>,
    path: Option<&Path>,
) -> Result<Dockerfile, Failure> {
    if bytes.len() as u64 > LONGEST_BYTES {
        return Err(Failure::usage(format!("`{shown}` is too long for a Dockerfile")));
    }
    if bytes.trim_ascii().is_empty() {
        return Err(Failure::new(Kind::Build, format!("the Dockerfile `{shown}` is empty")));
    }
    Ok(Dockerfile { shown, bytes, path: path.map(Path::to_path_buf) })
}

/// `<Dockerfile>.dockerignore` beats the context's own.
fn ignore_file(dockerfile: Option<&Path>, context: &Path) -> Result<Vec<u8>, Failure> {
    let own = dockerfile.map(|path| {
        let mut name = path.as_os_str().to_owned();
        name.push(IGNORE_NAME);
        PathBuf::from(name)
    });
    for path in own.into_iter().chain([context.join(IGNORE_NAME)]) {
        match std::fs::read(&path) {
            Ok(text) => return Ok(text),
            // As for docker, a directory of that name is one that is copied like any other.
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::IsADirectory) => {
            }
            Err(error) => return Err(Failure::file("read the ignore file", &path, &error)),
        }
    }
    Ok(Vec::new())
}

/// `--build-context NAME=VALUE`.
pub(super) fn named(text: &str) -> Result<(String, Context), Failure> {
    let invalid = |why: &str| Failure::usage(format!("`--build-context {text}`: {why}"));
    let (name, value) = match text.split_once('=') {
        Some((name, value)) if !name.is_empty() && !value.is_empty() => (name, value),
        _ => return Err(invalid("`NAME=VALUE` is expected")),
    };
    let context = if let Some(image) = value.strip_prefix("docker-image://") {
        let reference = image.parse().map_err(|error| invalid(&format!("{error}")))?;
        Context::Image(reference)
    } else if let Some(layout) = value.strip_prefix("oci-layout://") {
        let (path, name) = split_layout(layout);
        std::fs::metadata(path)
            .map_err(|error| Failure::file("open the layout", Path::new(path), &error))?;
        Context::Archive { path: PathBuf::from(path), name }
    } else if value == "-" {
        return Err(invalid("standard input can only be the main context"));
    } else if let Some(source) = RemoteSource::parse_context(value)
        .map_err(|reason| invalid(&reason))?
        .filter(|_| !Path::new(value).is_dir())
    {
        Context::Remote(source)
    } else {
        let path = std::fs::canonicalize(value)
            .map_err(|error| Failure::file("open the build context", Path::new(value), &error))?;
        if path.is_dir() {
            let ignore = ignore_file(None, &path)?;
            Context::Directory { path, ignore }
        } else {
            Context::Archive { path, name: None }
        }
    };
    Ok((name.to_owned(), context))
}

/// `PATH[:TAG][@DIGEST]` → the path, and the tag or digest.
fn split_layout(text: &str) -> (&str, Option<String>) {
    if let Some((path, digest)) = text.split_once('@') {
        let path =
            path.rsplit_once(':').filter(|(_, tag)| !tag.contains('/')).map_or(path, |s| s.0);
        return (path, Some(digest.to_owned()));
    }
    match text.rsplit_once(':') {
        Some((path, tag)) if !tag.contains('/') => (path, Some(tag.to_owned())),
        _ => (text, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(context: &Path, file: Option<&Path>) -> Found {
        let printer = crate::printer::Printer::new(&crate::environment::Environment::default());
        let opening = Opening::new(|| Err(Failure::usage("nothing is to be opened")), &printer);
        find(context, file, false, &opening).expect("found")
    }

    #[test]
    fn the_default_name_may_be_in_lower_case() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("Dockerfile");
        std::fs::write(directory.path().join("dockerfile"), "FROM lower\n").expect("written");
        let text = |file: Option<&Path>| found(directory.path(), file).dockerfile.bytes;
        assert_eq!((text(None), text(Some(&file))), (text(None), b"FROM lower\n".to_vec()));
        std::fs::write(&file, "FROM upper\n").expect("written");
        assert_eq!((text(None), text(Some(&file))), (text(None), b"FROM upper\n".to_vec()));
    }

    #[test]
    fn layouts() {
        let check = |text: &str, path: &str, name: Option<&str>| {
            assert_eq!(split_layout(text), (path, name.map(str::to_owned)), "{text}");
        };
        check("/a/b", "/a/b", None);
        check("/a/b:v1", "/a/b", Some("v1"));
        check("/a:b/c", "/a:b/c", None);
        check("/a@sha256:12", "/a", Some("sha256:12"));
        check("/a:v1@sha256:12", "/a", Some("sha256:12"));
    }

    #[test]
    fn a_dockerfiles_own_ignore_file_comes_first() {
        let directory = tempfile::tempdir().expect("a directory");
        let write = |name: &str, text: &str| {
            std::fs::write(directory.path().join(name), text).expect("written");
        };
        let ignore = |file: Option<&str>| {
            let file = file.map(|name| directory.path().join(name));
            match found(directory.path(), file.as_deref()).main {
                Context::Directory { ignore, .. } => String::from_utf8(ignore).expect("text"),
                other => unreachable!("{other:?}"),
            }
        };
        write("Dockerfile", "FROM scratch\n");
        write("other.Dockerfile", "FROM scratch\n");
        assert_eq!(ignore(None), "");
        write(".dockerignore", "all");
        assert_eq!(ignore(Some("other.Dockerfile")), "all");
        write("other.Dockerfile.dockerignore", "other");
        assert_eq!(
            (ignore(None), ignore(Some("other.Dockerfile"))),
            ("all".into(), "other".into())
        );
        write("Dockerfile.dockerignore", "own");
        assert_eq!(ignore(None), "own");
    }

    #[test]
    fn projects_differ_by_context_and_dockerfile() {
        let directory = tempfile::tempdir().expect("a directory");
        for name in ["Dockerfile", "b"] {
            std::fs::write(directory.path().join(name), "FROM scratch\n").expect("written");
        }
        let project = |file: Option<PathBuf>| found(directory.path(), file.as_deref()).project;
        let default = project(None);
        assert_eq!(project(Some(directory.path().join("Dockerfile"))), default);
        assert_ne!(project(Some(directory.path().join("b"))), default);
    }
}
