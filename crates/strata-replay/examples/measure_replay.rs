//! Times a replay of a made-up history: `measure [FILES [COMMITS [DIRECTORY]]]`. It is made once,
//! in the directory or a temporary one; each commit changes three of its files. What comes out is
//! milliseconds for a commit, the greatest resident size, and `git log --raw` beside it.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use strata_replay::{History, Progress, Range, Request, replay};

type Answer<T> = Result<T, Box<dyn std::error::Error>>;

const DOCKERFILE: &str = "FROM node AS build\nWORKDIR /app\nCOPY package.json ./\nRUN npm ci\n\
    COPY . .\nRUN npm run build\nFROM nginx\nCOPY d0 /d0\nCOPY --from=build /app/dist /html\n";

fn main() -> Answer<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize, otherwise: usize| {
        arguments.get(at).map_or(Ok(otherwise), |text| text.parse::<usize>())
    };
    let (files, commits) = (number(0, 10_000)?, number(1, 2_000)?);
    let scratch = tempfile::tempdir()?;
    let place = arguments.get(2).map_or(scratch.path().join("repo"), Into::into);
    if !place.exists() {
        make(&place, files, commits)?;
    }
    let history = History::open(&place)?;
    let (all, _) = history.commits(&Range::default())?;
    let mut first = Duration::ZERO;
    let begin = Instant::now();
    replay(&history, &all, &Request::new("Dockerfile"), &mut |at: Progress| {
        if at.done == 1 {
            first = begin.elapsed();
        }
        true
    })?;
    let rest = (begin.elapsed() - first).as_secs_f64() * 1000.0 / (all.len().max(2) - 1) as f64;
    let begin = Instant::now();
    let mut git = Command::new("git");
    git.args(["log", "--raw", "--first-parent"]).current_dir(&place).stdout(Stdio::null());
    let git = git.status().ok().filter(|status| status.success()).map(|_| begin.elapsed());
    let mut out = std::io::stdout();
    use std::io::Write;
    writeln!(out, "{files} files, {} commits", all.len())?;
    writeln!(out, "first commit {:.1} ms, then {rest:.3} ms a commit", first.as_secs_f64() * 1e3)?;
    if let Some(git) = git {
        let each = git.as_secs_f64() * 1000.0 / all.len().max(1) as f64;
        writeln!(out, "`git log --raw` {each:.3} ms a commit: {:.1} times that", rest / each)?;
    }
    let status = std::fs::read_to_string("/proc/self/status")?;
    let peak = status.lines().find(|line| line.starts_with("VmHWM")).unwrap_or_default();
    writeln!(out, "greatest resident size: {}", peak.trim_start_matches("VmHWM:").trim())?;
    Ok(())
}

/// Makes the history through `git fast-import`.
fn make(place: &std::path::Path, files: usize, commits: usize) -> Answer<()> {
    use std::io::Write;
    Command::new("git").args(["init", "-q", "--bare", "-b", "main"]).arg(place).status()?;
    let mut import = Command::new("git");
    import.args(["fast-import", "--quiet"]).current_dir(place).stdin(Stdio::piped());
    let mut import = import.spawn()?;
    let mut to = std::io::BufWriter::new(import.stdin.take().ok_or("no pipe")?);
    let path = |n: usize| format!("d{}/s{}/t{}/f{n}.js", n % 10, n / 10 % 20, n / 200 % 5);
    let mut random = 7_usize;
    for commit in 0..commits {
        let time = 1_600_000_000 + commit * 60;
        writeln!(to, "commit refs/heads/main\ncommitter a <a@b> {time} +0000\ndata 1\nc")?;
        let changed: Vec<usize> = match commit {
            0 => (0..files).collect(),
            _ => (0..3)
                .map(|_| {
                    random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    (random >> 33) % files.max(1)
                })
                .collect(),
        };
        if commit == 0 {
            let length = DOCKERFILE.len();
            writeln!(to, "M 100644 inline Dockerfile\ndata {length}\n{DOCKERFILE}")?;
            writeln!(to, "M 100644 inline package.json\ndata 2\n{{}}")?;
        }
        for file in changed {
            let text = format!("{file} {commit}");
            writeln!(to, "M 100644 inline {}\ndata {}\n{text}", path(file), text.len())?;
        }
        writeln!(to)?;
    }
    drop(to);
    match import.wait()?.success() {
        true => Ok(()),
        false => Err("git fast-import failed".into()),
    }
}
