//! The commands, one file each.

mod attest;
mod build;
mod builds;
mod cache;
mod call;
mod check;
mod compare;
mod copy;
mod deliver;
mod diff;
mod du;
mod engine;
mod fmt;
mod fsck;
mod history;
mod images;
mod import;
mod inspect;
mod load;
mod login;
mod plan;
mod prune;
mod pull;
mod push;
mod replay;
mod rmi;
mod run;
mod sarif;
mod save;
mod serve;
mod shared;
mod shell;
mod stats;
mod table;
mod tag;
mod why;

use crate::arguments::{Arguments, Command};
use crate::environment::Environment;
use crate::failure::Failure;
use crate::printer::Printer;
use crate::session::Opening;
use crate::settings::Settings;

/// Does what was asked; the value is the exit code.
pub(crate) fn run(
    arguments: Arguments,
    environment: &Environment,
    printer: &Printer,
) -> Result<u8, Failure> {
    let settings = || Settings::new(&arguments.global, environment);
    let opening = Opening::new(settings, printer);
    match &arguments.command {
        Command::Build(build) => match check::asked(build)? {
            Some(check::Asked::Check(check)) => check::run(&check, &opening, environment, printer),
            Some(check::Asked::Call(question, form, what)) => {
                call::run(question, form, &what, &opening, environment)
            }
            None => build::run(build, settings()?, environment, printer),
        },
        Command::Check(check) => check::run(check, &opening, environment, printer),
        Command::Fmt(fmt) => fmt::run(fmt, printer),
        Command::Plan(plan) => plan::run(plan, settings()?, environment, printer),
        Command::Replay(replay) => {
            replay::run(replay, &arguments.global, &settings, environment, printer)
        }
        Command::Why(why) => why::run(why, &settings()?, printer),
        Command::Stats(stats) => stats::run(stats, &settings()?, printer),
        Command::Builds(builds) => builds::run(builds, &settings()?, printer),
        Command::Images(images) => images::run(images, settings()?, printer),
        Command::Inspect(inspect) => inspect::run(inspect, settings()?, environment, printer),
        Command::Tag(tag) => tag::run(tag, settings()?, environment, printer),
        Command::Rmi(rmi) => rmi::run(rmi, settings()?, printer),
        Command::Import(import) => import::run(import, settings()?, environment, printer),
        Command::Cache(cache) => cache::run(cache, settings()?, printer),
        Command::Run(run) => run::run(run, settings()?, environment, printer),
        Command::Du(du) => du::run(du, settings()?, printer),
        Command::Prune(prune) => prune::run(prune, settings()?, printer),
        Command::Fsck(fsck) => fsck::run(fsck, settings()?, printer),
        Command::Shell(shell) => shell::run(shell, settings()?, environment, printer),
        Command::History(history) => history::run(history, settings()?, environment, printer),
        Command::Diff(diff) => compare::run(diff, settings()?, environment, printer),
        Command::Pull(pull) => pull::run(pull, settings()?, environment, printer),
        Command::Push(push) => push::run(push, settings()?, environment, printer),
        Command::Copy(copy) => copy::run(copy, settings()?, printer),
        Command::Save(save) => save::run(save, settings()?, environment, printer),
        Command::Load(load) => load::run(load, settings()?, printer),
        Command::Serve(serve) => serve::run(serve, &settings()?, environment, printer),
        Command::Login(login) => login::log_in(login, settings()?, environment, printer),
        Command::Logout(logout) => login::log_out(logout, environment, printer),
        Command::Version => {
            printer.data(concat!("strata ", env!("CARGO_PKG_VERSION")));
            Ok(0)
        }
    }
}
