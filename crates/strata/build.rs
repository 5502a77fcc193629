//! Links the C++ library that RocksDB needs into the program, where the compiler has it as an
//! archive: a program that the loader has less to do for starts a millisecond earlier, which is a
//! tenth of a build that finds everything.

use std::path::Path;
use std::process::Command;

/// A file that a linker takes for a library, and that says which one it means.
const STAND_IN: &str = "libstdc++.so";

fn main() -> std::io::Result<()> {
    println!("cargo::rerun-if-changed=build.rs");
    let is_gnu = std::env::var("CARGO_CFG_TARGET_ENV").is_ok_and(|env| env == "gnu");
    let is_native = std::env::var("TARGET").ok() == std::env::var("HOST").ok();
    let (true, Ok(out)) = (is_gnu && is_native, std::env::var("OUT_DIR")) else { return Ok(()) };
    // The compiler answers with the bare name if it has no such file.
    let answer = Command::new("cc").arg("-print-file-name=libstdc++.a").output();
    let archive = answer.map(|answer| String::from_utf8_lossy(&answer.stdout).trim().to_owned());
    if let Ok(archive) = archive.as_deref()
        && Path::new(archive).is_absolute()
        && Path::new(archive).is_file()
    {
        let script = format!("INPUT(\"{archive}\")\n");
        std::fs::write(Path::new(&out).join(STAND_IN), script)?;
        println!("cargo::rustc-link-search=native={out}");
    }
    Ok(())
}
