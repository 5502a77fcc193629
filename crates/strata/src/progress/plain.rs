//! Plain lines, for pipes and logs. Each line of a step begins with the step's number in the
//! plan, which is the same in every build of the same Dockerfile.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use strata_build::Event;
use strata_engine::Verdict;
use strata_plan::StepIndex;

use super::steps::{Steps, waiting_for};
use super::{Progress, Summary};
use crate::printer::Printer;
use crate::words::{amount, reason};

/// A transfer is told about no more often than that.
const TRANSFER_PAUSE: Duration = Duration::from_secs(5);

/// Writes line after line.
pub(super) struct Plain<'a> {
    printer: &'a Printer,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    steps: Steps,
    /// When a transfer was last told about, and whether it was complete then.
    transfers: BTreeMap<(StepIndex, String), (Instant, bool)>,
}

impl<'a> Plain<'a> {
    pub(super) fn new(printer: &'a Printer) -> Self {
        Self { printer, state: Mutex::default() }
    }
}

impl Progress for Plain<'_> {
    fn observe(&self, event: Event<'_>) {
        // The lock is held while lines are written, so that they stay together.
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        for line in state.lines(event) {
            self.printer.talk(&line);
        }
    }

    fn unseen_output(&self, _: StepIndex) -> Vec<String> {
        Vec::new()
    }

    fn finish(&self, summary: Option<&Summary>) {
        summary.into_iter().flat_map(Summary::lines).for_each(|line| self.printer.talk(&line));
    }
}

impl State {
    fn lines(&mut self, event: Event<'_>) -> Vec<String> {
        match event {
            Event::Resolving { image } => vec![format!("#0 [internal] load metadata for {image}")],
            Event::Fetching { what } => vec![format!("#0 [internal] fetch {what}")],
            Event::Fetched { what, bytes: Some(count) } => {
                vec![format!("#0 fetched {what}: {}", amount::bytes(count))]
            }
            Event::Fetched { what, bytes: None } => vec![format!("#0 unchanged: {what}")],
            Event::Planned(plan) => {
                self.steps.planned(plan);
                Vec::new()
            }
            Event::Scanned { context, stats } => {
                let name = if context.is_empty() { "build context" } else { context };
                let files = usize::try_from(stats.files).unwrap_or(usize::MAX);
                let (files, bytes) = (amount::counted(files, "file"), amount::bytes(stats.bytes));
                let read = stats.hashed_files;
                vec![format!("#0 [internal] scan {name}: {files}, {bytes}, {read} read")]
            }
            Event::Note(text) => vec![format!("#0 note: {text}")],
            Event::Waiting { step, pid } => {
                vec![self.title(step), format!("#{} {}", step + 1, waiting_for(pid))]
            }
            Event::Running { step, why } => {
                self.steps.begin(step);
                vec![self.title(step), format!("#{} why: {}", step + 1, reason::words(why))]
            }
            Event::Verified { step, verified } => {
                vec![self.title(step), format!("#{} {}", step + 1, reason::verified(verified))]
            }
            Event::Transfer { step, what, done, total } => self.transfer(step, what, done, total),
            Event::Output { step, stream, bytes } => {
                let lines = self.steps.output(step, stream, bytes);
                self.output(step, &lines)
            }
            Event::Done { step, verdict: Verdict::Hit(_), .. } => {
                vec![self.title(step), format!("#{} CACHED", step + 1)]
            }
            Event::Done { step, verdict: Verdict::Miss(_), millis } => {
                let time = amount::seconds(Duration::from_millis(millis));
                self.last(step, format!("#{} DONE {time}", step + 1))
            }
            Event::Cancelled { step } => self.last(step, format!("#{} CANCELED", step + 1)),
            Event::Failed { step } => self.last(step, format!("#{} ERROR", step + 1)),
        }
    }

    fn title(&self, step: StepIndex) -> String {
        format!("#{} {}", step + 1, self.steps.name(step))
    }

    fn output(&self, step: StepIndex, lines: &[String]) -> Vec<String> {
        let time = self.steps.elapsed(step).as_secs_f64();
        lines.iter().map(|line| format!("#{} {time:.2} {line}", step + 1)).collect()
    }

    fn last(&mut self, step: StepIndex, line: String) -> Vec<String> {
        let lines = self.steps.flush(step);
        let mut lines = self.output(step, &lines);
        lines.push(line);
        lines
    }

    fn transfer(&mut self, step: StepIndex, what: String, done: u64, total: u64) -> Vec<String> {
        let line =
            format!("#{} {what} {} / {}", step + 1, amount::bytes(done), amount::bytes(total));
        let complete = done >= total;
        let is_due = match self.transfers.get(&(step, what.clone())) {
            Some((_, true)) => false,
            Some((told, false)) => complete || told.elapsed() >= TRANSFER_PAUSE,
            None => true,
        };
        if is_due {
            self.transfers.insert((step, what), (Instant::now(), complete));
        }
        is_due.then_some(line).into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use strata_build::Why;
    use strata_engine::{Found, MissReason};
    use strata_exec::Stream;

    use super::*;

    #[test]
    fn lines_are_stable() {
        let mut state = State::default();
        let parse = strata_dockerfile::parse(b"FROM scratch\nCOPY a /\nCOPY b /\n");
        let plan = strata_plan::plan(&strata_plan::Request::new(&parse.tree), &|_| None);
        let mut lines = state.lines(Event::Planned(&plan.expect("a plan")));
        let (hit, miss) = (Verdict::Hit(Found::ByDefinition), Verdict::Miss(MissReason::First));
        lines.extend(state.lines(Event::Done { step: 0, verdict: &hit, millis: 1 }));
        lines.extend(state.lines(Event::Running { step: 1, why: &Why::First }));
        let bytes = b"hello\nworld";
        lines.extend(state.lines(Event::Output { step: 1, stream: Stream::Out, bytes }));
        lines.extend(state.lines(Event::Done { step: 1, verdict: &miss, millis: 2_100 }));
        let expected = [
            "#1 [1/2] COPY a /",
            "#1 CACHED",
            "#2 [2/2] COPY b /",
            "#2 why: first build",
            "#2 0.00 hello",
            "#2 0.00 world",
            "#2 DONE 2.1s",
        ];
        assert_eq!(lines, expected);
    }
}
