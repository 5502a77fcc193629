//! The replay: commit after commit, what a build of it would have found in a cache that keeps
//! everything.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;

use gix::ObjectId;
use strata_cas::{Fact, TreeId, TreePath};
use strata_scan::IgnoreRules;

use crate::context::{Change, Directory, Node, Reader, diff};
use crate::history::{Commit, History, HistoryError};
use crate::keys::{Files, Known, Scheme, StepKeys, keys};
use crate::locate::{Located, locate};
use crate::prepare::{Asked, Kind, Prep, Prepared};
use crate::select::{Found, Selector, Wanted, changes};
use crate::tally::{Built, Cause, InstructionTally, Tally};
use crate::what_if::WhatIf;

/// How many paths of a witness are kept.
pub(crate) const WITNESS_PATHS: usize = 20;
/// How many files of one commit get their share of what they broke.
const SHARED_FILES: usize = 2_000;

/// What is replayed.
#[derive(Debug, Clone)]
pub struct Request {
    /// What each build asks for.
    pub asked: Asked,
    /// The Dockerfile, below the repository's root.
    pub dockerfile: PathBuf,
    /// The build context, below the repository's root.
    pub context: PathBuf,
    /// What is changed in every commit before it is replayed.
    pub what_if: WhatIf,
    /// What steps really cost, by their instruction in one line.
    pub costs: Costs,
}

impl Request {
    /// A Dockerfile in the root of the repository, which is the context too.
    pub fn new(dockerfile: impl Into<PathBuf>) -> Self {
        Self {
            asked: Asked::default(),
            dockerfile: dockerfile.into(),
            context: PathBuf::new(),
            what_if: WhatIf::default(),
            costs: Costs::default(),
        }
    }
}

/// Measured costs, by the instruction in one line: milliseconds, and bytes that it made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Costs {
    /// What was measured.
    pub measured: BTreeMap<String, (u64, u64)>,
}

impl Costs {
    /// Milliseconds of a step and whether they were measured.
    pub(crate) fn millis(&self, prep: &Prep) -> (u64, bool) {
        match self.measured.get(&prep.text) {
            Some((millis, _)) => (*millis, true),
            None => (prep.class.millis(), false),
        }
    }

    pub(crate) fn bytes(&self, prep: &Prep, copied: u64) -> u64 {
        match self.measured.get(&prep.text) {
            Some((_, bytes)) => *bytes,
            None => prep.class.bytes() + copied,
        }
    }
}

/// How far a replay is.
#[derive(Debug, Clone, Copy)]
pub struct Progress {
    /// Commits that are done.
    pub done: usize,
    /// Commits in all.
    pub total: usize,
}

/// What a step was when it was built last.
struct Before {
    facts: Vec<Fact>,
    files: Vec<TreeId>,
    found: Vec<Found>,
}

/// What was selected for the build before, and of what.
struct Selected {
    dockerfile: ObjectId,
    ignore: Option<ObjectId>,
    context: TreeId,
    files: Rc<Files>,
    found: Rc<Vec<Vec<Found>>>,
}

/// The state of the builds so far.
struct Replay<'a> {
    history: &'a History,
    request: &'a Request,
    prepared: HashMap<ObjectId, Result<Rc<Prepared>, String>>,
    rules: Option<(Option<ObjectId>, Rc<IgnoreRules>)>,
    context: Option<Arc<Directory>>,
    selector: Selector<'a>,
    /// Numbers of filters: by the Dockerfile, the step, the use and what is looked at.
    filters: HashMap<String, usize>,
    known: Vec<Known>,
    previous: Vec<HashSet<u128>>,
    slots: HashMap<(String, String), Before>,
    blobs: HashSet<ObjectId>,
    last: Option<Selected>,
    tally: Tally,
}

