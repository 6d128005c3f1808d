//! A thread that watches all processes of the tree, for `--events`.

use std::io;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, TryRecvError, bounded, never, unbounded};
use proctable::drivers::linux::{Mechanism, MemberChange, MemberWatch, ProcessTree};

/// The time between two scans of a cgroup: one file.
const CGROUP_SCAN: Duration = Duration::from_millis(10);
/// The time between two scans of /proc: every process of the system.
const PROC_SCAN: Duration = Duration::from_millis(100);

/// The starts and ends that the thread has seen.
pub(super) struct Members {
    pub changes: Receiver<MemberChange>,
    /// The thread ends after this is dropped.
    stop: Option<Sender<()>>,
}

impl Members {
    /// Watches nothing.
    pub fn none() -> Members {
        Members { changes: never(), stop: None }
    }

    pub fn watch(tree: &ProcessTree) -> io::Result<Members> {
        let pause = match tree.mechanism() {
            Mechanism::Cgroup(_) => CGROUP_SCAN,
            Mechanism::Scan | Mechanism::Children => PROC_SCAN,
        };
        let watch = tree.watch_members();
        let (sender, changes) = unbounded();
        let (stop, stopped) = bounded(0);
        let run = move || watch_until(&stopped, watch, pause, &sender);
        std::thread::Builder::new().name("members".into()).spawn(run)?;
        Ok(Members { changes, stop: Some(stop) })
    }

    /// Ends the thread after a last scan. Returns what it had seen until then.
    pub fn finish(&mut self) -> Vec<MemberChange> {
        let changes = core::mem::replace(&mut self.changes, never());
        match self.stop.take() {
            Some(stop) => {
                drop(stop);
                changes.iter().collect()
            }
            // without a thread the channel never closes
            None => Vec::new(),
        }
    }
}

fn watch_until(
    stopped: &Receiver<()>,
    mut watch: MemberWatch,
    pause: Duration,
    sender: &Sender<MemberChange>,
) {
    loop {
        let is_last = stopped.try_recv() == Err(TryRecvError::Disconnected);
        let changes = watch.changes(if is_last { Duration::ZERO } else { pause });
        // an error of one scan, as at the removal of a cgroup: the next one finds what is left
        for change in changes.unwrap_or_default() {
            if sender.send(change).is_err() {
                return;
            }
        }
        if is_last {
            return;
        }
    }
}
