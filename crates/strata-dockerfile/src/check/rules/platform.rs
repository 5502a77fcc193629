//! `os/arch` as people write it, and as it is compared.

/// Operating system and architecture of `linux/amd64`, `amd64` or `linux`; what is not written is
/// `default`'s.
pub(super) fn read(text: &str, default: &str) -> (String, String) {
    let (default_os, default_arch) = split(default);
    let lower = text.to_lowercase();
    match lower.split_once('/') {
        Some((os, arch)) => (os.to_owned(), architecture(split(arch).0).to_owned()),
        None if SYSTEMS.contains(&lower.as_str()) => (lower, default_arch.to_owned()),
        None => (default_os.to_owned(), architecture(&lower).to_owned()),
    }
}

const SYSTEMS: [&str; 7] = ["linux", "windows", "darwin", "freebsd", "openbsd", "netbsd", "wasi"];

fn split(text: &str) -> (&str, &str) {
    let (first, rest) = text.split_once('/').unwrap_or((text, ""));
    (first, rest.split('/').next().unwrap_or_default())
}

/// The name that is used of an architecture's several.
fn architecture(name: &str) -> &str {
    match name {
        "x86_64" | "x86-64" => "amd64",
        "aarch64" => "arm64",
        "armhf" | "armel" => "arm",
        "i386" => "386",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn platforms() {
        let check = |text: &str, os: &str, arch: &str| {
            assert_eq!(read(text, "linux/amd64"), (os.to_owned(), arch.to_owned()), "{text}");
        };
        check("linux/arm/v7", "linux", "arm");
        check("linux/x86_64", "linux", "amd64");
        check("arm64", "linux", "arm64");
        check("windows", "windows", "amd64");
    }
}
