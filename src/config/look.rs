//! Looks: what files are like from outside, to notice that one was changed or replaced.
//!
//! Owns: the comparison, which holds whatever way the change came: written in place, moved over the old one, or by a link above it
//! that leads elsewhere now, as mounts of Kubernetes and deployments have it, which events of the file system do not tell. Refuses
//! to read. Neighbours: `auth` looks at its keys, `pipeline` at its rules.

use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How often somebody who waits for a change looks.
pub const LOOK_INTERVAL: Duration = Duration::from_secs(5);

/// What some files were like at one moment. Another look that is equal has seen no change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Look(Vec<(PathBuf, Option<Facts>)>);

/// What changes with a file: which one it is, when it was written or given other rights, and its size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Facts {
    file: (u64, u64),
    modified: (i64, i64),
    changed: (i64, i64),
    bytes: u64,
}

impl Look {
    /// At files, there or not. Blocks.
    pub fn at_files(paths: impl IntoIterator<Item = PathBuf>) -> Self {
        Self(paths.into_iter().map(|path| (path.clone(), facts(&path))).collect())
    }

    /// At a folder and what lies in it, but not in the folders there. Blocks.
    #[must_use]
    pub fn at_folder(folder: &Path) -> Self {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        let mut paths = entries.map(|entry| entry.path()).collect::<Vec<_>>();
        paths.sort();
        Self::at_files(std::iter::once(folder.to_owned()).chain(paths))
    }

    /// Whether what was looked at first is the same file or folder in both, whatever was done to it.
    #[must_use]
    pub fn is_of_same(&self, other: &Self) -> bool {
        let first = |look: &Self| look.0.first().and_then(|(_, facts)| Some(facts.as_ref()?.file));
        first(self) == first(other)
    }
}

/// Links are followed: what counts is what would be read.
fn facts(path: &Path) -> Option<Facts> {
    fs::metadata(path).ok().map(|found: Metadata| Facts {
        file: (found.dev(), found.ino()),
        modified: (found.mtime(), found.mtime_nsec()),
        changed: (found.ctime(), found.ctime_nsec()),
        bytes: found.len(),
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_file_that_is_written_replaced_or_gone_looks_different_and_one_that_was_read_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a");
        let look = || Look::at_files([file.clone()]);
        let mut seen = look();
        let mut is_new = || std::mem::replace(&mut seen, look()) != look();
        fs::write(&file, "one").unwrap();
        assert!(is_new());
        fs::read(&file).unwrap();
        assert!(!is_new());
        fs::write(&file, "longer").unwrap();
        assert!(is_new());
        // The same size and time, as copies that keep times have.
        let fresh = folder.path().join("b");
        fs::write(&fresh, "anothe").unwrap();
        let time = fs::metadata(&file).unwrap().modified().unwrap();
        fs::File::options().write(true).open(&fresh).unwrap().set_modified(time).unwrap();
        fs::rename(&fresh, &file).unwrap();
        assert!(is_new());
        fs::remove_file(&file).unwrap();
        assert!(is_new());
    }

    #[test]
    fn a_folder_that_another_one_took_the_place_of_is_not_the_same() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["one", "other"] {
            fs::create_dir_all(dir.path().join(name).join("rules")).unwrap();
            fs::write(dir.path().join(name).join("rules/a.toml"), "same").unwrap();
        }
        let (link, rules) = (dir.path().join("current"), dir.path().join("current/rules"));
        symlink("one", &link).unwrap();
        let before = Look::at_folder(&rules);
        fs::write(rules.join("b.toml"), "new").unwrap();
        let grown = Look::at_folder(&rules);
        assert!(before != grown && before.is_of_same(&grown));
        symlink("other", dir.path().join("next")).unwrap();
        fs::rename(dir.path().join("next"), &link).unwrap();
        let swapped = Look::at_folder(&rules);
        assert!(grown != swapped && !grown.is_of_same(&swapped));
        fs::rename(dir.path().join("other"), dir.path().join("gone")).unwrap();
        assert!(!swapped.is_of_same(&Look::at_folder(&rules)));
    }
}
