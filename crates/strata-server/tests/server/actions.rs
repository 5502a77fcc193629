//! GitHub's cache for actions, request by request.

use serde_json::{Value, json};
use strata_server::{Scope, Secret, ServeTable, TokenTable};

use crate::client::{Answer, Host};

fn table() -> ServeTable {
    ServeTable { github_actions: true, ..ServeTable::default() }
}

struct Job<'a> {
    host: &'a Host,
    token: Option<&'a str>,
}

impl Job<'_> {
    fn call(&self, name: &str, asked: &Value) -> Answer {
        let path = format!("/twirp/github.actions.results.api.v1.CacheService/{name}");
        let token = self.token.map(|token| format!("Bearer {token}"));
        let mut headers = vec![("content-type", "application/json")];
        headers.extend(token.iter().map(|token| ("authorization", &**token)));
        self.host.ask("POST", &path, &headers, asked.to_string().as_bytes())
    }

    fn slot(key: &str) -> Value {
        json!({ "key": key, "version": "abc" })
    }

    /// Where to put the bytes, without the host.
    fn create(&self, key: &str) -> String {
        address(&self.call("CreateCacheEntry", &Self::slot(key)).is(200), "signed_upload_url")
    }

    fn finalize(&self, key: &str, size: usize) -> Answer {
        let mut asked = Self::slot(key);
        asked["size_bytes"] = json!(size.to_string());
        self.call("FinalizeCacheEntryUpload", &asked)
    }

    fn save(&self, key: &str, bytes: &[u8]) {
        let at = self.create(key);
        self.host.put(&at, bytes).is(201);
        self.finalize(key, bytes.len()).is(200);
    }

    /// The key that was found, and its bytes.
    fn restore(&self, key: &str, others: &[&str]) -> Option<(String, Vec<u8>)> {
        let mut asked = Self::slot(key);
        asked["restore_keys"] = json!(others);
        let answer = self.call("GetCacheEntryDownloadURL", &asked).is(200);
        let words: Value = serde_json::from_slice(&answer.body).expect("JSON");
        if words["ok"] != json!(true) {
            return None;
        }
        let bytes = self.host.get(&address(&answer, "signed_download_url")).is(200).body;
        Some((words["matched_key"].as_str().expect("a key").to_owned(), bytes))
    }
}

fn address(answer: &Answer, name: &str) -> String {
    let words: Value = serde_json::from_slice(&answer.body).expect("JSON");
    let address = words[name].as_str().expect("an address");
    address.strip_prefix("http://x").expect("the host that was asked").to_owned()
}

#[test]
fn it_is_there_only_where_it_was_asked_for() {
    let host = Host::open();
    let job = Job { host: &host, token: None };
    job.call("CreateCacheEntry", &Job::slot("k")).is(404);
}

#[test]
fn entries_come_whole_or_in_blocks() {
    let host = Host::with(&table());
    let job = Job { host: &host, token: None };
    assert_eq!(job.restore("a-1", &[]), None);
    job.save("a-1", b"one");
    assert_eq!(job.restore("a-1", &[]), Some(("a-1".to_owned(), b"one".to_vec())));
    // Blocks come in any order, some twice, and some are left out.
    let at = job.create("a-2");
    for (block, bytes) in [("Yg==", "lo w"), ("YQ==", "x"), ("YQ==", "hel"), ("Yw==", "orld")] {
        host.put(&format!("{at}&comp=block&blockid={block}"), bytes.as_bytes()).is(201);
    }
    host.put(&format!("{at}&comp=block&blockid=ZA=="), b"not in the list").is(201);
    // Nothing is there before the list, and no list names what has not come.
    job.finalize("a-2", 11).is(400);
    let list = |ids: &[&str]| {
        let all: String = ids.iter().map(|id| format!("<Latest>{id}</Latest>")).collect();
        host.put(
            &format!("{at}&comp=blocklist"),
            format!("<BlockList>{all}</BlockList>").as_bytes(),
        )
    };
    list(&["YQ==", "ZZ=="]).is(400);
    list(&["YQ==", "Yg==", "Yw=="]).is(201);
    assert_eq!(job.restore("a-2", &[]), None);
    job.finalize("a-2", 11).is(200);
    assert_eq!(job.restore("a-2", &[]), Some(("a-2".to_owned(), b"hello world".to_vec())));
    // Ranges, over the borders of blocks.
    let found = job.call("GetCacheEntryDownloadURL", &Job::slot("a-2")).is(200);
    let at = address(&found, "signed_download_url");
    for (range, bytes, says) in [
        ("bytes=0-2", "hel", "bytes 0-2/11"),
        ("bytes=2-7", "llo wo", "bytes 2-7/11"),
        ("bytes=8-", "rld", "bytes 8-10/11"),
    ] {
        let part = host.ask("GET", &at, &[("range", range)], b"").is(206);
        assert_eq!((&*part.text(), part.header("content-range")), (bytes, says));
    }
    assert_eq!(host.ask("HEAD", &at, &[], b"").is(200).header("content-length"), "11");
    host.ask("GET", &at, &[("range", "bytes=11-")], b"").is(416);
}

