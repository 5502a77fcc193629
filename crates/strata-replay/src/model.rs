//! What is assumed where nothing was measured: how long a step takes, how much it makes, which
//! of the files in front of it a command looks at, and which of its files a change can not have
//! touched. All of it is written down in `docs/replay.md`, and each figure says when it rests on
//! this. It is the model of the reference figures that replays are checked against.

use strata_cas::TreePath;

/// What kind of work a step is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// FROM, and WORKDIR that makes a directory: never counted as steps, only in time.
    Other,
    /// COPY and ADD.
    Copy,
    /// A command that changes a mode or makes a directory.
    Trivial,
    /// A command that needs no file of the context: system packages, users, downloads.
    NoContext,
    /// A command that installs what the project depends on.
    Installer,
    /// Every other command.
    Build,
}

impl Class {
    /// Its name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Other => "other",
            Self::Copy => "copy",
            Self::Trivial => "trivial",
            Self::NoContext => "no-context",
            Self::Installer => "installer",
            Self::Build => "build",
        }
    }

    /// Milliseconds that it is taken to need.
    pub fn millis(self) -> u64 {
        match self {
            Self::Other | Self::Copy => 500,
            Self::Trivial => 1_000,
            Self::NoContext => 20_000,
            Self::Installer => 45_000,
            Self::Build => 120_000,
        }
    }

    /// Bytes that it is taken to make; a COPY makes what it copies.
    pub fn bytes(self) -> u64 {
        match self {
            Self::Other | Self::Copy => 0,
            Self::Trivial => 4 << 10,
            Self::NoContext => 120 << 20,
            Self::Installer => 300 << 20,
            Self::Build => 80 << 20,
        }
    }

    /// What a command of this class is taken to look at.
    pub(crate) fn reads(self) -> Reads {
        match self {
            Self::Installer => Reads::Manifests,
            Self::Build => Reads::Sources,
            Self::NoContext | Self::Trivial => Reads::Nothing,
            Self::Other | Self::Copy => Reads::Everything,
        }
    }
}

/// Which of the files in front of it a command looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub(crate) enum Reads {
    /// All.
    #[default]
    Everything,
    /// All but documentation, tests, licences and the files of CI services.
    Sources,
    /// Those that say what the project depends on.
    Manifests,
    /// None.
    Nothing,
}

impl Reads {
    pub(crate) fn look_at(self, path: &TreePath) -> bool {
        match self {
            Self::Everything => true,
            Self::Sources => !is_bystander(path),
            Self::Manifests => is_manifest(path),
            Self::Nothing => false,
        }
    }
}

/// Whether a file tells what the project depends on.
pub(crate) fn is_manifest(path: &TreePath) -> bool {
    let name = String::from_utf8_lossy(path.name()).to_lowercase();
    const NAMES: [&str; 47] = [
        "package.json",
        "package-lock.json",
        "npm-shrinkwrap.json",
        "yarn.lock",
        "pnpm-lock.yaml",
        "pnpm-workspace.yaml",
        "lerna.json",
        ".npmrc",
        ".yarnrc",
        ".yarnrc.yml",
        ".pnpmfile.cjs",
        "bun.lock",
        "bun.lockb",
        "bunfig.toml",
        "pyproject.toml",
        "poetry.lock",
        "uv.lock",
        "pipfile",
        "pipfile.lock",
        "setup.py",
        "setup.cfg",
        "cargo.toml",
        "cargo.lock",
        "rust-toolchain",
        "rust-toolchain.toml",
        "go.mod",
        "go.sum",
        "go.work",
        "go.work.sum",
        "gemfile",
        "gemfile.lock",
        ".ruby-version",
        "composer.json",
        "composer.lock",
        "pom.xml",
        "build.gradle",
        "build.gradle.kts",
        "settings.gradle",
        "settings.gradle.kts",
        "gradle.properties",
        "mix.exs",
        "mix.lock",
        "environment.yml",
        "deno.json",
        "deno.lock",
        "package.resolved",
        "packages.lock.json",
    ];
    NAMES.contains(&&*name)
        || (name.contains("requirements") && (name.ends_with(".txt") || name.ends_with(".in")))
        || [".gemspec", ".csproj", ".fsproj", ".sln"].iter().any(|end| name.ends_with(end))
}

