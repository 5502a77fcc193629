//! What opening, putting and keeping cost. Prints figures and asserts none: machines differ.

use std::time::{Duration, Instant};

use strata_cas::{
    BlobStore, ContentKey, Cost, DefinitionKey, NameStore, Record, RecordKey, RecordStore, Slot,
    TreeId,
};
use strata_store::{DiskStore, OpenOptions};

fn timed<T>(what: &str, count: u32, work: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let result = work();
    show(what, start.elapsed() / count);
    result
}

#[expect(clippy::print_stdout, reason = "the figures are what this test is for")]
fn show(what: &str, time: Duration) {
    println!("{what:<50} {:>10.1} µs", time.as_secs_f64() * 1e6);
}

fn content(number: u32, size: usize) -> Vec<u8> {
    let mut state = number.wrapping_mul(0x9e37_79b9) | 1;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()
    };
    (0..size / 4).flat_map(|_| next()).collect()
}

fn record(number: u64) -> Record {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&number.to_le_bytes());
    Record {
        definition: DefinitionKey::from_bytes(key),
        content: ContentKey::from_bytes(key),
        facts: Vec::new(),
        inputs: Vec::new(),
        tree: TreeId::from_bytes(key),
        payload: vec![1; 500],
        cost: Cost::default(),
        slot: Slot((number % 20).to_string()),
        created: number,
    }
}

fn open(root: &std::path::Path) -> DiskStore {
    DiskStore::open(root, OpenOptions::default()).expect("open")
}

/// The p-th part of a hundred.
fn percentile(times: &mut [Duration], part: usize) -> Duration {
    times.sort();
    times[(times.len() - 1) * part / 100]
}

const CHILD: &str = "STRATA_FIGURES_CHILD";

/// Eight of these commit at once.
#[test]
fn child_commits() {
    let Some(root) = std::env::var_os(CHILD) else { return };
    let store = open(std::path::Path::new(&root));
    let base = u64::from(std::process::id()) << 20;
    for number in 0..200 {
        let began = Instant::now();
        store.keep(&record(base + number), &[]).expect("keep");
        output(&format!("took {}", began.elapsed().as_nanos()));
    }
}

#[expect(clippy::print_stdout, reason = "the parent reads it")]
fn output(line: &str) {
    println!("\n{line}");
}

#[test]
#[ignore = "`make figures` runs it"]
fn commits_of_eight_processes() {
    for processes in [1, 8] {
        let home = tempfile::tempdir().expect("a directory");
        let child = || {
            std::process::Command::new(std::env::current_exe().expect("this program"))
                .args(["--exact", "child_commits", "--nocapture"])
                .env(CHILD, home.path())
                .stdout(std::process::Stdio::piped())
                .spawn()
                .expect("spawn")
        };
        let children: Vec<_> = (0..processes).map(|_| child()).collect();
        let mut times = Vec::new();
        for child in children {
            let out = child.wait_with_output().expect("it ends").stdout;
            let out = String::from_utf8_lossy(&out).into_owned();
            let nanos = out.lines().filter_map(|line| line.strip_prefix("took ")?.parse().ok());
            times.extend(nanos.map(Duration::from_nanos));
        }
        assert_eq!(times.len(), 200 * processes);
        for part in [50, 90, 99, 100] {
            let what = format!("commit, {processes} processes at once, p{part}");
            show(&what, percentile(&mut times, part));
        }
    }
}

