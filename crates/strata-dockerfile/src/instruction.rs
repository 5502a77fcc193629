//! The typed instructions: what each one says, nothing expanded, every word with its place.

use std::time::Duration;

use crate::tree::Comment;
use crate::{Heredoc, Keyword, Mount, Span, Spanned, Word};

/// One instruction as written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instruction {
    /// From the keyword to the end of the last line, here-documents included.
    pub span: Span,
    /// The keyword, in the case it was written in.
    pub keyword_span: Span,
    /// Which instruction it is.
    pub keyword: Keyword,
    /// The instruction with its lines joined, without here-documents: what history and progress
    /// show.
    pub original: String,
    /// The comments above it, since the instruction before or the last empty comment (`#`).
    pub comments: Vec<Comment>,
    /// What it says.
    pub kind: Kind,
}

impl Instruction {
    /// What the comments above say about `name`: the rest of the line that begins with it.
    #[must_use]
    pub fn doc_comment(&self, name: &str) -> Option<&str> {
        let about = |comment: &'_ Comment| -> Option<usize> {
            let rest = comment.text.strip_prefix(name)?.strip_prefix(' ')?;
            Some(comment.text.len() - rest.len())
        };
        self.comments.iter().find_map(|comment| Some(&comment.text[about(comment)?..]))
    }
}

/// What an instruction says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `FROM`: a new stage.
    From(FromArgs),
    /// `RUN`: a command.
    Run(RunArgs),
    /// `CMD`: the default command.
    Cmd(CommandForm),
    /// `ENTRYPOINT`: the default program.
    Entrypoint(CommandForm),
    /// `COPY`: files of the context or of another stage.
    Copy(CopyArgs),
    /// `ADD`: files, archives and remote sources.
    Add(AddArgs),
    /// `ENV`: variables that stay in the image.
    Env(Vec<Pair>),
    /// `LABEL`: metadata.
    Label(Vec<Pair>),
    /// `ARG`: variables of the build.
    Arg(Vec<Declaration>),
    /// `EXPOSE`: ports, in the order of the file.
    Expose(Vec<Word>),
    /// `VOLUME`: paths.
    Volume(Vec<Word>),
    /// `USER`: a user and perhaps a group.
    User(Word),
    /// `WORKDIR`: a directory.
    Workdir(Word),
    /// `SHELL`: what runs commands in shell form.
    Shell(Vec<String>),
    /// `STOPSIGNAL`: a signal.
    Stopsignal(Word),
    /// `HEALTHCHECK`: how to ask the container for its health.
    Healthcheck(Healthcheck),
    /// `MAINTAINER`: the author.
    Maintainer(Word),
    /// `ONBUILD`: an instruction for images built on this one.
    Onbuild(Onbuild),
    /// Not an instruction, or one that could not be read: a diagnostic says why.
    Unknown,
}

/// `FROM [--platform=p] image [AS name]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FromArgs {
    /// An image, an earlier stage, a named context or `scratch`.
    pub image: Word,
    /// `--platform`.
    pub platform: Option<Word>,
    /// The stage's name in lower case, as stages are compared.
    pub alias: Option<Spanned<String>>,
}

/// A command in one of its two forms.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum CommandForm {
    /// The one argument of `/bin/sh -c` or of what `SHELL` says.
    Shell(String),
    /// The program and its arguments.
    Exec(Vec<String>),
}

/// `RUN [flags] command`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunArgs {
    /// `--mount`, in order.
    pub mounts: Vec<Mount>,
    /// `--network`.
    pub network: Network,
    /// `--security`.
    pub security: Security,
    /// `--device`, in order.
    pub devices: Vec<Word>,
    /// The command, here-documents included.
    pub form: CommandForm,
    /// The file that the command in `form` names, if a here-document begins with `#!`.
    pub script: Option<Script>,
    /// The here-documents. Those of `RUN` are for the shell: the builder expands nothing in them.
    pub heredocs: Vec<Heredoc>,
}

/// An executable that must be there, read-only and with mode 0755, while a command runs.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Script {
    /// The absolute path.
    pub path: String,
    /// What is in it.
    pub body: String,
}

/// What the network of a `RUN` is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Network {
    /// What the builder gives by default.
    #[default]
    Default,
    /// None but the loopback device.
    None,
    /// The host's.
    Host,
}

/// How tightly a `RUN` is confined.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Security {
    /// As tightly as usual.
    #[default]
    Sandbox,
    /// Not at all; the caller of the build must allow it.
    Insecure,
}

/// What `COPY` and `ADD` have in common.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Files {
    /// Paths, patterns or addresses.
    pub sources: Vec<Word>,
    /// Files written out in the Dockerfile; they come after the sources.
    pub heredocs: Vec<Heredoc>,
    /// Where to.
    pub dest: Word,
    /// `--chown`.
    pub chown: Option<Word>,
    /// `--chmod`.
    pub chmod: Option<Word>,
    /// `--link`.
    pub link: bool,
    /// `--exclude`, in order.
    pub exclude: Vec<Word>,
}

/// `COPY [flags] source... dest`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CopyArgs {
    /// Sources, destination and the flags shared with `ADD`.
    pub files: Files,
    /// `--from`: a stage, its index, an image or a named context. Never expanded.
    pub from: Option<Word>,
    /// `--parents`.
    pub parents: bool,
}

/// `ADD [flags] source... dest`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AddArgs {
    /// Sources, destination and the flags shared with `COPY`.
    pub files: Files,
    /// `--keep-git-dir`, if given.
    pub keep_git_dir: Option<bool>,
    /// `--checksum`.
    pub checksum: Option<Word>,
    /// `--unpack`, if given.
    pub unpack: Option<bool>,
}

/// `key=value` of `ENV` or `LABEL`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// The name; `LABEL` and `ENV` expand it too.
    pub key: Word,
    /// The value, quotes and escapes included.
    pub value: Word,
    /// Whether it was written without `=`, as `ENV key value`.
    pub legacy: bool,
}

/// `name` or `name=default` of `ARG`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Declaration {
    /// The name.
    pub name: Word,
    /// The default, quotes and escapes included.
    pub default: Option<Word>,
}

/// `HEALTHCHECK NONE` or `HEALTHCHECK [flags] CMD command`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Healthcheck {
    /// No check, not even the base image's.
    None,
    /// A command. Times that are not given are left to whoever runs the container.
    Cmd(Check),
}

/// How to ask a container for its health.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// `--interval`: time between checks.
    pub interval: Option<Duration>,
    /// `--timeout`: after which a check has failed.
    pub timeout: Option<Duration>,
    /// `--start-period`: during which failures do not count.
    pub start_period: Option<Duration>,
    /// `--start-interval`: time between checks during the start period.
    pub start_interval: Option<Duration>,
    /// `--retries`: how many failures in a row make the container unhealthy.
    pub retries: Option<u32>,
    /// The command.
    pub form: CommandForm,
}

/// `ONBUILD instruction`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Onbuild {
    /// The instruction's text, as the image config keeps it.
    pub expression: String,
    /// The instruction itself; what is wrong with it is only a warning here.
    pub instruction: Box<Instruction>,
}