/// Whether a file hardly matters to what a build makes: documentation, tests, CI.
pub(crate) fn is_bystander(path: &TreePath) -> bool {
    const DIRECTORIES: [&str; 20] = [
        "docs",
        "doc",
        "documentation",
        "test",
        "tests",
        "__tests__",
        "spec",
        "e2e",
        "cypress",
        "testdata",
        "examples",
        "example",
        ".github",
        ".circleci",
        ".ci",
        ".gitlab",
        ".devcontainer",
        ".vscode",
        ".idea",
        "__snapshots__",
    ];
    let names: Vec<String> =
        path.components().map(|name| String::from_utf8_lossy(name).to_lowercase()).collect();
    let Some((file, directories)) = names.split_last() else { return false };
    let ends = [".md", ".rst", ".adoc", "_test.go", ".test.ts", ".test.tsx", ".test.js"];
    let more_ends = [".test.jsx", ".spec.ts", ".spec.js", ".snap", "_test.py", "_spec.rb"];
    let begins =
        ["license", "licence", "changelog", "readme", "contributing", "authors", "codeowners"];
    const NAMES: [&str; 14] = [
        ".gitignore",
        ".gitattributes",
        ".editorconfig",
        ".travis.yml",
        ".dockerignore",
        "dockerfile",
        "docker-compose.yml",
        "docker-compose.yaml",
        "compose.yml",
        "compose.yaml",
        ".pre-commit-config.yaml",
        "renovate.json",
        ".mailmap",
        "security.md",
    ];
    directories.iter().any(|name| DIRECTORIES.contains(&&**name))
        || ends.iter().chain(&more_ends).any(|end| file.ends_with(end))
        || begins.iter().any(|begin| file.starts_with(begin))
        || NAMES.contains(&&**file)
        || (file.starts_with("test_") && file.ends_with(".py"))
}

/// The class of a command, by its text alone.
pub(crate) fn classify(command: &str) -> Class {
    let lower = command.to_lowercase();
    let words = Words::of(&lower);
    if words.programs.iter().all(|program| is_trivial(program)) {
        return Class::Trivial;
    }
    if INSTALLERS.iter().any(|phrase| words.has(phrase)) && !words.is_global() {
        return Class::Installer;
    }
    let needs_nothing = words.has_any(&SYSTEM) || words.is_global();
    let builds = words.has_any(&BUILDERS);
    if needs_nothing && !builds { Class::NoContext } else { Class::Build }
}

const INSTALLERS: [&str; 41] = [
    "npm ci",
    "npm install",
    "npm i",
    "yarn",
    "yarn install",
    "pnpm install",
    "pnpm i",
    "pnpm fetch",
    "bun install",
    "pip install",
    "pip3 install",
    "uv sync",
    "uv pip",
    "poetry install",
    "pipenv install",
    "pipenv sync",
    "bundle install",
    "cargo chef",
    "cargo fetch",
    "cargo vendor",
    "go mod",
    "composer install",
    "composer update",
    "gradle dependencies",
    "gradlew dependencies",
    "mix deps.get",
    "mix deps.compile",
    "dotnet restore",
    "conda install",
    "conda env",
    "mamba install",
    "deno install",
    "deno cache",
    "swift package",
    "stack setup",
    "cabal update",
    "mvn dependency:go-offline",
    "mvn dependency:resolve",
    "mvnw dependency:go-offline",
    "lerna bootstrap",
    "pdm install",
];

const SYSTEM: [&str; 25] = [
    "apt-get",
    "apt",
    "apk",
    "dnf",
    "yum",
    "microdnf",
    "zypper",
    "pacman",
    "corepack",
    "rustup",
    "curl",
    "wget",
    "gem install",
    "locale-gen",
    "update-ca-certificates",
    "docker-php-ext-install",
    "pecl",
    "install-php-extensions",
    "setcap",
    "tdnf",
    "update-alternatives",
    "xx-apk",
    "xx-apt",
    "a2enmod",
    "go install",
];

const BUILDERS: [&str; 14] = [
    "make",
    "cargo build",
    "go build",
    "npm run",
    "yarn build",
    "yarn run",
    "pnpm run",
    "pnpm build",
    "mvn",
    "gradle",
    "gradlew",
    "bundle exec",
    "rake",
    "dotnet publish",
];

fn is_trivial(program: &str) -> bool {
    const PROGRAMS: [&str; 30] = [
        "chown", "chmod", "mkdir", "ln", "rm", "mv", "cp", "echo", "touch", "set", "true", "cd",
        "sed", "cat", "printf", "test", "[", "export", "install", "rmdir", "unlink", "ls", "chgrp",
        ":", "useradd", "adduser", "groupadd", "addgroup", "usermod", "userdel",
    ];
    PROGRAMS.contains(&program)
}

