//! Places in time, as clients carry them: the tokens of `/sync` and of pages of history.
//!
//! `s<position>_<fleeting>_<boot>_<identity>`, with `_<position>` of the last message to the device behind it if some
//! were left over, is what `/sync` gives out: a log position, a mark of things that are not
//! in the log and live as long as the process (typing), and which process that was. `t<order>_<identity>` is a place
//! between two events of a room. An event stands at the log position that told of it, so that each is understood
//! where the other is expected. `p<number>_<connection>_<position>_<identity>` is what a connection of sliding sync gives
//! out, and a place as well. The identity is that of the data folder: a token of another server, or of a folder
//! that was set up anew, would name a place that means nothing here. To clients all this is opaque.

use std::fmt::Write as _;

use http::StatusCode;
use koine_room::Order;
use koine_store::Position;

use crate::{Error, Result};

/// Longest token looked at.
const TOKEN_BYTES_MAX: usize = 128;

/// What `/sync` gives out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SyncToken {
    /// Everything up to here is known to the client.
    pub position: Position,
    /// Things that are not in the log are known up to this mark.
    pub fleeting: u64,
    /// Messages to the client's device are known up to here: up to `position`, unless some were left over.
    pub to_device: Position,
}

impl SyncToken {
    /// The same place in the timeline of any room.
    pub fn order(self) -> Order {
        Order::try_from(self.position.0).unwrap_or(Order::MAX)
    }
}

/// Reads and writes tokens.
#[derive(Clone, Debug)]
pub struct Tokens {
    identity: String,
    boot: String,
}

impl Tokens {
    /// `identity` is that of the store, `boot` any number that differs each time the process starts.
    pub fn new(identity: [u8; 8], boot: u32) -> Self {
        let mut hex = String::with_capacity(16);
        for byte in identity {
            write!(hex, "{byte:02x}").expect("writing into a string does not fail");
        }
        Self { identity: hex, boot: format!("{boot:x}") }
    }

    /// The place that the log and the mark name.
    pub fn now(&self, position: Position, fleeting: u64) -> SyncToken {
        SyncToken { position, fleeting, to_device: position }
    }

    /// As clients get it.
    pub fn print_sync(&self, token: SyncToken) -> String {
        let mut text = format!("s{}_{}_{}_{}", token.position.0, token.fleeting, self.boot, self.identity);
        if token.to_device != token.position {
            write!(text, "_{}", token.to_device.0).expect("writing into a string does not fail");
        }
        text
    }

    /// A position of sliding sync: the number of an answer and its connection, and how far the log was read for it.
    pub(crate) fn print_position(&self, (number, connection): (u64, u32), now: SyncToken) -> String {
        format!("p{number}_{connection:x}_{}_{}", now.position.0, self.identity)
    }

    /// A place in a room, as clients get it.
    pub fn print_place(&self, place: Order) -> String {
        format!("t{place}_{}", self.identity)
    }

    /// A token where one of `/sync` is expected.
    ///
    /// # Errors
    /// `M_INVALID_PARAM` for what is no token, `M_UNKNOWN_POS` for one of another server.
    pub fn parse_sync(&self, text: &str) -> Result<SyncToken> {
        match self.parse(text)? {
            Token::Sync(token) => Ok(token),
            Token::Place(order) => match u64::try_from(order) {
                Ok(position) => Ok(self.now(Position(position), 0)),
                Err(_) => Err(unknown()),
            },
        }
    }

    /// A token where a place in a room is expected.
    ///
    /// # Errors
    /// As [`parse_sync`](Self::parse_sync).
    pub fn parse_place(&self, text: &str) -> Result<Order> {
        Ok(match self.parse(text)? {
            Token::Sync(token) => token.order(),
            Token::Place(order) => order,
        })
    }

