//! `strata rmi`: forgets names. What they stood for stays in the store until it is swept.

use crate::arguments::RmiArguments;
use crate::failure::Failure;
use crate::printer::Printer;
use crate::session::{self, Session};
use crate::settings::Settings;
use crate::words::build_error;

pub(super) fn run(
    arguments: &RmiArguments,
    settings: Settings,
    printer: &Printer,
) -> Result<u8, Failure> {
    let parse = |text: &String| {
        text.parse()
            .map_err(|error: strata_oci::InvalidReference| Failure::usage(error.to_string()))
    };
    let names: Vec<strata_oci::Reference> =
        arguments.names.iter().map(parse).collect::<Result<_, _>>()?;
    let session = Session::open(settings, printer)?;
    let images = session.images();
    let mut missing = None;
    for name in &names {
        if images.untag(name).map_err(|error| build_error::plain(&error))? {
            printer.data(&format!("untagged {}", name.familiar()));
        } else {
            let there = images.list().map_err(|error| build_error::plain(&error))?;
            let there: Vec<String> = there.iter().map(|named| named.name.familiar()).collect();
            missing = missing.or(Some(session::no_image(&name.familiar(), &there)));
        }
    }
    missing.map_or_else(|| Ok(0), if arguments.force { |_| Ok(0) } else { Err })
}