#[test]
fn entries_are_never_replaced_and_found_by_what_they_begin_with() {
    let host = Host::with(&table());
    let job = Job { host: &host, token: None };
    job.save("linux-1", b"one");
    let answer = job.call("CreateCacheEntry", &Job::slot("linux-1")).is(409);
    assert!(answer.text().contains("already_exists"), "{}", answer.text());
    // Two jobs at the same key: the first one that ends has it.
    let (first, second) = (job.create("race"), job.create("race"));
    host.put(&first, b"first").is(201);
    job.finalize("race", 5).is(200);
    host.put(&second, b"second").is(201);
    job.finalize("race", 6).is(409);
    assert_eq!(job.restore("race", &[]).expect("there").1, b"first");
    let found = |key: &str, others: &[&str]| job.restore(key, others).map(|(key, _)| key);
    assert_eq!(found("linux-2", &[]), None);
    assert_eq!(found("linux-2", &["mac-", "linux-"]), Some("linux-1".to_owned()));
    // The key itself is such a beginning.
    assert_eq!(found("linux", &[]), Some("linux-1".to_owned()));
    // What was announced is not what came.
    let at = job.create("short");
    host.put(&at, b"abc").is(201);
    job.finalize("short", 4).is(400);
    assert_eq!(found("short", &[]), None);
}

#[test]
fn addresses_that_nobody_has_given_out() {
    let host = Host::with(&table());
    let job = Job { host: &host, token: None };
    job.save("k", b"v");
    let at = job.call("GetCacheEntryDownloadURL", &Job::slot("k"));
    let at = address(&at, "signed_download_url");
    let (before, signature) = at.split_once("sig=").expect("a signature");
    let turned: String = signature.chars().rev().collect();
    for bad in [
        format!("{before}sig={turned}"),
        before.to_owned(),
        at.replace("/entries/", "/entries/x"),
        "/actions-cache/entries/..?sig=00".to_owned(),
    ] {
        assert!((400..=404).contains(&host.get(&bad).status), "{bad}");
    }
    host.put(&at, b"poison").is(405);
    host.put("/actions-cache/uploads/entry?id=0123", b"x").is(404);
    host.put("/actions-cache/uploads/entry", b"x").is(404);
    host.get("/actions-cache/uploads/entry").is(404);
    for bad in ["a,b", "", "a\nb"] {
        job.call("CreateCacheEntry", &Job::slot(bad)).is(400);
    }
    let strange = json!({ "key": "k", "version": "../x" });
    job.call("CreateCacheEntry", &strange).is(400);
}

#[test]
fn a_branch_uses_mains_entries_and_writes_its_own() {
    let token = |name: &str, namespace: &str, reads: &[&str], scope| TokenTable {
        name: name.to_owned(),
        token: Some(Secret::new(format!("{name}-0123456789abcdef"))),
        token_file: None,
        scope,
        namespace: namespace.to_owned(),
        reads: reads.iter().map(|name| (*name).to_owned()).collect(),
        trust: 100,
        requests_per_second: None,
        bytes_per_second: None,
    };
    let host = Host::with(&ServeTable {
        token: vec![
            token("main", "main", &[], Scope::Write),
            token("branch", "pr-1", &["main"], Scope::Write),
            token("reader", "main", &[], Scope::Read),
        ],
        ..table()
    });
    let job = |token: &'static str| Job { host: &host, token: Some(token) };
    let (main, branch) = (job("main-0123456789abcdef"), job("branch-0123456789abcdef"));
    main.save("k-1", b"good");
    assert_eq!(branch.restore("k-2", &["k-"]).expect("main's").1, b"good");
    branch.save("k-1", b"poison");
    branch.save("k-3", b"poison");
    assert_eq!(branch.restore("k-1", &[]).expect("its own").1, b"poison");
    assert_eq!(main.restore("k-1", &[]).expect("its own").1, b"good");
    assert_eq!(main.restore("k-3", &["k-"]).expect("its own").1, b"good");
    let reader = job("reader-0123456789abcdef");
    reader.call("CreateCacheEntry", &Job::slot("r")).is(403);
    reader.finalize("k-9", 1).is(403);
    assert_eq!(reader.restore("k-1", &[]).expect("main's").1, b"good");
    Job { host: &host, token: None }.call("GetCacheEntryDownloadURL", &Job::slot("k-1")).is(401);
}
