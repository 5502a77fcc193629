//! Gates for CI: too few hits, or fewer than in an earlier report, are exit code 1.

use strata_replay::{Report, SCHEMA};

use crate::arguments::ReplayArguments;
use crate::failure::{EXIT_BUILD, Failure};
use crate::printer::{Label, Printer};

/// Rates are rounded to two decimals: less than that is no difference.
const LEAST: f64 = 0.005;
/// What a report's three rates are about.
const NAMES: [&str; 3] = ["steps", "time", "builds without RUN"];

pub(super) struct Gates {
    fail_under: Option<f64>,
    base: Option<Report>,
}

impl Gates {
    /// Reads what the gates need before anything is replayed.
    pub(super) fn read(arguments: &ReplayArguments) -> Result<Self, Failure> {
        let fail_under = arguments.fail_under.as_deref().map(percent).transpose()?;
        let base = arguments.compare.as_deref().map(|path| {
            let text = std::fs::read(path).map_err(|error| Failure::file("read", path, &error))?;
            let report: Report = serde_json::from_slice(&text).map_err(|error| {
                Failure::usage(format!("`{}` is not a report: {error}", path.display()))
                    .hint("`strata replay --format json -o FILE` writes one")
            })?;
            match report.schema == SCHEMA {
                true => Ok(report),
                false => Err(Failure::usage(format!(
                    "`{}` is a report of another version: {}",
                    path.display(),
                    report.schema
                ))),
            }
        });
        Ok(Self { fail_under, base: base.transpose()? })
    }

    /// Says what does not pass; the value is the exit code.
    pub(super) fn check(&self, report: &Report, printer: &Printer) -> Result<u8, Failure> {
        let mut failed = false;
        let now = report.rates();
        if let Some(least) = self.fail_under
            && now[0] + LEAST < least
        {
            failed = true;
            let text = format!("{:.2}% of steps hit, {least}% are asked for", now[0]);
            printer.labelled(Label::Error, &text);
        }
        if let Some(base) = &self.base {
            for ((name, before), now) in NAMES.iter().zip(base.rates()).zip(now) {
                if now + LEAST < before {
                    failed = true;
                    let text = format!("{name}: {before:.2}% before, {now:.2}% now");
                    printer.labelled(Label::Error, &text);
                }
            }
            if base.model != report.model || base.main_scheme != report.main_scheme {
                let text = "the reports rest on different models: their figures are not the same";
                printer.labelled(Label::Warning, text);
            }
        }
        Ok(if failed { EXIT_BUILD } else { 0 })
    }
}

fn percent(text: &str) -> Result<f64, Failure> {
    let number = text.trim_end_matches('%').parse::<f64>().ok();
    number.filter(|number| (0.0..=100.0).contains(number)).ok_or_else(|| {
        Failure::usage(format!("`--fail-under {text}`: a share from 0% to 100% is expected"))
    })
}
