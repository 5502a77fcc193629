//! `COPY` and `ADD`.

use super::{Head, Reader};
use crate::diagnostic::Diagnostic;
use crate::flags::Flags;
use crate::{AddArgs, CopyArgs, Files, Heredoc, Kind, Word};

impl Reader<'_> {
    pub(super) fn copy(&mut self, head: &Head<'_>, mut flags: Flags) -> Option<Kind> {
        let files = self.files(head, &mut flags)?;
        let parents = flags.switch("parents").unwrap_or(false);
        Some(Kind::Copy(CopyArgs { files, from: flags.value("from"), parents }))
    }

    pub(super) fn add(&mut self, head: &Head<'_>, mut flags: Flags) -> Option<Kind> {
        Some(Kind::Add(AddArgs {
            files: self.files(head, &mut flags)?,
            keep_git_dir: flags.switch("keep-git-dir"),
            checksum: flags.value("checksum"),
            unpack: flags.switch("unpack"),
        }))
    }

    fn files(&mut self, head: &Head<'_>, flags: &mut Flags) -> Option<Files> {
        let mut words = self.json_or_words(head.rest).ok()?;
        let dest = words.pop().filter(|_| !words.is_empty());
        let Some(dest) = dest else {
            let example = format!("{} <source>... <destination>", head.keyword);
            return self.missing(head, "at least two arguments: source and destination", &example);
        };
        if Heredoc::read(&dest.raw).is_some() {
            let message = format!("`{}` cannot accept a heredoc as a destination", head.keyword);
            return self.fail(Diagnostic::error("heredoc-destination", dest.span, message));
        }
        if words.len() > 1 {
            self.warn_about_one_name(&dest);
        }
        let (heredocs, sources): (Vec<_>, Vec<_>) =
            words.into_iter().map(|word| self.inline_file(word)).partition(Result::is_ok);
        Some(Files {
            sources: sources.into_iter().filter_map(Result::err).collect(),
            heredocs: heredocs.into_iter().flatten().collect(),
            dest,
            chown: flags.value("chown"),
            chmod: flags.value("chmod"),
            link: flags.switch("link").unwrap_or(false),
            exclude: flags.values("exclude"),
        })
    }

    /// Warns about several sources for what may be one file: BuildKit copies each over the one
    /// before, unless a directory is there.
    fn warn_about_one_name(&mut self, dest: &Word) {
        if dest.raw.ends_with(['/', '.']) || dest.raw.contains('$') {
            return;
        }
        let message = "of several sources only the last is left here, unless it is a directory";
        let diagnostic = Diagnostic::warning("several-sources-one-name", dest.span, message);
        self.diagnostics.push(diagnostic.hint(format!("end it with a slash: `{dest}/`")));
    }

    /// The here-document that a source stands for, or the source. Of equal names the last counts.
    fn inline_file(&self, source: Word) -> Result<Heredoc, Word> {
        let Some(opened) = Heredoc::read(&source.raw) else { return Err(source) };
        let same_name = |heredoc: &&Heredoc| heredoc.name == opened.name;
        let found = self.heredocs.iter().rev().find(same_name).ok_or(source)?;
        Ok(Heredoc { expand: opened.expand, chomp: opened.chomp, ..found.clone() })
    }
}
