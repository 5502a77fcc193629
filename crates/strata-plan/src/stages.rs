//! The stages of a file: which there are, how they are named, and which ones one needs.

use std::collections::BTreeSet;

use strata_dockerfile::{Diagnostic, FromArgs, Instruction, Kind, MountKey, Span, suggest};

use crate::evaluate::{Evaluation, Wrong};

/// A stage as the file has it.
pub(crate) struct StageText<'a> {
    pub(crate) from: &'a FromArgs,
    /// The FROM and what follows it.
    pub(crate) instructions: &'a [Instruction],
}

impl Evaluation<'_> {
    pub(crate) fn target_stage(&self, name: &str) -> Result<usize, Wrong> {
        let number = name.parse::<usize>().ok().filter(|number| *number < self.stages.len());
        self.find_stage(name, self.stages.len()).or(number).ok_or_else(|| {
            let message = format!("target stage `{name}` could not be found");
            let names: Vec<&str> = self.stages.iter().filter_map(|s| alias(s.from)).collect();
            let hint = match suggest(name, names.iter().copied()) {
                Some(close) => format!("did you mean `{close}`?"),
                None if names.is_empty() => "no stage of this file has a name".to_owned(),
                None => format!("the stages are `{}`", names.join("`, `")),
            };
            Box::new(Diagnostic::error("unknown-target", Span::default(), message).hint(hint))
        })
    }

    /// The last stage of this name before the `before`-th.
    pub(crate) fn find_stage(&self, name: &str, before: usize) -> Option<usize> {
        let name = name.to_ascii_lowercase();
        let earlier = self.stages[..before].iter();
        earlier.enumerate().rev().find(|(_, s)| alias(s.from) == Some(&name)).map(|(at, _)| at)
    }

    /// In a file of very many stages, evaluates what a stage needs before it: a stage evaluates
    /// what it comes upon, and that as deep as stages can go would take more stack than there is.
    pub(crate) fn stages_below(&mut self, target: usize) -> Result<(), Wrong> {
        const FEW: usize = 100;
        if target < FEW {
            return Ok(());
        }
        let mut needed = BTreeSet::new();
        let mut next = vec![target];
        while let Some(stage) = next.pop() {
            if needed.insert(stage) {
                next.extend(self.needs(stage));
            }
        }
        // A stage needs only those above it.
        needed.into_iter().try_for_each(|stage| self.stage(stage).map(drop))
    }

    /// The stages that a stage names: its base, and what it copies from and mounts.
    fn needs(&self, stage: usize) -> Vec<usize> {
        let text = &self.stages[stage];
        if alias(text.from).is_some_and(|alias| self.context(alias).is_some()) {
            return Vec::new();
        }
        let base = self.base_name(text.from).ok().map(|name| name.text);
        let mut names: Vec<String> = base.into_iter().collect();
        for instruction in text.instructions {
            match &instruction.kind {
                Kind::Copy(copy) => names.extend(copy.from.as_ref().map(|from| from.raw.clone())),
                Kind::Run(run) => {
                    let from = run.mounts.iter().filter_map(|each| each.value(MountKey::From));
                    names.extend(from.map(|from| from.raw.clone()));
                }
                _ => {}
            }
        }
        let number = |name: &str| name.parse().ok().filter(|number| *number < stage);
        let find = |name: &String| self.find_stage(name, stage).or_else(|| number(name));
        names.iter().filter_map(find).collect()
    }
}

pub(crate) fn alias(from: &FromArgs) -> Option<&str> {
    from.alias.as_ref().map(|alias| &*alias.value)
}

/// The stages of a file.
pub(crate) fn stages(instructions: &[Instruction]) -> Vec<StageText<'_>> {
    let starts: Vec<(usize, &FromArgs)> = instructions
        .iter()
        .enumerate()
        .filter_map(|(at, instruction)| match &instruction.kind {
            Kind::From(from) => Some((at, from)),
            _ => None,
        })
        .collect();
    let ends = starts.iter().skip(1).map(|(at, _)| *at).chain([instructions.len()]);
    let ranges = starts.iter().zip(ends);
    ranges
        .map(|((start, from), end)| StageText { from, instructions: &instructions[*start..end] })
        .collect()
}
