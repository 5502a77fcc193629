//! Whole builds with commands in them. They need root and busybox, which is installed if missing.
#![expect(clippy::panic, clippy::expect_used, reason = "a test says what is wrong and stops")]

mod announced;
mod asking;
mod attacks;
#[path = "../../../strata-remote/tests/registry/bucket.rs"]
mod bucket;
mod caches;
mod cases;
mod checks;
mod clients;
mod control;
#[path = "../damage/mod.rs"]
mod damage;
mod extremes;
mod foreign;
mod independent;
mod killed;
mod large;
mod limits;
mod mirror;
mod mounts;
mod paths;
mod registry;
mod remote;
mod rootless;
mod sandbox;
mod secrets;
mod serve;
mod sharing;
mod shell;
mod store;
#[path = "../../../strata-server/tests/server/through.rs"]
mod through;
mod tiers;
mod times;
mod tools;
mod why;
#[path = "../../../strata-server/tests/server/wire.rs"]
mod wire;
mod world;
