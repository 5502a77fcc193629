//! Counterfactuals: the same history with another Dockerfile, another ignore file, or the same
//! instructions in another order. They are replayed like the history itself.

use strata_scan::{IgnoreError, IgnoreRules};

use crate::edit::{self, Edit};
use crate::prepare::{Asked, Prepared, prepare};

/// What is changed in every commit before it is replayed.
#[derive(Debug, Clone, Default)]
pub struct WhatIf {
    /// This Dockerfile in place of the commit's own.
    pub dockerfile: Option<Vec<u8>>,
    /// This ignore file in place of the commit's own.
    pub ignore_file: Option<Vec<u8>>,
    /// Lines at the end of the ignore file.
    pub ignore: Vec<String>,
    /// What is done to the Dockerfile's text.
    pub edits: Vec<Edit>,
}

impl WhatIf {
    /// Whether nothing is changed.
    pub fn is_nothing(&self) -> bool {
        let Self { dockerfile, ignore_file, ignore, edits } = self;
        dockerfile.is_none() && ignore_file.is_none() && ignore.is_empty() && edits.is_empty()
    }

    /// What is changed, in words.
    pub fn words(&self) -> Vec<String> {
        let Self { dockerfile, ignore_file, ignore, edits } = self;
        let mut words = Vec::new();
        words.extend(dockerfile.iter().map(|_| "another Dockerfile".to_owned()));
        words.extend(ignore_file.iter().map(|_| "another ignore file".to_owned()));
        words.extend(ignore.iter().map(|line| format!("`{line}` is ignored")));
        words.extend(edits.iter().map(|edit| edit.words().to_owned()));
        words
    }

    /// The Dockerfile of a commit that has this one.
    pub(crate) fn text(&self, own: &[u8], asked: &Asked) -> Vec<u8> {
        let mut text = self.dockerfile.clone().unwrap_or_else(|| own.to_vec());
        for edit in &self.edits {
            if let Some(edited) = edit::apply(edit, &text, asked) {
                text = edited;
            }
        }
        text
    }

    pub(crate) fn prepare(&self, own: &[u8], asked: &Asked) -> Result<Prepared, String> {
        prepare(&self.text(own, asked), asked)
    }

    pub(crate) fn rules(&self, own: &[u8]) -> Result<IgnoreRules, IgnoreError> {
        IgnoreRules::parse(&self.ignore_text(own))
    }

    /// The ignore file of a commit that has this one; an empty one is as good as none.
    pub(crate) fn ignore_text(&self, own: &[u8]) -> Vec<u8> {
        let mut text = self.ignore_file.clone().unwrap_or_else(|| own.to_vec());
        for line in &self.ignore {
            if !text.is_empty() && !text.ends_with(b"\n") {
                text.push(b'\n');
            }
            text.extend_from_slice(line.as_bytes());
            text.push(b'\n');
        }
        text
    }
}
