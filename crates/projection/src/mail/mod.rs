//! Mail: addresses, names of messages, and what a mail says as an event. Pure, as all of this crate.
//!
//! | file | what |
//! |---|---|
//! | `address.rs` | addresses in their one form |
//! | `id.rs` | events and Message-IDs |
//! | `inward.rs` | a mail as events of a room |
//! | `outward.rs` | events of a room as a mail |
//! | `html.rs` | HTML of mails as what Matrix allows |
//! | `quote.rs` | what of a text is said, and what is quoted |

mod address;
pub mod html;
pub mod id;
pub mod inward;
pub mod outward;
pub mod quote;

pub use address::Address;
pub(crate) use html::without_folds;

/// Where an event keeps what came by mail.
///
/// | key | value |
/// |---|---|
/// | `message_id` | the Message-ID, in its brackets |
/// | `in_reply_to`, `references` | lists of the same |
/// | `subject`, `date` | as in the mail; the date in milliseconds |
/// | `from`, `name` | the address of the author, and what they call themselves |
/// | `to`, `cc` | lists of addresses |
/// | `verdict` | `spf`, `dkim`, `dmarc`, `arc` in the words of RFC 8601; `verified`: the author's domain stands by it; `trusted`: a server in front of this one has looked |
/// | `headers` | those of calendars, lists and programs |
/// | `source` | where the whole mail is |
/// | `part` | for a file of a mail, its number among the files |
pub const KEEPSAKE: &str = "koine.mail";
