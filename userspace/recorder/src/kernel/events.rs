//! The ring buffer: what explains a recording, and what `--wait` waits for.

use super::Kernel;
use seccast_common::{Made, Sighting, Text, event};
use std::os::fd::{AsRawFd as _, BorrowedFd};
use zerocopy::FromBytes;

/// One message of the ring buffer.
#[derive(Clone, Debug)]
pub enum Event {
    /// A number's first call.
    Sighting(Sighting),
    /// A program was executed.
    Exec(Text),
    /// A cgroup was made.
    Mkdir(Box<Made>),
}

impl Kernel {
    /// Readable when there are events.
    #[must_use]
    pub fn events_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the ring buffer lives as long as `self`.
        unsafe { BorrowedFd::borrow_raw(self.events.as_raw_fd()) }
    }

    /// The next event.
    pub fn next_event(&mut self) -> Option<Event> {
        #[cfg(feature = "log")]
        if let Some(logger) = &mut self.logger {
            logger.flush();
        }
        loop {
            let item = self.events.next()?;
            let bytes: &[u8] = &item;
            let kind = bytes
                .get(..4)
                .and_then(|four| four.try_into().ok())
                .map_or(0, u32::from_ne_bytes);
            let event = match kind {
                event::SIGHTING => value(bytes).map(Event::Sighting),
                event::EXEC => value(bytes).map(Event::Exec),
                event::MKDIR => value(bytes).map(|made| Event::Mkdir(Box::new(made))),
                _ => None,
            };
            if event.is_some() {
                return event;
            }
        }
    }
}

/// A contract value at the front of `bytes`; `None` if they are too few.
pub(super) fn value<T: FromBytes>(bytes: &[u8]) -> Option<T> {
    let (value, _) = T::read_from_prefix(bytes).ok()?;
    Some(value)
}
