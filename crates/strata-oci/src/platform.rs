//! Platforms: `linux/amd64`, `linux/arm64/v8`, normalised as containerd does it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A text that is not a platform.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a platform: `OS/ARCHITECTURE` or `OS/ARCHITECTURE/VARIANT` is expected")]
pub struct InvalidPlatform(String);

/// What an image runs on.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Platform {
    /// CPU architecture in Go's words: `amd64`, `arm64`.
    pub architecture: String,
    /// Operating system in Go's words: `linux`.
    pub os: String,
    /// CPU variant, such as `v7`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

impl Platform {
    /// The platform that this program was compiled for; containers of other systems' programs run
    /// on Linux all the same.
    pub fn native() -> Self {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            "x86" => "386",
            "powerpc64" => "ppc64le",
            other => other,
        };
        Self { os: "linux".to_owned(), architecture: architecture.to_owned(), variant: None }
    }

    /// Whether an image for `self` serves where `wanted` is asked for.
    pub fn serves(&self, wanted: &Self) -> bool {
        let same = self.os == wanted.os && self.architecture == wanted.architecture;
        let variant = |platform: &Self| match (&*platform.architecture, &platform.variant) {
            ("arm64", None) => Some("v8".to_owned()),
            ("arm", None) => Some("v7".to_owned()),
            (_, variant) => variant.clone(),
        };
        same && (wanted.variant.is_none() && wanted.architecture != "arm"
            || variant(self) == variant(wanted))
    }

    fn normalised(os: &str, architecture: &str, variant: Option<&str>) -> Self {
        let os = if os == "macos" { "darwin".to_owned() } else { os.to_ascii_lowercase() };
        let architecture = architecture.to_ascii_lowercase();
        let (architecture, variant) = match (&*architecture, variant) {
            ("x86_64" | "x86-64" | "amd64", variant) => ("amd64", variant.filter(|v| *v != "v1")),
            ("i386" | "386", _) => ("386", None),
            ("aarch64" | "arm64", variant) => {
                ("arm64", variant.filter(|v| !matches!(*v, "8" | "v8")))
            }
            ("armhf", _) => ("arm", Some("v7")),
            ("armel", _) => ("arm", Some("v6")),
            ("arm", None | Some("7")) => ("arm", Some("v7")),
            ("arm", Some("5")) => ("arm", Some("v5")),
            ("arm", Some("6")) => ("arm", Some("v6")),
            ("arm", Some("8")) => ("arm", Some("v8")),
            (other, variant) => (other, variant),
        };
        let (architecture, variant) = (architecture.to_owned(), variant.map(str::to_owned));
        Self { architecture, os, variant }
    }
}

impl FromStr for Platform {
    type Err = InvalidPlatform;

    fn from_str(text: &str) -> Result<Self, InvalidPlatform> {
        let clean = |part: &&str| {
            !part.is_empty()
                && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte))
        };
        let parts: Vec<&str> = text.split('/').collect();
        if !parts.iter().all(clean) {
            return Err(InvalidPlatform(text.to_owned()));
        }
        match parts[..] {
            ["local"] => Ok(Self::native()),
            [os @ ("linux" | "windows" | "darwin")] => {
                Ok(Self { os: os.to_owned(), ..Self::native() })
            }
            [architecture] => Ok(Self::normalised("linux", architecture, None)),
            [os, architecture] => Ok(Self::normalised(os, architecture, None)),
            [os, architecture, variant] => Ok(Self::normalised(os, architecture, Some(variant))),
            _ => Err(InvalidPlatform(text.to_owned())),
        }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        self.variant.iter().try_for_each(|variant| write!(f, "/{variant}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn normalises_as_containerd() {
        let check = |text: &str, expected: &str| {
            assert_eq!(text.parse::<Platform>().expect(text).to_string(), expected);
        };
        check("linux/x86_64", "linux/amd64");
        check("linux/arm64/v8", "linux/arm64");
        check("linux/arm", "linux/arm/v7");
        check("arm64", "linux/arm64");
        check("linux/arm/v6", "linux/arm/v6");
        for bad in ["", "/", "linux/", "a/b/c/d", "linux/amd 64"] {
            assert!(bad.parse::<Platform>().is_err(), "{bad}");
        }
    }

    #[test]
    fn serves_equal_platforms_whatever_their_spelling() {
        let of = |text: &str| text.parse::<Platform>().expect(text);
        assert!(of("linux/amd64").serves(&of("linux/x86_64")));
        let v8 = Platform { variant: Some("v8".to_owned()), ..of("linux/arm64") };
        assert!(v8.serves(&of("linux/arm64")));
        assert!(!of("linux/arm/v6").serves(&of("linux/arm/v7")));
        assert!(!of("linux/arm64").serves(&of("linux/amd64")));
    }
}
