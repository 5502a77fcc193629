//! Plots as inline SVG. Colours come from the page's style; shapes, patterns and labels say the
//! same without them.

use std::fmt::Write;

use crate::html::escape;
use crate::report::Report;

const WIDTH: f64 = 1000.0;
const LEFT: f64 = 150.0;

/// A bar of a table's cell, with its number.
pub(crate) fn bar(percent: f64, words: &str) -> String {
    bar_of(percent / 100.0, &format!("{percent:.1} % <span class=\"aside\">({words})</span>"))
}

/// A bar of this share of its track.
pub(crate) fn bar_of(share: f64, words: &str) -> String {
    let width = (share * 100.0).clamp(0.0, 100.0);
    format!(
        "<div class=\"bar\"><span class=\"track\"><span class=\"fill\" style=\"width:{width:.1}%\">\
         </span></span><span>{words}</span></div>"
    )
}

fn open(height: f64, title: &str) -> String {
    format!(
        "<svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"{}\">\n\
         <title>{}</title>\n",
        escape(title),
        escape(title)
    )
}

fn text(to: &mut String, x: f64, y: f64, anchor: &str, class: &str, words: &str) {
    let _ = writeln!(
        to,
        "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" class=\"{class}\">{}</text>",
        escape(words)
    );
}

/// Lines at 0, 25, 50, 75 and 100 per cent.
fn percent_grid(to: &mut String, top: f64, bottom: f64) {
    for percent in [0.0, 25.0, 50.0, 75.0, 100.0] {
        let y = bottom - (bottom - top) * percent / 100.0;
        let _ = writeln!(
            to,
            "<line x1=\"{LEFT}\" y1=\"{y:.1}\" x2=\"{WIDTH}\" y2=\"{y:.1}\" class=\"grid\"/>"
        );
        text(to, LEFT - 8.0, y + 4.0, "end", "", &format!("{percent:.0} %"));
    }
}

/// Three bars for each scheme: steps, time, builds without RUN.
pub(crate) fn schemes(report: &Report) -> String {
    let row = 62.0;
    let height = row * as_float(report.schemes.len()) + 30.0;
    let mut to = open(height, "hit rates of each scheme: steps, time, builds without RUN");
    let left = LEFT + 70.0;
    let scale = (WIDTH - left - 70.0) / 100.0;
    for (number, one) in report.schemes.iter().enumerate() {
        let top = row * as_float(number) + 6.0;
        text(&mut to, 0.0, top + 27.0, "start", "label", &one.scheme);
        let bars = [
            ("steps", one.steps.exact(), "one"),
            ("time", one.time.exact(), "two"),
            ("no RUN", one.no_run.exact(), "three"),
        ];
        for (place, (name, percent, class)) in bars.into_iter().enumerate() {
            let y = top + 17.0 * as_float(place);
            let width = percent * scale;
            let _ = writeln!(
                to,
                "<rect x=\"{left}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"13\" rx=\"2\" \
                 class=\"{class}\"/>"
            );
            text(&mut to, left - 8.0, y + 11.0, "end", "", name);
            text(
                &mut to,
                left + width + 6.0,
                y + 11.0,
                "start",
                "label",
                &format!("{percent:.1} %"),
            );
        }
    }
    let _ = writeln!(
        to,
        "<line x1=\"{left}\" y1=\"0\" x2=\"{left}\" y2=\"{:.1}\" class=\"axis\"/>",
        height - 30.0
    );
    to.push_str("</svg>\n");
    to
}

/// Hits of each build, oldest first, with the mean of ten.
pub(crate) fn builds(report: &Report) -> String {
    let all: Vec<_> = report.commits.iter().filter(|commit| commit.scored).collect();
    if all.is_empty() {
        return "<p>No build was scored.</p>\n".to_owned();
    }
    // More builds than dots can be told apart are put together.
    let group = all.len().div_ceil(400);
    let points: Vec<(f64, bool)> = all
        .chunks(group)
        .map(|chunk| {
            let sum: f64 = chunk.iter().map(|commit| commit.hits.percent).sum();
            (sum / as_float(chunk.len()), chunk.iter().any(|commit| commit.runs))
        })
        .collect();
    let (top, bottom) = (14.0, 234.0);
    let mut to = open(280.0, "share of steps that hit, build after build");
    percent_grid(&mut to, top, bottom);
    let step = (WIDTH - LEFT - 10.0) / as_float(points.len().max(2) - 1);
    let place = |number: usize, percent: f64| {
        (LEFT + 5.0 + step * as_float(number), bottom - (bottom - top) * percent / 100.0)
    };
    for (number, (percent, runs)) in points.iter().enumerate() {
        let (x, y) = place(number, *percent);
        // A dot where a RUN would run, a ring where none would.
        let style = if *runs {
            "r=\"2.6\" class=\"one\"".to_owned()
        } else {
            "r=\"3.4\" fill=\"none\" stroke-width=\"1.6\" class=\"stroke-two\"".to_owned()
        };
        let _ = writeln!(to, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" {style}/>");
    }
    let mut line = String::new();
    for number in 0..points.len() {
        let from = number.saturating_sub(9);
        let window = &points[from..=number];
        let mean: f64 = window.iter().map(|point| point.0).sum::<f64>() / as_float(window.len());
        let (x, y) = place(number, mean);
        let _ = write!(line, "{}{x:.1},{y:.1} ", if number == 0 { "M" } else { "L" });
    }
    let _ = writeln!(
        to,
        "<path d=\"{line}\" fill=\"none\" stroke-width=\"2\" class=\"stroke-three\"/>"
    );
    text(&mut to, LEFT, 256.0, "start", "", "oldest");
    text(&mut to, WIDTH, 256.0, "end", "", "newest");
    let each = if group == 1 { String::new() } else { format!(" (each mark is {group} builds)") };
    let words = format!("● a RUN would run   ○ no RUN would run   — mean of the last ten{each}");
    text(&mut to, (LEFT + WIDTH) / 2.0, 274.0, "middle", "label", &words);
    to.push_str("</svg>\n");
    to
}

