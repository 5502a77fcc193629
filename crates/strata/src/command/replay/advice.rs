//! `--advise`: the search, told while it lasts.

use strata_replay::{Advice, Study, advise};

use super::progress::Watcher;
use super::subject::unreadable;
use crate::failure::Failure;

pub(super) fn search(study: &Study<'_>, watcher: &mut Watcher<'_>) -> Result<Advice, Failure> {
    let shared = study.history.shared();
    let advice =
        advise(study, &shared, &mut |replays| watcher.say(format!("tried {replays} replays")));
    let advice = advice.map_err(|error| unreadable(&error))?;
    advice.ok_or_else(|| Failure::usage("the newest commit has no Dockerfile to advise on"))
}
