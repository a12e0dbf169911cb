//! What Matrix clients call: the client-server API.
