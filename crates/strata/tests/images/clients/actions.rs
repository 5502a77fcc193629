//! GitHub's cache for actions, as its own library uses it, and sccache, which speaks the same in
//! protocol buffers.

use super::{Shop, has, installed, said};

const TABLE: &str = "[serve]\ngithub-actions = true\n";

/// What a workflow's step does: restores, and where there is nothing, makes and saves.
const STEP: &str = r#"
import * as cache from '@actions/cache';
import { webcrypto } from 'node:crypto';
import { mkdirSync, writeFileSync } from 'node:fs';
// The library wants a runner's Node, which is newer than Debian 12's.
globalThis.crypto ??= webcrypto;
const [key, ...others] = process.argv.slice(2);
const found = await cache.restoreCache(['out'], key, others);
console.log(`restored: ${found}`);
if (found !== key) {
  mkdirSync('out', { recursive: true });
  if (found === undefined) writeFileSync('out/made', `${process.hrtime.bigint()}`);
  console.log(`saved: ${await cache.saveCache(['out'], key)}`);
}
"#;

fn step(shop: &Shop, machine: &str, keys: &[&str]) -> crate::world::Said {
    let temporary = shop.home(machine).join("temporary");
    std::fs::create_dir_all(&temporary).expect("a folder");
    let mut command = shop.command(machine, "node");
    command.env("ACTIONS_CACHE_SERVICE_V2", "true").env("ACTIONS_RUNTIME_TOKEN", "any");
    command.env("ACTIONS_RESULTS_URL", format!("{}/", shop.url()));
    command.env("GITHUB_WORKSPACE", shop.world.path("project")).env("RUNNER_TEMP", temporary);
    said(command.arg("step.mjs").args(keys))
}

#[test]
fn actions_cache() {
    let modules = installed("npm/node_modules");
    let shop = Shop::configured(TABLE);
    shop.write("step.mjs", STEP);
    std::os::unix::fs::symlink(modules, shop.world.path("project/node_modules")).expect("a link");
    let words =
        shop.twice("actions", ("out/made", &["out"]), |machine| step(&shop, machine, &["linux-a"]));
    has(&words, "restored: linux-a");
    // Another key: what begins with the other one is taken, and saved under the new one.
    let third = step(&shop, "third", &["linux-b", "linux-"]).ok();
    has(&third.out, "restored: linux-a");
    has(&third.out, "saved: ");
    has(&step(&shop, "fourth", &["linux-b"]).ok().out, "restored: linux-b");
}

#[test]
fn sccache() {
    let program = installed("python/bin/sccache");
    let shop = Shop::configured(TABLE);
    shop.write("a.c", "int main(void) { return __LINE__; }\n");
    let run = |machine: &str, arguments: &[&str]| {
        let mut command = shop.command(machine, &program);
        command.env("SCCACHE_GHA_ENABLED", "on").env("SCCACHE_GHA_VERSION", "v1");
        command.env("ACTIONS_CACHE_SERVICE_V2", "on").env("ACTIONS_RUNTIME_TOKEN", "any");
        command.env("ACTIONS_RESULTS_URL", format!("{}/", shop.url()));
        command.env("SCCACHE_SERVER_UDS", shop.home(machine).join("socket"));
        said(command.args(arguments)).ok()
    };
    let stats = std::cell::RefCell::new(String::new());
    let work = |machine: &str| {
        run(machine, &["--start-server"]);
        let compiled = run(machine, &["gcc", "-c", "a.c", "-o", "a.o"]);
        stats.replace(run(machine, &["--stop-server"]).out);
        compiled
    };
    work("first").ok();
    let made = shop.take("a.o", &[]);
    work("second").ok();
    assert_eq!(shop.take("a.o", &[]), made);
    let stats = stats.into_inner();
    let hits = stats.lines().find(|line| line.starts_with("Cache hits  ")).unwrap_or_default();
    assert_eq!(hits.split_whitespace().last(), Some("1"), "{stats}");
    assert!(shop.hits("actions") > 0);
}
