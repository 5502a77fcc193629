//! Shows what happens during a build, in one of four manners. All of it goes to stderr.

mod json;
mod kept;
mod live;
mod plain;
mod quiet;
mod steps;

use std::time::Duration;

use strata_build::{BuildReport, Event};
use strata_engine::Verdict;
use strata_plan::StepIndex;

pub(crate) use kept::Kept;
pub(crate) use steps::{one_line, step_names, tame};

use crate::arguments::ProgressMode;
use crate::printer::Printer;
use crate::words::amount;

/// One manner. Events come from several threads.
pub(crate) trait Progress: Sync {
    /// Shows an event.
    fn observe(&self, event: Event<'_>);

    /// The end of a step's output, if the user has not seen it.
    fn unseen_output(&self, step: StepIndex) -> Vec<String>;

    /// Shows how it ended; `None` for a failure, which is told elsewhere.
    fn finish(&self, summary: Option<&Summary>);
}

/// What came of a build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Summary {
    /// The image's id.
    pub(crate) image: String,
    /// The names that it got.
    pub(crate) names: Vec<String>,
    /// Steps that were in the cache.
    pub(crate) cached: usize,
    /// Steps that ran.
    pub(crate) ran: usize,
    /// Wall time.
    pub(crate) time: Duration,
}

impl Summary {
    pub(crate) fn new(report: &BuildReport, names: Vec<String>, time: Duration) -> Self {
        let hits = report.steps.iter().filter(|step| matches!(step.verdict, Verdict::Hit(_)));
        let cached = hits.count();
        let ran = report.steps.len() - cached;
        Self { image: report.image.to_string(), names, cached, ran, time }
    }

    /// For people: the image, its names, and what it took.
    pub(crate) fn lines(&self) -> Vec<String> {
        let mut lines = vec![format!("image {}", self.image)];
        lines.extend(self.names.iter().map(|name| format!("named {name}")));
        let (cached, ran) = (self.cached, self.ran);
        let steps = amount::counted(cached + ran, "step");
        lines
            .push(format!("{steps}: {cached} cached, {ran} ran in {}", amount::seconds(self.time)));
        lines
    }
}

/// The manner that fits: `auto` is live lines on a terminal, plain ones elsewhere.
pub(crate) fn new(mode: ProgressMode, printer: &Printer) -> Box<dyn Progress + '_> {
    match mode {
        ProgressMode::Auto | ProgressMode::Tty if printer.is_terminal() => {
            Box::new(live::Live::new(printer))
        }
        ProgressMode::Auto | ProgressMode::Tty | ProgressMode::Plain => {
            Box::new(plain::Plain::new(printer))
        }
        ProgressMode::Rawjson => Box::new(json::Json::new(printer)),
        ProgressMode::Quiet => Box::new(quiet::Quiet::new(printer)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_reads_as_a_sentence() {
        let (image, names) = ("sha256:1".to_owned(), vec!["app:latest".to_owned()]);
        let time = Duration::from_millis(2_300);
        let summary = Summary { image, names, cached: 3, ran: 1, time };
        let expected = ["image sha256:1", "named app:latest", "4 steps: 3 cached, 1 ran in 2.3s"];
        assert_eq!(summary.lines(), expected);
    }
}
