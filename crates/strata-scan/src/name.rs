//! What directories are called: the id of each one's tree, from the bottom up. One in which
//! nothing has changed has the name that the stamp file says; only the others are written out.

use strata_cas::{BlobId, DirectoryWriter, File, Metadata, Node as TreeNode, TreeId};

use crate::answer::{Found, FoundKind};
use crate::stamps::Stamps;
use crate::walked::{Entry, Node, Seen};

/// Names all visited directories that are in the answer, and tells each one what is below it.
/// With `same_rules`, the names in the stamp file are those of what is wanted now.
pub(crate) fn name_trees(nodes: &mut [Node], old: &Stamps, same_rules: bool) {
    // A directory's number is greater than that of the one that holds it.
    for id in (0..nodes.len()).rev() {
        let node = &nodes[id];
        let is_there = node.wanted || node.holds || id == 0;
        let known = match node.intact && same_rules && node.everything {
            true => node.old.and_then(|index| old.directory(index)?.tree),
            false => None,
        };
        let mode = node.stamp.permissions();
        let tree = is_there.then(|| known.unwrap_or_else(|| tree_of(nodes, node, old, mode)));
        let (intact, parent) = (node.intact, node.parent);
        nodes[id].tree = tree;
        if let Some(above) = parent.and_then(|(parent, _)| nodes.get_mut(parent as usize)) {
            above.intact &= intact;
            above.holds |= is_there;
        }
    }
}

/// The id of a directory's tree, if it has this mode. Everything in it is root's, whoever checked
/// it out.
pub(crate) fn tree_of(nodes: &[Node], node: &Node, old: &Stamps, mode: u32) -> TreeId {
    let there = |entry| Some((entry, tree_node(nodes, entry, old)?));
    let entries: Vec<(&Entry, TreeNode)> = node.entries.iter().filter_map(there).collect();
    let mut writer = DirectoryWriter::new(&Metadata::root(mode), entries.len());
    for (entry, tree_node) in &entries {
        writer.entry(entry.name(old), tree_node);
    }
    BlobId::of(&writer.finish()).into()
}

/// An entry as its directory's tree has it; none if it is not in the answer.
fn tree_node(nodes: &[Node], entry: &Entry, old: &Stamps) -> Option<TreeNode> {
    if let Seen::Directory(child) = &entry.seen {
        return child.and_then(|id| nodes.get(id as usize)?.tree).map(TreeNode::Directory);
    }
    let Found { kind, mode, modified: _ } = entry.found(old)?;
    let metadata = Metadata::root(mode);
    Some(match kind {
        // `found` answers for leaves only.
        FoundKind::Directory => return None,
        FoundKind::File { blob, size } => TreeNode::File(File { blob, size, metadata }),
        FoundKind::Symlink { target } => {
            TreeNode::Symlink { target, metadata: Metadata::root(0o777) }
        }
        FoundKind::Device(device) => TreeNode::Device { device, metadata },
    })
}
