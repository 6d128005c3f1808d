//! The events of the table, for a loop that waits for other things too.

use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

use crossbeam_channel::{Receiver, Sender, bounded};
use proctable::table::{EventReceiver, TableEvent};

/// The receiver, and a channel with a message when there may be an event.
pub(super) struct Events {
    receiver: EventReceiver,
    waker: Waker,
    pub wakes: Receiver<()>,
}

struct WakesLoop(Sender<()>);

impl Wake for WakesLoop {
    fn wake(self: Arc<Self>) {
        // a message that the loop has not taken yet wakes it as well
        let _ = self.0.try_send(());
    }
}

impl Events {
    pub fn new(receiver: EventReceiver) -> Events {
        let (sender, wakes) = bounded(1);
        Events { receiver, waker: Arc::new(WakesLoop(sender)).into(), wakes }
    }

    /// The next event; if there is none, the next one wakes the loop.
    pub fn take(&mut self) -> Option<TableEvent> {
        match self.receiver.poll_recv(&mut Context::from_waker(&self.waker)) {
            Poll::Ready(event) => event,
            Poll::Pending => None,
        }
    }
}
