//! Nothing, until a step fails.

use std::sync::{Mutex, PoisonError};

use strata_build::Event;
use strata_plan::StepIndex;

use super::steps::Steps;
use super::{Progress, Summary};
use crate::printer::Printer;

/// Keeps the end of each step's output.
pub(super) struct Quiet<'a> {
    printer: &'a Printer,
    steps: Mutex<Steps>,
}

impl<'a> Quiet<'a> {
    pub(super) fn new(printer: &'a Printer) -> Self {
        Self { printer, steps: Mutex::default() }
    }
}

impl Progress for Quiet<'_> {
    fn observe(&self, event: Event<'_>) {
        if let Event::Output { step, stream, bytes } = event {
            let mut steps = self.steps.lock().unwrap_or_else(PoisonError::into_inner);
            steps.output(step, stream, bytes);
        }
    }

    fn unseen_output(&self, step: StepIndex) -> Vec<String> {
        self.steps.lock().unwrap_or_else(PoisonError::into_inner).tail(step)
    }

    fn finish(&self, summary: Option<&Summary>) {
        if let Some(summary) = summary {
            self.printer.data(&summary.image);
        }
    }
}
