//! The extensions, one file each. What they advertise is derived from this list.

use crate::iq::Extension;

mod about;
pub(crate) mod archive;
pub(crate) mod avatar;
mod blocking;
pub(crate) mod bookmarks;
pub(crate) mod caps;
mod carbons;
mod commands;
pub(crate) mod disco;
pub(crate) mod external;
pub(crate) mod pep;
mod ping;
mod private_xml;
pub(crate) mod push;
mod register;
mod session;
mod upload;
mod vcard;

/// Every extension that answers requests or advertises something.
pub(crate) const ALL: &[&Extension] = &[
    &disco::EXTENSION,
    &ping::EXTENSION,
    &about::EXTENSION,
    &archive::EXTENSION,
    &avatar::EXTENSION,
    &blocking::EXTENSION,
    &bookmarks::EXTENSION,
    &caps::EXTENSION,
    &carbons::EXTENSION,
    &commands::EXTENSION,
    &external::EXTENSION,
    &pep::EXTENSION,
    &pep::OWNER,
    &private_xml::EXTENSION,
    &push::EXTENSION,
    &register::EXTENSION,
    &session::EXTENSION,
    &vcard::EXTENSION,
    &upload::EXTENSION,
    &crate::im::ROSTER,
    // Rooms.
    &crate::muc::INFO,
    &crate::muc::ADMIN,
    &crate::muc::OWNER,
    &crate::muc::REGISTER,
    &crate::muc::MODERATE,
    &crate::muc::ARCHIVE,
];
