//! What every manner of progress keeps in mind of the steps: their names, when they began, the
//! end of their output.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use strata_exec::Stream;
use strata_plan::{Plan, StepIndex};

/// So many lines of a failed step's output are shown.
const TAIL_LINES: usize = 20;
/// A longer line is broken.
const LINE_LIMIT_BYTES: usize = 16 << 10;
/// A longer instruction is cut.
const TEXT_LIMIT_CHARS: usize = 160;

/// The steps of a build.
#[derive(Debug, Default)]
pub(crate) struct Steps {
    names: Vec<String>,
    began: BTreeMap<StepIndex, Instant>,
    tails: BTreeMap<StepIndex, VecDeque<String>>,
    unfinished: BTreeMap<(StepIndex, Stream), Vec<u8>>,
}

impl Steps {
    /// Takes the names from the plan.
    pub(crate) fn planned(&mut self, plan: &Plan) {
        let steps = plan.steps.iter().map(|step| (step.stage.as_str(), step.text.as_str()));
        self.names = step_names(&steps.collect::<Vec<_>>());
    }

    pub(crate) fn name(&self, step: StepIndex) -> &str {
        self.names.get(step).map_or("", String::as_str)
    }

    /// A step begins now.
    pub(crate) fn begin(&mut self, step: StepIndex) {
        self.began.insert(step, Instant::now());
    }

    /// How long a step has been running.
    pub(crate) fn elapsed(&self, step: StepIndex) -> Duration {
        self.began.get(&step).map_or(Duration::ZERO, Instant::elapsed)
    }

    /// Takes output, and gives the lines that are complete now.
    pub(crate) fn output(&mut self, step: StepIndex, stream: Stream, bytes: &[u8]) -> Vec<String> {
        let buffer = self.unfinished.entry((step, stream)).or_default();
        buffer.extend_from_slice(bytes);
        let mut lines = Vec::new();
        while let Some(end) = line_end(buffer) {
            let rest = buffer.split_off(end);
            lines.push(as_line(buffer));
            *buffer = rest;
        }
        self.remember(step, &lines);
        lines
    }

    /// The last line of a step that is over, if nothing ended it.
    pub(crate) fn flush(&mut self, step: StepIndex) -> Vec<String> {
        let buffers =
            [Stream::Out, Stream::Err].map(|stream| self.unfinished.remove(&(step, stream)));
        let left = buffers.into_iter().flatten().filter(|buffer| !buffer.is_empty());
        let lines: Vec<String> = left.map(|buffer| as_line(&buffer)).collect();
        self.remember(step, &lines);
        lines
    }

    fn remember(&mut self, step: StepIndex, lines: &[String]) {
        let tail = self.tails.entry(step).or_default();
        tail.extend(lines.iter().cloned());
        tail.drain(..tail.len().saturating_sub(TAIL_LINES));
    }

    /// The last lines of a step's output.
    pub(crate) fn tail(&mut self, step: StepIndex) -> Vec<String> {
        self.flush(step);
        self.tails.get(&step).into_iter().flatten().cloned().collect()
    }
}

/// Another build is at the same step.
pub(super) fn waiting_for(pid: Option<u32>) -> String {
    match pid {
        Some(pid) => format!("waiting for another build that runs this step (pid {pid})"),
        None => "waiting for another build that runs this step".to_owned(),
    }
}

/// What steps of these stages with these instructions are called: `[build 2/5] RUN npm ci`.
pub(crate) fn step_names(steps: &[(&str, &str)]) -> Vec<String> {
    let mut totals: BTreeMap<&str, usize> = BTreeMap::new();
    for (stage, _) in steps {
        *totals.entry(stage).or_default() += 1;
    }
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    let mut names = Vec::new();
    for (name, text) in steps {
        let number = *seen.entry(name).and_modify(|number| *number += 1).or_insert(1);
        let stage = match name.parse::<usize>() {
            Ok(_) if totals.len() == 1 => String::new(),
            Ok(index) => format!("stage-{index} "),
            Err(_) => format!("{name} "),
        };
        names.push(format!("[{stage}{number}/{}] {}", totals[name], one_line(text)));
    }
    names
}

