//! `--execute`: some commits are checked out and built for real, by this program and, with
//! `--with`, by another builder. What came is put beside what the replay predicts.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use serde_json::Value;
use strata_replay::{
    Execution, Measured, RealBuild, Request, Study, WhatIf, apply, check_out, count_plain, sample,
};

use super::progress::Watcher;
use super::subject::{Subject, unreadable};
use crate::arguments::{GlobalArguments, ReplayArguments};
use crate::failure::{Failure, plain};

pub(super) fn execute(
    arguments: &ReplayArguments,
    global: &GlobalArguments,
    subject: &Subject,
    what_if: &WhatIf,
    count: usize,
    watcher: &mut Watcher<'_>,
) -> Result<Execution, Failure> {
    let commits = sample(&subject.commits, count);
    let request = Request { what_if: what_if.clone(), ..subject.request.clone() };
    let study = Study { commits: &commits, request: &request, ..subject.study() };
    let predicted = study.with(what_if.clone(), &mut |_| true);
    let predicted = predicted.map_err(|error| unreadable(&error))?;
    let dockerfiles = study.dockerfiles().map_err(|error| unreadable(&error))?;
    let report = study.report(&predicted, &subject.range, &subject.name);
    let place = tempfile::Builder::new().prefix("strata-replay-").tempdir();
    let place = place.map_err(|error| {
        Failure::environment(format!("make a temporary directory: {}", plain(&error)))
    })?;
    let mut execution =
        Execution { peer: arguments.execution.with.clone(), ..Execution::default() };
    for (number, (commit, dockerfile)) in commits.iter().zip(&dockerfiles).enumerate() {
        let Some(dockerfile) = dockerfile else { continue };
        let id = commit.id.to_string();
        // What the replay does not build, no builder can.
        let Some(row) = report.commits.iter().find(|row| row.commit == id) else { continue };
        if !watcher.say(format!("building {} of {} commits", number + 1, commits.len())) {
            break;
        }
        let checkout = place.path().join("checkout");
        let written = check_out(&subject.history, commit, &checkout)
            .and_then(|()| apply(&request, &checkout, dockerfile));
        written.map_err(|error| {
            Failure::environment(format!("check out {}: {error}", &id[..10]))
                .hint("`--execute` needs the files, too: is the clone complete?")
        })?;
        let build = Build { arguments, global, request: &request, dockerfile, checkout: &checkout };
        let strata = build.strata(&mut execution)?;
        let peer = arguments.execution.with.as_deref().map(|line| build.peer(line)).transpose()?;
        let predicted_hits = row.hits.hits;
        execution.builds.push(RealBuild { commit: id, predicted_hits, strata, peer });
        std::fs::remove_dir_all(&checkout)
            .map_err(|error| Failure::file("remove", &checkout, &error))?;
    }
    execution.differing.sort();
    execution.differing.dedup();
    Ok(execution)
}

struct Build<'a> {
    arguments: &'a ReplayArguments,
    global: &'a GlobalArguments,
    request: &'a Request,
    /// Below the checkout, as the context.
    dockerfile: &'a Path,
    checkout: &'a Path,
}

impl Build<'_> {
    /// What both builders are given.
    fn selection(&self, command: &mut Command) {
        let request = self.request;
        command.arg("-f").arg(self.checkout.join(self.dockerfile));
        for (name, value) in &request.asked.build_args {
            command.arg("--build-arg").arg(format!("{name}={value}"));
        }
        if let Some(target) = &request.asked.target {
            command.args(["--target", target]);
        }
        if let Some(platform) = &self.arguments.platform {
            command.args(["--platform", platform]);
        }
        command.arg(self.checkout.join(&request.context));
    }

    fn strata(&self, execution: &mut Execution) -> Result<Measured, Failure> {
        let program = std::env::current_exe().map_err(|error| {
            Failure::environment(format!("find this program: {}", plain(&error)))
        })?;
        let mut command = Command::new(program);
        let directories = [("--store", &self.global.store), ("--config", &self.global.config)];
        for (flag, value) in directories {
            command.args(value.iter().flat_map(|value| [flag.as_ref(), value.as_os_str()]));
        }
        if let Some(runtime) = &self.global.oci_runtime {
            command.args(["--oci-runtime", runtime]);
        }
        command.args(["build", "--progress", "rawjson"]);
        if let Some(percent) = &self.arguments.execution.audit {
            command.args(["--cache-verify", percent]);
        }
        self.selection(&mut command);
        let (mut measured, output) = run(command)?;
        let events: Vec<Value> =
            output.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        for event in &events {
            let name = event["name"].as_str().unwrap_or_default();
            match event["event"].as_str() {
                Some("done") if is_work(name) => {
                    measured.steps += 1;
                    measured.hits += u64::from(event["cached"] == true);
                }
                Some("verified") => match event["verified"]["result"].as_str() {
                    Some("same") => execution.audited += 1,
                    _ => execution.differing.push(name.to_owned()),
                },
                _ => {}
            }
        }
        Ok(measured)
    }

    fn peer(&self, line: &str) -> Result<Measured, Failure> {
        let mut command = Command::new("sh");
        // The words of the line, then what is to be built.
        let quiet = line.contains("--progress") || !line.contains("docker");
        let progress = if quiet { "" } else { " --progress plain" };
        command.arg("-c").arg(format!("{line}{progress} \"$@\"")).arg("sh");
        self.selection(&mut command);
        let (mut measured, output) = run(command)?;
        (measured.hits, measured.steps) = count_plain(&output);
        Ok(measured)
    }
}

/// Runs a builder; what it said comes back as one text.
fn run(mut command: Command) -> Result<(Measured, String), Failure> {
    let begin = Instant::now();
    let output = command.stdin(Stdio::null()).output().map_err(|error| {
        let program = command.get_program().to_string_lossy().into_owned();
        Failure::environment(format!("start `{program}`: {}", plain(&error)))
    })?;
    let millis = u64::try_from(begin.elapsed().as_millis()).unwrap_or(u64::MAX);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let said = format!("{}\n{}", text(&output.stderr), text(&output.stdout));
    let built = output.status.success();
    let last = said.lines().rev().find(|line| line.contains("error")).unwrap_or_default();
    let failure = if built { String::new() } else { last.trim().to_owned() };
    Ok((Measured { built, millis, failure, ..Measured::default() }, said))
}

/// Whether a step's name as progress shows it, `[stage 2/4] RUN x`, is one that counts.
fn is_work(name: &str) -> bool {
    let text = name.split_once("] ").map_or(name, |(_, text)| text);
    ["RUN ", "COPY ", "ADD "].iter().any(|word| text.to_ascii_uppercase().starts_with(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_counts() {
        assert!(is_work("[build 2/4] RUN x") && is_work("[2/2] copy a b"));
        assert!(!is_work("[1/4] FROM x") && !is_work("[build 3/4] WORKDIR /RUN x"));
    }
}
