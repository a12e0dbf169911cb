//! The extensions, one file each. What they advertise is derived from this list.

use crate::iq::Extension;

mod about;
mod archive;
pub(crate) mod avatar;
mod blocking;
mod carbons;
mod disco;
pub(crate) mod pep;
mod ping;
mod private_xml;
pub(crate) mod push;
mod register;
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
    &carbons::EXTENSION,
    &pep::EXTENSION,
    &pep::OWNER,
    &private_xml::EXTENSION,
    &push::EXTENSION,
    &register::EXTENSION,
    &vcard::EXTENSION,
    &upload::EXTENSION,
    &crate::im::ROSTER,
    // Rooms.
    crate::muc::EXTENSIONS[0],
    crate::muc::EXTENSIONS[1],
    crate::muc::EXTENSIONS[2],
    crate::muc::EXTENSIONS[3],
    crate::muc::EXTENSIONS[4],
];
