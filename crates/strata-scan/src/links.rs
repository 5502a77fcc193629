//! Where a path leads when symlinks are followed, in any tree that can say what stands at a path.

use strata_cas::TreePath;

/// How many links one path may lead through, as in Linux.
pub(crate) const LINKS: u32 = 40;

/// The path that `path` leads to when all links are followed, the last component's too: none in a
/// loop. `link` gives what a link points to, and nothing for anything else. Targets are resolved
/// as if the tree were the whole file system. Whether something is at the end, is not looked at.
pub fn resolve(
    path: &TreePath,
    mut link: impl FnMut(&TreePath) -> Option<Vec<u8>>,
) -> Option<TreePath> {
    let mut at = TreePath::ROOT;
    let mut rest: Vec<Vec<u8>> = path.components().rev().map(<[u8]>::to_vec).collect();
    let mut links = 0;
    while let Some(name) = rest.pop() {
        match &name[..] {
            b"" | b"." => continue,
            b".." => {
                at = at.parent().unwrap_or_default();
                continue;
            }
            _ => {}
        }
        let next = at.child(&name).ok()?;
        let Some(target) = link(&next) else {
            at = next;
            continue;
        };
        links += 1;
        if links > LINKS {
            return None;
        }
        if target.starts_with(b"/") {
            at = TreePath::ROOT;
        }
        rest.extend(target.rsplit(|byte| *byte == b'/').map(<[u8]>::to_vec));
    }
    Some(at)
}
