//! Decides what must run, runs it once, cuts off early, and says why.
//!
//! The engine evaluates a graph of steps against a store of records. What a step is, the engine
//! does not know: no path, image, Dockerfile or socket occurs here. A step is whatever implements
//! [`Step`]: it can name what its result depends on, say which part of an input matters to it,
//! and run. So the engine is tested with arithmetic, against a naive evaluator.
//!
//! The decision that the crate defends is **two keys for each step**. The *definition key* is
//! made of the parents' definition keys: it is known before anything runs, so a build that finds
//! everything touches nothing. The *content key* is made of the parents' trees: a step that ran
//! again and gave the tree it gave before puts all that follows back on cached ground, although
//! every definition key below it is new. A miss at one step never ends the lookups of later ones.
//!
//! A step that is *linked*, as `COPY --link`, has a third one, made of nothing that it builds on:
//! its own part is found by it and put on the new tree, if it is there what running would give.
//!
//! A miss always has a [`MissReason`] with old and new values; the words for it are the program's.
//!
//! ```
//! use strata_cas::{BlobStore, Directory, Fact, MemoryStore, Slot, TreeId};
//! use strata_engine::{Build, Definition, Graph, Input, Outcome, Produced, Step, Verdict};
//!
//! struct Upper(&'static str);
//!
//! impl Step for Upper {
//!     type Error = strata_cas::StoreError;
//!     fn definition(&self) -> Definition {
//!         Definition::new(Slot(self.0.into()), vec![Fact::text("text", self.0)])
//!     }
//!     fn slice(&self, _: usize, tree: &TreeId) -> Result<TreeId, Self::Error> {
//!         Ok(*tree)
//!     }
//!     fn run(&self, _: &[Outcome]) -> Result<Produced, Self::Error> {
//!         let tree = Directory::empty_root().id();
//!         Ok(Produced { tree, payload: self.0.to_uppercase().into(), bytes: 0 })
//!     }
//! }
//!
//! let store = MemoryStore::default();
//! let mut graph = Graph::default();
//! let first = graph.add(Upper("a"), vec![]);
//! graph.add(Upper("b"), vec![Input::Whole(first)]);
//! let build = Build::new(&store);
//! let outcomes = build.run(&graph, &|_| {}).map_err(|failed| failed.error)?;
//! assert_eq!(outcomes[1].record.payload, b"B");
//! let again = build.run(&graph, &|_| {}).map_err(|failed| failed.error)?;
//! assert!(again.iter().all(|outcome| matches!(outcome.verdict, Verdict::Hit(_))));
//! # Ok::<(), strata_engine::StepError<strata_cas::StoreError>>(())
//! ```

mod build;
mod graph;
mod keys;
mod reason;
mod verify;

pub use build::{Build, Event, Failed, Outcome, StepError, Verdict};
pub use graph::{Definition, Graph, Input, Produced, Step, StepId};
pub use keys::{Keys, Seen, keys, keys_over, linked_key};
pub use reason::{FactChange, Found, MissReason};
pub use verify::{Verification, Verify};
