//! The ring buffer: what explains a recording, and what `--wait` waits for.

use super::Kernel;
use seccast_common::{Made, Sighting, Text, event};
use std::os::fd::{AsRawFd as _, BorrowedFd};

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
            let fits = |size| bytes.len() >= size;
            match kind {
                event::SIGHTING if fits(size_of::<Sighting>()) => {
                    return Some(Event::Sighting(value(bytes)));
                }
                event::EXEC if fits(size_of::<Text>()) => return Some(Event::Exec(value(bytes))),
                event::MKDIR if fits(size_of::<Made>()) => {
                    return Some(Event::Mkdir(Box::new(value(bytes))));
                }
                _ => {}
            }
        }
    }
}

/// A contract value at the front of `bytes`, which must be long enough.
pub(super) fn value<T: Copy>(bytes: &[u8]) -> T {
    assert!(
        bytes.len() >= size_of::<T>(),
        "a message of the ring is shorter than its kind"
    );
    // SAFETY: long enough, and any bits are a value of the contract's types (integers and arrays of them).
    unsafe { bytes.as_ptr().cast::<T>().read_unaligned() }
}
