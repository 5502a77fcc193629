//! Words, hint, place and exit code for each way in which a build fails.

use strata_build::{BaseImageError, BuildError, FetchError, NoStep};
use strata_dockerfile::{Diagnostic, Instruction, Span};

use super::lower_errors::{self, chain};
use crate::failure::{Failure, Kind};
use crate::request::Dockerfile;

/// An error of a build of this Dockerfile.
pub(crate) fn in_dockerfile(error: &BuildError, source: &Dockerfile) -> Failure {
    let failure = plain(error);
    if let BuildError::Dockerfile(found) = error {
        return failure.at(source, wrong(found));
    }
    let failure = failure.hint_if(stage_hint(error, source));
    match place(error) {
        Some(span) => {
            let place = Diagnostic::error("build", span, failure.message.clone());
            let place = place.hint_if(failure.hint.clone());
            failure.at(source, vec![place])
        }
        None => failure,
    }
}

/// The stage that an image's name may have meant, where it is used as a stage's.
fn stage_hint(error: &BuildError, source: &Dockerfile) -> Option<String> {
    let BuildError::BaseImage { span, source: BaseImageError::Registry(_), .. } = error else {
        return None;
    };
    let named = source.bytes.get(span.range())?;
    let named = String::from_utf8_lossy(named);
    let parse = strata_dockerfile::parse(&source.bytes);
    let stages: Vec<&str> = parse.tree.instructions().iter().filter_map(stage_name).collect();
    let close = strata_dockerfile::suggest(&named, stages)?;
    Some(format!("no stage is called `{named}`; did you mean `{close}`?"))
}

fn stage_name(instruction: &Instruction) -> Option<&str> {
    match &instruction.kind {
        strata_dockerfile::Kind::From(from) => from.alias.as_ref().map(|alias| &*alias.value),
        _ => None,
    }
}

/// The errors among findings; warnings beside an error only distract.
pub(crate) fn wrong(found: &[Diagnostic]) -> Vec<Diagnostic> {
    found.iter().filter(|finding| finding.is_error()).cloned().collect()
}

/// Nothing to point at where the span is empty: the error came from the command line.
fn place(error: &BuildError) -> Option<Span> {
    error.span().filter(|span| *span != Span::default())
}

/// An error without its place.
pub(crate) fn plain(error: &BuildError) -> Failure {
    let build = |message: String| Failure::new(Kind::Build, message);
    match error {
        BuildError::Dockerfile(found) => {
            let first = found.iter().find(|finding| finding.is_error());
            let failure = build(first.map_or_else(|| chain(error), |first| first.message.clone()));
            failure.hint_if(first.and_then(|first| first.hint.clone()))
        }
        BuildError::NoStep(error) => no_step(error),
        BuildError::BaseImage { image, source, .. } => base_image(image, source),
        BuildError::Fetch { source, .. } => fetch(source, chain(error)),
        BuildError::Context { source, .. } => lower_errors::scan(source, chain(error)),
        BuildError::IgnoreFile { .. } => {
            build(chain(error)).hint("one pattern a line; `!` brings paths back, `#` is a comment")
        }
        BuildError::Copy { message, hint, .. } => build(message.clone()).hint_if(hint.clone()),
        BuildError::Command { log, .. } => {
            let mut failure = build(error.to_string());
            let note =
                |log: &std::path::PathBuf| format!("all of its output is in `{}`", log.display());
            failure.notes.extend(log.iter().map(note));
            failure
        }
        BuildError::NotAllowed { entitlement, .. } => build(chain(error))
            .hint(format!("give `--allow {entitlement}` if you trust this Dockerfile")),
        BuildError::NotLent { kind, id, nearest, .. } => {
            let give = match *kind {
                "ssh" => format!("give `--ssh {id}`"),
                _ => format!("give `--secret id={id},src=FILE` or `--secret id={id},env=VARIABLE`"),
            };
            let meant = nearest.as_ref().map(|id| format!("did you mean `{id}`?"));
            build(chain(error)).hint(meant.unwrap_or(give))
        }
        BuildError::Cancelled => Failure::new(Kind::Signal(2), "cancelled"),
        BuildError::Push { source, .. } | BuildError::Far(source) => {
            let hint = strata_remote::hint(source).map(str::to_owned);
            Failure::new(lower_errors::registry_kind(source), chain(error)).hint_if(hint)
        }
        BuildError::Exec(error) => lower_errors::exec(error),
        BuildError::Image(error) => lower_errors::image(error),
        BuildError::Tree(error) => lower_errors::tree(error),
        BuildError::Store(error) => lower_errors::store(error),
        BuildError::Changed(_) => {
            build(chain(error)).hint("build again when nothing writes to the context")
        }
        BuildError::Io { source, .. } => lower_errors::io(error, source),
        BuildError::TooManyLayers { .. } => {
            build(chain(error)).hint("give a larger size to `layer-split`")
        }
        BuildError::Unsound(_) => build(chain(error)).hint("get it again from where it was made"),
        BuildError::Damaged { .. } => Failure::environment(chain(error))
            .hint("build again with `--no-cache`, or name another store with `--store`"),
    }
}

