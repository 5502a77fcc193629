//! Contexts and Dockerfiles that are not on this machine: what comes on standard input, over
//! HTTP, or from a repository. The rules are those of `docker buildx build` and BuildKit.

use std::io::Read;
use std::path::Path;

use strata_build::{Context, Event, FetchedTree};
use strata_plan::RemoteSource;

use super::Dockerfile;
use super::context::{DEFAULT_NAME, Found, LONGEST_BYTES, LOWER_CASE_NAME, checked};
use crate::failure::{Failure, Kind};
use crate::session::Opening;
use crate::words::build_error;

/// The file of a context that is no archive.
const LONE_FILE: &str = "context";
/// As long as the head of a tar, which is more than any compression's mark.
const HEAD_BYTES: u64 = 512;

/// What `-` means in place of a context: an archive of one, or a Dockerfile without any.
pub(super) fn standard_input(file: Option<&Path>, opening: &Opening<'_>) -> Result<Found, Failure> {
    if file == Some(Path::new("-")) {
        return Err(Failure::usage(
            "standard input can not be both the context and the Dockerfile",
        )
        .hint("name the Dockerfile in the archive, or a directory as the context"));
    }
    let mut input = std::io::stdin();
    let unreadable = |error| Failure::file("read", Path::new("-"), &error);
    let mut head = Vec::new();
    input.by_ref().take(HEAD_BYTES).read_to_end(&mut head).map_err(unreadable)?;
    let is_archive = strata_image::detect(&head).is_some() || strata_image::is_archive(&head[..]);
    if !is_archive {
        input.take(LONGEST_BYTES).read_to_end(&mut head).map_err(unreadable)?;
        if let Some(file) = file {
            let text = "standard input is a Dockerfile, since it is no archive; `-f` names another";
            return Err(Failure::usage(format!("{text}: `{}`", file.display())));
        }
        let dockerfile = checked("<stdin>".to_owned(), head, None)?;
        let main = Context::Tree(FetchedTree::empty());
        return Ok(Found { dockerfile, main, project: "- -".to_owned() });
    }
    let builder = opening.session()?.builder(opening.cancel()?);
    let mut archive = std::io::Cursor::new(head).chain(input);
    let tree = builder.unpack_context(&mut archive).map_err(|error| {
        let failure = build_error::plain(&error);
        Failure { message: format!("standard input: {}", failure.message), ..failure }
    })?;
    let dockerfile = dockerfile_in(&tree, "the archive", file, opening)?;
    let project = format!("- {}", dockerfile.shown);
    Ok(Found { dockerfile, main: Context::Tree(tree), project })
}

/// A context that is somewhere else.
pub(super) fn elsewhere(
    source: &RemoteSource,
    file: Option<&Path>,
    opening: &Opening<'_>,
) -> Result<Found, Failure> {
    let tree = fetch(source, opening)?;
    let dockerfile = match file {
        Some(file) if file == Path::new("-") => super::context::from_stdin()?,
        Some(file) => match own_file(file, opening)? {
            Some(dockerfile) => dockerfile,
            None => dockerfile_in(&tree, &source.shown(), Some(file), opening)?,
        },
        None if tree.is_lone_file() => {
            let bytes = read(&tree, LONE_FILE, opening)?.unwrap_or_default();
            checked(source.shown(), bytes, None)?
        }
        None => dockerfile_in(&tree, &source.shown(), None, opening)?,
    };
    let project = format!("{} {}", source.shown(), dockerfile.shown);
    Ok(Found { dockerfile, main: Context::Tree(tree), project })
}

/// A Dockerfile that is not in its context: of this machine if its path is absolute, or a URL's.
fn own_file(file: &Path, opening: &Opening<'_>) -> Result<Option<Dockerfile>, Failure> {
    if let Some(dockerfile) = downloaded(file, opening)? {
        return Ok(Some(dockerfile));
    }
    match file.is_absolute() {
        true => super::context::named_file(file).map(|(dockerfile, _)| Some(dockerfile)),
        false => Ok(None),
    }
}

/// The Dockerfile behind a URL; none if it is named by a path.
pub(super) fn downloaded(
    file: &Path,
    opening: &Opening<'_>,
) -> Result<Option<Dockerfile>, Failure> {
    let text = file.to_string_lossy();
    let parsed = RemoteSource::parse(&text).map_err(Failure::usage)?;
    let Some(source) = parsed else { return Ok(None) };
    let tree = match &source {
        RemoteSource::Http(_) => fetch(&source, opening)?,
        RemoteSource::Git(_) => {
            return Err(Failure::usage(format!("the Dockerfile `{text}` is a repository"))
                .hint("name the repository as the context"));
        }
    };
    if !tree.is_lone_file() {
        return Err(Failure::usage(format!("the Dockerfile `{}` is an archive", source.shown()))
            .hint("name the archive as the context"));
    }
    let bytes = read(&tree, LONE_FILE, opening)?.unwrap_or_default();
    checked(source.shown(), bytes, None).map(Some)
}

fn fetch(source: &RemoteSource, opening: &Opening<'_>) -> Result<FetchedTree, Failure> {
    let printer = opening.printer();
    let observe = |event: Event<'_>| {
        if let Event::Fetching { what } = event {
            printer.talk(&format!("fetching {what}"));
        }
    };
    let builder = opening.session()?.builder(opening.cancel()?);
    builder.fetch_context(source, &observe).map_err(|error| build_error::plain(&error))
}

fn read(tree: &FetchedTree, path: &str, opening: &Opening<'_>) -> Result<Option<Vec<u8>>, Failure> {
    let builder = opening.session()?.builder(opening.cancel()?);
    let read = builder.read_context_file(tree, path, LONGEST_BYTES + 1);
    read.map_err(|error| build_error::plain(&error))
}

/// The Dockerfile of a context that was fetched, by its name there or the default one.
fn dockerfile_in(
    tree: &FetchedTree,
    place: &str,
    file: Option<&Path>,
    opening: &Opening<'_>,
) -> Result<Dockerfile, Failure> {
    let name = file.unwrap_or(Path::new(DEFAULT_NAME));
    let is_default = name.file_name().is_some_and(|name| name == DEFAULT_NAME);
    let fallback = is_default.then(|| name.with_file_name(LOWER_CASE_NAME));
    for name in [Some(name), fallback.as_deref()].into_iter().flatten() {
        let name = name.to_string_lossy();
        if let Some(bytes) = read(tree, &name, opening)? {
            return checked(name.into_owned(), bytes, None);
        }
    }
    let message = format!("there is no Dockerfile `{}` in {place}", name.display());
    Err(Failure::new(Kind::Usage, message).hint("name it with `-f`, from the context's top"))
}
