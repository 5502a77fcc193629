//! Writes that break off, in every way and order, and go on.

use bytes::Bytes;
use http::uri::PathAndQuery;
use proptest::prelude::*;
use prost::Message as _;
use tonic::Code;
use tonic::codegen::tokio_stream::{self, StreamExt as _};

use super::calls::{World, digest, missing, noise, pieces};
use strata_reapi::Raw;

/// What a client does before it has sent all.
#[derive(Debug, Clone)]
enum Step {
    /// Sends so many bytes and ends the stream without having finished.
    End(usize),
    /// Sends so many bytes and is gone.
    Vanish(usize),
    /// Goes on at a place that is not where the write is.
    Elsewhere(usize),
    /// Begins anew, with so many bytes.
    Anew(usize),
    /// Asks how far the write is.
    Ask,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        (1..150_000_usize).prop_map(Step::End),
        (1..150_000_usize).prop_map(Step::Vanish),
        (1..1_000_usize).prop_map(Step::Elsewhere),
        (1..150_000_usize).prop_map(Step::Anew),
        Just(Step::Ask),
    ];
    proptest::collection::vec(step, 0..8)
}

/// One write of some bytes, as they go over the wire.
struct Writer<'a> {
    world: &'a World,
    name: String,
    wire: &'a [u8],
    /// How many have come.
    sent: usize,
}

impl Writer<'_> {
    fn committed(&self) -> usize {
        usize::try_from(self.world.query(&self.name).committed_size).expect("a size")
    }

    /// The next bytes, of which one at least stays for the end.
    fn next(&self, count: usize) -> &[u8] {
        let end = (self.sent + count).min(self.wire.len() - 1);
        &self.wire[self.sent..end]
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::End(count) => self.end(count),
            Step::Anew(count) => {
                self.sent = 0;
                self.end(count);
            }
            Step::Vanish(count) => self.vanish(count),
            Step::Elsewhere(by) => {
                let refused = self.world.write(pieces(&self.name, self.sent + by, b"x", false));
                assert_eq!(refused.expect_err("not there").code(), Code::InvalidArgument);
            }
            Step::Ask => assert_eq!(self.committed(), self.sent),
        }
    }

    fn end(&mut self, count: usize) {
        let bytes = self.next(count);
        if bytes.is_empty() {
            return;
        }
        let ended = self.world.write(pieces(&self.name, self.sent, bytes, false));
        assert_eq!(ended.expect_err("it is not all").code(), Code::InvalidArgument);
        self.sent += bytes.len();
        assert_eq!(self.committed(), self.sent);
    }

    fn vanish(&mut self, count: usize) {
        if self.sent == 0 {
            // That nothing has come is also said of a write that is still somebody's.
            return self.end(count);
        }
        let bytes = self.next(count);
        if bytes.is_empty() {
            return;
        }
        let messages: Vec<Bytes> = pieces(&self.name, self.sent, bytes, false)
            .iter()
            .map(|one| Bytes::from(one.encode_to_vec()))
            .collect();
        let (world, path) = (self.world, "/google.bytestream.ByteStream/Write");
        world.runtime.block_on(async {
            let mut grpc = world.grpc();
            grpc.ready().await.expect("it is there");
            // After its messages the stream says nothing more, and the call is given up.
            let stream = tokio_stream::iter(messages).chain(tokio_stream::pending());
            let path = PathAndQuery::from_static(path);
            let call =
                grpc.client_streaming::<_, Bytes, Bytes, _>(world.request(stream), path, Raw);
            let patience = std::time::Duration::from_millis(5);
            assert!(tokio::time::timeout(patience, call).await.is_err());
        });
        // Until the server has noticed, the write is nobody's.
        let (before, most) = (self.sent, self.sent + bytes.len());
        loop {
            self.sent = self.committed();
            if self.sent >= before {
                break;
            }
            std::thread::yield_now();
        }
        assert!(self.sent <= most, "{} bytes of {most}", self.sent);
    }
}

fn check(is_compressed: bool, steps: &[Step]) {
    let world = World::new();
    let all = noise(500_000);
    let hash = digest(&all).hash;
    let packed = zstd::stream::encode_all(&all[..], 1).expect("zstd");
    let (name, wire) = match is_compressed {
        true => (format!("uploads/u/compressed-blobs/zstd/{hash}/500000"), &packed),
        false => (format!("uploads/u/blobs/{hash}/500000"), &all),
    };
    let mut writer = Writer { world: &world, name, wire, sent: 0 };
    for step in steps {
        writer.step(step);
        // Nothing is there before all of it is.
        assert_eq!(missing(&world, &[digest(&all)], 0).len(), 1);
    }
    let sent = writer.sent;
    let rest = pieces(&writer.name, sent, &wire[sent..], true);
    let committed = world.write(rest).expect("written");
    assert_eq!(usize::try_from(committed).expect("a size"), wire.len());
    assert!(missing(&world, &[digest(&all)], 0).is_empty());
    assert!(world.read(&format!("blobs/{hash}/500000"), 0, 0).expect("all of it") == all);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn a_write_survives_any_order_of_failures(is_compressed: bool, steps in steps()) {
        check(is_compressed, &steps);
    }
}
