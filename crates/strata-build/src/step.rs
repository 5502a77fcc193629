//! A planned step as the engine sees it: what it depends on, and how it is done.

use strata_cas::{Fact, Layer, LayerId, Record, RecordKey, RecordStore, Slot, TreeId};
use strata_engine::{Definition, Outcome, Produced};
use strata_exec::Ids;
use strata_plan::{Op, Source, StepIndex};

use crate::layers::{self, ImageLayer, Payload, StackedRoot, StepLayer};
use crate::remember::cut;
use crate::session::{Session, sources};
use crate::shared::steps_of_image;
use crate::tars::Tar;
use crate::view::View;
use crate::{BuildError, Event, PastStep};

/// One step of one build.
pub(crate) struct BuildStep<'a> {
    pub(crate) session: &'a Session<'a>,
    pub(crate) index: StepIndex,
}

impl BuildStep<'_> {
    pub(crate) fn planned(&self) -> &strata_plan::Step {
        &self.session.plan.steps[self.index]
    }

    /// The step's inputs besides its parent: the number of the mount, 0 for a COPY.
    pub(crate) fn slices(&self) -> Vec<(usize, StepIndex)> {
        let sources = sources(&self.planned().op).into_iter();
        sources
            .filter_map(|(mount, source)| match source {
                Source::Step(Some(step)) => Some((mount, *step)),
                _ => None,
            })
            .collect()
    }

    /// Facts about files that are known before the build begins.
    fn file_facts(&self) -> Vec<Fact> {
        let mounts = match &self.planned().op {
            Op::Run(run) => run.mounts.len(),
            _ => 0,
        };
        let selected = (0..=mounts).filter_map(|mount| {
            let tree = self.session.selected.get(&(self.index, mount))?;
            let name =
                if mount == 0 { "files".to_owned() } else { format!("mount {} files", mount - 1) };
            Some(Fact::tree(name, *tree))
        });
        selected.collect()
    }

    /// The earlier records that are this instruction's: those of its place, unless what stood there
    /// has moved, and what the build before has of it elsewhere.
    fn comparable(&self, recent: Vec<Record>) -> Result<Vec<Record>, BuildError> {
        let Some(earlier) = self.session.earlier() else { return Ok(recent) };
        let text = cut(&self.planned().text);
        let texts: Vec<String> =
            self.session.plan.steps.iter().map(|step| cut(&step.text)).collect();
        let has_moved = |record: &Record| {
            let is_it = |past: &&PastStep| past.definition == Some(record.definition);
            let past = earlier.steps.iter().find(is_it);
            past.is_some_and(|past| past.text != text && texts.contains(&past.text))
        };
        let mut records = recent;
        if records.iter().any(has_moved) {
            // What is remembered of this place is of the instruction that has moved.
            records.clear();
        }
        for past in earlier.steps.iter().filter(|past| past.text == text) {
            let Some(key) = past.definition else { continue };
            if records.iter().any(|record| record.definition == key) {
                continue;
            }
            records.extend(self.session.nodes.find(&RecordKey::Definition(key))?);
        }
        Ok(records)
    }

    /// Puts what it selects together, and into the store.
    fn keep_selected(&self, inputs: &[Outcome]) -> Result<(), BuildError> {
        let nodes = &self.session.nodes;
        let contexts = self.session.selected.keys().filter(|(step, _)| *step == self.index);
        for (_, mount) in contexts {
            if let Some(selection) = self.session.selection(self.index, *mount)? {
                selection.keep(nodes)?;
            }
        }
        let parents = usize::from(self.planned().parent.is_some());
        for ((mount, _), input) in self.slices().into_iter().zip(inputs.iter().skip(parents)) {
            let view = self.session.tree_view(input.record.tree);
            self.session.select_from(self.index, mount, &view as &dyn View)?.keep(nodes)?;
        }
        Ok(())
    }

    /// The root that the step starts from.
    pub(crate) fn parent(&self) -> Result<std::sync::Arc<StackedRoot>, BuildError> {
        self.session.root(self.planned().parent)
    }

    /// Keeps a layer that was made over `parent`, and names what it gives.
    pub(crate) fn produced(
        &self,
        parent: &StackedRoot,
        layer: &Layer,
    ) -> Result<Produced, BuildError> {
        let store = self.session.builder.store;
        let described = strata_image::describe(layer, store)?;
        let id = store.put(&layer.encode())?.into();
        let tree = strata_cas::apply(store, Some(&parent.tree), layer)?;
        self.produced_as(tree, layer, described_as(id, described))
    }

    /// The same for a layer that is kept, and whose tree is known.
    pub(crate) fn produced_as(
        &self,
        tree: TreeId,
        layer: &Layer,
        as_added: StepLayer,
    ) -> Result<Produced, BuildError> {
        let payload = Payload { layers: vec![as_added] };
        let bytes = layer.blobs().map(|(_, size)| size).sum();
        Ok(Produced { tree, payload: payload.encode()?, bytes })
    }

    fn take_image(&self) -> Result<Produced, BuildError> {
        let Op::Image(op) = &self.planned().op else {
            return Err(BuildError::copy(self.planned().span, "this step is no image"));
        };
        let store = self.session.builder.store;
        let progress = |what: String, done: u64, total: u64| {
            (self.session.observe)(Event::Transfer { step: self.index, what, done, total });
        };
        let base = self.session.bases.iter().find(|(need, _)| *need == op.need);
        let (need, base) = base
            .ok_or_else(|| BuildError::copy(self.planned().span, "this image was not looked up"))?;
        let registry = self.session.builder.registry;
        let cancel = self.session.builder.cancel;
        let fetched = base.fetch(store, registry, cancel, need.span, &progress);
        let (layers, tree) = match fetched {
            Err(_) if cancel.is_cancelled() => return Err(BuildError::Cancelled),
            fetched => fetched?,
        };
        base.keep(store, need, &layers)?;
        let bytes = layers.iter().map(|layer| layer.bytes).sum();
        let layers = layers.into_iter().map(StepLayer::Described).collect();
        Ok(Produced { tree, payload: Payload { layers }.encode()?, bytes })
    }
}

