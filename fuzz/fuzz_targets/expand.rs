//! Any word under any rules: it expands or is an error, and what has nothing to replace stays.
#![no_main]

use libfuzzer_sys::fuzz_target;
use strata_dockerfile::{Expander, Quotes};

fuzz_target!(|input: (&str, &str, u8)| {
    let (raw, value, rules) = input;
    let expander = Expander {
        escape: if rules & 1 == 0 { '\\' } else { '`' },
        quotes: [Quotes::Remove, Quotes::Keep, Quotes::Literal][usize::from(rules >> 1) % 3],
        keep_escapes: rules & 0x40 != 0,
        keep_unset: rules & 0x80 != 0,
    };
    let lookup = |name: &str| name.len().is_multiple_of(2).then(|| value.to_owned());
    let Ok(expansion) = expander.expand(raw, &lookup) else { return };
    assert!(expansion.used.is_disjoint(&expansion.unset));
    if !raw.contains(['$', '\\', '`', '"', '\'']) {
        assert_eq!(expansion.text, raw);
    }
});
