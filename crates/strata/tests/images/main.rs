//! Whole builds with commands in them. They need root and busybox, which is installed if missing.
#![expect(clippy::panic, clippy::expect_used, reason = "a test says what is wrong and stops")]

mod cases;
mod independent;
mod rootless;
mod sandbox;
mod sharing;
mod store;
mod world;
