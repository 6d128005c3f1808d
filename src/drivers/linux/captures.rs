//! Many captures at once: in one thread, and as futures.

use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;

use rustix::event::epoll;

use super::capture::Capture;
use super::output::{Output, RunError};
use super::pipeline::Pipeline;
use super::procfs::Once;
use super::watch::{Watch, unwatch, watch};
use crate::sync::Parker;

/// Runs many pipelines in the calling thread, at most `at_once` of them at a time, and returns what
/// [`Pipeline::output`] returns for each, in their order. It starts no thread for any of them.
///
/// A pipeline that runs takes up to nine descriptors, and one more for each command beyond the
/// first; in a tree of the caller ([`Pipeline::within`]) three fewer. RLIMIT_NOFILE limits
/// `at_once` so.
///
/// Without a cgroup the end of each tree costs four looks at every process of the system: use one
/// tree for all of them then.
///
/// ```
/// use proctable::drivers::linux::{Command, output_many};
///
/// let commands = (0..20).map(|number| Command::new("echo").arg(number.to_string()));
/// let outputs = output_many(commands, 10);
/// assert_eq!(outputs[17].as_ref().map(|output| &output.stdout[..]).ok(), Some(&b"17\n"[..]));
/// ```
pub fn output_many<P: Into<Pipeline>>(
    pipelines: impl IntoIterator<Item = P>,
    at_once: usize,
) -> Vec<Result<Output, RunError>> {
    let mut pipelines = pipelines.into_iter().enumerate();
    let mut results = Vec::new();
    let poller = match epoll::create(epoll::CreateFlags::CLOEXEC) {
        Ok(poller) => poller,
        Err(error) => return pipelines.map(|_| Err(RunError::Pipe(error.into()))).collect(),
    };
    let mut running: HashMap<usize, Capture> = HashMap::new();
    let mut events = Vec::with_capacity(64);
    loop {
        while running.len() < at_once.max(1) {
            let Some((nth, pipeline)) = pipelines.next() else { break };
            results.push(None);
            match start(pipeline.into(), &poller, nth) {
                Ok(capture) => drop(running.insert(nth, capture)),
                Err(error) => results[nth] = Some(Err(error)),
            }
        }
        if running.is_empty() {
            break;
        }
        events.clear();
        // it fails with EINTR only: the descriptor is valid
        let _ = epoll::wait(&poller, rustix::buffer::spare_capacity(&mut events), None);
        for event in &events {
            let nth = event.data.u64() as usize;
            let Some(capture) = running.get_mut(&nth) else { continue };
            let result = capture.advance().transpose();
            if result.is_some() {
                let _ = epoll::delete(&poller, &*capture);
                running.remove(&nth);
                results[nth] = result;
            }
        }
    }
    // each pipeline that was started has ended, or failed to start
    let ended = || Err(RunError::Pipe(io::Error::from_raw_os_error(libc::EINVAL)));
    results.into_iter().map(|result| result.unwrap_or_else(ended)).collect()
}

fn start(pipeline: Pipeline, poller: &OwnedFd, nth: usize) -> Result<Capture, RunError> {
    let capture = pipeline.start()?;
    let data = epoll::EventData::new_u64(nth as u64);
    epoll::add(poller, &capture, data, epoll::EventFlags::IN)
        .map_err(|error| RunError::Pipe(error.into()))?;
    Ok(capture)
}

/// A capture whose descriptor the watcher's thread watches until it is readable.
struct Readable {
    poller: Arc<OwnedFd>,
    parker: Arc<Parker>,
    is_watched: AtomicBool,
}

impl Watch for Readable {
    fn pidfd(&self) -> &OwnedFd {
        &self.poller
    }

    fn ended(&self) -> bool {
        self.is_watched.store(false, Ordering::SeqCst);
        self.parker.unpark();
        true
    }

    fn look(&self, _: &Once) {}
}

/// The watcher's number of a capture, as long as the future lives.
#[derive(Default)]
struct Watched(Option<u64>);

impl Watched {
    fn set(&mut self, number: u64) {
        self.0 = Some(number);
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        if let Some(number) = self.0 {
            unwatch(number);
        }
    }
}

impl Capture {
    /// [`Capture::wait`] as a future, for any executor. The thread of the library that waits for
    /// all children wakes it. Each poll reads and writes as [`Capture::advance`] does. The drop of
    /// a future that is not ready kills the tree.
    ///
    /// # Errors
    ///
    /// As [`Capture::wait`]; EAGAIN if that thread cannot be started.
    pub fn wait_async(mut self) -> impl Future<Output = Result<Output, RunError>> + Send {
        let parker = Parker::new();
        let readable = Arc::new(Readable {
            poller: self.poller(),
            parker: parker.clone(),
            is_watched: AtomicBool::new(false),
        });
        let mut watched = Watched::default();
        poll_fn(move |context| {
            loop {
                // registered first: no event between the look and the return is missed
                let is_told = parker.poll(context.waker());
                match self.advance() {
                    Ok(None) => {}
                    Ok(Some(output)) => return Poll::Ready(Ok(output)),
                    Err(error) => return Poll::Ready(Err(error)),
                }
                if !readable.is_watched.swap(true, Ordering::SeqCst) {
                    match watch(readable.clone()) {
                        Ok(number) => watched.set(number),
                        Err(error) => return Poll::Ready(Err(RunError::Pipe(error))),
                    }
                }
                if !is_told {
                    return Poll::Pending;
                }
            }
        })
    }
}
