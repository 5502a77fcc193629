//! The rules, one file each. BuildKit's have its names and find what it finds; where the reading
//! of a rule is ours, its file says so.

mod apt_get_update_alone;
mod changing_arg_too_early;
mod consistent_instruction_casing;
mod copy_all_before_install;
mod copy_ignored_file;
mod dependencies_in_context;
mod duplicate_stage_name;
mod expose_invalid_format;
mod expose_proto_casing;
mod from_as_casing;
mod from_platform_flag_const_disallowed;
mod git_in_context;
mod invalid_base_image_platform;
mod invalid_default_arg_in_from;
mod invalid_definition_description;
mod json_args_recommended;
mod legacy_key_value_format;
mod maintainer_deprecated;
mod multiple_instructions_disallowed;
mod no_empty_continuation;
mod platform;
mod redundant_target_platform;
mod reserved_stage_name;
mod secret_in_context;
mod secrets_used_in_arg_or_env;
mod shell_words;
mod shipped;
mod stage_name_casing;
mod undefined_arg_in_from;
mod undefined_var;
mod workdir_relative_path;

pub use secrets_used_in_arg_or_env::sounds_secret;

use super::subject::{Base, Scope, Stage, Subject};
use crate::Span;
use crate::diagnostic::Diagnostic;

/// One check.
#[derive(Clone, Copy)]
pub struct Rule {
    /// The name: the code of its findings, and the name of its page in `docs/checks`.
    pub name: &'static str,
    /// What it asks for, in one sentence without a final stop.
    pub summary: &'static str,
    /// Where it is from.
    pub origin: Origin,
    /// Whether it must be asked for by name.
    pub experimental: bool,
    /// Whether it looks at words only, and so makes sense in a file with errors.
    pub(super) of_words: bool,
    pub(super) check: fn(&Subject<'_>, &mut Vec<Diagnostic>),
}

/// Where a rule is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// BuildKit's linter.
    BuildKit,
    /// Our own: about what the cache suffers from, and what gets into an image by mistake.
    Strata,
}

impl Rule {
    /// All rules, in the order of their names.
    pub const ALL: [Self; 28] = [
        consistent_instruction_casing::RULE,
        copy_ignored_file::RULE,
        duplicate_stage_name::RULE,
        expose_invalid_format::RULE,
        expose_proto_casing::RULE,
        from_as_casing::RULE,
        from_platform_flag_const_disallowed::RULE,
        invalid_base_image_platform::RULE,
        invalid_default_arg_in_from::RULE,
        invalid_definition_description::RULE,
        json_args_recommended::RULE,
        legacy_key_value_format::RULE,
        maintainer_deprecated::RULE,
        multiple_instructions_disallowed::RULE,
        no_empty_continuation::RULE,
        redundant_target_platform::RULE,
        reserved_stage_name::RULE,
        secrets_used_in_arg_or_env::RULE,
        stage_name_casing::RULE,
        undefined_arg_in_from::RULE,
        undefined_var::RULE,
        workdir_relative_path::RULE,
        apt_get_update_alone::RULE,
        changing_arg_too_early::RULE,
        copy_all_before_install::RULE,
        dependencies_in_context::RULE,
        git_in_context::RULE,
        secret_in_context::RULE,
    ];

    /// The rule of this name.
    #[must_use]
    pub fn find(name: &str) -> Option<&'static Self> {
        const ALL: &[Rule] = &Rule::ALL;
        ALL.iter().find(|rule| rule.name == name)
    }

    const fn buildkit(
        name: &'static str,
        summary: &'static str,
        check: fn(&Subject<'_>, &mut Vec<Diagnostic>),
    ) -> Self {
        let origin = Origin::BuildKit;
        Self { name, summary, origin, experimental: false, of_words: false, check }
    }

    const fn ours(
        name: &'static str,
        summary: &'static str,
        check: fn(&Subject<'_>, &mut Vec<Diagnostic>),
    ) -> Self {
        let origin = Origin::Strata;
        Self { name, summary, origin, experimental: false, of_words: false, check }
    }

    const fn experimental(mut self) -> Self {
        self.experimental = true;
        self
    }

    const fn of_words(mut self) -> Self {
        self.of_words = true;
        self
    }

    fn finding(&self, span: Span, message: impl Into<String>) -> Diagnostic {
        Diagnostic::warning(self.name, span, message)
    }
}

impl std::fmt::Debug for Rule {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_tuple("Rule").field(&self.name).finish()
    }
}
