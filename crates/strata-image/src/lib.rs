//! Tree changes, layers and images, and the ways between them: tar, whiteouts, compression, OCI
//! layouts, Docker's archives, configs and manifests.
//!
//! One decision carries the crate: **a layer's tar is a pure function of the layer**. [`pack`]
//! takes its headers from the `tar` crate and nothing else: order, PAX records, whiteouts and
//! hard links follow our own rules, because the usual ways to make a tar look at the disk (link
//! counts, holes, directory order, the clock). So equal layers have equal digests on every
//! machine, nothing needs to be kept to write an image again, and [`describe`] can name a layer
//! without writing it anywhere. [`Encoder`] holds the same for compressed layers: its bytes do
//! not depend on the number of threads.
//!
//! The way back, [`unpack`], reads what strangers wrote. It resolves every name in memory, makes
//! files only by steps that follow no symbolic link, and has a [limit](Limits) on whatever a tar
//! can ask for.
//!
//! What the crate deliberately does not do: no network, no store of its own, no decision about
//! tags, platforms or media types, no image that lies in a registry.
//!
//! ```
//! use strata_cas::{Action, BlobStore, Change, Item, Layer, MemoryStore, Metadata, Time, TreePath};
//!
//! let store = MemoryStore::default();
//! let item = Item::File { blob: store.put(b"hello\n")?, size: 6 };
//! let action = Action::Set { item, metadata: Metadata::root(0o644), modified: Time(0) };
//! let layer = Layer::new(vec![Change { path: TreePath::new("etc/motd")?, action }]);
//!
//! let mut tar = Vec::new();
//! strata_image::pack(&layer, &store, &mut tar)?;
//! let (diff_id, size) = strata_image::describe(&layer, &store)?;
//! assert_eq!((diff_id, size), (strata_oci::Digest::of(&tar), tar.len() as u64));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod archive;
mod archive_file;
mod assembly;
mod chunked;
mod compress;
mod copy;
mod destination;
mod docker;
mod entries;
mod error;
mod header;
mod in_order;
mod layout;
mod lower;
mod maker;
mod manifest;
mod materialise;
mod members;
mod pack;
mod pieces;
mod read_ahead;
mod shape;
mod source;
mod sparse;
mod toc;
mod units;
mod unpack;
mod verify;

pub use archive::{
    LayerSource, OutgoingImage, OutgoingLayer, Parcel, parcels, write_docker_archive,
    write_docker_delta, write_oci_archive, write_oci_directory,
};
pub use archive_file::{Archive, MOST_MADE_BYTES};
pub use chunked::{ChunkedLayer, compress_chunked};
pub use compress::{CUT_BYTES, Decoder, Encoder, Format, detect, is_archive};
pub use copy::copy;
pub use destination::OverlayForm;
pub use docker::{DockerArchive, DockerImage};
pub use error::ImageError;
pub use layout::{LayoutEntry, LayoutImage, OciLayout, Selector, attestation};
pub use lower::{LowerItem, LowerLayers};
pub use manifest::{
    ManifestFlavour, annotated_index, annotated_manifest, config_bytes, descriptor, index, manifest,
};
pub use materialise::materialise;
pub use pack::{Contents, WHOLE_FILE_BYTES, describe, describe_from, pack};
pub use pieces::{CompressedLayer, Compressing, KnownPieces, Piece, compress_layer, write_pieces};
pub use source::ImageSource;
pub use units::LARGE_FILE_BYTES;
pub use unpack::{Limits, UnpackOptions, Unpacked, unpack};
