//! Changes of a folder, as the system tells them.
//!
//! Owns: the watch on the folder and the wait until it is quiet. Refuses to be needed: where the system has no watch to give, a
//! line in the log says that only SIGHUP reloads.

use std::path::Path;
use std::time::Duration;

use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::mpsc;

/// A change counts when the folder has been quiet for so long: editors and deployments write several files.
const QUIET: Duration = Duration::from_millis(200);
/// A folder that is never quiet is read all the same after so many changes.
const CHANGES: usize = 100;

/// A watched folder.
pub(super) struct Changes {
    /// Held: dropped, it ends the watch.
    _watcher: Option<RecommendedWatcher>,
    /// One place is enough: a change that finds it full is a change that will be seen.
    changed: mpsc::Receiver<()>,
}

impl Changes {
    /// The changes of `folder` from now on; none ever if there is no folder or no watch.
    pub(super) fn of(folder: Option<&Path>) -> Self {
        let (tell, changed) = mpsc::channel(1);
        let watcher = folder.and_then(|folder| {
            let watching = watch(folder, tell);
            let unwatched = |error| tracing::warn!(%error, "the folder of rules is not watched; only SIGHUP reloads them");
            watching.map_err(unwatched).ok()
        });
        Self { _watcher: watcher, changed }
    }

    /// Waits for a change, and until it is over.
    pub(super) async fn settled(&mut self) {
        if self.changed.recv().await.is_none() {
            return std::future::pending().await;
        }
        for _ in 0..CHANGES {
            match tokio::time::timeout(QUIET, self.changed.recv()).await {
                Ok(Some(())) => {}
                Ok(None) | Err(_) => return,
            }
        }
    }
}

/// Not the folders inside: their files are no rules. A file that is a link to elsewhere changes when the link does, which is how
/// Kubernetes swaps a whole volume.
fn watch(folder: &Path, tell: mpsc::Sender<()>) -> notify::Result<RecommendedWatcher> {
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        // Reading the rules is an access too, and no reason to read them again.
        if event.is_ok_and(|event| !matches!(event.kind, EventKind::Access(_))) {
            let _ = tell.try_send(());
        }
    })?;
    watcher.watch(folder, RecursiveMode::NonRecursive)?;
    Ok(watcher)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const HANG: Duration = Duration::from_secs(30);

    #[tokio::test]
    async fn a_file_that_is_written_changed_or_removed_is_a_change_and_one_that_is_read_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.toml");
        let mut changes = Changes::of(Some(folder.path()));
        for text in ["a", "b"] {
            fs::write(&file, text).unwrap();
            tokio::time::timeout(HANG, changes.settled()).await.unwrap();
        }
        fs::read(&file).unwrap();
        assert!(tokio::time::timeout(QUIET * 3, changes.settled()).await.is_err());
        fs::remove_file(&file).unwrap();
        tokio::time::timeout(HANG, changes.settled()).await.unwrap();
    }

    #[tokio::test]
    async fn without_a_folder_nothing_ever_changes() {
        for folder in [None, Some(Path::new("/nowhere/at/all"))] {
            assert!(tokio::time::timeout(QUIET, Changes::of(folder).settled()).await.is_err());
        }
    }
}
