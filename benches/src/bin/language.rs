//! Times reading, checking, formatting and planning one large Dockerfile, in this process: 1,000
//! lines, 100 stages, each from the one before. Prints a Markdown table for `docs/benchmarks.md`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::hint::black_box;
use std::io::Write as _;
use std::time::{Duration, Instant};

use strata_dockerfile::{CheckRequest, Parse, check, format, parse};
use strata_oci::{Digest, ImageConfig};
use strata_plan::{ImageNeed, Request, ResolvedImage, plan};

const STAGES: usize = 100;
const ROUNDS: usize = 200;

fn main() {
    let source = dockerfile();
    let read = parse(source.as_bytes());
    let arguments = BTreeMap::new();
    let rows = [
        ("read", time(|| drop(black_box(parse(black_box(source.as_bytes())))))),
        ("read and plan", time(|| steps(&parse(black_box(source.as_bytes()))))),
        ("check", time(|| drop(black_box(check(&read, &CheckRequest::new(&arguments)))))),
        ("format", time(|| drop(black_box(format(&read.tree))))),
    ];
    let mut text = "| what | min | median |\n|---|---|---|\n".to_owned();
    for (what, times) in rows {
        let (min, median) = (millis(times[0]), millis(times[times.len() / 2]));
        // Writing to a string does not fail.
        let _ = writeln!(text, "| {what} | {min} | {median} |");
    }
    let _ = writeln!(std::io::stdout().lock(), "{text}");
}

/// Ten lines a stage.
fn dockerfile() -> String {
    let mut text = String::new();
    for stage in 0..STAGES {
        let base = match stage.checked_sub(1) {
            Some(before) => format!("s{before}"),
            None => "node:18".to_owned(),
        };
        // Writing to a string does not fail.
        let _ = write!(
            text,
            "# what it does\nFROM {base} AS s{stage}\nARG V={stage}\nENV A=1 B=\"two $V words\"\n\
             WORKDIR /app/$V\nCOPY --chown=1:1 a b c /dest/\n\
             RUN --mount=type=cache,target=/c npm ci && \\\n    npm test\n\
             LABEL v=${{V:-none}}\nRUN [\"echo\", \"done\"]\n"
        );
    }
    text
}

/// How many steps the plan has.
fn steps(parse: &Parse) {
    let image = |need: &ImageNeed| {
        let digest = Digest::of(need.name.to_string().as_bytes());
        let mut config = ImageConfig::default();
        config.rootfs.diff_ids.push(digest);
        Some(ResolvedImage { digest, config })
    };
    let plan = plan(&Request::new(&parse.tree), &image);
    assert!(plan.is_ok_and(|plan| plan.steps.len() == 1 + 4 * STAGES), "another plan");
}

/// The times of all rounds, sorted.
fn time(mut work: impl FnMut()) -> Vec<Duration> {
    let round = |_| {
        let begin = Instant::now();
        work();
        begin.elapsed()
    };
    let mut times: Vec<Duration> = (0..ROUNDS).map(round).collect();
    times.sort();
    times
}

fn millis(time: Duration) -> String {
    std::format!("{:.2} ms", time.as_secs_f64() * 1e3)
}
