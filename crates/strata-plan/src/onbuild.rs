//! ONBUILD: what an image or a stage left to those that begin with it.

use strata_dockerfile::{Span, parse_trigger};

use crate::evaluate::{Evaluation, Wrong, wrong};
use crate::stage::State;

/// An instruction that fires at a `FROM`.
pub(crate) struct Trigger {
    /// As it was written.
    pub(crate) text: String,
    /// The `FROM`.
    pub(crate) fired: Span,
    /// Whose it is, for errors: an image's, or a stage's in this file.
    pub(crate) origin: String,
}

impl Evaluation<'_> {
    /// Runs a trigger in the stage that fires it. What is wrong is told at the `FROM`, with the
    /// trigger and where that comes from.
    pub(crate) fn trigger(
        &mut self,
        stage: usize,
        state: &mut State,
        trigger: &Trigger,
        ordinal: usize,
    ) -> Result<(), Wrong> {
        let Trigger { text, fired, origin } = trigger;
        let prefix = format!("in `ONBUILD {text}` of {origin}");
        let parse = parse_trigger(text.as_bytes());
        let error = parse.diagnostics.iter().find(|diagnostic| diagnostic.is_error());
        if let Some(error) = error {
            return Err(wrong(*fired, format!("{prefix}: {}", error.message)));
        }
        let instructions = parse.tree.instructions().to_vec();
        for instruction in &instructions {
            self.instruction(stage, state, instruction, *fired, ordinal).map_err(|mut wrong| {
                wrong.message = format!("{prefix}: {}", wrong.message);
                wrong.span = *fired;
                wrong
            })?;
        }
        Ok(())
    }
}
