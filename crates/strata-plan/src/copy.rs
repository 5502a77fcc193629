//! `COPY` and `ADD`: what is copied from where, with everything expanded. Which paths a pattern
//! selects is found out when the files are there.

use strata_dockerfile::{AddArgs, CopyArgs, Diagnostic, Expander, Files, Instruction, Span, Word};

use crate::evaluate::{Evaluation, Wrong, wrong};
use crate::stage::{State, clean_path};
use crate::{Chmod, CopyOp, CopySource, InlineFile, Op, RemoteSource, Source, StepIndex};

impl CopyOp {
    /// A copy of nothing, for filling in.
    pub fn empty() -> Self {
        Self {
            from: Source::Step(None),
            sources: Vec::new(),
            inline: Vec::new(),
            dest: String::new(),
            chown: None,
            chmod: None,
            exclude: Vec::new(),
            parents: false,
            link: false,
            unpack: false,
            is_add: false,
        }
    }
}

impl Evaluation<'_> {
    pub(crate) fn copy_instruction(
        &mut self,
        stage: usize,
        state: &mut State,
        copy: &CopyArgs,
        instruction: &Instruction,
        span: Span,
        ordinal: usize,
    ) -> Result<StepIndex, Wrong> {
        let mut op = self.files(state, &copy.files, false)?;
        op.from = match &copy.from {
            Some(name) if !name.raw.is_empty() => self.source(stage, &name.raw, name.span)?,
            _ => Source::Context(String::new()),
        };
        op.parents = copy.parents;
        let flags = if copy.parents { " --parents" } else { "" };
        Ok(self.commit_copy(state, op, flags, &copy.files, instruction, span, ordinal))
    }

    pub(crate) fn add_instruction(
        &mut self,
        state: &mut State,
        add: &AddArgs,
        instruction: &Instruction,
        span: Span,
        ordinal: usize,
    ) -> Result<StepIndex, Wrong> {
        let mut op = self.files(state, &add.files, true)?;
        op.from = Source::Context(String::new());
        op.is_add = true;
        op.unpack = add.unpack.unwrap_or(true);
        for remote in op.sources.iter_mut().filter_map(|source| source.remote.as_mut()) {
            match remote {
                RemoteSource::Http(source) => source.unpack = add.unpack == Some(true),
                RemoteSource::Git(source) => {
                    if source.keep_git_dir && add.keep_git_dir == Some(false) {
                        let message = "`--keep-git-dir=false` contradicts the repository's query";
                        return Err(wrong(span, message));
                    }
                    source.keep_git_dir = add.keep_git_dir.unwrap_or(source.keep_git_dir);
                }
            }
        }
        if let Some(checksum) = &add.checksum {
            let text = self.expand(checksum, state)?;
            expect_checksum(&mut op.sources, &text, checksum.span)?;
        }
        Ok(self.commit_copy(state, op, "", &add.files, instruction, span, ordinal))
    }

    /// What COPY and ADD have in common.
    fn files(&self, state: &State, files: &Files, is_add: bool) -> Result<CopyOp, Wrong> {
        let optional = |word: &Option<Word>| match word {
            Some(word) => self.expand(word, state).map(Some),
            None => Ok(None),
        };
        let mut sources = Vec::new();
        for word in &files.sources {
            sources.push(source(&self.expand(word, state)?, word.span, is_add)?);
        }
        // As BuildKit: no variable is replaced in these.
        let exclude = files.exclude.iter().map(|word| word.raw.clone()).collect();
        let dest = self.expand(&files.dest, state)?;
        let dest = state.absolute(&dest);
        let chmod = match (&files.chmod, optional(&files.chmod)?) {
            (Some(word), Some(text)) if !text.is_empty() => Some(chmod(&text, word.span)?),
            _ => None,
        };
        Ok(CopyOp {
            sources,
            inline: self.inline_files(state, files)?,
            dest,
            chown: optional(&files.chown)?.filter(|chown| !chown.is_empty()),
            chmod,
            exclude,
            link: files.link,
            ..CopyOp::empty()
        })
    }

    fn inline_files(&self, state: &State, files: &Files) -> Result<Vec<InlineFile>, Wrong> {
        let lookup = |name: &str| state.env.get(name).cloned();
        let expand = |heredoc: &strata_dockerfile::Heredoc| {
            let content = heredoc.content();
            if !heredoc.expand {
                return Ok(content);
            }
            let expanded = Expander::heredoc().word(&content, &lookup);
            expanded.map_err(|error| wrong(heredoc.body_span, error.to_string()))
        };
        files
            .heredocs
            .iter()
            .map(|heredoc| Ok(InlineFile { name: heredoc.name.clone(), content: expand(heredoc)? }))
            .collect()
    }

    #[expect(clippy::too_many_arguments, reason = "one instruction in all its parts")]
    fn commit_copy(
        &mut self,
        state: &mut State,
        op: CopyOp,
        flags: &str,
        files: &Files,
        instruction: &Instruction,
        span: Span,
        ordinal: usize,
    ) -> StepIndex {
        let line = self.copy_line(state, &op, flags, files);
        let (stage, text) = (state.name.clone(), instruction.original.clone());
        let step = self.step(&stage, ordinal, text, span, state.root, Op::Copy(op));
        state.root = Some(step);
        state.commit(line, Some(step));
        step
    }

    /// The history's line: flags that matter for the result, then the words as expanded.
    fn copy_line(&self, state: &State, op: &CopyOp, flags: &str, files: &Files) -> String {
        let mut line = if op.is_add { "ADD" } else { "COPY" }.to_owned();
        line.push_str(flags);
        if let Some(chown) = &op.chown {
            line.push_str(&format!(" --chown={chown}"));
        }
        let words = |word: &Word| self.expand(word, state).unwrap_or_else(|_| word.raw.clone());
        let chmod = files.chmod.as_ref().map(words).filter(|chmod| !chmod.is_empty());
        if let Some(chmod) = chmod {
            line.push_str(&format!(" --chmod={chmod}"));
        }
        for source in &files.sources {
            line.push_str(&format!(" {}", words(source)));
        }
        for inline in &op.inline {
            line.push_str(&format!(" <<{}", inline.name));
        }
        line.push_str(&format!(" {} # buildkit", words(&files.dest)));
        line
    }
}

