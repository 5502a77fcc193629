//! One JSON object for each event, for programs, on stderr as Docker's `rawjson` is. Each object
//! has `event` and `seconds` since the build began; steps are numbered as in plain lines.

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use serde_json::{Value, json};
use strata_build::Event;
use strata_engine::Verdict;
use strata_exec::Stream;
use strata_plan::StepIndex;

use super::steps::Steps;
use super::{Progress, Summary};
use crate::printer::Printer;
use crate::words::reason;

/// Writes objects.
pub(super) struct Json<'a> {
    printer: &'a Printer,
    began: Instant,
    steps: Mutex<Steps>,
}

impl<'a> Json<'a> {
    pub(super) fn new(printer: &'a Printer) -> Self {
        Self { printer, began: Instant::now(), steps: Mutex::default() }
    }

    fn write(&self, mut object: Value) {
        let seconds = (self.began.elapsed().as_secs_f64() * 1000.0).round() / 1000.0;
        object["seconds"] = json!(seconds);
        self.printer.talk(&object.to_string());
    }
}

impl Progress for Json<'_> {
    fn observe(&self, event: Event<'_>) {
        let mut steps = self.steps.lock().unwrap_or_else(PoisonError::into_inner);
        self.write(object(&mut steps, event));
    }

    fn unseen_output(&self, _: StepIndex) -> Vec<String> {
        Vec::new()
    }

    fn finish(&self, summary: Option<&Summary>) {
        if let Some(summary) = summary {
            let Summary { image, names, cached, ran, time: _ } = summary;
            self.write(json!({
                "event": "built", "image": image, "names": names, "cached": cached, "ran": ran,
            }));
        }
    }
}

fn object(steps: &mut Steps, event: Event<'_>) -> Value {
    match event {
        Event::Resolving { image } => json!({"event": "resolving", "image": image}),
        Event::Fetching { what } => json!({"event": "fetching", "what": what}),
        Event::Fetched { what, bytes } => {
            json!({"event": "fetched", "what": what, "bytes": bytes})
        }
        Event::Planned(plan) => {
            steps.planned(plan);
            let names: Vec<&str> = (0..plan.steps.len()).map(|step| steps.name(step)).collect();
            json!({"event": "planned", "steps": names})
        }
        Event::Scanned { context, stats } => json!({
            "event": "scanned", "context": context, "files": stats.files, "bytes": stats.bytes,
            "read_files": stats.hashed_files, "read_bytes": stats.hashed_bytes,
        }),
        Event::Note(text) => json!({"event": "note", "text": text}),
        Event::Waiting { step, pid } => json!({
            "event": "waiting", "step": step + 1, "name": steps.name(step), "pid": pid,
        }),
        Event::Running { step, why } => json!({
            "event": "running", "step": step + 1, "name": steps.name(step),
            "reason": reason::kind(why), "why": reason::words(why),
        }),
        Event::Verified { step, verified } => json!({
            "event": "verified", "step": step + 1, "name": steps.name(step), "verified": verified,
        }),
        Event::Transfer { step, what, done, total } => json!({
            "event": "transfer", "step": step + 1, "what": what, "done": done, "total": total,
        }),
        Event::Output { step, stream, bytes } => json!({
            "event": "output", "step": step + 1,
            "stream": match stream { Stream::Out => "stdout", Stream::Err => "stderr" },
            "text": String::from_utf8_lossy(bytes),
        }),
        Event::Done { step, verdict, millis } => json!({
            "event": "done", "step": step + 1, "name": steps.name(step),
            "cached": matches!(verdict, Verdict::Hit(_)), "millis": millis,
        }),
        Event::Cancelled { step } => {
            json!({"event": "cancelled", "step": step + 1, "name": steps.name(step)})
        }
        Event::Failed { step } => {
            json!({"event": "failed", "step": step + 1, "name": steps.name(step)})
        }
    }
}

#[cfg(test)]
mod tests {
    use strata_build::Why;

    use super::*;

    #[test]
    fn an_event_is_an_object() {
        let event = Event::Running { step: 1, why: &Why::First };
        let expected =
            r#"{"event":"running","step":2,"name":"","reason":"first","why":"first build"}"#;
        assert_eq!(object(&mut Steps::default(), event).to_string(), expected);
    }
}