fn fetch(error: &FetchError, message: String) -> Failure {
    match error {
        FetchError::Unreachable(_) => Failure::environment(message)
            .hint("check the address, the network and the proxy settings"),
        FetchError::Refused(reason) if reason.contains("digest") => {
            Failure::new(Kind::Build, message)
                .hint("it has changed, or `--checksum` is wrong: look at it before you trust it")
        }
        FetchError::Refused(_) => Failure::new(Kind::Build, message),
        FetchError::NoGit => {
            Failure::environment(message).hint("install git: repositories are fetched with it")
        }
        FetchError::Cancelled => Failure::new(Kind::Signal(2), "cancelled"),
        FetchError::Io { source, .. } => Failure { message, ..lower_errors::io(error, source) },
    }
}

/// A text that was to name a step and does not.
pub(crate) fn no_step(error: &NoStep) -> Failure {
    let hint = match error {
        NoStep::None { steps, .. } => format!(
            "name it by its number (1 to {steps}), by stage and number (`build.2`), or by a part \
             of its text"
        ),
        NoStep::Many { found, .. } => {
            let numbers: Vec<String> = found.iter().map(|step| (step + 1).to_string()).collect();
            format!("they are the steps {}", numbers.join(", "))
        }
    };
    Failure::usage(error.to_string()).hint(hint)
}

