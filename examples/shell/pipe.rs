//! A pipe between guests. It belongs to the runtime: a table has processes and no pipes.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use proctable::abi::Errno;

/// How many bytes a pipe holds: pipe(7).
const CAPACITY: usize = 65_536;

#[derive(Default)]
struct Pipe {
    bytes: VecDeque<u8>,
    readers: usize,
    writers: usize,
    /// Those that wait for bytes, for room, or for the end of the other side.
    wakers: Vec<Waker>,
}

impl Pipe {
    fn wait(&mut self, context: &Context<'_>) {
        self.wakers.retain(|waker| !waker.will_wake(context.waker()));
        self.wakers.push(context.waker().clone());
    }
}

type Shared = Arc<Mutex<Pipe>>;

/// A guest that panics leaves the pipe as it should be.
fn lock(pipe: &Shared) -> MutexGuard<'_, Pipe> {
    pipe.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Wakes those that wait, without the lock.
fn changed(mut pipe: MutexGuard<'_, Pipe>) {
    let wakers = std::mem::take(&mut pipe.wakers);
    drop(pipe);
    wakers.into_iter().for_each(Waker::wake);
}

/// The end of a pipe that guests read.
pub struct Reader(Shared);

/// The end of a pipe that guests write.
pub struct Writer(Shared);

/// A new pipe.
pub fn pipe() -> (Reader, Writer) {
    let pipe = Pipe { readers: 1, writers: 1, ..Pipe::default() };
    let pipe = Arc::new(Mutex::new(pipe));
    (Reader(pipe.clone()), Writer(pipe))
}

impl Reader {
    /// At most `len` bytes; none at the end.
    pub async fn read(&self, len: usize) -> Vec<u8> {
        poll_fn(|context| {
            let mut pipe = lock(&self.0);
            let len = len.min(pipe.bytes.len());
            if len == 0 && pipe.writers > 0 {
                pipe.wait(context);
                return Poll::Pending;
            }
            let bytes = pipe.bytes.drain(..len).collect();
            changed(pipe);
            Poll::Ready(bytes)
        })
        .await
    }
}

impl Writer {
    /// Writes what there is room for; the number of bytes.
    ///
    /// # Errors
    ///
    /// EPIPE without readers.
    pub async fn write(&self, bytes: &[u8]) -> Result<usize, Errno> {
        poll_fn(|context| {
            let mut pipe = lock(&self.0);
            if pipe.readers == 0 {
                return Poll::Ready(Err(Errno::EPIPE));
            }
            let room = bytes.len().min(CAPACITY - pipe.bytes.len());
            if room == 0 {
                pipe.wait(context);
                return Poll::Pending;
            }
            pipe.bytes.extend(&bytes[..room]);
            changed(pipe);
            Poll::Ready(Ok(room))
        })
        .await
    }
}

impl Clone for Writer {
    fn clone(&self) -> Writer {
        lock(&self.0).writers += 1;
        Writer(self.0.clone())
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let mut pipe = lock(&self.0);
        pipe.readers -= 1;
        changed(pipe);
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let mut pipe = lock(&self.0);
        pipe.writers -= 1;
        changed(pipe);
    }
}
