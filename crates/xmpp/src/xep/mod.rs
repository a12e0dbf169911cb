//! The extensions, one file each. What they advertise is derived from this list.

use crate::iq::Extension;

mod disco;
mod ping;

/// Every extension that answers requests or advertises something.
pub(crate) const ALL: &[&Extension] = &[&disco::EXTENSION, &ping::EXTENSION];
