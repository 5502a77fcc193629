//! The instructions that only change the image's config, and the dispatch of all of them.

use std::collections::BTreeMap;

use serde_json::Map;
use strata_dockerfile::{
    Check, CommandForm, Declaration, Diagnostic, Healthcheck, Instruction, Kind, Pair, Span, Word,
};

use crate::evaluate::{Evaluation, Wrong, wrong};
use crate::golang;
use crate::ports;
use crate::stage::{State, clean_path};
use crate::{MakeDirectoryOp, Op, StepIndex};

const DEFAULT_SHELL: [&str; 2] = ["/bin/sh", "-c"];

/// ARGs that the builder heeds and commands do not see.
const HIDDEN_ARGS: [&str; 2] = ["BUILDKIT_SBOM_SCAN_CONTEXT", "BUILDKIT_SBOM_SCAN_STAGE"];

impl Evaluation<'_> {
    /// Does what one instruction says to the state of its stage.
    pub(crate) fn instruction(
        &mut self,
        stage: usize,
        state: &mut State,
        instruction: &Instruction,
        span: Span,
        ordinal: usize,
    ) -> Result<(), Wrong> {
        let name = state.name.clone();
        let mut step = None;
        match &instruction.kind {
            Kind::From(_) => return Err(wrong(span, "`FROM` can not stand here")),
            Kind::Run(run) => {
                step = Some(self.run_instruction(stage, state, run, instruction, span, ordinal)?);
            }
            Kind::Copy(copy) => {
                step =
                    Some(self.copy_instruction(stage, state, copy, instruction, span, ordinal)?);
            }
            Kind::Add(add) => {
                step = Some(self.add_instruction(state, add, instruction, span, ordinal)?);
            }
            Kind::Workdir(path) => {
                step = self.workdir(state, path, instruction, span, ordinal)?;
            }
            Kind::Env(pairs) => self.env(state, pairs)?,
            Kind::Label(pairs) => self.label(state, pairs)?,
            Kind::Arg(declarations) => self.arg(state, declarations)?,
            Kind::Cmd(form) => cmd(state, form),
            Kind::Entrypoint(form) => entrypoint(state, form),
            Kind::Expose(words) => self.expose(state, words)?,
            Kind::Volume(words) => self.volume(state, words)?,
            Kind::User(word) => self.user(state, word)?,
            Kind::Shell(shell) => {
                state.config.shell = Some(shell.clone());
                state.commit(format!("SHELL [{}]", shell.join(" ")), None);
            }
            Kind::Stopsignal(word) => self.stop_signal(state, word)?,
            Kind::Healthcheck(check) => healthcheck(state, check),
            Kind::Maintainer(word) => {
                state.author = Some(word.raw.clone());
                state.commit(format!("MAINTAINER {word}"), None);
            }
            Kind::Onbuild(onbuild) => {
                let triggers = state.config.on_build.get_or_insert_default();
                triggers.push(onbuild.expression.clone());
                state.triggers.push((onbuild.expression.clone(), span));
            }
            Kind::Unknown => return Err(wrong(span, "this is not an instruction")),
        }
        self.entry(&name, instruction, span, step);
        Ok(())
    }

    fn workdir(
        &mut self,
        state: &mut State,
        path: &Word,
        instruction: &Instruction,
        span: Span,
        ordinal: usize,
    ) -> Result<Option<StepIndex>, Wrong> {
        let path = self.expand(path, state)?;
        // An absolute path is kept as it is written, a relative one is cleaned with what it is
        // relative to: so does BuildKit.
        let path = match &*path {
            "" => state.cwd().to_owned(),
            path if path.starts_with('/') => path.to_owned(),
            path => clean_path(&format!("{}/{path}", state.cwd())),
        };
        state.config.working_dir.clone_from(&path);
        let mut step = None;
        if path != "/" {
            let op = MakeDirectoryOp { path: clean_path(&path), user: state.config.user.clone() };
            let (stage, text) = (state.name.clone(), instruction.original.clone());
            let op = Op::MakeDirectory(op);
            step = Some(self.step(&stage, ordinal, text, span, state.root, op));
            state.root = step;
        }
        state.commit(format!("WORKDIR {path}"), step);
        Ok(step)
    }

    /// All values are expanded with what was there before the line.
    fn pairs(&self, state: &State, pairs: &[Pair]) -> Result<Vec<(String, String)>, Wrong> {
        let expand = |word: &Word| self.expand(word, state);
        pairs.iter().map(|pair| Ok((expand(&pair.key)?, expand(&pair.value)?))).collect()
    }

    fn env(&self, state: &mut State, pairs: &[Pair]) -> Result<(), Wrong> {
        let mut line = "ENV".to_owned();
        for (name, value) in self.pairs(state, pairs)? {
            line.push_str(&format!(" {name}={value}"));
            let env = state.config.env.get_or_insert_default();
            let variable = format!("{name}={value}");
            let key = format!("{name}=");
            match env.iter_mut().find(|old| old.starts_with(&key) || **old == name) {
                Some(old) => *old = variable,
                None => env.push(variable),
            }
            state.env.insert(name, value);
        }
        state.commit(line, None);
        Ok(())
    }

    fn label(&self, state: &mut State, pairs: &[Pair]) -> Result<(), Wrong> {
        let mut line = "LABEL".to_owned();
        for (name, value) in self.pairs(state, pairs)? {
            line.push_str(&format!(" {name}={value}"));
            state.config.labels.get_or_insert_default().insert(name, value);
        }
        state.commit(line, None);
        Ok(())
    }

    fn arg(&self, state: &mut State, declarations: &[Declaration]) -> Result<(), Wrong> {
        let mut texts = Vec::new();
        for Declaration { name, default } in declarations {
            let name = name.raw.clone();
            let value = match (self.request.build_args.get(&name), default) {
                (Some(given), _) => Some(given.clone()),
                (None, Some(default)) => Some(self.expand(default, state)?),
                (None, None) => self.globals.get(&name).cloned(),
            };
            if let Some(value) = &value
                && !HIDDEN_ARGS.contains(&&*name)
            {
                state.env.insert(name.clone(), value.clone());
            }
            texts.push(match &value {
                Some(value) => format!("{name}={value}"),
                None => name.clone(),
            });
            state.args.push((name, value));
        }
        state.commit(format!("ARG {}", texts.join(" ")), None);
        Ok(())
    }

    fn expose(&self, state: &mut State, words: &[Word]) -> Result<(), Wrong> {
        let mut ports = Vec::new();
        // BuildKit sorts what is written, not what it stands for.
        let mut words: Vec<&Word> = words.iter().collect();
        words.sort_by_key(|word| &word.raw);
        for word in words {
            for text in self.expand_in(word, &state.env)?.words {
                let parsed = ports::parse(&text).map_err(|error| {
                    Box::new(
                        Diagnostic::error("bad-port", word.span, error)
                            .hint("write `EXPOSE 80`, `EXPOSE 53/udp` or `EXPOSE 8000-8010`"),
                    )
                })?;
                ports.extend(parsed);
            }
        }
        state.commit(format!("EXPOSE [{}]", ports.join(" ")), None);
        let exposed = state.config.exposed_ports.get_or_insert_default();
        exposed.extend(ports.into_iter().map(|port| (port, Map::new())));
        Ok(())
    }

    fn volume(&self, state: &mut State, words: &[Word]) -> Result<(), Wrong> {
        let mut paths = Vec::new();
        for word in words {
            let path = self.expand(word, state)?;
            if path.is_empty() {
                return Err(wrong(word.span, "a `VOLUME` can not be an empty string"));
            }
            paths.push(path);
        }
        state.commit(format!("VOLUME [{}]", paths.join(" ")), None);
        let volumes: &mut BTreeMap<_, _> = state.config.volumes.get_or_insert_default();
        volumes.extend(paths.into_iter().map(|path| (path, Map::new())));
        Ok(())
    }

    fn user(&self, state: &mut State, word: &Word) -> Result<(), Wrong> {
        let user = self.expand(word, state)?;
        state.commit(format!("USER {user}"), None);
        state.config.user = user;
        Ok(())
    }

    fn stop_signal(&self, state: &mut State, word: &Word) -> Result<(), Wrong> {
        let signal = self.expand(word, state)?;
        if !is_signal(&signal) {
            let message = format!("`{signal}` is not a signal");
            return Err(Box::new(
                Diagnostic::error("bad-signal", word.span, message)
                    .hint("write a name such as `SIGTERM` or a number from 1 to 64"),
            ));
        }
        state.commit(format!("STOPSIGNAL {signal}"), None);
        state.config.stop_signal = Some(signal);
        Ok(())
    }
}

