//! What is to be told when a build is ended from outside: what ran then, and what is kept.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use strata_build::Event;
use strata_engine::Verdict;
use strata_plan::StepIndex;

use super::steps::Steps;
use crate::words::amount::counted;

/// So many steps are named one by one.
const NAMED_MAX: usize = 8;

/// Watches which steps begin and end.
#[derive(Default)]
pub(crate) struct Kept(Mutex<State>);

#[derive(Default)]
struct State {
    steps: Steps,
    running: BTreeSet<StepIndex>,
    ran: BTreeSet<StepIndex>,
}

impl Kept {
    /// Takes an event, as a manner of progress does.
    pub(crate) fn observe(&self, event: &Event<'_>) {
        let mut state = self.state();
        match event {
            Event::Planned(plan) => state.steps.planned(plan),
            Event::Running { step, .. } => drop(state.running.insert(*step)),
            Event::Done { step, verdict, .. } => {
                state.running.remove(step);
                if matches!(verdict, Verdict::Miss(_)) {
                    state.ran.insert(*step);
                }
            }
            // It is named as one that ran: that is what it did when the end came.
            _ => {}
        }
    }

    /// One line for what ran, one for what is kept.
    pub(crate) fn notes(&self) -> Vec<String> {
        let state = self.state();
        let mut notes = Vec::new();
        let names = |steps: &BTreeSet<StepIndex>| {
            let named = steps.iter().take(NAMED_MAX);
            let named: Vec<String> =
                named.map(|step| format!("`{}`", state.steps.name(*step))).collect();
            let more = steps.len().saturating_sub(NAMED_MAX);
            let more = if more == 0 { String::new() } else { format!(" and {more} more") };
            format!("{}{more}", named.join(", "))
        };
        if !state.running.is_empty() {
            notes.push(format!("ended before it was done: {}", names(&state.running)));
        }
        if !state.ran.is_empty() {
            let count = counted(state.ran.len(), "finished step");
            notes.push(format!("{count} kept for the next build: {}", names(&state.ran)));
        }
        notes
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use strata_build::Why;
    use strata_engine::MissReason;

    use super::*;

    #[test]
    fn what_ran_and_what_is_kept_have_names() {
        let parse = strata_dockerfile::parse(b"FROM scratch\nCOPY a /\nCOPY b /\nCOPY c /\n");
        let plan = strata_plan::plan(&strata_plan::Request::new(&parse.tree), &|_| None);
        let kept = Kept::default();
        kept.observe(&Event::Planned(&plan.expect("a plan")));
        let verdict = Verdict::Miss(MissReason::First);
        for step in [0, 1] {
            kept.observe(&Event::Running { step, why: &Why::First });
        }
        kept.observe(&Event::Done { step: 0, verdict: &verdict, millis: 1 });
        let expected = [
            "ended before it was done: `[2/3] COPY b /`",
            "1 finished step kept for the next build: `[1/3] COPY a /`",
        ];
        assert_eq!(kept.notes(), expected);
        assert_eq!(Kept::default().notes(), [""; 0]);
    }
}
