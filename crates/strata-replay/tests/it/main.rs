//! Histories that the tests make themselves, with answers that were worked out by hand.

mod advice;
mod figures;
mod history;
mod support;