/// Replays commits, oldest first. `observe` is told after each one; false ends it early, and
/// what was done is reported.
pub fn replay(
    history: &History,
    commits: &[Commit],
    request: &Request,
    observe: &mut dyn FnMut(Progress) -> bool,
) -> Result<Tally, HistoryError> {
    let located = locate(history, commits, &request.dockerfile)?;
    let mut replay = Replay {
        history,
        request,
        prepared: HashMap::new(),
        rules: None,
        context: None,
        selector: Selector::new(history),
        filters: HashMap::new(),
        known: Scheme::ALL.iter().map(|_| Known::default()).collect(),
        previous: Scheme::ALL.iter().map(|_| HashSet::new()).collect(),
        slots: HashMap::new(),
        blobs: HashSet::new(),
        last: None,
        tally: Tally::new(located.notes.clone()),
    };
    for (number, commit) in commits.iter().enumerate() {
        replay.commit(commit, &located, number)?;
        let progress = Progress { done: number + 1, total: commits.len() };
        if !observe(progress) {
            replay.tally.complete = number + 1 == commits.len();
            break;
        }
    }
    Ok(replay.tally)
}

impl<'a> Replay<'a> {
    fn commit(
        &mut self,
        commit: &Commit,
        located: &Located,
        number: usize,
    ) -> Result<(), HistoryError> {
        let (dockerfile, prepared) = match self.dockerfile(located, number)? {
            Ok(found) => found,
            Err(reason) => {
                self.tally.not_built(commit, reason);
                return Ok(());
            }
        };
        match self.read_context(commit, located, number) {
            Ok(Ok(())) => {}
            Ok(Err(reason)) => {
                self.tally.not_built(commit, reason);
                return Ok(());
            }
            Err(error) => return Err(error),
        }
        let Some(context) = self.context.clone() else { return Ok(()) };
        let ignore = self.rules.as_ref().and_then(|(id, _)| *id);
        let (files, found) = self.files(dockerfile, ignore, &prepared, &context);
        self.build(commit, &prepared, &files, &found);
        Ok(())
    }

    /// The commit's Dockerfile, or why there is no build.
    fn dockerfile(
        &mut self,
        located: &Located,
        number: usize,
    ) -> Result<Result<(ObjectId, Rc<Prepared>), String>, HistoryError> {
        let Some((_, id)) = &located.dockerfiles[number] else {
            return Ok(Err("it has no Dockerfile".to_owned()));
        };
        if !self.prepared.contains_key(id) {
            let what_if = &self.request.what_if;
            let prepared = match (&what_if.dockerfile, self.history.bytes(*id)?) {
                (Some(_), own) => what_if.prepare(&own.unwrap_or_default(), &self.request.asked),
                (None, Some(own)) => what_if.prepare(&own, &self.request.asked),
                (None, None) => Err("its Dockerfile is not in the repository".to_owned()),
            };
            if let Ok(prepared) = &prepared {
                let uses = prepared.steps.iter().flat_map(|step| &step.uses);
                self.tally.named.extend(uses.flat_map(|one| one.wanted.literals()));
            }
            self.prepared.insert(*id, prepared.map(Rc::new));
        }
        Ok(match self.prepared.get(id) {
            Some(Ok(prepared)) => Ok((*id, Rc::clone(prepared))),
            Some(Err(reason)) => Err(format!("its Dockerfile does not build: {reason}")),
            None => Err("its Dockerfile was not read".to_owned()),
        })
    }

    /// Brings the context up to the commit's.
    fn read_context(
        &mut self,
        commit: &Commit,
        located: &Located,
        number: usize,
    ) -> Result<Result<(), String>, HistoryError> {
        let found = crate::context::find(self.history, commit.tree, &self.request.context)?;
        let Some((tree, gix::objs::tree::EntryKind::Tree)) = found else {
            let shown = self.request.context.display();
            return Ok(Err(format!("it has no directory `{shown}`")));
        };
        let path = located.dockerfiles[number].as_ref().map(|(path, _)| path.clone());
        let ignore = self.ignore_file(commit, tree, path)?;
        if self.rules.as_ref().is_none_or(|(id, _)| *id != ignore) {
            let text = match ignore {
                Some(id) => self.history.bytes(id)?.unwrap_or_default(),
                None => Vec::new(),
            };
            let rules = match self.request.what_if.rules(&text) {
                Ok(rules) => rules,
                Err(error) => return Ok(Err(format!("its ignore file is wrong: {error}"))),
            };
            self.rules = Some((ignore, Rc::new(rules)));
            self.context = None;
        }
        let rules = self.rules.as_ref().map(|(_, rules)| Rc::clone(rules)).unwrap_or_default();
        let reader = Reader { history: self.history, rules: &rules };
        match reader.read(tree, self.context.as_ref()) {
            Ok(context) => self.context = Some(context),
            Err(error) => return Ok(Err(format!("its files can not be read: {error}"))),
        }
        Ok(Ok(()))
    }

