//! The extensions, one file each. What they advertise is derived from this list.

use crate::iq::Extension;

mod about;
mod access;
pub(crate) mod archive;
pub(crate) mod avatar;
mod bits;
mod blocking;
pub(crate) mod bookmarks;
mod bytestreams;
pub(crate) mod caps;
mod carbons;
pub(crate) mod certificates;
mod commands;
pub(crate) mod contact;
pub(crate) mod disco;
pub(crate) mod external;
pub(crate) mod gateway;
pub(crate) mod invite;
pub(crate) mod multicast;
pub(crate) mod notices;
mod notification;
pub(crate) mod order;
pub(crate) mod pep;
mod ping;
mod private_xml;
pub(crate) mod push;
pub(crate) mod receipts;
mod register;
mod search;
mod session;
pub(crate) mod upload;
mod vcard;
#[cfg(test)]
mod walk;

/// Every extension that answers requests or advertises something.
pub(crate) const ALL: &[&Extension] = &[
    &disco::EXTENSION,
    &ping::EXTENSION,
    &about::EXTENSION,
    &access::EXTENSION,
    &archive::EXTENSION,
    &avatar::EXTENSION,
    &bits::EXTENSION,
    &blocking::EXTENSION,
    &bookmarks::EXTENSION,
    &bytestreams::EXTENSION,
    &caps::EXTENSION,
    &carbons::EXTENSION,
    &certificates::EXTENSION,
    &commands::EXTENSION,
    &external::EXTENSION,
    &gateway::EXTENSION,
    &multicast::EXTENSION,
    &order::EXTENSION,
    &pep::EXTENSION,
    &pep::OWNER,
    &pep::SPACES,
    &private_xml::EXTENSION,
    &push::EXTENSION,
    &receipts::EXTENSION,
    &register::EXTENSION,
    &search::EXTENSION,
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
    &crate::muc::ACTIVITY,
    &crate::muc::HATS,
    &crate::muc::MENTIONED,
    &crate::muc::PICTURE,
    &crate::muc::SEARCH,
    &crate::muc::VERSIONS,
];
