//! A cache for any commands, made of `strata-engine` and `strata-cas` alone: no image, Dockerfile
//! or daemon. Try it in a directory with C sources:
//!
//! ```text
//! $ cat rules
//! main.o: main.c lib.h | cc -c main.c
//! lib.o: lib.c lib.h | cc -c lib.c
//! app: main.o lib.o | cc -o app main.o lib.o
//! $ cargo run --release --workspace --example commands -- rules .cache
//! ```
//!
//! Each rule is a step. Its command runs in an empty directory with its inputs in it, and what it
//! leaves under the rule's name is the result. An input is a file, or what another rule above
//! gives. Change a comment in `lib.c`: `lib.o` is made anew, and if it is what it was, `app` is
//! not.
#![expect(clippy::print_stdout, reason = "it is a program to look at")]

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::Command;

use strata_cas::{
    Blob, BlobId, BlobStore, Directory, Fact, File, Metadata, Node, Record, RecordKey, RecordStore,
    Slot, StoreError, TreeId, load,
};
use strata_engine::{
    Build, Definition, Event, FactChange, Graph, Input, MissReason, Outcome, Produced, Step,
    StepId, Verdict,
};

type Failure = Box<dyn std::error::Error + Send + Sync>;

fn main() -> Result<(), Failure> {
    let arguments: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let [rules, cache] = &arguments[..] else { return Err("usage: commands RULES CACHE".into()) };
    let text = std::fs::read_to_string(rules)?;
    let sources = rules.parent().unwrap_or(Path::new(""));
    for line in run(&text, sources, cache)? {
        println!("{line}");
    }
    Ok(())
}

/// Brings all results up to date, writes them beside the sources, and says what was done.
pub(crate) fn run(rules: &str, sources: &Path, cache: &Path) -> Result<Vec<String>, Failure> {
    let store = FileStore { root: cache.to_owned() };
    let rules: Vec<Rule> = rules.lines().filter_map(Rule::parse).collect();
    let mut graph = Graph::default();
    for (number, rule) in rules.iter().enumerate() {
        let (mut files, mut inputs) = (BTreeMap::new(), Vec::new());
        for name in &rule.inputs {
            match rules[..number].iter().position(|above| above.name == *name) {
                Some(above) => inputs.push(Input::Slice(StepId(above))),
                None => {
                    let blob = store.put(&std::fs::read(sources.join(name))?)?;
                    files.insert(name.clone().into_bytes(), file(blob));
                }
            }
        }
        let files = Directory { metadata: Metadata::root(0o755), entries: files }.keep(&store)?;
        graph.add(CommandStep { rule, files, store: &store }, inputs);
    }
    let said = std::sync::Mutex::new(Vec::new());
    let observe = |event: Event<'_>| {
        if let (Event::Done(StepId(number), outcome), Ok(mut said)) = (event, said.lock()) {
            said.push(match &outcome.verdict {
                Verdict::Hit(_) => format!("{}: cached", rules[number].name),
                Verdict::Miss(reason) => format!("{}: ran, {}", rules[number].name, why(reason)),
            });
        }
    };
    let outcomes = Build::new(&store).run(&graph, &observe).map_err(|failed| failed.error)?;
    for outcome in &outcomes {
        unpack(&store, &outcome.record.tree, sources)?;
    }
    Ok(said.into_inner().unwrap_or_default())
}

/// `NAME: INPUT INPUT | COMMAND`
struct Rule {
    name: String,
    inputs: Vec<String>,
    command: String,
}

impl Rule {
    fn parse(line: &str) -> Option<Self> {
        let (head, command) = line.split_once('|')?;
        let (name, inputs) = head.split_once(':')?;
        let inputs = inputs.split_whitespace().map(str::to_owned).collect();
        Some(Self { name: name.trim().to_owned(), inputs, command: command.trim().to_owned() })
    }
}

/// A rule with the source files that it needs.
struct CommandStep<'a> {
    rule: &'a Rule,
    files: TreeId,
    store: &'a FileStore,
}

impl Step for CommandStep<'_> {
    type Error = Failure;

    fn definition(&self) -> Definition {
        let facts = vec![
            Fact::text("name", &self.rule.name),
            Fact::text("command", &self.rule.command),
            Fact::tree("files", self.files),
        ];
        Definition::new(Slot(self.rule.name.clone()), facts)
    }

    /// All of another rule's result matters, and not how it came about.
    fn slice(&self, _: usize, tree: &TreeId) -> Result<TreeId, Failure> {
        Ok(*tree)
    }

    fn run(&self, inputs: &[Outcome]) -> Result<Produced, Failure> {
        let place = self.store.root.join(format!("run-{}", std::process::id()));
        std::fs::create_dir_all(&place)?;
        unpack(self.store, &self.files, &place)?;
        for input in inputs {
            unpack(self.store, &input.record.tree, &place)?;
        }
        let Rule { name, command, .. } = self.rule;
        let status = Command::new("sh").args(["-ec", command]).current_dir(&place).status()?;
        let made = std::fs::read(place.join(name));
        std::fs::remove_dir_all(&place)?;
        if !status.success() {
            return Err(format!("`{command}` failed").into());
        }
        let made = made.map_err(|_| format!("`{command}` made no `{name}`"))?;
        let entries = [(name.clone().into_bytes(), file(self.store.put(&made)?))].into();
        let tree = Directory { metadata: Metadata::root(0o755), entries }.keep(self.store)?;
        Ok(Produced { tree, payload: Vec::new(), bytes: made.len() as u64 })
    }
}