    /// `<Dockerfile>.dockerignore` beats the context's own.
    fn ignore_file(
        &self,
        commit: &Commit,
        context: ObjectId,
        dockerfile: Option<PathBuf>,
    ) -> Result<Option<ObjectId>, HistoryError> {
        if let Some(mut name) = dockerfile.map(PathBuf::into_os_string) {
            name.push(".dockerignore");
            let own = crate::context::find(self.history, commit.tree, name.as_ref())?;
            if let Some((id, _)) = own {
                return Ok(Some(id));
            }
        }
        let own = crate::context::find(self.history, context, ".dockerignore".as_ref())?;
        Ok(own.map(|(id, _)| id))
    }

    /// What each step selects, named.
    fn files(
        &mut self,
        dockerfile: ObjectId,
        ignore: Option<ObjectId>,
        prepared: &Prepared,
        context: &Arc<Directory>,
    ) -> (Rc<Files>, Rc<Vec<Vec<Found>>>) {
        if let Some(last) = &self.last
            && (last.dockerfile, last.ignore, last.context) == (dockerfile, ignore, context.id)
        {
            return (Rc::clone(&last.files), Rc::clone(&last.found));
        }
        let mut files = Files::default();
        let mut all = Vec::new();
        for step in &prepared.steps {
            let (mut whole, mut sources, mut manifests, mut found) =
                (Vec::new(), Vec::new(), Vec::new(), Vec::new());
            for one in &step.uses {
                let selected = self.selector.find(context, &one.wanted);
                whole.push(self.id(&selected, &one.wanted));
                sources.push(self.id(&selected, &one.sources));
                manifests.push(self.id(&selected, &one.manifests));
                found.push(selected);
            }
            files.all.push(whole);
            files.sources.push(sources);
            files.manifests.push(manifests);
            all.push(found);
        }
        let (files, found) = (Rc::new(files), Rc::new(all));
        self.last = Some(Selected {
            dockerfile,
            ignore,
            context: context.id,
            files: Rc::clone(&files),
            found: Rc::clone(&found),
        });
        (files, found)
    }

    fn id(&mut self, found: &Found, wanted: &Wanted) -> TreeId {
        let next = self.filters.len();
        let number = *self.filters.entry(wanted.filter_name()).or_insert(next);
        self.selector.id(found, wanted, number)
    }

    /// Looks all steps up under all schemes, and remembers them.
    fn build(&mut self, commit: &Commit, prepared: &Prepared, files: &Files, found: &[Vec<Found>]) {
        let scored = self.tally.builds > 0;
        let mut ours: Vec<bool> = Vec::new();
        let mut our_keys: Vec<StepKeys> = Vec::new();
        let mut hits_by_scheme: Vec<Vec<bool>> = Vec::new();
        let mut previous_by_scheme: Vec<Vec<bool>> = Vec::new();
        for (number, scheme) in Scheme::ALL.into_iter().enumerate() {
            let keys = keys(scheme, prepared, files);
            let known = &mut self.known[number];
            let hits: Vec<bool> = keys.iter().map(|keys| known.has(keys)).collect();
            keys.iter().for_each(|keys| known.add(keys));
            let before = &self.previous[number];
            let was = |keys: &StepKeys| keys.lookups.iter().any(|key| before.contains(key));
            previous_by_scheme.push(keys.iter().map(was).collect());
            self.previous[number] = keys.iter().flat_map(|keys| keys.lookups).collect();
            if scheme == Scheme::Strata {
                ours.clone_from(&hits);
                our_keys.clone_from(&keys);
            }
            hits_by_scheme.push(hits);
        }
        let causes = self.causes(prepared, files, found, &ours);
        let moved = self.moved_bytes();
        self.tally.builds += 1;
        self.count(prepared, found, &hits_by_scheme, &previous_by_scheme, &causes, scored);
        self.row(commit, prepared, &hits_by_scheme, &causes, moved, scored);
        let copied: Vec<u64> =
            found.iter().map(|uses| uses.iter().map(|found| found.size().1).sum()).collect();
        self.tally.trace.build(prepared, &our_keys, &copied, &self.request.costs);
        self.remember(prepared, files, found);
    }

