//! What is written to the stamp file after a walk: what the walk saw, and what earlier ones saw
//! where this one did not look, since other builds select other paths of the same context.

use std::collections::VecDeque;
use std::io;

use strata_cas::{BlobId, TreeId};

use crate::stamp::{Stamp, Timestamp};
use crate::stamps::{DirectoryIndex, Kind, OldEntry, Stamps, StampsWriter};
use crate::walked::{Entry, Listing, Node, Seen, Walked};

/// Whether the walk learned something that the next one can believe.
pub(crate) fn has_news(walked: &Walked, old: &Stamps, rules: [u8; 32], start: Timestamp) -> bool {
    let same_rules = old.rules() == Some(rules);
    let is_news = |node: &Node| {
        let was_read = node.listing == (Listing::Read { stamped: true });
        let known = || node.old.and_then(|index| old.directory(index)?.tree);
        let is_new_link = |entry: &Entry| match &entry.seen {
            Seen::Symlink(link) => link.0.is_settled(start) && !is_known(entry, &link.0, old),
            Seen::Device(device) => device.0.is_settled(start) && !is_known(entry, &device.0, old),
            _ => false,
        };
        (was_read && node.stamp.is_settled(start))
            || (!node.intact && node.entries.iter().any(is_new_link))
            || (lasting_tree(node, start).is_some()
                && !(same_rules && known() == lasting_tree(node, start)))
    };
    walked.hashed.iter().any(|hashed| hashed.stamp.is_settled(start))
        || walked.nodes.iter().any(is_news)
}

/// Whether the stamp file has this stamp of an entry.
pub(crate) fn is_known(entry: &Entry, stamp: &Stamp, old: &Stamps) -> bool {
    let known = entry.old.and_then(|index| old.entry(index)?.content);
    known.is_some_and(|(old, _)| old == *stamp)
}

/// Whether the next walk need not read the directory, if its stamp is the same then.
fn is_whole(node: &Node, start: Timestamp) -> bool {
    match node.listing {
        Listing::Known | Listing::Read { stamped: true } => node.stamp.is_settled(start),
        Listing::Read { stamped: false } | Listing::Partial => false,
    }
}

/// The directory's tree, if it says what all entries make that the stamp file is to keep.
fn lasting_tree(node: &Node, start: Timestamp) -> Option<TreeId> {
    node.tree.filter(|_| node.everything && is_whole(node, start))
}

/// The new stamp file.
pub(crate) fn encode(
    walked: &Walked,
    old: &Stamps,
    rules: [u8; 32],
    start: Timestamp,
) -> io::Result<Vec<u8>> {
    let mut encoder = Encoder {
        walked,
        old,
        start,
        same_rules: old.rules() == Some(rules),
        writer: StampsWriter::new(rules),
        queue: VecDeque::from([Source::Node(0)]),
        numbered: 1,
    };
    while let Some(source) = encoder.queue.pop_front() {
        match source {
            Source::Node(node) => encoder.node(node)?,
            Source::Old(directory) => encoder.old_directory(directory)?,
        }
    }
    Ok(encoder.writer.finish())
}

/// Where a directory of the new file comes from.
#[derive(Debug, Clone, Copy)]
enum Source {
    Node(u32),
    Old(DirectoryIndex),
}

struct Encoder<'a> {
    walked: &'a Walked,
    old: &'a Stamps,
    start: Timestamp,
    /// Whether the old file's trees and verdicts still hold.
    same_rules: bool,
    writer: StampsWriter,
    /// Directories that have a number and are not written yet, in the order of their numbers.
    queue: VecDeque<Source>,
    numbered: u32,
}

type Line<'a> = (OldEntry<'a>, Option<Source>);

impl<'a> Encoder<'a> {
    fn node(&mut self, node: u32) -> io::Result<()> {
        let walked: &'a Walked = self.walked;
        let Some(node) = walked.nodes.get(node as usize) else { return Ok(()) };
        let mut lines: Vec<Line<'a>> =
            node.entries.iter().filter_map(|entry| self.line(entry)).collect();
        if node.listing == Listing::Partial {
            lines.extend(self.not_looked_up(node));
            lines.sort_unstable_by_key(|(entry, _)| entry.name);
        }
        let tree = match node.everything {
            true => lasting_tree(node, self.start),
            // Nothing in it that was looked at has changed, and nothing else was looked at.
            false if node.intact && self.same_rules => {
                node.old.and_then(|index| self.old.directory(index)?.tree)
            }
            false => None,
        };
        self.directory(&node.stamp, is_whole(node, self.start), tree, lines)
    }

