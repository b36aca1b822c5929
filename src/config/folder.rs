//! Folders of files that people write: rules and schemas, or the ones that tidings ships.
//!
//! Owns: which files of a folder count, in which order, and how they are named in problems. Refuses a folder without any.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use tidings_core::rules::File;

/// Why a folder cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// The folder or a file in it could not be read.
    #[error("could not read {}", path.display())]
    Read {
        /// Which one.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// There is nothing to read.
    #[error("there are no *.{extension} files in {}", path.display())]
    Empty {
        /// The folder.
        path: PathBuf,
        /// What was looked for.
        extension: &'static str,
    },
}

/// The names and texts of files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Folder {
    files: Vec<(String, String)>,
}

impl Folder {
    /// Reads the files of `folder` that end in `extension`, sorted by name. Folders inside it are left out.
    ///
    /// # Errors
    /// If there are none, or one cannot be read or is not UTF-8.
    pub fn read(folder: &Path, extension: &'static str) -> Result<Self, FolderError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| FolderError::Read { path, source }
        };
        let mut paths = Vec::new();
        for entry in fs::read_dir(folder).map_err(failed(folder))? {
            let path = entry.map_err(failed(folder))?.path();
            if path.extension().is_some_and(|found| found == extension) && !path.is_dir() {
                paths.push(path);
            }
        }
        if paths.is_empty() {
            return Err(FolderError::Empty { path: folder.to_owned(), extension });
        }
        paths.sort();
        let read = |path: PathBuf| Ok((path.display().to_string(), fs::read_to_string(&path).map_err(failed(&path))?));
        Ok(Self { files: paths.into_iter().map(read).collect::<Result<_, _>>()? })
    }

    /// The files of `folder`, or the `shipped` ones if no folder is given.
    ///
    /// # Errors
    /// As [`Folder::read`].
    pub fn or_shipped(folder: Option<&Path>, extension: &'static str, shipped: &[File<'_>]) -> Result<Self, FolderError> {
        let copied = || Self { files: shipped.iter().map(|file| (file.name.to_owned(), file.text.to_owned())).collect() };
        folder.map_or_else(|| Ok(copied()), |folder| Self::read(folder, extension))
    }

    /// The files, for the core to read.
    #[must_use]
    pub fn files(&self) -> Vec<File<'_>> {
        self.files.iter().map(|(name, text)| File { name, text }).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_that_count_come_in_the_order_of_their_names() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["b.toml", "a.toml", "a.toml.bak", "notes.md"] {
            fs::write(folder.path().join(name), name).unwrap();
        }
        fs::create_dir(folder.path().join("old.toml")).unwrap();
        let read = Folder::read(folder.path(), "toml").unwrap();
        assert_eq!(read.files().iter().map(|file| file.text).collect::<Vec<_>>(), ["a.toml", "b.toml"]);
    }

    #[test]
    fn a_folder_without_files_or_with_bytes_that_are_no_text_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        assert!(matches!(Folder::read(folder.path(), "toml"), Err(FolderError::Empty { .. })));
        assert!(matches!(Folder::read(&folder.path().join("none"), "toml"), Err(FolderError::Read { .. })));
        fs::write(folder.path().join("a.toml"), b"\xff").unwrap();
        assert!(matches!(Folder::read(folder.path(), "toml"), Err(FolderError::Read { .. })));
    }
}
