//! The outcome as Markdown.

use std::fmt::Write;
use std::time::Duration;

use crate::case::{Case, Outcome};
use crate::options::Options;
use crate::tool::Tool;

/// Who was compared, on what.
pub(crate) fn head(tools: &[Tool], options: &Options) -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let tools: Vec<String> =
        tools.iter().map(|tool| format!("{} ({})", tool.name, tool.version())).collect();
    format!(
        "{}; {cores} cores, base `{}`, {} rounds in alternation.\n",
        tools.join(", "),
        options.base,
        options.rounds
    )
}

/// One case's table.
pub(crate) fn table(case: Case, tools: &[Tool], outcome: &Outcome) -> String {
    let mut text = format!("### {}\n\n", case.title());
    text += "| builder | min | median | strata ÷ builder |\n|---|---|---|---|\n";
    for (tool, times) in tools.iter().zip(&outcome.times) {
        // Writing to a string does not fail.
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} |",
            tool.name,
            seconds(quantile(times, 0)),
            seconds(quantile(times, times.len() / 2)),
            ratio(&outcome.times[0], times),
        );
    }
    let peak = outcome.peak_memory.map(|kib| format!("{} MiB", kib.div_ceil(1024)));
    let _ =
        writeln!(text, "\nstrata's peak memory: {}.", peak.as_deref().unwrap_or("not measured"));
    text
}

/// The one at this place among the sorted times.
fn quantile(times: &[Duration], at: usize) -> Duration {
    let mut sorted = times.to_vec();
    sorted.sort();
    sorted.get(at).copied().unwrap_or_default()
}

/// The median, over the rounds, of strata's time divided by the other's in the same round.
fn ratio(strata: &[Duration], other: &[Duration]) -> String {
    let mut ratios: Vec<f64> = strata
        .iter()
        .zip(other)
        .map(|(strata, other)| strata.as_secs_f64() / other.as_secs_f64())
        .collect();
    ratios.sort_by(f64::total_cmp);
    ratios.get(ratios.len() / 2).map_or_else(|| "–".to_owned(), |ratio| format!("{ratio:.2}"))
}

fn seconds(time: Duration) -> String {
    if time < Duration::from_secs(1) {
        format!("{:.1} ms", time.as_secs_f64() * 1e3)
    } else {
        format!("{:.2} s", time.as_secs_f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_has_min_median_and_ratio() {
        let millis = |times: [u64; 3]| times.map(Duration::from_millis).to_vec();
        let outcome = Outcome {
            times: vec![millis([30, 10, 20]), millis([3000, 100, 400])],
            peak_memory: None,
        };
        let tools = [Tool::strata("strata", ""), Tool::peer("buildah", "buildah")];
        let expected = "\
### `COPY` of 1 GiB of new bytes (64 files)

| builder | min | median | strata ÷ builder |
|---|---|---|---|
| strata | 10.0 ms | 20.0 ms | 1.00 |
| buildah | 100.0 ms | 400.0 ms | 0.05 |

strata's peak memory: not measured.
";
        assert_eq!(table(Case::Copy, &tools, &outcome), expected);
        assert_eq!(seconds(Duration::from_millis(1250)), "1.25 s");
    }
}
