//! Live lines for a terminal: what is done scrolls by, what runs stays at the bottom with its
//! time, its bytes and the last line that it wrote.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use strata_build::Event;
use strata_engine::Verdict;
use strata_plan::StepIndex;

use super::steps::{Steps, tame, waiting_for};
use super::{Progress, Summary};
use crate::printer::Printer;
use crate::words::{amount, reason};

const TICK: Duration = Duration::from_millis(120);
const STEP: &str = "{spinner} {prefix} {elapsed}\n    {wide_msg}";
const TRANSFER: &str = "    {prefix} {decimal_bytes} / {decimal_total_bytes} {bar:24}";

/// Draws and draws again.
pub(super) struct Live<'a> {
    printer: &'a Printer,
    screen: MultiProgress,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    steps: Steps,
    /// What runs, with the reason.
    running: BTreeMap<StepIndex, (ProgressBar, String)>,
    transfers: BTreeMap<(StepIndex, String), ProgressBar>,
}

impl<'a> Live<'a> {
    pub(super) fn new(printer: &'a Printer) -> Self {
        let screen = MultiProgress::with_draw_target(ProgressDrawTarget::stderr());
        Self { printer, screen, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A line that stays.
    fn keep(&self, line: &str) {
        self.screen.suspend(|| self.printer.talk(line));
    }

    fn begin(&self, state: &mut State, step: StepIndex, why: String) {
        state.steps.begin(step);
        let bar = self.screen.add(ProgressBar::new_spinner().with_style(style(STEP)));
        bar.set_prefix(tame(state.steps.name(step)));
        bar.set_message(format!("why: {why}"));
        bar.enable_steady_tick(TICK);
        state.running.insert(step, (bar, why));
    }

    fn end(&self, state: &mut State, step: StepIndex, how: &str) {
        let why = state.running.remove(&step).map(|(bar, why)| {
            bar.finish_and_clear();
            self.screen.remove(&bar);
            format!("\n    why: {why}")
        });
        let over = |(of, _): &(StepIndex, String)| *of == step;
        for bar in state.transfers.iter().filter(|(key, _)| over(key)).map(|(_, bar)| bar) {
            bar.finish_and_clear();
            self.screen.remove(bar);
        }
        state.transfers.retain(|key, _| !over(key));
        let why = why.unwrap_or_default();
        self.keep(&format!(" => {} {how}{why}", tame(state.steps.name(step))));
    }

    fn transfer(&self, state: &mut State, key: (StepIndex, String), done: u64, total: u64) {
        let bar = state.transfers.entry(key).or_insert_with_key(|(_, what)| {
            let bar = ProgressBar::new(total).with_style(style(TRANSFER));
            bar.set_prefix(tame(what));
            self.screen.add(bar)
        });
        bar.set_length(total);
        bar.set_position(done);
        if done >= total {
            bar.finish_and_clear();
        }
    }
}

impl Progress for Live<'_> {
    fn observe(&self, event: Event<'_>) {
        let mut state = self.state();
        let state = &mut *state;
        match event {
            Event::Resolving { image } => self.keep(&format!(" => load metadata for {image}")),
            Event::Fetching { what } => self.keep(&format!(" => fetch {}", tame(what))),
            Event::Planned(plan) => state.steps.planned(plan),
            Event::Scanned { .. } | Event::Fetched { .. } => {}
            Event::Note(text) => self.keep(&format!("note: {}", tame(&text))),
            Event::Waiting { step, pid } => {
                let name = tame(state.steps.name(step));
                self.keep(&format!(" => {name}: {}", waiting_for(pid)));
            }
            Event::Running { step, why } => self.begin(state, step, tame(&reason::words(why))),
            Event::Verified { step, verified } => {
                let (name, what) = (state.steps.name(step), reason::verified(verified));
                self.keep(&format!(" => {} {}", tame(name), tame(&what)));
            }
            Event::Transfer { step, what, done, total } => {
                self.transfer(state, (step, what), done, total);
            }
            Event::Output { step, stream, bytes } => {
                let lines = state.steps.output(step, stream, bytes);
                if let (Some(line), Some((bar, _))) = (lines.last(), state.running.get(&step)) {
                    bar.set_message(tame(line));
                }
            }
            Event::Done { step, verdict: Verdict::Hit(_), .. } => self.end(state, step, "CACHED"),
            Event::Done { step, verdict: Verdict::Miss(_), millis } => {
                let time = amount::seconds(Duration::from_millis(millis));
                self.end(state, step, &format!("DONE {time}"));
            }
            Event::Cancelled { step } => self.end(state, step, "CANCELED"),
            Event::Failed { step } => self.end(state, step, "ERROR"),
        }
    }

    fn unseen_output(&self, step: StepIndex) -> Vec<String> {
        self.state().steps.tail(step).iter().map(|line| tame(line)).collect()
    }

    fn finish(&self, summary: Option<&Summary>) {
        let _ = self.screen.clear();
        self.screen.set_draw_target(ProgressDrawTarget::hidden());
        summary.into_iter().flat_map(Summary::lines).for_each(|line| self.printer.talk(&line));
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_spinner())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_templates_are_ones() {
        for template in [STEP, TRANSFER] {
            assert!(ProgressStyle::with_template(template).is_ok(), "{template}");
        }
    }
}
