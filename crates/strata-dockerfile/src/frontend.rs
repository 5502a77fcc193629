//! `# syntax=image`: which frontend the file is for.
//!
//! BuildKit fetches the image and lets it read the file. Here the Dockerfile frontend is built in,
//! in whatever version and channel it is named; any other is an error, since nobody can say what
//! its files mean. `// syntax=` and `{"syntax": "..."}` name a frontend in files that are no
//! Dockerfiles.

use std::collections::BTreeMap;

use crate::diagnostic::Diagnostic;
use crate::json;
use crate::{DirectiveName, Span, SyntaxTree};

/// The build argument that stands in for the file's own `# syntax=` directive.
pub const SYNTAX_ARGUMENT: &str = "BUILDKIT_SYNTAX";

/// The code of the error about a frontend that is not built in.
pub const FOREIGN_FRONTEND: &str = "foreign-frontend";

/// The error, if the file or the build arguments ask for a frontend that is not built in.
#[must_use]
pub fn foreign_frontend(
    tree: &SyntaxTree,
    build_args: &BTreeMap<String, String>,
) -> Option<Diagnostic> {
    let directive = tree.directive(DirectiveName::Syntax);
    let (value, span) = match (build_args.get(SYNTAX_ARGUMENT), directive) {
        (Some(value), _) => (value.as_str(), Span::default()),
        (None, Some(directive)) => (directive.value.as_str(), directive.value_span),
        (None, None) => return None,
    };
    let image = value.split(' ').next().unwrap_or_default();
    (!is_builtin(image)).then(|| {
        let given = if span == Span::default() {
            format!(" of `{SYNTAX_ARGUMENT}`")
        } else {
            String::new()
        };
        let message = format!(
            "frontend `{image}`{given} can not be used: only `docker/dockerfile` is built in"
        );
        let hint = match suggests_dockerfile(image) {
            true => "write `docker/dockerfile:1`",
            false => "if it is an ordinary Dockerfile, leave the `syntax` out",
        };
        Diagnostic::error(FOREIGN_FRONTEND, span, message).hint(hint)
    })
}

/// Whether the image is the Dockerfile frontend, of any version.
fn is_builtin(image: &str) -> bool {
    let name = image.strip_prefix("docker.io/").unwrap_or(image);
    let name = name.split('@').next().unwrap_or_default();
    let name = name.split(':').next().unwrap_or_default();
    matches!(name, "docker/dockerfile" | "docker/dockerfile-upstream")
}

fn suggests_dockerfile(image: &str) -> bool {
    image.contains("dockerfile") && !image.contains('.')
}

/// The error about a file that names its frontend in a way that only other languages have.
pub(crate) fn of_another_language(source: &[u8]) -> Option<Diagnostic> {
    // Most files begin with neither, and are not read twice.
    let first = source.iter().find(|byte| !byte.is_ascii_whitespace());
    if !first.is_some_and(|first| matches!(first, b'/' | b'{' | b'#' | 0xEF)) {
        return None;
    }
    let text = std::str::from_utf8(source).ok()?;
    let text = text.strip_prefix('\u{FEFF}').unwrap_or(text);
    let start =
        if text.starts_with("#!") { text.find('\n').map_or(text.len(), |at| at + 1) } else { 0 };
    let image = slashed(&text[start..]).or_else(|| json::member(&text[start..], "syntax"))?;
    let image = image.split(' ').next().unwrap_or_default().to_owned();
    let (message, hint) = if is_builtin(&image) {
        let message =
            "in a Dockerfile `syntax` stands in a comment that begins with `#`".to_owned();
        (message, format!("write `# syntax={image}`"))
    } else {
        let message = format!(
            "this file is for the frontend `{image}`: only `docker/dockerfile` is built in"
        );
        (message, "name a Dockerfile with `-f`".to_owned())
    };
    Some(Diagnostic::error(FOREIGN_FRONTEND, Span::default(), message).hint(hint))
}

/// `// syntax=image` among the `//` directives at the top.
fn slashed(text: &str) -> Option<String> {
    for line in text.lines() {
        let (name, value) = line.strip_prefix("//")?.split_once('=')?;
        match name.trim().to_ascii_lowercase().as_str() {
            "syntax" => return Some(value.trim().to_owned()),
            "escape" | "check" => {}
            _ => return None,
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_dockerfile_frontend_is_built_in() {
        for image in [
            "docker/dockerfile",
            "docker/dockerfile:1",
            "docker/dockerfile:1.7-labs",
            "docker.io/docker/dockerfile:experimental",
            "docker/dockerfile-upstream:master",
            "docker/dockerfile:1@sha256:00",
        ] {
            assert!(is_builtin(image), "{image}");
        }
        for image in ["dockerfile:1", "docker/buildx-bin", "ghcr.io/docker/dockerfile:1", ""] {
            assert!(!is_builtin(image), "{image}");
        }
    }

    #[test]
    fn other_languages_say_so_in_other_ways() {
        let code = |text: &str| of_another_language(text.as_bytes()).map(|found| found.message);
        let foreign = "this file is for the frontend `a/b`: only `docker/dockerfile` is built in";
        for text in [
            "// syntax = a/b\n",
            "#!/x\n//escape=`\n//Syntax=a/b c\nwhatever",
            "{\"x\": [1, {\"syntax\": \"no\"}], \"syntax\": \"a/b\"}",
            "\u{FEFF}{\n\"syntax\": \"a/b\"\n}\n",
        ] {
            assert_eq!(code(text).as_deref(), Some(foreign), "{text}");
        }
        assert!(code("// syntax=docker/dockerfile:1\nFROM a").is_some());
        for text in ["FROM a\n// syntax=a/b\n", "// a=b\n// syntax=a/b\n", "{\"syntax\": 1}", "{}"]
        {
            assert_eq!(code(text), None, "{text}");
        }
    }
}