/// After the newline, or where a line without one is broken.
fn line_end(buffer: &[u8]) -> Option<usize> {
    let newline = buffer.iter().position(|byte| *byte == b'\n').map(|at| at + 1);
    newline.or_else(|| (buffer.len() >= LINE_LIMIT_BYTES).then_some(LINE_LIMIT_BYTES))
}

/// What a terminal would show of a line: what follows its last carriage return.
fn as_line(bytes: &[u8]) -> String {
    let text = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    let text = text.strip_suffix(b"\r").unwrap_or(text);
    let shown = text.rsplit(|byte| *byte == b'\r').next().unwrap_or(text);
    String::from_utf8_lossy(shown).into_owned()
}

/// An instruction on one line, not too long.
pub(crate) fn one_line(text: &str) -> String {
    let mut lines = text.trim().lines();
    let first = lines.next().unwrap_or_default();
    let cut: String = first.chars().take(TEXT_LIMIT_CHARS).collect();
    let more = cut.len() < first.len() || lines.next().is_some();
    if more { format!("{cut} …") } else { cut }
}

/// A line that can do no harm to a terminal.
pub(crate) fn tame(line: &str) -> String {
    let mut tamed = String::with_capacity(line.len());
    let mut letters = line.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            // A control sequence ends with a letter (ECMA-48, 5.4).
            '\x1b' if letters.next_if_eq(&'[').is_some() => {
                for parameter in letters.by_ref() {
                    if ('@'..='~').contains(&parameter) {
                        break;
                    }
                }
            }
            '\t' => tamed.push(' '),
            letter if letter.is_control() => {}
            letter => tamed.push(letter),
        }
    }
    tamed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_becomes_lines_whatever_its_pieces() {
        let mut steps = Steps::default();
        assert_eq!(steps.output(0, Stream::Out, b"a\nb"), ["a"]);
        assert_eq!(steps.output(0, Stream::Err, b"error\r\n"), ["error"]);
        assert_eq!(steps.output(0, Stream::Out, b"c\n10%\r20%\r100%\n"), ["bc", "100%"]);
        assert_eq!(steps.output(0, Stream::Out, b"last"), Vec::<String>::new());
        assert_eq!(steps.tail(0), ["a", "error", "bc", "100%", "last"]);
        assert_eq!(steps.output(1, Stream::Out, &[b'x'; LINE_LIMIT_BYTES + 1]).len(), 1);
    }

    #[test]
    fn only_the_end_is_kept() {
        let mut steps = Steps::default();
        for number in 0..50 {
            steps.output(0, Stream::Out, format!("{number}\n").as_bytes());
        }
        let tail = steps.tail(0);
        assert_eq!((tail.len(), tail[0].as_str(), tail[19].as_str()), (20, "30", "49"));
    }

    #[test]
    fn names_number_the_steps_of_each_stage() {
        let name = |text: &[u8]| {
            let parse = strata_dockerfile::parse(text);
            let plan = strata_plan::plan(&strata_plan::Request::new(&parse.tree), &|_| None);
            let mut steps = Steps::default();
            steps.planned(&plan.expect("a plan"));
            steps.names
        };
        let one = name(b"FROM scratch\nCOPY a /\nENV A=b\nCOPY b /\n");
        assert_eq!(one, ["[1/2] COPY a /", "[2/2] COPY b /"]);
        let two = name(b"FROM scratch AS src\nCOPY a /\nFROM scratch\nCOPY --from=src /a /\n");
        assert_eq!(two, ["[src 1/1] COPY a /", "[stage-1 1/1] COPY --from=src /a /"]);
    }

    #[test]
    fn colours_and_worse_are_taken_out() {
        assert_eq!(tame("\x1b[1;31mred\x1b[0m\x07 a\tb"), "red a b");
    }
}
