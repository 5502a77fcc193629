//! What the latest build of each project left behind, step by step: where `strata shell` goes.
//!
//! A step's state is the stack of layers after it. Of a command that failed, what it had changed
//! until then is kept as a layer too. Nothing is kept that is not kept anyway but that layer: a
//! state whose layers were swept is gone.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use strata_cas::{LayerId, NameStore, Staging};
use strata_exec::Root;
use strata_plan::{Op, StepIndex};

use crate::BuildError;
use crate::layers::StepLayer;
use crate::session::Session;

/// States by project.
const TABLE: &str = "states-1";

/// One project's latest build.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuildStates {
    /// Its steps, in the plan's order.
    pub steps: Vec<StepState>,
    /// The command that failed, if one did.
    pub failed: Option<FailedState>,
}

/// One step, and what it added.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepState {
    /// Name of its stage, or its number.
    pub stage: String,
    /// The instruction.
    pub text: String,
    /// The step whose root it starts from.
    pub parent: Option<StepIndex>,
    /// The layers that it added; none if it was not done.
    pub layers: Option<Vec<LayerId>>,
    /// How its command was run, for a RUN.
    pub command: Option<CommandState>,
}

/// What a command saw, without secrets.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandState {
    /// The environment.
    pub env: BTreeMap<String, String>,
    /// Where it ran.
    pub cwd: String,
    /// Who ran it; empty for root.
    pub user: String,
    /// The program that read it, for the shell form.
    pub shell: Option<String>,
}

/// What a command left that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedState {
    /// Which step.
    pub step: StepIndex,
    /// What it had changed; none if that is nothing.
    pub layer: Option<LayerId>,
}

/// Before a step or after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// What the step began with.
    Before,
    /// What the step left, also one that failed.
    After,
}

impl BuildStates {
    /// The latest build of a project.
    pub fn of_project(store: &dyn NameStore, project: &str) -> Result<Option<Self>, BuildError> {
        let Some(value) = store.name(TABLE, project)? else { return Ok(None) };
        // What another version wrote is as good as nothing.
        Ok(serde_json::from_slice(&value).ok())
    }

    /// The layers of the root at this moment, lowest first; none if it never came.
    pub fn root(&self, step: StepIndex, moment: Moment) -> Option<Vec<LayerId>> {
        let state = self.steps.get(step)?;
        let below = match state.parent {
            Some(parent) => self.root(parent, Moment::After)?,
            None => Vec::new(),
        };
        let own = match (moment, &state.layers, &self.failed) {
            (Moment::Before, ..) => Vec::new(),
            (Moment::After, Some(layers), _) => layers.clone(),
            (Moment::After, None, Some(failed)) if failed.step == step => {
                failed.layer.into_iter().collect()
            }
            (Moment::After, None, _) => return None,
        };
        Some([below, own].concat())
    }

    /// How commands ran at this step: as its own, or as the last one before it in its stage did.
    pub fn command(&self, step: StepIndex) -> CommandState {
        let mut at = Some(step);
        while let Some(state) = at.and_then(|at| self.steps.get(at)) {
            if let Some(command) = &state.command {
                return command.clone();
            }
            at = state.parent;
        }
        CommandState::default()
    }
}

