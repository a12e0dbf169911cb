//! Inviting, removing, keeping out, letting back in.

use super::{Done, user};
use crate::{failure::Failure, harmless, output::Output, session::Session};

/// `koine-chat invite|kick|ban|unban`
#[derive(clap::Args)]
pub struct Args {
    /// Id, address or name.
    pub room: String,
    /// @name:server
    pub user: String,
    /// Why.
    #[arg(long)]
    pub reason: Option<String>,
}

/// Which of them.
#[derive(Clone, Copy)]
pub enum What {
    /// Ask somebody in. They get the keys of what was said before, where the room's rules let them see it.
    Invite,
    /// Put somebody out.
    Kick,
    /// Put somebody out for good.
    Ban,
    /// Undo a ban.
    Unban,
}

/// Does it.
pub async fn run(what: What, args: &Args, session: &Session, out: &Output) -> Result<(), Failure> {
    session.needs_server()?;
    let who = user(&args.user)?;
    session.catch_up().await?;
    let room = session.room(&args.room).await?;
    let reason = args.reason.as_deref();
    let name = match what {
        What::Invite => {
            room.invite_user_by_id(&who).await?;
            "invite"
        }
        What::Kick => {
            room.kick_user(&who, reason).await?;
            "kick"
        }
        What::Ban => {
            room.ban_user(&who, reason).await?;
            "ban"
        }
        What::Unban => {
            room.unban_user(&who, reason).await?;
            "unban"
        }
    };
    session.catch_up().await?;
    out.say(&Done::new(name).room(room.room_id()), || format!("{name}: {}", harmless::line(who.as_str())))
}
