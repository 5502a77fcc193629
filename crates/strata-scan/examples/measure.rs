//! Measures a scan by hand: `measure make DIRECTORY FILES`, `measure scan DIRECTORY [RULES]`,
//! `measure warm DIRECTORY`, `measure cold DIRECTORY`, `measure hash DIRECTORY`.
//! Prints CPU milliseconds of cold and warm scans and of one bare `statx` for each file.
#![expect(clippy::print_stdout, reason = "it is a program to look at")]

use std::path::Path;
use std::time::Instant;

use rayon::prelude::*;
use rustix::fs::{AtFlags, Mode, OFlags, StatxFlags};
use strata_cas::TreePath;
use strata_scan::{Found, FoundKind, Glob, IgnoreRules, ScanRequest, StampFile, scan};

const THREADS: usize = 2;

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        [_, "make", directory, files] => make(Path::new(directory), files.parse()?),
        [_, "warm", directory] => repeat(Path::new(directory), true, 50),
        [_, "cold", directory] => repeat(Path::new(directory), false, 5),
        [_, "hash", directory] => hash(Path::new(directory)),
        [_, "scan", directory] => measure(Path::new(directory), ""),
        [_, "scan", directory, rules] => measure(Path::new(directory), rules),
        _ => Err("measure make DIRECTORY FILES | measure scan DIRECTORY [RULES]".into()),
    }
}

/// Directories of 49 files of 4 KiB each, as many below each other as a source tree has.
fn make(root: &Path, files: usize) -> Result<(), Failure> {
    for number in 0..files {
        let directory = number / 49;
        let (a, b) = (directory / 400, directory / 20 % 20);
        let path = root.join(format!("package-{a}/module-{b}/directory-{directory}"));
        if number % 49 == 0 {
            std::fs::create_dir_all(&path)?;
        }
        let content = format!("{number:08} ").repeat(455);
        std::fs::write(path.join(format!("source-file-{number}.rs")), content)?;
    }
    Ok(())
}

fn cpu_milliseconds() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    std::time::Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
        .as_secs_f64()
        * 1000.0
}

/// The least CPU and wall milliseconds of some runs.
fn least(runs: u32, mut run: impl FnMut() -> Result<(), Failure>) -> Result<(f64, f64), Failure> {
    let mut least = (f64::MAX, f64::MAX);
    for _ in 0..runs {
        let (cpu, wall) = (cpu_milliseconds(), Instant::now());
        run()?;
        least.0 = least.0.min(cpu_milliseconds() - cpu);
        least.1 = least.1.min(wall.elapsed().as_secs_f64() * 1000.0);
    }
    Ok(least)
}

/// Scans again and again, for a profiler.
fn repeat(root: &Path, warm: bool, runs: u32) -> Result<(), Failure> {
    let stamps = StampFile::new(root.with_extension("stamps"));
    let (rules, wanted) = (IgnoreRules::default(), [Glob::new(b".")?]);
    for _ in 0..runs {
        let stamps = warm.then_some(&stamps);
        scan(&ScanRequest { root, rules: &rules, wanted: &wanted, stamps, threads: THREADS })?;
    }
    Ok(())
}

