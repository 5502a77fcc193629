//! `NoEmptyContinuation`: the parser sees empty lines inside instructions, and warns itself.

use super::Rule;

pub(super) const RULE: Rule = Rule::buildkit(
    "NoEmptyContinuation",
    "Empty continuation lines will become errors in a future release",
    |_, _| {},
)
.of_words();