    fn parse(&self, text: &str) -> Result<Token> {
        let invalid = || Error::invalid_param("Not a token that this server gives out");
        if text.len() > TOKEN_BYTES_MAX {
            return Err(invalid());
        }
        let (kind, rest) = text.split_at_checked(1).ok_or_else(invalid)?;
        let mut parts = rest.split('_');
        let mut part = || parts.next().filter(|part| !part.is_empty()).ok_or_else(invalid);
        let (token, identity) = match kind {
            "s" => {
                let position = Position(part()?.parse().map_err(|_| invalid())?);
                let fleeting = part()?.parse().map_err(|_| invalid())?;
                let boot = part()?;
                // The marks of a process that ended say nothing: begin with the present ones.
                let fleeting = if boot == self.boot { fleeting } else { 0 };
                (Token::Sync(self.now(position, fleeting)), part()?)
            }
            "t" => (Token::Place(part()?.parse().map_err(|_| invalid())?), part()?),
            "p" => {
                part()?.parse::<u64>().map_err(|_| invalid())?;
                u32::from_str_radix(part()?, 16).map_err(|_| invalid())?;
                let position: u64 = part()?.parse().map_err(|_| invalid())?;
                (Token::Place(Order::try_from(position).map_err(|_| invalid())?), part()?)
            }
            _ => return Err(invalid()),
        };
        let token = match (token, parts.next()) {
            (token, None) => token,
            (Token::Sync(token), Some(to_device)) => {
                let to_device = Position(to_device.parse().map_err(|_| invalid())?);
                Token::Sync(SyncToken { to_device, ..token })
            }
            (Token::Place(_), Some(_)) => return Err(invalid()),
        };
        if parts.next().is_some() {
            return Err(invalid());
        }
        if identity != self.identity {
            return Err(unknown());
        }
        Ok(token)
    }
}

enum Token {
    Sync(SyncToken),
    Place(Order),
}

fn unknown() -> Error {
    Error::new(StatusCode::BAD_REQUEST, "M_UNKNOWN_POS", "This token comes from another server; start anew without one")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens() -> Tokens {
        Tokens::new([1, 2, 3, 4, 5, 6, 7, 255], 0xbeef)
    }

    #[test]
    fn each_token_is_understood_where_the_other_is_expected() {
        let tokens = tokens();
        let sync = tokens.now(Position(12), 3);
        assert_eq!(tokens.parse_sync(&tokens.print_sync(sync)).expect("token"), sync);
        assert_eq!(tokens.parse_place(&tokens.print_sync(sync)).expect("token"), 12);
        assert_eq!(tokens.parse_sync(&tokens.print_place(12)).expect("token").position, Position(12));
        assert_eq!(tokens.parse_place(&tokens.print_place(-5)).expect("token"), -5);
        assert_eq!(tokens.parse_place(&tokens.print_position((3, 0xbeef), sync)).expect("token"), 12);
        let left_over = SyncToken { to_device: Position(7), ..sync };
        assert_eq!(tokens.parse_sync(&tokens.print_sync(left_over)).expect("token"), left_over);
    }

    #[test]
    fn a_token_of_another_server_is_told_from_one_that_is_none() {
        let (ours, theirs) = (tokens(), Tokens::new([9; 8], 1));
        let foreign = theirs.print_place(3);
        assert_eq!(ours.parse_place(&foreign).expect_err("refused").errcode(), "M_UNKNOWN_POS");
        for bad in ["", "s", "t", "s1", "t1", "s1_2_3", "tx_01020304050607ff", "s-1_0_beef_01020304050607ff", "ä1_2"] {
            assert_eq!(ours.parse_sync(bad).expect_err("refused").errcode(), "M_INVALID_PARAM", "{bad}");
        }
        let long = format!("t1_{}", "0".repeat(500));
        assert_eq!(ours.parse_place(&long).expect_err("refused").errcode(), "M_INVALID_PARAM");
    }

    #[test]
    fn marks_of_an_earlier_process_are_forgotten() {
        let before = Tokens::new([1; 8], 1).print_sync(tokens().now(Position(5), 77));
        let after = Tokens::new([1; 8], 2).parse_sync(&before).expect("token");
        assert_eq!(after, tokens().now(Position(5), 0));
    }
}