    /// Why each step of ours missed; `None` for hits.
    fn causes(
        &self,
        prepared: &Prepared,
        files: &Files,
        found: &[Vec<Found>],
        hits: &[bool],
    ) -> Vec<Option<Cause>> {
        let mut causes: Vec<Option<Cause>> = Vec::new();
        for (index, step) in prepared.steps.iter().enumerate() {
            let cause = match hits[index] {
                true => None,
                false => Some(self.cause(step, &files.all[index], &found[index], &causes)),
            };
            causes.push(cause);
        }
        causes
    }

    fn cause(
        &self,
        step: &Prep,
        files: &[TreeId],
        found: &[Found],
        below: &[Option<Cause>],
    ) -> Cause {
        let inputs = step.parent.into_iter().chain(step.slices.iter().map(|slice| slice.step));
        let upstream = inputs.filter_map(|input| below[input].as_ref());
        let by_files = upstream.clone().any(|cause| cause.is_by_files());
        let has_upstream = upstream.count() > 0;
        let Some(before) = self.slots.get(&slot(step)) else {
            return match (step.kind, has_upstream) {
                (Kind::Image, _) => Cause::Base,
                _ => Cause::Instruction { what: "first".to_owned(), by_files: false },
            };
        };
        if before.facts != step.facts {
            let what = changed_facts(&before.facts, &step.facts);
            return Cause::Instruction { what, by_files };
        }
        if before.files.len() == files.len() && before.files != files {
            let (mut paths, mut total) = (Vec::new(), 0);
            for (number, (old, new)) in before.found.iter().zip(found).enumerate() {
                let wanted = &step.uses[number].wanted;
                let (listed, count) = changes(old, new, wanted, SHARED_FILES, usize::MAX);
                paths.extend(listed);
                total += count;
            }
            return Cause::Files { paths, total };
        }
        match has_upstream {
            true => Cause::Upstream { by_files },
            // Its inputs were all seen, but never together.
            false => Cause::Upstream { by_files: false },
        }
    }

    /// Bytes of the context that changed since the last build, and those never seen before.
    fn moved_bytes(&mut self) -> (u64, u64) {
        let Some(context) = &self.context else { return (0, 0) };
        let before = self.tally.last_context.take();
        let (mut hashed, mut stored) = (0, 0);
        let blobs = &mut self.blobs;
        let old = before.map(Node::Directory);
        let new = Node::Directory(Arc::clone(context));
        diff(old.as_ref(), Some(&new), &TreePath::ROOT, &mut |_, change, node| {
            if let (Change::Added | Change::Changed, Some(Node::File { blob, bytes, .. })) =
                (change, node)
            {
                hashed += bytes;
                stored += if blobs.insert(*blob) { *bytes } else { 0 };
            }
            true
        });
        self.tally.last_context = Some(Arc::clone(context));
        (hashed, stored)
    }

    fn count(
        &mut self,
        prepared: &Prepared,
        found: &[Vec<Found>],
        hits: &[Vec<bool>],
        previous: &[Vec<bool>],
        causes: &[Option<Cause>],
        scored: bool,
    ) {
        let build = self.tally.builds;
        for (index, step) in prepared.steps.iter().enumerate() {
            if !step.is_work() {
                for (scheme, hits) in hits.iter().enumerate().filter(|_| scored) {
                    self.tally.schemes[scheme].aside(step.class.millis(), hits[index]);
                }
                continue;
            }
            let (millis, measured) = self.request.costs.millis(step);
            let copied: u64 = found[index].iter().map(|found| found.size().1).sum();
            let bytes = self.request.costs.bytes(step, copied);
            let tally = self.tally.instructions.entry(slot(step));
            let tally = tally.or_insert_with(|| InstructionTally::new(step, millis, measured));
            tally.last_build = build;
            tally.position = index;
            tally.line = step.line;
            if !scored {
                continue;
            }
            tally.lookups += 1;
            tally.bytes += bytes;
            for (scheme, hits) in hits.iter().enumerate() {
                let (hit, again) = (hits[index], previous[scheme][index]);
                tally.hits[scheme] += u64::from(hit);
                self.tally.schemes[scheme].step(step, millis, hit, again);
            }
            if let Some(cause) = &causes[index] {
                *tally.misses.entry(cause.name()).or_default() += 1;
            }
        }
    }

