//! How far a replay is, and its end by Ctrl-C. On a terminal one line is drawn anew, elsewhere
//! there is a line every ten seconds.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use strata_replay::Progress;

use crate::failure::Failure;
use crate::printer::Printer;
use crate::signals::Watch;

const EVERY: Duration = Duration::from_secs(10);

pub(super) struct Watcher<'a> {
    printer: &'a Printer,
    watch: Watch,
    bar: Option<ProgressBar>,
    begin: Instant,
    said: Instant,
}

impl<'a> Watcher<'a> {
    pub(super) fn new(printer: &'a Printer) -> Result<Self, Failure> {
        let now = Instant::now();
        let bar = printer.is_terminal().then(bar);
        Ok(Self { printer, watch: Watch::for_replay()?, bar, begin: now, said: now })
    }

    /// Tells how far it is; false ends it.
    pub(super) fn tell(&mut self, verb: &str, at: Progress) -> bool {
        if at.done <= 1 {
            self.begin = Instant::now();
        }
        let left = self.begin.elapsed().as_secs_f64() / at.done.max(1) as f64
            * (at.total - at.done) as f64;
        let text = format!("{verb} {} of {} commits, {left:.0}s left", at.done, at.total);
        self.say(text);
        !self.is_cancelled()
    }

    /// Tells something; false ends what it is about.
    pub(super) fn say(&mut self, text: String) -> bool {
        match &self.bar {
            Some(bar) => bar.set_message(text),
            None if self.said.elapsed() >= EVERY => {
                self.said = Instant::now();
                self.printer.talk(&text);
            }
            None => {}
        }
        !self.is_cancelled()
    }

    pub(super) fn is_cancelled(&self) -> bool {
        self.watch.cancel.is_cancelled()
    }

    /// The signal that ended it.
    pub(super) fn signal(&self) -> u8 {
        self.watch.signal()
    }

    /// Takes the line away.
    pub(super) fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn bar() -> ProgressBar {
    let bar = ProgressBar::new_spinner();
    if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(120));
    bar
}
