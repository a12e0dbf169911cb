//! The extensions, one file each. What they advertise is derived from this list.

use crate::iq::Extension;

mod disco;
mod ping;

/// Every extension that answers requests or advertises something.
pub(crate) const ALL: &[&Extension] = &[
    &disco::EXTENSION,
    &ping::EXTENSION,
    // Rooms.
    crate::muc::EXTENSIONS[0],
    crate::muc::EXTENSIONS[1],
    crate::muc::EXTENSIONS[2],
    crate::muc::EXTENSIONS[3],
    crate::muc::EXTENSIONS[4],
];
