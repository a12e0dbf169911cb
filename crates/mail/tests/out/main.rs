//! Mails that go out, to a mail server of the test, by a pretended clock and pretended DNS.

mod conversation;
mod dane;
mod delivery;
mod returned;
mod server;
mod world;