/// A source below the root of the context: `..` stops there, as does a leading slash. The pivot
/// of `--parents`, `/./`, is kept.
fn clean_source(text: &str) -> String {
    let clean = |text: &str| clean_path(&format!("/{text}"))[1..].to_owned();
    match text.split_once("/./") {
        Some((base, rest)) => format!("{}/./{}", clean(base), clean(rest)),
        None => clean(text),
    }
}

/// A path, or what an `ADD` fetches.
fn source(text: &str, span: Span, is_add: bool) -> Result<CopySource, Wrong> {
    let remote = RemoteSource::parse(text).map_err(|reason| wrong(span, reason))?;
    let pattern = match &remote {
        None => clean_source(text),
        Some(_) if !is_add => {
            let diagnostic = Diagnostic::error("remote-copy", span, "`COPY` does not fetch URLs");
            return Err(Box::new(diagnostic.hint("`ADD` does")));
        }
        Some(RemoteSource::Http(source)) => source.file_name.clone(),
        Some(RemoteSource::Git(_)) => String::new(),
    };
    Ok(CopySource { pattern, remote, span })
}

/// `--checksum`: what the only source must be.
fn expect_checksum(sources: &mut [CopySource], text: &str, span: Span) -> Result<(), Wrong> {
    let [source] = sources else {
        return Err(wrong(span, "`--checksum` can not be given for more than one source"));
    };
    match &mut source.remote {
        None => Err(wrong(span, "`--checksum` is for URLs and git repositories")),
        Some(RemoteSource::Http(source)) => {
            let digest = text.parse().map_err(|_| {
                let message = format!("`--checksum={text}` is not a digest that strata knows");
                let wrong = Diagnostic::error("bad-checksum", span, message);
                Box::new(wrong.hint("write `sha256:` and 64 hexadecimal digits"))
            })?;
            source.checksum = Some(digest);
            Ok(())
        }
        Some(RemoteSource::Git(source)) => {
            source.expect_commit(text).map_err(|reason| wrong(span, reason))
        }
    }
}

/// `--chmod`: octal, or symbolic as chmod(1) takes it.
fn chmod(text: &str, span: Span) -> Result<Chmod, Wrong> {
    let bad = || {
        let message = format!("`--chmod={text}` is not a mode");
        Box::new(
            Diagnostic::error("bad-mode", span, message)
                .hint("write an octal number up to 7777, or a text such as `u=rwX,go=rX`"),
        )
    };
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        let mode = u32::from_str_radix(text, 8).map_err(|_| bad())?;
        return if mode <= 0o7777 { Ok(Chmod::Octal(mode)) } else { Err(bad()) };
    }
    let clause = |clause: &str| {
        let rest = clause.trim_start_matches(['u', 'g', 'o', 'a']);
        let mut actions = rest.split(['+', '-', '=']);
        actions.next() == Some("")
            && !rest.is_empty()
            && actions
                .all(|permissions| permissions.bytes().all(|byte| b"rwxXstugo".contains(&byte)))
    };
    if text.split(',').all(clause) { Ok(Chmod::Symbolic(text.to_owned())) } else { Err(bad()) }
}