    fn row(
        &mut self,
        commit: &Commit,
        prepared: &Prepared,
        hits: &[Vec<bool>],
        causes: &[Option<Cause>],
        moved: (u64, u64),
        scored: bool,
    ) {
        let work: Vec<usize> =
            (0..prepared.steps.len()).filter(|step| prepared.steps[*step].is_work()).collect();
        let mut rates = Vec::new();
        for (scheme, hits) in hits.iter().enumerate() {
            let hit = work.iter().filter(|step| hits[**step]).count();
            let ran = work.iter().any(|step| prepared.steps[*step].is_run() && !hits[*step]);
            if scored {
                self.tally.schemes[scheme].build(hit, work.len(), ran);
            }
            rates.push((hit, !ran));
        }
        let strata = &hits[Scheme::Strata as usize];
        let lost: u64 = work
            .iter()
            .filter(|step| !strata[**step])
            .map(|step| self.request.costs.millis(&prepared.steps[*step]).0)
            .sum();
        let first = causes.iter().position(|cause| {
            cause.as_ref().is_some_and(|cause| !matches!(cause, Cause::Upstream { .. }))
        });
        let context = self.context.as_ref().map_or((0, 0), |c| (c.files, c.bytes));
        let steps = work.len();
        let built = Built {
            prepared,
            first,
            causes,
            rates,
            steps,
            lost_millis: lost,
            moved,
            context,
            scored,
        };
        self.tally.row(commit, built);
        if scored {
            self.share_files(prepared, causes);
        }
    }

    /// Shares what a commit lost among the files that broke it.
    fn share_files(&mut self, prepared: &Prepared, causes: &[Option<Cause>]) {
        let (mut paths, mut total): (Vec<&TreePath>, usize) = (Vec::new(), 0);
        let (mut lost, mut others) = (0, false);
        for (step, cause) in prepared.steps.iter().zip(causes) {
            let Some(cause) = cause else { continue };
            if let Cause::Files { paths: own, total: all } = cause {
                paths.extend(own.iter().map(|(path, _)| path));
                total = total.max(*all);
            }
            others |= matches!(cause, Cause::Base | Cause::Instruction { .. });
            if cause.is_by_files() && step.is_work() {
                lost += self.request.costs.millis(step).0;
            }
        }
        paths.sort();
        paths.dedup();
        let count = paths.len().max(total) as u64;
        if count == 0 {
            return;
        }
        for path in &paths {
            let file = self.tally.files.entry((*path).clone()).or_default();
            file.broke += 1;
            file.lost_millis += lost / count;
            if count == 1 && !others {
                file.alone += 1;
                file.lost_alone_millis += lost;
            }
        }
    }

    fn remember(&mut self, prepared: &Prepared, files: &Files, found: &[Vec<Found>]) {
        for (index, step) in prepared.steps.iter().enumerate() {
            let before = Before {
                facts: step.facts.clone(),
                files: files.all[index].clone(),
                found: found[index].clone(),
            };
            self.slots.insert(slot(step), before);
        }
    }
}

fn slot(step: &Prep) -> (String, String) {
    (step.stage.clone(), step.text.clone())
}

/// The names of facts that differ.
fn changed_facts(old: &[Fact], new: &[Fact]) -> String {
    let differs = |one: &[Fact], other: &[Fact]| -> Vec<String> {
        let gone = one.iter().filter(|fact| !other.contains(fact));
        gone.map(|fact| fact.name.clone()).collect()
    };
    let mut names = differs(new, old);
    names.extend(differs(old, new));
    names.sort();
    names.dedup();
    names.join(", ")
}