    /// What earlier walks saw in a directory in which this one looked for a few names only.
    fn not_looked_up(&self, node: &'a Node) -> Vec<Line<'a>> {
        let old: &'a Stamps = self.old;
        let Some(directory) = node.old.and_then(|index| old.directory(index)) else {
            return Vec::new();
        };
        let looked_up =
            |name: &[u8]| node.entries.binary_search_by(|entry| entry.name(old).cmp(name)).is_ok();
        (directory.first..directory.first + directory.count)
            .filter_map(|index| old.entry(index))
            .filter(|entry| !looked_up(entry.name))
            .map(|entry| (self.lasting(entry), entry.child.map(Source::Old)))
            .collect()
    }

    /// An old entry without a verdict that holds no more.
    fn lasting<'e>(&self, entry: OldEntry<'e>) -> OldEntry<'e> {
        OldEntry { excluded: entry.excluded.filter(|_| self.same_rules), ..entry }
    }

    fn line(&self, entry: &'a Entry) -> Option<Line<'a>> {
        let old: &'a Stamps = self.old;
        let line = |kind, content, excluded| OldEntry {
            name: entry.name(old),
            kind,
            child: None,
            content,
            excluded,
        };
        let settled = |stamp: &Stamp| stamp.is_settled(self.start);
        let wanted = Some(false);
        Some(match &entry.seen {
            Seen::Nothing => return None,
            Seen::Unwanted | Seen::Excluded | Seen::Unchanged(_) => {
                let known = entry.old.and_then(|index| old.entry(index));
                let known = known.map(|known| self.lasting(known));
                let excluded = match entry.seen {
                    Seen::Excluded => Some(true),
                    Seen::Unchanged(_) => wanted,
                    _ => known.and_then(|known| known.excluded),
                };
                match known {
                    Some(known) => {
                        let child = known.child.map(Source::Old);
                        (OldEntry { kind: entry.kind, excluded, ..known }, child)
                    }
                    None => (line(entry.kind, None, excluded), None),
                }
            }
            Seen::Directory(node) => (line(Kind::Directory, None, None), node.map(Source::Node)),
            Seen::File(file) => {
                let (stamp, blob) = **file;
                let content = blob.map(|blob| (stamp, blob)).filter(|_| settled(&stamp));
                (line(Kind::File, content, wanted), None)
            }
            Seen::Symlink(link) => (self.other(line, &link.0), None),
            Seen::Device(device) => (self.other(line, &device.0), None),
            Seen::Socket => (line(Kind::Other, None, wanted), None),
        })
    }

    /// What is neither file nor directory: only its stamp is kept.
    fn other(
        &self,
        line: impl Fn(Kind, Option<(Stamp, BlobId)>, Option<bool>) -> OldEntry<'a>,
        stamp: &Stamp,
    ) -> OldEntry<'a> {
        let content = (*stamp, BlobId::from_bytes([0; 32]));
        line(Kind::Other, stamp.is_settled(self.start).then_some(content), Some(false))
    }

    fn old_directory(&mut self, index: DirectoryIndex) -> io::Result<()> {
        let old: &'a Stamps = self.old;
        let Some(directory) = old.directory(index) else {
            return self.directory(&Stamp::default(), false, None, Vec::new());
        };
        let lines = (directory.first..directory.first + directory.count)
            .filter_map(|entry| old.entry(entry))
            // Numbers grow downwards; a file in which they do not would have no end.
            .map(|entry| {
                let child = entry.child.filter(|child| *child > index);
                (self.lasting(entry), child.map(Source::Old))
            })
            .collect();
        let tree = directory.tree.filter(|_| self.same_rules);
        self.directory(&directory.stamp, directory.whole, tree, lines)
    }

    fn directory(
        &mut self,
        stamp: &Stamp,
        whole: bool,
        tree: Option<TreeId>,
        lines: Vec<Line<'_>>,
    ) -> io::Result<()> {
        let count = u32::try_from(lines.len()).map_err(|_| io::ErrorKind::FileTooLarge)?;
        self.writer.directory(stamp, count, whole, tree);
        for (entry, source) in lines {
            let child = source.map(|source| {
                self.queue.push_back(source);
                self.numbered += 1;
                self.numbered - 1
            });
            self.writer.entry(&OldEntry { child, ..entry })?;
        }
        Ok(())
    }
}
