//! Which other paths the wanted ones lead to through symlinks. A link counts where a glob names
//! it, literally or by wildcard, at any component before a `**`; links below a wanted directory
//! are content and are not followed.
//!
//! Targets are resolved as if the context were the whole file system: an absolute one starts at
//! its root and `..` stops there.

use std::collections::{HashSet, VecDeque};
use std::os::fd::BorrowedFd;

use rustix::fs::{Dir, FileType, Mode, OFlags};
use strata_cas::TreePath;

use crate::glob::Component;
use crate::links::LINKS;
use crate::{Glob, IgnoreRules, ScanError};

/// A path on its way.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Way {
    /// How far it came; there is no link in this.
    at: TreePath,
    rest: VecDeque<Step>,
    /// How many links it came through.
    links: u32,
    /// Whether it came through one that no glob tells of.
    moved: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Step {
    Up,
    Down(Component),
}

/// The globs to add, so that a walk that follows nothing sees all links and where they lead.
pub(crate) fn follow(
    root: BorrowedFd<'_>,
    rules: &IgnoreRules,
    globs: &[Glob],
) -> Result<Vec<Glob>, ScanError> {
    let way = |glob: &Glob| Way {
        at: TreePath::ROOT,
        rest: glob.components().iter().cloned().map(Step::Down).collect(),
        links: 0,
        moved: false,
    };
    let mut follow = Follow { root, rules, ways: globs.iter().map(way).collect(), added: vec![] };
    let mut known: HashSet<Way> = HashSet::new();
    while let Some(way) = follow.ways.pop() {
        if known.insert(way.clone()) {
            follow.step(way)?;
        }
    }
    Ok(follow.added)
}

struct Follow<'a> {
    root: BorrowedFd<'a>,
    rules: &'a IgnoreRules,
    ways: Vec<Way>,
    added: Vec<Glob>,
}

impl Follow<'_> {
    /// Goes on by one step. What cannot be looked at leads nowhere: the walk will say why.
    fn step(&mut self, mut way: Way) -> Result<(), ScanError> {
        match way.rest.pop_front() {
            None => {
                if way.moved {
                    self.added.push(Glob::literal(&way.at));
                }
            }
            Some(Step::Up) => {
                way.at = way.at.parent().unwrap_or_default();
                self.ways.push(way);
            }
            Some(Step::Down(Component::Literal(name))) => {
                let Ok(path) = way.at.child(&name) else { return Ok(()) };
                let found = crate::stamp::look(self.root, path.as_bytes());
                let Ok(found) = found else { return Ok(()) };
                let file_type = FileType::from_raw_mode(found.stx_mode.into());
                self.enter(way, path, file_type)?;
            }
            Some(Step::Down(wild)) => {
                way.rest.push_front(Step::Down(wild.clone()));
                if way.moved {
                    self.add(&way);
                    way.moved = false;
                }
                way.rest.pop_front();
                if wild != Component::AnyDepth {
                    self.enter_all(&way, &wild)?;
                }
            }
        }
        Ok(())
    }

    fn enter_all(&mut self, way: &Way, wild: &Component) -> Result<(), ScanError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let at = if way.at.is_root() { b"." } else { way.at.as_bytes() };
        let opened = rustix::fs::openat(self.root, at, flags, Mode::empty());
        let Ok(listing) = opened.and_then(Dir::new) else { return Ok(()) };
        for entry in listing {
            let Ok(entry) = entry else { return Ok(()) };
            let Ok(path) = way.at.child(entry.file_name().to_bytes()) else { continue };
            if wild.matches(path.name()) {
                let mut file_type = entry.file_type();
                if file_type == FileType::Unknown
                    && let Ok(found) = crate::stamp::look(self.root, path.as_bytes())
                {
                    file_type = FileType::from_raw_mode(found.stx_mode.into());
                }
                self.enter(way.clone(), path, file_type)?;
            }
        }
        Ok(())
    }

    /// Goes on to an entry.
    fn enter(
        &mut self,
        mut way: Way,
        path: TreePath,
        file_type: FileType,
    ) -> Result<(), ScanError> {
        match file_type {
            FileType::Symlink => return self.through_link(way, path),
            FileType::Directory => {}
            _ if way.rest.is_empty() => {}
            _ => return Ok(()),
        }
        way.at = path;
        if way.moved || !way.rest.is_empty() {
            self.ways.push(way);
        }
        Ok(())
    }

    fn through_link(&mut self, mut way: Way, link: TreePath) -> Result<(), ScanError> {
        if self.rules.excludes(&link) {
            return Ok(());
        }
        way.links += 1;
        if way.links > LINKS {
            return Err(ScanError::SymlinkLoop(link));
        }
        let target = rustix::fs::readlinkat(self.root, link.as_bytes(), Vec::new());
        let Ok(target) = target else { return Ok(()) };
        if way.moved {
            self.added.push(Glob::literal(&link));
        }
        way.moved = true;
        if target.as_bytes().starts_with(b"/") {
            way.at = TreePath::ROOT;
        }
        for name in target.as_bytes().rsplit(|byte| *byte == b'/') {
            match name {
                b"" | b"." => {}
                b".." => way.rest.push_front(Step::Up),
                name => way.rest.push_front(Step::Down(Component::Literal(name.to_vec()))),
            }
        }
        self.ways.push(way);
        Ok(())
    }

    /// Adds what the way can still match; links' targets, which alone have `..`, are behind it.
    fn add(&mut self, way: &Way) {
        let above = way.at.components().map(|name| Component::Literal(name.to_vec()));
        let below = way.rest.iter().filter_map(|step| match step {
            Step::Up => None,
            Step::Down(component) => Some(component.clone()),
        });
        self.added.push(Glob::from_components(above.chain(below).collect()));
    }
}
