//! `--policies`: what caches of limited size would have given, for one repository or several.

use strata_replay::{
    History, Interleaving, PolicyReport, Request, Requests, Tally, Trace, default_dockerfile,
    policies, replay,
};

use super::progress::Watcher;
use super::subject::{Subject, range, unreadable};
use crate::arguments::{ReplayArguments, ReplayInterleaving};
use crate::failure::Failure;

pub(super) fn compare(
    arguments: &ReplayArguments,
    subject: &Subject,
    first: &Tally,
    watcher: &mut Watcher<'_>,
) -> Result<Vec<PolicyReport>, Failure> {
    let mut others: Vec<Trace> = Vec::new();
    for path in &arguments.policies.and {
        let history = History::open(path).map_err(|error| unreadable(&error))?;
        let wanted = strata_replay::Range { revisions: None, ..range(arguments) };
        let (commits, _) = history.commits(&wanted).map_err(|error| unreadable(&error))?;
        let found = default_dockerfile(&history, &commits, std::path::Path::new(""));
        let dockerfile = found.map_err(|error| unreadable(&error))?.map_err(|_| {
            Failure::usage(format!("`{}` has no Dockerfile in its root", path.display()))
        })?;
        let request = Request {
            asked: subject.request.asked.clone(),
            costs: subject.request.costs.clone(),
            ..Request::new(dockerfile)
        };
        let request =
            Request { asked: strata_replay::Asked { target: None, ..request.asked }, ..request };
        let tally = replay(&history, &commits, &request, &mut |at| watcher.tell("replayed", at));
        others.push(tally.map_err(|error| unreadable(&error))?.trace().clone());
    }
    let traces: Vec<&Trace> = std::iter::once(first.trace()).chain(&others).collect();
    let interleaving = match arguments.policies.interleave {
        ReplayInterleaving::Bursty => Interleaving::Bursty,
        ReplayInterleaving::RoundRobin => Interleaving::RoundRobin,
    };
    watcher.say("comparing policies".to_owned());
    let requests = Requests::new(&traces, interleaving);
    Ok(policies(&requests, &arguments.policies.capacity))
}