fn measure(root: &Path, rules: &str) -> Result<(), Failure> {
    let stamps = StampFile::new(root.with_extension("stamps"));
    let rules = IgnoreRules::parse(rules.replace(',', "\n").as_bytes())?;
    let wanted = [Glob::new(b".")?];
    let request =
        |stamps| ScanRequest { root, rules: &rules, wanted: &wanted, stamps, threads: THREADS };
    let cold = least(3, || {
        std::fs::remove_file(stamps.path()).ok();
        println!("{:?}", scan(&request(Some(&stamps)))?.stats());
        Ok(())
    })?;
    println!("{:?}", scan(&request(Some(&stamps)))?.stats());
    let directories = directories(&scan(&request(Some(&stamps)))?);
    // In turns, since other work on the machine comes and goes.
    let (mut warm, mut statx) = ((f64::MAX, f64::MAX), (f64::MAX, f64::MAX));
    for _ in 0..20 {
        let run = least(1, || scan(&request(Some(&stamps))).map(drop).map_err(Failure::from))?;
        warm = (warm.0.min(run.0), warm.1.min(run.1));
        let run = least(1, || floor(root, &directories))?;
        statx = (statx.0.min(run.0), statx.1.min(run.1));
    }
    println!("stamp file {} KiB", std::fs::metadata(stamps.path())?.len() / 1024);
    for (name, (cpu, wall)) in [("cold", cold), ("warm", warm), ("statx", statx)] {
        println!("{name:6} {cpu:8.1} ms CPU {wall:8.1} ms wall {:6.2} x", cpu / statx.0);
    }
    Ok(())
}

/// A cold scan beside BLAKE3 over the same files by as many threads, as `b3sum` would do it.
fn hash(root: &Path) -> Result<(), Failure> {
    let (rules, wanted) = (IgnoreRules::default(), [Glob::new(b".")?]);
    let request =
        ScanRequest { root, rules: &rules, wanted: &wanted, stamps: None, threads: THREADS };
    let answer = scan(&request)?;
    let is_file = |found: &Found| matches!(found.kind, FoundKind::File { .. });
    let files: Vec<_> = answer
        .entries()
        .filter(|(_, found)| is_file(found))
        .map(|(path, _)| root.join(path.to_string()))
        .collect();
    let pool = rayon::ThreadPoolBuilder::new().num_threads(THREADS).build()?;
    let plain = || {
        let hash = |path: &std::path::PathBuf| {
            blake3::Hasher::new().update_reader(std::fs::File::open(path)?).map(|it| it.finalize())
        };
        let hashes: Result<Vec<_>, _> = pool.install(|| files.par_iter().map(hash).collect());
        hashes.map(drop).map_err(Failure::from)
    };
    let (mut scanned, mut hashed) = (f64::MAX, f64::MAX);
    for _ in 0..5 {
        scanned = scanned.min(least(1, || scan(&request).map(drop).map_err(Failure::from))?.1);
        hashed = hashed.min(least(1, plain)?.1);
    }
    let megabytes = answer.stats().bytes as f64 / 1e6;
    for (name, milliseconds) in [("scan", scanned), ("blake3", hashed)] {
        println!("{name:6} {milliseconds:8.1} ms {:8.0} MB/s", megabytes / milliseconds * 1e3);
    }
    println!("scan / blake3 {:.2}", hashed / scanned);
    Ok(())
}

/// One `statx` for each file, directories opened, by as many threads as the scan has.
fn floor(root: &Path, directories: &[Directory]) -> Result<(), Failure> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(THREADS).build()?;
    let looked = pool.install(|| {
        directories.par_iter().try_for_each(|(directory, names)| {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let directory = rustix::fs::open(root.join(directory), flags, Mode::empty())?;
            names.iter().try_for_each(|name| {
                let at = AtFlags::SYMLINK_NOFOLLOW;
                rustix::fs::statx(&directory, name, at, StatxFlags::BASIC_STATS).map(drop)
            })
        })
    });
    Ok(looked?)
}

/// A directory and the names of the files in it.
type Directory = (String, Vec<String>);

fn directories(answer: &strata_scan::Scan) -> Vec<Directory> {
    let name = |path: &TreePath| String::from_utf8_lossy(path.name()).into_owned();
    let files = |directory: &TreePath| {
        let is_file = |found: &Found| matches!(found.kind, FoundKind::File { .. });
        let children = answer.children(directory).filter(|(_, found)| is_file(found));
        children.map(|(path, _)| name(&path)).collect()
    };
    let is_directory = |found: &Found| found.kind == FoundKind::Directory;
    let directories = answer.entries().filter(|(_, found)| is_directory(found));
    directories.map(|(path, _)| (path.to_string(), files(&path))).collect()
}