/// A command in exec form, as the image config keeps it.
pub(crate) fn with_shell(state: &State, form: &CommandForm) -> Vec<String> {
    let text = match form {
        CommandForm::Exec(argv) => return argv.clone(),
        CommandForm::Shell(text) => text.clone(),
    };
    let shell = match &state.config.shell {
        Some(shell) if !shell.is_empty() => shell.clone(),
        _ => DEFAULT_SHELL.map(str::to_owned).to_vec(),
    };
    shell.into_iter().chain([text]).collect()
}

fn cmd(state: &mut State, form: &CommandForm) {
    let argv = with_shell(state, form);
    state.commit(format!("CMD {}", golang::quote_all(&argv)), None);
    state.config.cmd = Some(argv).filter(|argv| !argv.is_empty());
    state.config.other.insert("ArgsEscaped".to_owned(), true.into());
    state.has_cmd = true;
}

fn entrypoint(state: &mut State, form: &CommandForm) {
    let argv = with_shell(state, form);
    state.commit(format!("ENTRYPOINT {}", golang::quote_all(&argv)), None);
    state.config.entrypoint = Some(argv).filter(|argv| !argv.is_empty());
    // A CMD that came with the base belongs to the base's entrypoint.
    if !state.has_cmd {
        state.config.cmd = None;
    }
}