/// How many builds had which share of hits.
pub(crate) fn histogram(report: &Report) -> String {
    let mut counts = [0_usize; 11];
    for commit in report.commits.iter().filter(|commit| commit.scored) {
        let place = (0..10).find(|tenth| commit.hits.percent < f64::from(tenth + 1) * 10.0);
        counts[place.and_then(|tenth| usize::try_from(tenth).ok()).unwrap_or(10)] += 1;
    }
    let most = as_float(counts.iter().copied().max().unwrap_or(1).max(1));
    let (top, bottom) = (20.0, 170.0);
    let mut to = open(210.0, "builds by the share of their steps that hit");
    let width = (WIDTH - LEFT) / 11.0;
    for (place, count) in counts.iter().enumerate() {
        let height = (bottom - top) * as_float(*count) / most;
        let (x, y) = (LEFT + width * as_float(place), bottom - height);
        let _ = writeln!(
            to,
            "<rect x=\"{:.1}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"{height:.1}\" rx=\"2\" \
             class=\"one\"/>",
            x + 3.0,
            width - 6.0
        );
        text(&mut to, x + width / 2.0, y - 5.0, "middle", "label", &count.to_string());
        let name = match place {
            10 => "all".to_owned(),
            place => format!("{}–{} %", place * 10, place * 10 + 10),
        };
        text(&mut to, x + width / 2.0, bottom + 18.0, "middle", "", &name);
    }
    let _ = writeln!(
        to,
        "<line x1=\"{LEFT}\" y1=\"{bottom}\" x2=\"{WIDTH}\" y2=\"{bottom}\" class=\"axis\"/>"
    );
    text(&mut to, 0.0, bottom, "start", "", "number of builds");
    if let Some(main) = report.main() {
        let words = format!("p10 {:.1} %, p50 {:.1} %", main.p10, main.p50);
        text(&mut to, WIDTH, 206.0, "end", "label", &words);
    }
    to.push_str("</svg>\n");
    to
}

/// Share of steps that miss at each capacity, one line a policy.
pub(crate) fn policies(report: &Report) -> String {
    let mut capacities: Vec<u64> = report.policies.iter().map(|p| p.capacity_percent).collect();
    capacities.dedup();
    let mut names: Vec<&str> = Vec::new();
    for one in &report.policies {
        if !names.contains(&&*one.policy) {
            names.push(&one.policy);
        }
    }
    let (top, bottom) = (14.0, 300.0);
    let mut to = open(344.0, "share of steps that miss, by capacity");
    percent_grid(&mut to, top, bottom);
    let room = WIDTH - LEFT - 170.0;
    let step = room / as_float(capacities.len().max(2) - 1);
    let y = |miss: f64| bottom - (bottom - top) * miss / 100.0;
    let mut ends: Vec<(f64, &str)> = Vec::new();
    for (number, name) in names.iter().enumerate() {
        let mut line = String::new();
        let mut end = 0.0;
        let points = report.policies.iter().filter(|one| one.policy == **name);
        for (place, one) in points.enumerate() {
            end = y(100.0 - one.steps.exact());
            let x = LEFT + 5.0 + step * as_float(place);
            let _ = write!(line, "{}{x:.1},{end:.1} ", if place == 0 { "M" } else { "L" });
        }
        ends.push((end, name));
        let dashes = ["none", "7 4", "2 3", "9 3 2 3"][number % 4];
        let (class, width) = match *name {
            "strata" => ("stroke-one", 3.5),
            "belady" => ("stroke-three", 2.0),
            _ => ("stroke-line", 1.6),
        };
        let _ = writeln!(
            to,
            "<path d=\"{line}\" fill=\"none\" stroke-width=\"{width}\" \
             stroke-dasharray=\"{dashes}\" class=\"{class}\"/>"
        );
    }
    // Names beside the ends of their lines, none over another.
    ends.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut last = top - 14.0;
    for (at, name) in ends {
        last = (at + 4.0).max(last + 14.0);
        text(&mut to, LEFT + room + 14.0, last, "start", "label", name);
    }
    for (place, percent) in capacities.iter().enumerate() {
        let x = LEFT + 5.0 + step * as_float(place);
        text(&mut to, x, bottom + 18.0, "middle", "", &format!("{percent} %"));
    }
    text(
        &mut to,
        LEFT + room / 2.0,
        bottom + 38.0,
        "middle",
        "",
        "capacity in per cent of one build of each repository",
    );
    to.push_str("</svg>\n");
    to
}

#[expect(clippy::cast_precision_loss, reason = "places in a drawing")]
fn as_float(count: usize) -> f64 {
    count as f64
}