fn file(blob: BlobId) -> Node {
    // Modes and sizes tell nothing here: commands make files that run.
    Node::File(File { blob, size: 0, metadata: Metadata::root(0o755) })
}

/// Writes the files of a flat tree into a directory.
fn unpack(store: &FileStore, tree: &TreeId, into: &Path) -> Result<(), Failure> {
    use std::os::unix::fs::PermissionsExt;
    for (name, node) in load(store, tree)?.entries {
        let Node::File(File { blob, .. }) = node else { continue };
        let bytes = store.get(&blob)?.ok_or("the cache is damaged: remove it")?;
        let path = into.join(String::from_utf8(name)?);
        std::fs::write(&path, bytes)?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755))?;
    }
    Ok(())
}

/// The engine's reason is data; here it gets its words.
fn why(reason: &MissReason) -> String {
    let paths = |diff: &strata_cas::Diff| {
        let paths: Vec<String> = diff.listed.iter().map(|one| one.path.to_string()).collect();
        paths.join(", ")
    };
    match reason {
        MissReason::First => "for the first time".to_owned(),
        MissReason::Changed(changes) => {
            let change = |change: &FactChange| match change {
                FactChange::Text { name, .. } => name.clone(),
                FactChange::Files { paths: diff, .. } => paths(diff),
            };
            let changes: Vec<String> = changes.iter().map(change).collect();
            format!("since it has another {}", changes.join(", "))
        }
        MissReason::Input { paths: diff, .. } => format!("since {} is another one", paths(diff)),
        reason => format!("{reason:?}"),
    }
}

/// A store in plain files: what an engine needs at least. A real one (`strata-store`) syncs, locks
/// and sweeps. `strata_cas::conformance` says what a store promises, and tests it.
pub(crate) struct FileStore {
    pub(crate) root: PathBuf,
}

impl FileStore {
    fn read(&self, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
        match std::fs::read(self.root.join(name)) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(StoreError::io(format!("read {name}"))(error)),
        }
    }

    fn write(&self, name: &str, bytes: &[u8]) -> Result<(), StoreError> {
        let path = self.root.join(name);
        let new = path.with_extension(format!(
            "{}-{:?}.new",
            std::process::id(),
            std::thread::current().id()
        ));
        let written = std::fs::create_dir_all(&self.root)
            .and_then(|()| std::fs::write(&new, bytes))
            .and_then(|()| std::fs::rename(&new, &path));
        written.map_err(StoreError::io(format!("write {name}")))
    }
}

impl BlobStore for FileStore {
    fn open(&self, id: &BlobId) -> Result<Option<Blob>, StoreError> {
        // Bytes that do not match their name are never returned.
        let bytes = self.read(&format!("blob-{id}"))?.filter(|bytes| BlobId::of(bytes) == *id);
        Ok(bytes.map(Blob::Bytes))
    }

    fn put_from(&self, source: &mut dyn Read) -> Result<BlobId, StoreError> {
        let mut bytes = Vec::new();
        source.read_to_end(&mut bytes).map_err(StoreError::io("read a blob"))?;
        let id = BlobId::of(&bytes);
        self.write(&format!("blob-{id}"), &bytes)?;
        Ok(id)
    }

    fn has(&self, id: &BlobId) -> Result<bool, StoreError> {
        Ok(self.root.join(format!("blob-{id}")).exists())
    }
}

impl RecordStore for FileStore {
    fn find(&self, key: &RecordKey) -> Result<Option<Record>, StoreError> {
        let record = self.read(&record_name(key))?;
        Ok(record.and_then(|bytes| serde_json::from_slice(&bytes).ok()))
    }

    fn keep(&self, record: &Record, also: &[RecordKey]) -> Result<(), StoreError> {
        let damaged = |_| StoreError::Damaged { what: "a record".to_owned() };
        let bytes = serde_json::to_vec(record).map_err(damaged)?;
        let own = [RecordKey::Definition(record.definition), RecordKey::Content(record.content)];
        for key in own.iter().chain(also) {
            self.write(&record_name(key), &bytes)?;
        }
        let mut recent = self.recent(&record.slot)?;
        recent.retain(|earlier| earlier.definition != record.definition);
        recent.insert(0, record.clone());
        recent.truncate(8);
        let recent = serde_json::to_vec(&recent).map_err(damaged)?;
        self.write(&slot_name(&record.slot), &recent)
    }

    fn recent(&self, slot: &Slot) -> Result<Vec<Record>, StoreError> {
        let recent = self.read(&slot_name(slot))?;
        Ok(recent.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default())
    }
}

fn record_name(key: &RecordKey) -> String {
    format!("record-{}", BlobId::of(&key.to_bytes()))
}

fn slot_name(slot: &Slot) -> String {
    format!("slot-{}", BlobId::of(slot.0.as_bytes()))
}
