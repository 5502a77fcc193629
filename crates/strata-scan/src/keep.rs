//! What is written to the stamp file after a walk: what the walk saw, and what earlier ones saw
//! where this one did not look, since other builds select other paths of the same context.

use std::collections::VecDeque;
use std::io;

use crate::stamp::Timestamp;
use crate::stamps::{DirectoryIndex, Kind, OldEntry, Stamps, StampsWriter};
use crate::walk::{Entry, Listing, Node, Seen, Walked};

/// Whether the walk learned something that the next one can believe.
pub(crate) fn has_news(walked: &Walked<'_>, start: Timestamp) -> bool {
    let was_read = |node: &Node<'_>| {
        node.listing == (Listing::Read { stamped: true }) && node.stamp.is_settled(start)
    };
    walked.hashed.iter().any(|hashed| hashed.stamp.is_settled(start))
        || walked.nodes.iter().any(was_read)
}

/// The new stamp file.
pub(crate) fn encode(walked: &Walked<'_>, old: &Stamps, start: Timestamp) -> io::Result<Vec<u8>> {
    let mut encoder = Encoder {
        walked,
        old,
        start,
        writer: StampsWriter::default(),
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
    walked: &'a Walked<'a>,
    old: &'a Stamps,
    start: Timestamp,
    writer: StampsWriter,
    /// Directories that have a number and are not written yet, in the order of their numbers.
    queue: VecDeque<Source>,
    numbered: u32,
}

type Line<'a> = (OldEntry<'a>, Option<Source>);

impl<'a> Encoder<'a> {
    fn node(&mut self, node: u32) -> io::Result<()> {
        let walked: &'a Walked<'a> = self.walked;
        let Some(node) = walked.nodes.get(node as usize) else { return Ok(()) };
        let mut lines: Vec<Line<'a>> =
            node.entries.iter().filter_map(|entry| self.line(entry)).collect();
        if node.listing == Listing::Partial {
            lines.extend(self.not_looked_up(node));
            lines.sort_unstable_by_key(|(entry, _)| entry.name);
        }
        let whole = match node.listing {
            Listing::Known | Listing::Read { stamped: true } => node.stamp.is_settled(self.start),
            Listing::Read { stamped: false } | Listing::Partial => false,
        };
        self.directory(&node.stamp, whole, lines)
    }

    /// What earlier walks saw in a directory in which this one looked for a few names only.
    fn not_looked_up(&self, node: &'a Node<'a>) -> Vec<Line<'a>> {
        let old: &'a Stamps = self.old;
        let Some(directory) = node.old.and_then(|index| old.directory(index)) else {
            return Vec::new();
        };
        let looked_up =
            |name: &[u8]| node.entries.binary_search_by(|entry| (*entry.name).cmp(name)).is_ok();
        (directory.first..directory.first + directory.count)
            .filter_map(|index| old.entry(index))
            .filter(|entry| !looked_up(entry.name))
            .map(|entry| (entry, entry.child.map(Source::Old)))
            .collect()
    }

    fn line(&self, entry: &'a Entry<'a>) -> Option<Line<'a>> {
        let old: &'a Stamps = self.old;
        let line = |kind, content| OldEntry { name: &entry.name, kind, child: None, content };
        Some(match &entry.seen {
            Seen::Nothing => return None,
            Seen::No | Seen::Unchanged(_) => match entry.old.and_then(|index| old.entry(index)) {
                Some(old) => (OldEntry { kind: entry.kind, ..old }, old.child.map(Source::Old)),
                None => (line(entry.kind, None), None),
            },
            Seen::Directory(node) => (line(Kind::Directory, None), node.map(Source::Node)),
            Seen::File(_, file) => {
                let (stamp, blob) = **file;
                let content = blob.map(|blob| (stamp, blob));
                (line(Kind::File, content.filter(|_| stamp.is_settled(self.start))), None)
            }
            Seen::Symlink(..) | Seen::Device(..) | Seen::Socket(_) => {
                (line(Kind::Other, None), None)
            }
        })
    }

    fn old_directory(&mut self, index: DirectoryIndex) -> io::Result<()> {
        let old: &'a Stamps = self.old;
        let Some(directory) = old.directory(index) else {
            return self.directory(&crate::stamp::Stamp::default(), false, Vec::new());
        };
        let lines = (directory.first..directory.first + directory.count)
            .filter_map(|entry| old.entry(entry))
            // Numbers grow downwards; a file in which they do not would have no end.
            .map(|entry| (entry, entry.child.filter(|child| *child > index).map(Source::Old)))
            .collect();
        self.directory(&directory.stamp, directory.whole, lines)
    }

    fn directory(
        &mut self,
        stamp: &crate::stamp::Stamp,
        whole: bool,
        lines: Vec<Line<'_>>,
    ) -> io::Result<()> {
        let count = u32::try_from(lines.len()).map_err(|_| io::ErrorKind::FileTooLarge)?;
        self.writer.directory(stamp, count, whole);
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