/// What a build that finds everything does with a store: it opens it and looks 20 steps up.
#[test]
#[ignore = "`make figures` runs it"]
fn lookups_among_many_records() {
    let mut medians = Vec::new();
    for count in [100, 100_000] {
        let home = tempfile::tempdir().expect("a directory");
        let store = open(home.path());
        std::thread::scope(|scope| {
            for thread in 0..8 {
                let store = &store;
                scope.spawn(move || {
                    for number in (thread..count).step_by(8) {
                        store.keep(&record(number), &[]).expect("keep");
                    }
                });
            }
        });
        drop(store);
        let mut opened = Vec::new();
        let mut times: Vec<Duration> = (0..60)
            .map(|_| {
                let began = Instant::now();
                let store = open(home.path());
                opened.push(began.elapsed());
                for number in 0..20 {
                    let key = RecordKey::Definition(record(number * count / 20).definition);
                    assert!(store.find(&key).expect("find").is_some());
                }
                drop(store);
                began.elapsed()
            })
            .collect();
        show(&format!("open to read, {count} records, median"), percentile(&mut opened, 50));
        medians.push(percentile(&mut times, 50));
        show(
            &format!("open, 20 look-ups, close, {count} records, median"),
            medians[medians.len() - 1],
        );
        let mut written: Vec<Duration> = (0..20)
            .map(|number| {
                let began = Instant::now();
                let store = open(home.path());
                store.set_name("t", &number.to_string(), Some(b"")).expect("set");
                let opened = began.elapsed();
                drop(store);
                opened
            })
            .collect();
        show(
            &format!("open to write, one name, {count} records, median"),
            percentile(&mut written, 50),
        );
    }
}

#[test]
fn figures() {
    let home = tempfile::tempdir().expect("a directory");
    let store = timed("open, new", 1, || open(home.path()));
    timed("close, new", 1, || drop(store));
    let best = (0..20).map(|_| {
        let start = Instant::now();
        let store = open(home.path());
        let opened = start.elapsed();
        drop(store);
        (opened, start.elapsed())
    });
    let best: Vec<_> = best.collect();
    show("open, empty, best of 20", best.iter().map(|times| times.0).min().unwrap_or_default());
    show("open and close, best of 20", best.iter().map(|times| times.1).min().unwrap_or_default());

    let blobs: Vec<Vec<u8>> = (0..10_000).map(|number| content(number, 4096)).collect();
    let store = open(home.path());
    let put = || blobs.iter().map(|blob| store.put(blob).expect("put")).collect::<Vec<_>>();
    let ids = timed("put 4 KiB, each of 10,000", 10_000, put);
    timed("put 4 KiB again", 10_000, put);
    timed("sync after them (one name)", 1, || store.set_name("t", "n", Some(b"")).expect("set"));
    timed("has", 10_000, || ids.iter().for_each(|id| assert!(store.has(id).expect("has"))));
    timed("get 4 KiB", 10_000, || ids.iter().for_each(|id| drop(store.get(id).expect("get"))));
    let missing = |id: &strata_cas::BlobId| id.to_string().chars().rev().collect::<String>();
    let absent: Vec<_> = ids.iter().map(|id| missing(id).parse().expect("an id")).collect();
    timed("has, absent", 10_000, || {
        absent.iter().for_each(|id| assert!(!store.has(id).expect("has")));
    });
    timed("keep, each of 200", 200, || {
        (0..200).for_each(|number| store.keep(&record(number), &[]).expect("keep"));
    });
    timed("close after 40 MB", 1, || drop(store));

    let store = timed("open with 10,000 blobs", 1, || open(home.path()));
    timed("get 4 KiB, after reopening", 10_000, || {
        ids.iter().for_each(|id| drop(store.get(id).expect("get")));
    });
    timed("put 64 KiB, each of 1,000", 1_000, || {
        for number in 0..1_000 {
            store.put(&content(number, 65_536)).expect("put");
        }
    });
    timed("keep that settles them", 1, || store.keep(&record(1_000), &[]).expect("keep"));
    timed("put 64 KiB and keep, each of 50", 50, || {
        for number in 2_000..2_050 {
            store.put(&content(number, 65_536)).expect("put");
            store.keep(&record(number.into()), &[]).expect("keep");
        }
    });
    timed("close", 1, || drop(store));
    let store = open(home.path());
    std::thread::scope(|scope| {
        timed("put 4 KiB from 4 threads, each of 10,000", 10_000, || {
            let threads: Vec<_> = (0..4_u32)
                .map(|thread| {
                    let store = &store;
                    scope.spawn(move || {
                        for number in 0..2_500 {
                            let number = 1_000_000 + thread * 10_000 + number;
                            store.put(&content(number, 4096)).expect("put");
                        }
                    })
                })
                .collect();
            threads.into_iter().for_each(|thread| thread.join().expect("a thread"));
        });
    });
}
