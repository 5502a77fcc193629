//! Any ignore file and any path: an answer, and no directory is pruned that has something left in.
#![no_main]

use libfuzzer_sys::fuzz_target;
use strata_cas::TreePath;
use strata_scan::IgnoreRules;

fuzz_target!(|input: (&[u8], &[u8])| {
    let (text, path) = input;
    let Ok(rules) = IgnoreRules::parse(text) else { return };
    let path = TreePath::normalise(path);
    let kept = !rules.excludes(&path);
    if let Some(parent) = path.parent()
        && kept
        && rules.excludes(&parent)
    {
        assert!(rules.may_include_below(&parent), "`{path}` would be lost with `{parent}`");
    }
});