fn healthcheck(state: &mut State, check: &Healthcheck) {
    let health = match check {
        Healthcheck::None => {
            strata_oci::Healthcheck { test: vec!["NONE".to_owned()], ..Default::default() }
        }
        Healthcheck::Cmd(check) => health_of(check),
    };
    let duration = |nanos: i64| {
        golang::duration(std::time::Duration::from_nanos(u64::try_from(nanos).unwrap_or(0)))
    };
    // BuildKit prints the struct with `%q`: numbers come out as characters.
    let line = format!(
        "HEALTHCHECK &{{{} \"{}\" \"{}\" \"{}\" \"{}\" {}}}",
        golang::quote_all(&health.test),
        duration(health.interval),
        duration(health.timeout),
        duration(health.start_period),
        duration(health.start_interval),
        golang::quote_rune(u32::try_from(health.retries).unwrap_or(0))
    );
    state.commit(line, None);
    state.config.healthcheck = Some(health);
}

fn health_of(check: &Check) -> strata_oci::Healthcheck {
    let nanos = |time: Option<std::time::Duration>| {
        time.map_or(0, |time| i64::try_from(time.as_nanos()).unwrap_or(i64::MAX))
    };
    let test = match &check.form {
        CommandForm::Shell(text) => vec!["CMD-SHELL".to_owned(), text.clone()],
        CommandForm::Exec(argv) => ["CMD".to_owned()].into_iter().chain(argv.clone()).collect(),
    };
    strata_oci::Healthcheck {
        test,
        interval: nanos(check.interval),
        timeout: nanos(check.timeout),
        start_period: nanos(check.start_period),
        start_interval: nanos(check.start_interval),
        retries: check.retries.map_or(0, i64::from),
    }
}

/// Linux's signals by name, with or without `SIG`, or any number but 0, as BuildKit takes it.
fn is_signal(text: &str) -> bool {
    if let Ok(number) = text.parse::<i64>() {
        return number != 0;
    }
    let name = text.to_ascii_uppercase();
    let name = name.strip_prefix("SIG").unwrap_or(&name);
    let real_time = name == "RTMIN"
        || name == "RTMAX"
        || name.strip_prefix("RTMIN+").is_some_and(|n| n.parse::<u32>().is_ok_and(|n| n <= 15))
        || name.strip_prefix("RTMAX-").is_some_and(|n| n.parse::<u32>().is_ok_and(|n| n <= 14));
    real_time || SIGNALS.contains(&name)
}

const SIGNALS: [&str; 36] = [
    "ABRT", "ALRM", "BUS", "CHLD", "CLD", "CONT", "FPE", "HUP", "ILL", "INT", "IO", "IOT", "KILL",
    "PIPE", "POLL", "PROF", "PWR", "QUIT", "SEGV", "STKFLT", "STOP", "SYS", "TERM", "TRAP", "TSTP",
    "TTIN", "TTOU", "URG", "USR1", "USR2", "VTALRM", "WINCH", "XCPU", "XFSZ", "UNUSED", "STKFLT",
];