impl strata_engine::Step for BuildStep<'_> {
    type Error = BuildError;

    fn definition(&self) -> Definition {
        let step = self.planned();
        let mut facts = match &step.op {
            Op::Image(op) => vec![
                Fact::text("kind", "image"),
                Fact::text("image", op.image.digest.to_string()),
                Fact::text("platform", op.need.platform.to_string()),
            ],
            Op::Copy(op) => op.facts(),
            Op::Run(op) => op.facts(),
            Op::MakeDirectory(op) => op.facts(),
        };
        if let (Some(epoch), Op::Copy(_) | Op::MakeDirectory(_)) =
            (self.session.request.epoch, &step.op)
        {
            // The directories that such a step makes get this time.
            facts.push(Fact::text("epoch", epoch.to_string()));
        }
        if matches!(step.op, Op::Run(_)) && Ids::of_process() == Ids::One {
            // Files of others look like root's there: what comes of it is for nobody else.
            facts.push(Fact::text("ids", "one"));
        }
        facts.extend(self.file_facts());
        if let Op::Copy(op) = &step.op {
            for (number, source) in op.repositories() {
                if let Some(commit) = self.session.commit(source) {
                    facts.extend(op.repository_facts(number, source, commit));
                }
            }
        }
        let project = &self.session.request.project;
        let slot = Slot(format!("{project}\0{}\0{}", step.stage, step.ordinal));
        let forced = self.session.forced.contains(&self.index);
        let linked = matches!(&step.op, Op::Copy(op) if op.link);
        Definition { forced, ttl_seconds: step.ttl_seconds, linked, ..Definition::new(slot, facts) }
    }

    fn slice(&self, input: usize, tree: &TreeId) -> Result<TreeId, BuildError> {
        let parents = usize::from(self.planned().parent.is_some());
        let Some((mount, _)) =
            input.checked_sub(parents).and_then(|at| self.slices().get(at).copied())
        else {
            return Ok(*tree);
        };
        let view = self.session.tree_view(*tree);
        self.session.name_from(self.index, mount, &view as &dyn View)
    }

    /// Whatever it selects is put together now: an explanation compares it path by path, and the
    /// record is to refer to it.
    fn missed(&self, inputs: &[Outcome], recent: Vec<Record>) -> Result<Vec<Record>, BuildError> {
        self.keep_selected(inputs)?;
        self.comparable(recent)
    }

    /// Lays what is copied over this root, as values, and compares: what it looks at there, such as
    /// a link on the way or a directory in the way, can make another layer of it.
    fn relink(&self, record: &Record, inputs: &[Outcome]) -> Result<Option<Produced>, BuildError> {
        let Op::Copy(op) = &self.planned().op else { return Ok(None) };
        let Ok(payload) = Payload::decode(&record.payload) else { return Ok(None) };
        let [layer] = &payload.layers[..] else { return Ok(None) };
        let shelf = self.session.builder.shelf();
        if !shelf.is_reachable_for_step(layer, false)? {
            return Ok(None);
        }
        self.keep_selected(inputs)?;
        self.session.nodes.settle()?;
        let parent = self.parent()?;
        // What goes wrong here goes wrong when it runs, too, and is told then.
        let Ok(laid) = self.lay(op, &parent, &|_| Ok(())) else { return Ok(None) };
        let earlier = layers::load(shelf.store, &layer.id())?;
        if !laid.is_same_but_for_times(&earlier) {
            return Ok(None);
        }
        let tree = strata_cas::apply(shelf.store, Some(&parent.tree), &earlier)?;
        let payload = record.payload.clone();
        Ok(Some(Produced { tree, payload, bytes: record.cost.bytes }))
    }

    fn is_verifiable(&self) -> bool {
        !matches!(self.planned().op, Op::Image(_))
    }

    fn run(&self, _inputs: &[Outcome]) -> Result<Produced, BuildError> {
        if self.session.builder.cancel.is_cancelled() {
            return Err(BuildError::Cancelled);
        }
        self.session.nodes.settle()?;
        match &self.planned().op {
            Op::Image(_) => self.take_image(),
            Op::Copy(op) => self.copy(op),
            Op::MakeDirectory(op) => self.make_directory(op),
            Op::Run(op) => self.command(op),
        }
    }

    fn usable(&self, record: &Record) -> Result<bool, BuildError> {
        let shelf = self.session.builder.shelf();
        let Ok(payload) = Payload::decode(&record.payload) else { return Ok(false) };
        for layer in &payload.layers {
            // What a command made lies in its snapshot alone; what is copied lies elsewhere too.
            let is_made = matches!(self.planned().op, Op::Run(_));
            if !shelf.is_reachable_for_step(layer, is_made)? || !self.can_be_described(layer) {
                return Ok(false);
            }
        }
        if !shelf.store.has(&record.tree.blob())? && !self.grow(record, &payload)? {
            return Ok(false);
        }
        if let Op::Image(op) = &self.planned().op
            && let Some((need, base)) = self.session.bases.iter().find(|(need, _)| *need == op.need)
        {
            base.keep(shelf.store, need, &self.session.tars.stack(&payload.layers)?)?;
        }
        Ok(true)
    }
}

impl BuildStep<'_> {
    /// Whether the image can be told a layer's digest, if it has that layer: where it was never
    /// hashed to its end, damage shows now.
    fn can_be_described(&self, layer: &StepLayer) -> bool {
        match layer {
            StepLayer::Described(_) => true,
            StepLayer::Made { made } => {
                !steps_of_image(self.session.plan).contains(&self.index)
                    || self.session.tars.of(made).is_ok()
            }
        }
    }

    /// Makes the tree that a record names from what its layers change, which is all that comes
    /// from another machine. Whether it is that tree.
    fn grow(&self, record: &Record, payload: &Payload) -> Result<bool, BuildError> {
        let store = self.session.builder.store;
        let mut tree = self.parent()?.tree;
        for layer in &payload.layers {
            let value = layers::load(store, &layer.id())?;
            tree = strata_cas::apply(store, Some(&tree), &value)?;
        }
        Ok(tree == record.tree)
    }
}

/// A layer whose tar was hashed.
pub(crate) fn described_as(layer: LayerId, tar: impl Into<Tar>) -> StepLayer {
    let Tar { diff_id, bytes } = tar.into();
    StepLayer::Described(ImageLayer { layer, diff_id, bytes, blob: None })
}