fn base_image(image: &str, error: &BaseImageError) -> Failure {
    let message = format!("image `{image}`: {}", chain(error));
    match error {
        BaseImageError::Registry(error) => {
            let hint = strata_remote::hint(error).map(str::to_owned);
            Failure::new(lower_errors::registry_kind(error), message).hint_if(hint)
        }
        BaseImageError::Image(error) => Failure { message, ..lower_errors::image(error) },
        BaseImageError::Platform { .. } => {
            Failure::new(Kind::Build, message).hint("name one of these with `--platform`")
        }
        BaseImageError::Malformed { .. } => Failure::new(Kind::Build, message),
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use strata_cas::{StoreError, TreePath};
    use strata_exec::{ExecError, Status};
    use strata_image::ImageError;
    use strata_oci::RegistryError;
    use strata_scan::ScanError;

    use super::*;

    fn check(error: BuildError, code: u8, expected: &str) {
        let source =
            Dockerfile { shown: "Dockerfile".to_owned(), bytes: b"FROM a\n".to_vec(), path: None };
        let failure = in_dockerfile(&error, &source);
        assert_eq!((failure.code(), failure.message.as_str()), (code, expected));
        let mut letters = failure.message.chars();
        assert!(!letters.next().is_some_and(char::is_uppercase), "{expected}");
        assert!(!expected.ends_with('.'), "{expected}");
    }

    fn base(source: BaseImageError) -> BuildError {
        BuildError::BaseImage { image: "a".to_owned(), span: Span::new(5, 6), source }
    }

    fn io_error() -> io::Error {
        io::Error::from(io::ErrorKind::PermissionDenied)
    }

    #[test]
    fn each_error_about_the_dockerfile_has_words_and_a_code() {
        let span = Span::new(0, 6);
        let wrong = Diagnostic::error("x", span, "unknown instruction `FORM`");
        check(BuildError::Dockerfile(vec![wrong]), 1, "unknown instruction `FORM`");
        let copy = BuildError::Copy { span, message: "`b` is not there".to_owned(), hint: None };
        check(copy, 1, "`b` is not there");
        let (command, status) = ("npm ci".to_owned(), Status::Exited(7));
        let command = BuildError::Command { step: 0, span, command, status, log: None };
        check(command, 1, "`npm ci` did not complete successfully: exit code: 7");
        let allowed = BuildError::NotAllowed { span, entitlement: "network.host" };
        check(allowed, 1, "this needs `--allow network.host`");
        let (id, nearest) = ("npm".to_owned(), None);
        let lent = BuildError::NotLent { span, kind: "secret", id, nearest };
        check(lent, 1, "secret `npm` is required and was not given");
        let ignore =
            BuildError::IgnoreFile { context: String::new(), message: "line 1".to_owned() };
        check(ignore, 1, "the ignore file of the context: line 1");
    }

    #[test]
    fn each_error_about_a_base_image_has_words_and_a_code() {
        let (registry, reason) = ("r".to_owned(), "refused".to_owned());
        let down = RegistryError::Unreachable { registry, reason };
        check(base(down.into()), 3, "image `a`: registry `r` can not be reached: refused");
        let (reference, registry) = ("a".to_owned(), "r".to_owned());
        let missing = RegistryError::NotFound { reference, registry };
        check(base(missing.into()), 1, "image `a`: `a` is not in the registry `r`");
        let (wanted, there) = ("linux/arm64".to_owned(), vec!["linux/amd64".to_owned()]);
        let platform = BaseImageError::Platform { wanted, there };
        check(base(platform), 1, "image `a`: there is none for linux/arm64, only for linux/amd64");
        let malformed = BaseImageError::Malformed { what: "config", reason: "x".to_owned() };
        check(base(malformed), 1, "image `a`: its config is not understood: x");
        let layout = ImageError::Layout { path: "l".into(), reason: "x".to_owned() };
        check(base(layout.into()), 1, "image `a`: `l` is not a readable image archive: x");
    }

    #[test]
    fn an_image_that_was_meant_to_be_a_stage() {
        let bytes = b"FROM a AS builder\nCOPY --from=bilder /b /\n".to_vec();
        let source = Dockerfile { shown: "Dockerfile".to_owned(), bytes, path: None };
        let (reference, registry) = ("bilder".to_owned(), "r".to_owned());
        let missing = RegistryError::NotFound { reference, registry };
        let (image, span) = ("bilder:latest".to_owned(), Span::new(30, 36));
        let error = BuildError::BaseImage { image, span, source: missing.into() };
        let hint = in_dockerfile(&error, &source).hint.expect("a hint");
        assert_eq!(hint, "no stage is called `bilder`; did you mean `builder`?");
    }

    #[test]
    fn each_error_about_the_machine_has_words_and_a_code() {
        let context = String::new();
        let root = ScanError::Root { path: "c".into(), source: io_error() };
        let unread = BuildError::Context { context, source: root };
        check(unread, 3, "the context: cannot open the context `c`: permission denied");
        check(
            ExecError::Unprivileged.into(),
            3,
            "running a process in a sandbox needs the right to mount",
        );
        let database = StoreError::Database { action: "get", message: "x".to_owned() };
        check(database.into(), 3, "the store's database failed to get: x");
        let path = TreePath::new("a").expect("a path");
        check(BuildError::Changed(path), 1, "`a` changed while the build was reading it");
        let io = BuildError::Io { action: "read `a`".to_owned(), source: io_error() };
        check(io, 3, "read `a`: permission denied");
        let damaged = BuildError::Damaged { what: "records", reason: "x".to_owned() };
        check(damaged, 3, "the store's records can not be read: x");
        let layers = BuildError::TooManyLayers { count: 200, most: 127 };
        check(layers, 1, "the image would have 200 layers, and engines take 127");
        let unsound = BuildError::Unsound("x".to_owned());
        check(unsound, 1, "the image is not sound: x");
        let image = ImageError::io::<io::Error>("write `a`")(io_error());
        check(image.into(), 3, "write `a`: permission denied");
        check(BuildError::Cancelled, 130, "cancelled");
    }
}
