//! What is data below becomes words here: errors, reasons, amounts.

pub(crate) mod amount;
pub(crate) mod build_error;
pub(crate) mod lower_errors;
pub(crate) mod reason;
