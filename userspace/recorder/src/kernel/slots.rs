//! The maps whose entries belong to slots: one list, from which a slot is read and emptied.

use super::{KernelError, SlotId, load::take, maps::Value};
use aya::{
    Ebpf, Pod,
    maps::{HashMap, MapData},
};
use seccast_common::{
    ArgumentCall, ArgumentKey, Counted, DeniedArgs, DeniedKey, DenierKey, Ended, Entered, Process,
    UnknownKey,
};

/// Declares the maps: for each its field, its types, its name in the object, and where an entry says whose it is.
macro_rules! slot_maps {
    ($($(#[$doc:meta])* $field:ident: $key:ty, $value:ty = $name:literal, $of:expr;)*) => {
        /// Every map whose entries belong to slots.
        pub(super) struct SlotMaps {
            $($(#[$doc])* pub(super) $field: HashMap<MapData, $key, $value>,)*
        }

        impl SlotMaps {
            /// Takes them out of the object.
            ///
            /// # Errors
            /// When the object lacks one.
            pub(super) fn take(ebpf: &mut Ebpf) -> Result<Self, KernelError> {
                Ok(Self { $($field: take(ebpf, $name)?,)* })
            }

            $($(#[$doc])*
            pub(super) fn $field(&self, slot: SlotId) -> impl Iterator<Item = ($key, $value)> {
                of_slot(&self.$field, slot, $of)
            })*

            /// Removes all that is a slot's. One that is gone already, or comes while it runs, is nobody's loss: the slot
            /// records nothing.
            pub(super) fn clear(&mut self, slot: SlotId) {
                $({
                    let keys: Vec<_> = self.$field(slot).map(|(key, _)| key).collect();
                    for key in keys {
                        let _ = self.$field.remove(&key);
                    }
                })*
            }
        }
    };
}

slot_maps! {
    /// Processes, by thread group id: one that lives on must not have its phase in the next recording of the slot.
    tasks: u32, Value<Process> = "TASKS", |_, process| process.0.slot;
    /// Lines that have executed nothing yet.
    entered: u64, Value<Entered> = "ENTERED", |_, line| line.0.slot;
    /// Lines that ended so.
    ended: u64, Value<Ended> = "ENDED", |_, line| line.0.slot;
    /// Numbers out of range.
    unknown: Value<UnknownKey>, Value<Counted> = "UNKNOWN", |key, _| key.0.slot;
    /// Denied calls.
    denied: Value<DeniedKey>, Value<Counted> = "DENIED", |key, _| key.0.slot;
    /// The processes that were denied calls.
    deniers: Value<DenierKey>, Value<Counted> = "DENIERS", |key, _| key.0.denied.slot;
    /// Arguments of denied calls, each with the `ktime` of the first call with them.
    denied_args: Value<DeniedArgs>, u64 = "DENIED_ARGS", |key, _| key.0.denied.slot;
    /// Values of recorded arguments.
    args: Value<ArgumentKey>, u32 = "ARGS", |key, _| key.0.call.slot;
    /// How many values a call has.
    arg_counts: Value<ArgumentCall>, u32 = "ARG_COUNTS", |key, _| key.0.slot;
}

/// The entries of a slot; `of`: where an entry says whose it is.
pub(super) fn of_slot<K: Pod, V: Pod>(
    map: &HashMap<MapData, K, V>,
    slot: SlotId,
    of: impl Fn(&K, &V) -> u32,
) -> impl Iterator<Item = (K, V)> {
    map.iter()
        .flatten()
        .filter(move |(key, value)| of(key, value) == slot.0)
}
