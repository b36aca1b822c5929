//! Folders of files that people write: rules and schemas, or the ones that tidings ships.
//!
//! Owns: which files of a folder count, in which order, and how they are named in problems. Refuses a folder without any, with what it has instead.

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
    /// It is a file.
    #[error("{} is no folder: name the one that its *.{extension} files lie in", path.display())]
    NoFolder {
        /// What it is.
        path: PathBuf,
        /// What was looked for.
        extension: &'static str,
    },
    /// A file in it is no text.
    #[error("{}:{line}: what stands there is no UTF-8: save the file as text, or give it another ending than .{extension}", path.display())]
    NoText {
        /// Which one.
        path: PathBuf,
        /// The line of the first byte that is none, from 1.
        line: usize,
        /// What makes it count.
        extension: &'static str,
    },
    /// There is nothing to read.
    #[error("there are no *.{extension} files in {}{}", path.display(), beside(.others))]
    Empty {
        /// The folder.
        path: PathBuf,
        /// What was looked for.
        extension: &'static str,
        /// What it has in their place, sorted; folders end in `/`.
        others: Vec<String>,
    },
}

/// The most names that are shown.
const LIMIT_SHOWN: usize = 5;

/// What else there is: often another folder or another format was meant.
fn beside(others: &[String]) -> String {
    let shown = others.iter().take(LIMIT_SHOWN).map(String::as_str).collect::<Vec<_>>().join(", ");
    match others.len() {
        0 => ": it is empty".to_owned(),
        many if many > LIMIT_SHOWN => format!(": it has {shown} and {} more", many - LIMIT_SHOWN),
        _ => format!(": it has {shown}"),
    }
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
        if folder.is_file() {
            return Err(FolderError::NoFolder { path: folder.to_owned(), extension });
        }
        let (mut paths, mut others) = (Vec::new(), Vec::new());
        for entry in fs::read_dir(folder).map_err(failed(folder))? {
            let path = entry.map_err(failed(folder))?.path();
            if path.extension().is_some_and(|found| found == extension) && !path.is_dir() {
                paths.push(path);
            } else if let Some(name) = path.file_name() {
                others.push(format!("{}{}", name.display(), if path.is_dir() { "/" } else { "" }));
            }
        }
        if paths.is_empty() {
            others.sort();
            return Err(FolderError::Empty { path: folder.to_owned(), extension, others });
        }
        paths.sort();
        let read = |path: PathBuf| {
            let bytes = fs::read(&path).map_err(failed(&path))?;
            let text = String::from_utf8(bytes).map_err(|error| {
                let before = &error.as_bytes()[..error.utf8_error().valid_up_to()];
                let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
                FolderError::NoText { path: path.clone(), line, extension }
            })?;
            Ok((path.display().to_string(), text))
        };
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
    fn a_folder_without_files_or_with_bytes_that_are_no_text_is_refused_with_what_is_there() {
        let place = tempfile::tempdir().unwrap();
        let folder = place.path().join("rules");
        let told = |folder: &Path| {
            let error = Folder::read(folder, "toml").unwrap_err();
            error.to_string().replace(&place.path().display().to_string(), "…")
        };
        assert_eq!(told(&folder), "could not read …/rules");
        fs::create_dir(&folder).unwrap();
        assert_eq!(told(&folder), "there are no *.toml files in …/rules: it is empty");
        fs::write(folder.join("a.yaml"), "").unwrap();
        fs::create_dir(folder.join("payments")).unwrap();
        assert_eq!(told(&folder), "there are no *.toml files in …/rules: it has a.yaml, payments/");
        for name in ["b.yaml", "c.yaml", "d.yaml", "e.yaml"] {
            fs::write(folder.join(name), "").unwrap();
        }
        assert!(told(&folder).ends_with("it has a.yaml, b.yaml, c.yaml, d.yaml, e.yaml and 1 more"), "{}", told(&folder));
        assert_eq!(told(&folder.join("a.yaml")), "…/rules/a.yaml is no folder: name the one that its *.toml files lie in");
        fs::write(folder.join("a.toml"), b"name = 'a'\n\xff").unwrap();
        assert_eq!(
            told(&folder),
            "…/rules/a.toml:2: what stands there is no UTF-8: save the file as text, or give it another ending than .toml"
        );
    }
}