/// The commands of a shell line, told apart roughly: enough for a class.
struct Words {
    /// Each command's words, flags of the program left out.
    commands: Vec<Vec<String>>,
    programs: Vec<String>,
    global: bool,
}

impl Words {
    fn of(text: &str) -> Self {
        let text = text.replace("\\\n", " ");
        let pieces = text.split(['\n', ';', '|', '&', '(', ')', '{', '}']);
        let mut commands = Vec::new();
        let mut global = false;
        for piece in pieces {
            let words = piece.split_whitespace();
            let mut words = words.skip_while(|word| {
                word.contains('=') || KEYWORDS.contains(word) || word.starts_with('#')
            });
            let Some(program) = words.next() else { continue };
            let program = program.rsplit('/').next().unwrap_or(program).trim_matches('"');
            let rest: Vec<&str> = words.collect();
            global |= rest.iter().any(|word| GLOBAL.contains(word));
            let plain = rest.iter().filter(|word| !word.starts_with('-'));
            let mut command = vec![program.to_owned()];
            command.extend(plain.map(|word| (*word).to_owned()));
            commands.push(command);
        }
        let programs = commands.iter().map(|command| command[0].clone()).collect();
        Self { commands, programs, global }
    }

    /// Whether a command begins with these words. One word alone stands for the program without
    /// any further word but numbers, which belong to flags.
    fn has(&self, phrase: &str) -> bool {
        let phrase: Vec<&str> = phrase.split(' ').collect();
        self.commands.iter().any(|command| match phrase.as_slice() {
            [program] => {
                let is_number = |word: &String| word.bytes().all(|byte| byte.is_ascii_digit());
                command[0] == *program && command[1..].iter().all(is_number)
            }
            phrase => {
                command.len() >= phrase.len() && phrase.iter().zip(command).all(|(a, b)| a == b)
            }
        })
    }

    fn has_any(&self, programs: &[&str]) -> bool {
        programs.iter().any(|phrase| match phrase.contains(' ') {
            true => self.has(phrase),
            false => self.programs.iter().any(|program| program == phrase),
        })
    }

    /// Whether something is installed for the whole system.
    fn is_global(&self) -> bool {
        self.global || self.has("cargo install")
    }
}

const KEYWORDS: [&str; 15] = [
    "if", "then", "else", "elif", "fi", "for", "do", "done", "while", "sudo", "exec", "time",
    "env", "!", "run",
];
const GLOBAL: [&str; 3] = ["-g", "--global", "--location=global"];

/// Whether a path is part of the system and no build is taken to touch it.
pub(crate) fn is_system_path(path: &str) -> bool {
    const SYSTEM: [&str; 10] = [
        "etc",
        "usr/share",
        "usr/lib",
        "usr/lib64",
        "lib",
        "lib64",
        "bin",
        "sbin",
        "usr/bin",
        "usr/sbin",
    ];
    let path = path.trim_matches('/');
    SYSTEM.iter().any(|system| path == *system || path.starts_with(&format!("{system}/")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_have_classes() {
        let check = |command: &str, class: Class| {
            assert_eq!(classify(command), class, "{command}");
        };
        check("apk --no-cache add git && rm -rf /var/cache", Class::NoContext);
        check("apk add bash && for f in $(cat x); do wget $f; done", Class::NoContext);
        check("npm_config_arch=x yarn --frozen-lockfile --timeout 6", Class::Installer);
        check("yarn build:app:docker", Class::Build);
        check("GO111MODULE=on go mod download", Class::Installer);
        check("make build", Class::Build);
        check("cargo chef prepare --recipe-path r.json", Class::Installer);
        check("cargo install wasm-pack cargo-chef", Class::NoContext);
        check("chown redash /app", Class::Trivial);
        check("npm install --global pnpm", Class::NoContext);
        check("if [ x = y ]; then pnpm install; fi", Class::Installer);
        check("uv sync $OPTIONS", Class::Installer);
        check("./docker/build/finalize.sh", Class::Build);
    }

    #[test]
    fn files_have_roles() {
        let path = |text: &str| TreePath::new(text).expect("clean");
        assert!(is_manifest(&path("web/package.json")) && !is_manifest(&path("web/main.js")));
        assert!(is_bystander(&path("docs/a.png")) && is_bystander(&path("src/README.md")));
        assert!(!is_bystander(&path("src/doc.rs")));
        assert!(is_system_path("/usr/share/zoneinfo") && !is_system_path("/usr/local/bin/x"));
    }
}
