//! What a plan would fail with, for the checks. No image is looked up, in the store or elsewhere:
//! a check says the same on every machine, and needs no network.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};

use strata_dockerfile::{Diagnostic, Instruction, Kind, Parse, Span};
use strata_oci::{Digest, ImageConfig, Platform};
use strata_plan::{ImageNeed, PlanError, Request, ResolvedImage};

/// A file as it would be planned.
pub(super) struct Plans<'a> {
    pub(super) parse: &'a Parse,
    pub(super) build_args: &'a BTreeMap<String, String>,
    pub(super) target: Option<&'a str>,
    pub(super) platform: &'a Platform,
}

impl Plans<'_> {
    /// The errors of the target's plan; without a target, those of all stages, as BuildKit's
    /// frontend goes through all of them.
    pub(super) fn errors(&self) -> Vec<Diagnostic> {
        let mut errors: Vec<Diagnostic> = Vec::new();
        let mut planned = BTreeSet::new();
        let targets = match self.target {
            Some(target) => vec![(None, target.to_owned())],
            None => self.stages(),
        };
        for (name, target) in targets {
            if name.is_some_and(|name| planned.contains(&name)) {
                continue;
            }
            let is_new = |error: &Diagnostic| {
                let same = |other: &Diagnostic| {
                    (other.span, &other.message) == (error.span, &error.message)
                };
                !errors.iter().any(same)
            };
            match self.plan(target) {
                Ok(stages) => planned.extend(stages),
                Err(found) => {
                    let found: Vec<Diagnostic> = found.into_iter().filter(is_new).collect();
                    errors.extend(found);
                }
            }
        }
        errors
    }

    /// What plans call each stage, and its number; the last one first, which needs most of them.
    fn stages(&self) -> Vec<(Option<String>, String)> {
        let stages = self.parse.tree.instructions().iter().filter_map(|each| match &each.kind {
            Kind::From(from) => Some(from),
            _ => None,
        });
        let stages = stages.enumerate().map(|(number, from)| {
            let number = number.to_string();
            let name =
                from.alias.as_ref().map_or_else(|| number.clone(), |name| name.value.clone());
            (Some(name.to_lowercase()), number)
        });
        let mut stages: Vec<_> = stages.collect();
        stages.reverse();
        stages
    }

    /// The stages that were planned for a target, or what is wrong with one of them.
    fn plan(&self, target: String) -> Result<BTreeSet<String>, Vec<Diagnostic>> {
        let request = Request {
            target: Some(target),
            build_args: self.build_args.clone(),
            platform: self.platform.clone(),
            ..Request::new(&self.parse.tree)
        };
        let unknown = Cell::new(false);
        let images = |need: &ImageNeed| {
            unknown.set(true);
            Some(stand_in(need))
        };
        match strata_plan::plan(&request, &images) {
            Ok(plan) => {
                Ok(plan.entries.into_iter().map(|entry| entry.stage.to_lowercase()).collect())
            }
            // Whose variable may be an unknown image's is not judged.
            Err(PlanError::Wrong(mut wrong)) => {
                wrong.retain(|error| !unknown.get() || !self.has_variables(error.span));
                Err(wrong)
            }
            Err(PlanError::Missing(_)) => Ok(BTreeSet::new()),
        }
    }

    fn has_variables(&self, span: Span) -> bool {
        let instructions = self.parse.tree.instructions();
        let around = instructions.iter().find(|each| each.span.range().contains(&span.start));
        // A FROM sees the file's own arguments only.
        let is_from = |each: &Instruction| matches!(each.kind, Kind::From(_));
        around.is_some_and(|each| !is_from(each) && each.original.contains('$'))
    }
}

/// An image of which nothing is known.
fn stand_in(need: &ImageNeed) -> ResolvedImage {
    let config = ImageConfig {
        architecture: need.platform.architecture.clone(),
        os: need.platform.os.clone(),
        variant: need.platform.variant.clone(),
        ..ImageConfig::default()
    };
    ResolvedImage { digest: Digest::of(b""), config }
}
