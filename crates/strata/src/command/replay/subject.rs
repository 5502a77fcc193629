//! What is replayed: the repository, its commits, the Dockerfile, and what steps cost.

use std::path::{Path, PathBuf};

use strata_replay::{
    Asked, Commit, History, HistoryError, Order, Range, Request, Scheme, Study, default_dockerfile,
};

use crate::arguments::{ReplayArguments, ReplayKeys, ReplayOrder};
use crate::environment::Environment;
use crate::failure::Failure;
use crate::printer::{Label, Printer};
use crate::request;
use crate::settings::Settings;

/// How many commits are replayed if nobody says.
const LAST: usize = 200;

/// A history and what is asked of it.
pub(super) struct Subject {
    pub(super) history: History,
    pub(super) commits: Vec<Commit>,
    pub(super) range: Range,
    pub(super) request: Request,
    pub(super) main: Scheme,
    pub(super) name: String,
}

impl Subject {
    pub(super) fn find(
        arguments: &ReplayArguments,
        settings: &dyn Fn() -> Result<Settings, Failure>,
        environment: &Environment,
        printer: &Printer,
    ) -> Result<Self, Failure> {
        let path = &arguments.repository;
        if let Err(error) = std::fs::metadata(path) {
            return Err(Failure::file("open the repository", path, &error));
        }
        let history = History::open(path).map_err(|error| unreadable(&error))?;
        let range = range(arguments);
        let (commits, gap) = history.commits(&range).map_err(|error| unreadable(&error))?;
        if let Some(gap) = gap {
            printer.labelled(Label::Note, &format!("the history ends early: {gap}"));
        }
        if commits.is_empty() {
            return Err(Failure::usage("there is no commit in this range")
                .hint("`A..B` has the commits of B that A does not have"));
        }
        let context = match &arguments.context {
            Some(context) => context.clone(),
            None => below_checkout(&history, path),
        };
        let dockerfile = match &arguments.file {
            Some(file) => in_repository(&history, file),
            None => default_dockerfile(&history, &commits, &context)
                .map_err(|error| unreadable(&error))?
                .map_err(|others| no_dockerfile(&others))?,
        };
        let mut request = Request::new(dockerfile);
        request.context = context;
        request.asked = Asked {
            target: arguments.target.clone(),
            build_args: request::build_args(&arguments.build_args, environment)?,
            platform: Some(request::platform(arguments.platform.as_deref(), environment)?),
        };
        if arguments.measured {
            request.costs = super::super::stats::costs(&settings()?)?;
        }
        let name = name(&history);
        Ok(Self { history, commits, range, request, main: scheme(arguments.keys), name })
    }

    pub(super) fn study(&self) -> Study<'_> {
        Study {
            history: &self.history,
            commits: &self.commits,
            request: &self.request,
            main: self.main,
        }
    }
}

pub(super) fn range(arguments: &ReplayArguments) -> Range {
    // A range with a beginning is meant as it is.
    let has_beginning = arguments
        .range
        .as_ref()
        .is_some_and(|range| range.split_once("..").is_some_and(|(from, _)| !from.is_empty()));
    let order = match arguments.order {
        ReplayOrder::FirstParent => Order::FirstParent,
        ReplayOrder::Date => Order::Date,
        ReplayOrder::Topo => Order::Topo,
    };
    let last = arguments.last.or((!has_beginning).then_some(LAST));
    Range { revisions: arguments.range.clone(), last, order }
}

fn scheme(keys: ReplayKeys) -> Scheme {
    match keys {
        ReplayKeys::Classic => Scheme::Classic,
        ReplayKeys::Buildkit => Scheme::BuildKit,
        ReplayKeys::StrataDefinition => Scheme::Definition,
        ReplayKeys::Strata => Scheme::Strata,
        ReplayKeys::StrataLink => Scheme::Link,
        ReplayKeys::ReadSetEstimate => Scheme::ReadSet,
    }
}

/// Where a directory lies in its checkout.
fn below_checkout(history: &History, path: &Path) -> PathBuf {
    let whole = |path: &Path| std::fs::canonicalize(path).ok();
    let below = history.checkout().and_then(whole).zip(whole(path));
    below
        .and_then(|(checkout, path)| path.strip_prefix(checkout).map(Path::to_path_buf).ok())
        .filter(|below| !below.starts_with(".git"))
        .unwrap_or_default()
}

/// A file as the repository names it: it may be given as seen from here.
fn in_repository(history: &History, file: &Path) -> PathBuf {
    let checkout = history.checkout().and_then(|path| std::fs::canonicalize(path).ok());
    let here = file.parent().and_then(|parent| {
        let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
        Some(std::fs::canonicalize(parent).ok()?.join(file.file_name()?))
    });
    match (checkout, here) {
        (Some(checkout), Some(here)) if here.exists() && here.starts_with(&checkout) => {
            here.strip_prefix(checkout).map_or_else(|_| file.to_path_buf(), Path::to_path_buf)
        }
        _ => file.to_path_buf(),
    }
}

/// What the repository is called: its directory's name.
fn name(history: &History) -> String {
    let directory = history.checkout().unwrap_or(history.directory());
    let whole = std::fs::canonicalize(directory).unwrap_or_else(|_| directory.to_path_buf());
    let name = whole.file_name().map(|name| name.to_string_lossy().into_owned());
    let name = name.unwrap_or_else(|| "repository".to_owned());
    name.strip_suffix(".git").map_or(name.clone(), str::to_owned)
}

fn no_dockerfile(others: &[String]) -> Failure {
    let hint = match others {
        [] => "no commit of the range has one".to_owned(),
        [only] => format!("is it `-f {only}`?"),
        some => {
            let shown: Vec<&str> = some.iter().take(5).map(String::as_str).collect();
            format!("name it with `-f`: there are `{}`", shown.join("`, `"))
        }
    };
    Failure::usage("no commit of this range has a Dockerfile in its context").hint(hint)
}

/// What is wrong with a history, in words.
pub(super) fn unreadable(error: &HistoryError) -> Failure {
    match error {
        HistoryError::NoRepository { .. } => Failure::usage(error.to_string())
            .hint("name a repository, or a directory in its checkout"),
        HistoryError::NoHead { branches } if branches.is_empty() => {
            Failure::usage(error.to_string()).hint("it has no branch either")
        }
        HistoryError::NoHead { branches } => Failure::usage(error.to_string())
            .hint(format!("name a branch with `--range`: `{}`", branches.join("`, `"))),
        HistoryError::NoRevision { .. } => Failure::usage(error.to_string()),
        HistoryError::Object { .. } => Failure::environment(error.to_string())
            .hint("is the clone complete? Trees and commits are needed, files are not"),
    }
}