impl Session<'_> {
    /// Keeps what the build has come to, if it is not what the one before had come to.
    pub(crate) fn remember_states(&self) -> Result<(), BuildError> {
        let store = self.builder.store;
        let mut steps = Vec::new();
        for (index, step) in self.plan.steps.iter().enumerate() {
            let below = match step.parent {
                Some(parent) => self.known_root(parent).map_or(0, |root| root.layers.len()),
                None => 0,
            };
            let layers = self
                .known_root(index)
                .map(|root| root.layers.iter().skip(below).map(StepLayer::id).collect::<Vec<_>>());
            let command = match &step.op {
                Op::Run(op) => Some(CommandState {
                    env: op.env.clone(),
                    cwd: op.cwd.clone(),
                    user: op.user.clone(),
                    shell: match &op.argv[..] {
                        [program, flag, _] if flag == "-c" => Some(program.clone()),
                        _ => None,
                    },
                }),
                _ => None,
            };
            let (stage, text) = (step.stage.clone(), step.text.clone());
            steps.push(StepState { stage, text, parent: step.parent, layers, command });
        }
        let states = BuildStates { steps, failed: self.failed() };
        let value = serde_json::to_vec(&states).map_err(BuildError::damaged("build's states"))?;
        let project = &self.request.project;
        // A build that finds everything writes nothing.
        if store.name(TABLE, project)?.as_deref() != Some(&value[..]) {
            store.set_name(TABLE, project, Some(&value))?;
        }
        Ok(())
    }

    /// Keeps what a command had changed that failed. Its failure is what counts: what goes wrong
    /// here is not told.
    pub(crate) fn keep_failed(&self, step: StepIndex, root: &Root<'_>) -> Option<FailedState> {
        let store = self.builder.store;
        let keep = || -> Result<Option<LayerId>, BuildError> {
            let changed = strata_exec::changes(root)?;
            if changed.layer.is_empty() {
                return Ok(None);
            }
            let id: LayerId = store.put(&changed.layer.encode())?.into();
            // The staging directory is the run's: its content moves to one of its own.
            let staging = store.stage()?;
            std::fs::remove_dir(staging.fs()).map_err(BuildError::io("move what was changed"))?;
            move_fs(root.staging, &staging)?;
            store.commit(staging, &id, &changed.files)?;
            Ok(Some(id))
        };
        keep().ok().map(|layer| FailedState { step, layer })
    }
}

fn move_fs(from: &Staging, to: &Staging) -> Result<(), BuildError> {
    let moved = std::fs::rename(from.fs(), to.fs());
    moved.map_err(BuildError::io("move what was changed"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(number: u8) -> LayerId {
        LayerId::from_bytes([number; 32])
    }

    fn step(parent: Option<StepIndex>, layers: Option<&[u8]>) -> StepState {
        StepState {
            stage: "0".to_owned(),
            text: String::new(),
            parent,
            layers: layers.map(|numbers| numbers.iter().map(|number| layer(*number)).collect()),
            command: None,
        }
    }

    #[test]
    fn the_format_of_states_does_not_drift() {
        let command = CommandState {
            env: [("PATH".to_owned(), "/usr/bin:/bin".to_owned())].into(),
            cwd: "/app".to_owned(),
            user: "node".to_owned(),
            shell: Some("/bin/sh".to_owned()),
        };
        let run = |text: &str, layers, command| StepState {
            text: text.to_owned(),
            command: Some(command),
            ..step(Some(0), layers)
        };
        let from = StepState { text: "FROM base".to_owned(), ..step(None, Some(&[1, 2])) };
        let steps = vec![
            from,
            run("RUN make", Some(&[3]), command.clone()),
            run("RUN [\"false\"]", None, CommandState { shell: None, ..command }),
        ];
        let failed = Some(FailedState { step: 2, layer: None });
        let states = BuildStates { steps, failed };
        let json = serde_json::to_string_pretty(&states).expect("json");
        let golden = include_str!("../tests/golden/states-1.json");
        assert_eq!(json + "\n", golden, "a new format needs a new name");
        assert_eq!(serde_json::from_str::<BuildStates>(golden).expect("read back"), states);
    }

    #[test]
    fn a_root_is_what_its_steps_added() {
        let steps = vec![
            step(None, Some(&[1, 2])),
            step(Some(0), Some(&[3])),
            step(Some(1), None),
            step(Some(0), Some(&[4])),
            step(Some(2), None),
        ];
        let failed = Some(FailedState { step: 2, layer: Some(layer(9)) });
        let states = BuildStates { steps, failed };
        let check = |step, moment, expected: Option<&[u8]>| {
            let expected: Option<Vec<LayerId>> =
                expected.map(|numbers| numbers.iter().map(|number| layer(*number)).collect());
            assert_eq!(states.root(step, moment), expected, "{step} {moment:?}");
        };
        check(0, Moment::Before, Some(&[]));
        check(0, Moment::After, Some(&[1, 2]));
        check(1, Moment::After, Some(&[1, 2, 3]));
        check(2, Moment::Before, Some(&[1, 2, 3]));
        check(2, Moment::After, Some(&[1, 2, 3, 9]));
        check(3, Moment::After, Some(&[1, 2, 4]));
        check(4, Moment::Before, Some(&[1, 2, 3, 9]));
        check(4, Moment::After, None);
        check(5, Moment::Before, None);
    }
}
