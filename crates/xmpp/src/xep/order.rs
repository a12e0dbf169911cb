//! XEP-0413: Order-By: in which order items and archives are given.

use koine_stanza::{Condition, Element, StanzaError};

use crate::iq::{At, Extension};

/// The protocol.
const ORDER: &str = "urn:xmpp:order-by:1";

/// Part of other requests.
pub(crate) const EXTENSION: Extension =
    Extension { features: &[(At::Host, ORDER), (At::Account, ORDER), (At::Room, ORDER)], handlers: &[] };

/// An order that is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Order {
    /// By when something was first there, not by when it last changed. Messages are never older than their archive tells.
    pub(crate) by_creation: bool,
    /// The newest first.
    pub(crate) descending: bool,
}

impl Order {
    /// The order that a request names.
    pub(crate) fn within(request: &Element) -> Result<Option<Self>, StanzaError> {
        let mut orders = request.children().filter(|child| child.is("order", ORDER));
        let Some(order) = orders.next() else { return Ok(None) };
        let descending = matches!(order.attr("desc"), Some("true" | "1"));
        match order.attr("by") {
            Some("creation") => Ok(Some(Self { by_creation: true, descending })),
            Some("modification") => Ok(Some(Self { by_creation: false, descending })),
            // [XEP-0413 §business]
            _ => Err(StanzaError::new(Condition::FeatureNotImplemented, "this order is not known here")),
        }
    }
}
