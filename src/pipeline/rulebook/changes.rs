//! Changes of a folder, as the system tells them or as they are seen.
//!
//! Owns: the watch on the folder, a look at it every few seconds for what no watch hears, and the wait until it is quiet. A folder
//! that another one took the place of is watched anew. Neighbours: `config` compares looks.

use std::path::{Path, PathBuf};
use std::time::Duration;

use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::mpsc;

use crate::config::{LOOK_INTERVAL, Look};

/// A change counts when the folder has been quiet for so long: editors and deployments write several files.
const QUIET: Duration = Duration::from_millis(200);
/// A folder that is never quiet is read all the same after so many changes.
const CHANGES: usize = 100;

/// A watched folder.
pub(super) struct Changes {
    folder: Option<PathBuf>,
    /// What it looked like when it was read last.
    seen: Look,
    watch: Watch,
}

/// The system's word that something in a folder has changed.
struct Watch {
    /// Held: dropped, it ends the watch.
    _watcher: Option<RecommendedWatcher>,
    /// One place is enough: a change that finds it full is a change that will be seen.
    changed: mpsc::Receiver<()>,
}

impl Changes {
    /// The changes of `folder` from now on; none ever if there is no folder.
    pub(super) async fn of(folder: Option<&Path>) -> Self {
        let folder = folder.map(Path::to_owned);
        let watch = Watch::on(folder.as_deref());
        Self { seen: look(folder.clone()).await, watch, folder }
    }

    /// Waits for a change, and until it is over.
    pub(super) async fn settled(&mut self) {
        if self.folder.is_none() {
            return std::future::pending().await;
        }
        loop {
            tokio::select! {
                () = self.watch.heard() => break,
                // The system does not tell that a link above leads elsewhere now, nor anything of some network file systems.
                () = tokio::time::sleep(LOOK_INTERVAL) => {
                    if look(self.folder.clone()).await != self.seen {
                        break;
                    }
                }
            }
        }
        self.watch.quiet().await;
        let found = look(self.folder.clone()).await;
        if !found.is_of_same(&self.seen) {
            self.watch = Watch::on(self.folder.as_deref());
        }
        self.seen = found;
    }
}

impl Watch {
    /// Deaf if there is no folder, or the system does not watch it.
    fn on(folder: Option<&Path>) -> Self {
        let (tell, changed) = mpsc::channel(1);
        let watcher = folder.and_then(|folder| {
            let watching = watch(folder, tell);
            let unwatched =
                |error| tracing::warn!(%error, "the folder of rules is not watched; it is looked at every few seconds");
            watching.map_err(unwatched).ok()
        });
        Self { _watcher: watcher, changed }
    }

    async fn heard(&mut self) {
        if self.changed.recv().await.is_none() {
            std::future::pending().await
        }
    }

    async fn quiet(&mut self) {
        for _ in 0..CHANGES {
            match tokio::time::timeout(QUIET, self.changed.recv()).await {
                Ok(Some(())) => {}
                Ok(None) | Err(_) => return,
            }
        }
    }
}

async fn look(folder: Option<PathBuf>) -> Look {
    let looking = move || folder.map_or_else(|| Look::at_files([]), |folder| Look::at_folder(&folder));
    tokio::task::spawn_blocking(looking).await.unwrap_or_else(|_| Look::at_files([]))
}

/// Not the folders inside: their files are no rules.
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
    use std::os::unix::fs::symlink;

    use super::*;

    const HANG: Duration = Duration::from_secs(30);

    #[tokio::test]
    async fn a_file_that_is_written_changed_or_removed_is_a_change_and_one_that_is_read_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.toml");
        let mut changes = Changes::of(Some(folder.path())).await;
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
    async fn a_folder_that_another_one_took_the_place_of_is_a_change_and_so_is_what_comes_after() {
        let dir = tempfile::tempdir().unwrap();
        let folder = |name: &str| dir.path().join(name);
        for name in ["rules", "new"] {
            fs::create_dir(folder(name)).unwrap();
        }
        let mut changes = Changes::of(Some(&folder("rules"))).await;
        fs::rename(folder("rules"), folder("old")).unwrap();
        fs::rename(folder("new"), folder("rules")).unwrap();
        tokio::time::timeout(HANG, changes.settled()).await.unwrap();
        fs::write(folder("rules").join("a.toml"), "a").unwrap();
        tokio::time::timeout(HANG, changes.settled()).await.unwrap();
        fs::write(folder("old").join("a.toml"), "a").unwrap();
        assert!(tokio::time::timeout(QUIET * 3, changes.settled()).await.is_err(), "the old one is nobody's any more");
    }

    #[tokio::test]
    async fn a_link_above_the_folder_that_leads_elsewhere_is_a_change() {
        let dir = tempfile::tempdir().unwrap();
        for release in ["one", "two"] {
            fs::create_dir_all(dir.path().join(release).join("rules")).unwrap();
        }
        let (current, next) = (dir.path().join("current"), dir.path().join("next"));
        symlink("one", &current).unwrap();
        let mut changes = Changes::of(Some(&current.join("rules"))).await;
        symlink("two", &next).unwrap();
        fs::rename(&next, &current).unwrap();
        tokio::time::timeout(HANG, changes.settled()).await.unwrap();
    }

    #[tokio::test]
    async fn a_folder_that_is_not_there_yet_is_a_change_once_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("rules");
        let mut changes = Changes::of(Some(&folder)).await;
        fs::create_dir(&folder).unwrap();
        tokio::time::timeout(HANG, changes.settled()).await.unwrap();
    }

    #[tokio::test]
    async fn without_a_folder_nothing_ever_changes() {
        assert!(tokio::time::timeout(QUIET, Changes::of(None).await.settled()).await.is_err());
    }
}
