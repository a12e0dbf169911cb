//! Commands typed into the composer: `/join #tea:server`.

use super::{
    forms,
    state::{App, Changes, Effect, Popup},
};

/// What they are, for the help.
pub const COMMANDS: &[(&str, &str)] = &[
    ("/join ADDRESS", "join a room"),
    ("/create NAME", "make an encrypted room"),
    ("/invite @USER:SERVER", "invite somebody here"),
    ("/leave", "leave this room"),
    ("/me TEXT", "say what you do"),
    ("/name TEXT, /topic TEXT", "change the room's name or topic"),
    ("/send FILE", "send a file"),
    ("/verify [@USER:SERVER]", "compare emoji with your other device, or with somebody"),
    ("/recover", "give the recovery key"),
    ("/accounts", "switch accounts"),
];

/// Reads a line; an error is what to tell whoever typed it.
pub fn read(app: &mut App, text: &str) -> Result<Vec<Effect>, String> {
    let (command, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    let rest = rest.trim().to_owned();
    let room = app.room.clone().ok_or_else(|| "Open a room first.".to_owned())?;
    let wanted = |what: &str| match rest.is_empty() {
        true => Err(format!("{command} wants {what}.")),
        false => Ok(rest.clone()),
    };
    let settings =
        |name, topic| Effect::Settings { room: room.clone(), changes: Changes { name, topic, ..Changes::default() } };
    Ok(match command {
        "/join" | "/j" => vec![Effect::Join { room: wanted("the address of a room")? }],
        "/create" => vec![Effect::Create {
            name: wanted("a name")?,
            topic: String::new(),
            plain: false,
            public: false,
            invite: String::new(),
        }],
        "/invite" => vec![Effect::Invite { room: room.clone(), user: wanted("a user id")? }],
        "/leave" | "/part" => {
            let text = "Leave this room?".to_owned();
            app.popup = Some(Popup::Question { text, yes: Effect::Leave { room } });
            Vec::new()
        }
        "/me" => vec![Effect::Send { text: wanted("something to say")?, emote: true, reply: None, edit: None }],
        "/name" => vec![settings(Some(wanted("a name")?), None)],
        "/topic" => vec![settings(None, Some(rest.clone()))],
        "/send" => vec![Effect::SendFile { path: wanted("a file")? }],
        "/verify" => vec![Effect::Verify { user: (!rest.is_empty()).then_some(rest.clone()) }],
        "/recover" => {
            app.popup = Some(forms::trust_this_device());
            Vec::new()
        }
        "/accounts" => vec![Effect::Accounts],
        "/help" => {
            app.popup = Some(Popup::Help { scroll: 0 });
            Vec::new()
        }
        other => {
            return Err(format!("There is no {other}. ? shows what there is; // sends a message that begins with /."));
        }
    })
}
