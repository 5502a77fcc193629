//! The replay in Chrome's trace format, for Perfetto and `chrome://tracing`: one slice for each
//! build that missed something, as long as its misses cost, and a counter of hits.

use serde_json::{Value, json};

use crate::report::Report;

/// The report as a trace. Builds follow each other on a made-up clock that starts at 0.
pub fn trace(report: &Report) -> String {
    let mut events: Vec<Value> = vec![json!({
        "ph": "M", "pid": 1, "name": "process_name",
        "args": { "name": format!("replay of {}", report.subject.repository) },
    })];
    let mut clock: u64 = 0;
    for commit in &report.commits {
        let micros = micros(commit.lost_seconds).max(1_000);
        let short = commit.commit.get(..10).unwrap_or(&commit.commit);
        let cause = commit.first_miss.as_ref().map(|miss| {
            json!({
                "cause": miss.cause, "instruction": miss.instruction,
                "witness": miss.witness, "paths": miss.witness_total,
            })
        });
        events.push(json!({
            "ph": "X", "pid": 1, "tid": 1, "ts": clock, "dur": micros,
            "name": if commit.hits.hits == commit.hits.of { "all hits" } else { short },
            "cat": if commit.runs { "run" } else { "no run" },
            "args": {
                "commit": commit.commit, "subject": commit.subject,
                "hits": commit.hits.hits, "steps": commit.hits.of, "first miss": cause,
            },
        }));
        events.push(json!({
            "ph": "C", "pid": 1, "ts": clock, "name": "hits",
            "args": { "percent": commit.hits.percent },
        }));
        clock += micros;
    }
    format!("{:#}", json!({ "displayTimeUnit": "ms", "traceEvents": events }))
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "no cost is negative")]
fn micros(seconds: f64) -> u64 {
    (seconds * 1e6) as u64
}
