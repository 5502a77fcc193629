//! Any bytes as a Dockerfile: nothing panics, the tree prints back, every place is in the file.
#![no_main]

use libfuzzer_sys::fuzz_target;
use strata_dockerfile::{CheckRequest, Instruction, Kind, Span, check, parse, parse_trigger};

fuzz_target!(|source: &[u8]| {
    let read = parse(source);
    assert_eq!(read.tree.to_bytes(), source);
    let given = std::collections::BTreeMap::new();
    for finding in check(&read, &CheckRequest::new(&given)).findings {
        fits(finding.span, source);
    }
    let mut end = 0;
    for instruction in read.tree.instructions() {
        assert!(instruction.span.start >= end, "instructions overlap");
        end = instruction.span.end;
        inside(instruction, source);
    }
    let _ = parse_trigger(source);
});

fn inside(instruction: &Instruction, source: &[u8]) {
    fits(instruction.span, source);
    fits(instruction.keyword_span, source);
    if let Kind::Onbuild(onbuild) = &instruction.kind {
        inside(&onbuild.instruction, source);
    }
}

fn fits(span: Span, source: &[u8]) {
    assert!(span.start <= span.end && span.end <= source.len(), "{span:?}");
}
