//! What running processes have noted that they use, as a sweep reads it.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::PathBuf;

use strata_cas::StoreError;

use crate::layout::{Layout, Part};
use crate::lease::Used;

/// The leases' files. One stays open here once it was seen, so that nothing is lost of it.
#[derive(Debug)]
pub(crate) struct Notes {
    directory: PathBuf,
    files: HashMap<PathBuf, Reading>,
}

#[derive(Debug)]
struct Reading {
    file: File,
    /// The beginning of a line whose end is not written yet.
    partial: Vec<u8>,
}

impl Notes {
    pub(crate) fn new(layout: &Layout) -> Self {
        Self { directory: layout.part(Part::Leases), files: HashMap::new() }
    }

    /// What was noted since it was asked last. With the gate closed, nothing is missing.
    pub(crate) fn read(&mut self) -> Result<Vec<Used>, StoreError> {
        let action = || StoreError::io(format!("read `{}`", self.directory.display()));
        for entry in fs::read_dir(&self.directory).map_err(action())? {
            let path = entry.map_err(action())?.path();
            if self.files.contains_key(&path) {
                continue;
            }
            match File::open(&path) {
                Ok(file) => drop(self.files.insert(path, Reading { file, partial: Vec::new() })),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(action()(error)),
            }
        }
        let mut found = Vec::new();
        for reading in self.files.values_mut() {
            reading.file.read_to_end(&mut reading.partial).map_err(action())?;
            let end =
                reading.partial.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
            let rest = reading.partial.split_off(end);
            let lines = std::mem::replace(&mut reading.partial, rest);
            let lines = String::from_utf8_lossy(&lines);
            found.extend(lines.lines().filter_map(Used::parse));
        }
        Ok(found)
    }
}
