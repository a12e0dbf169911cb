//! A stream of XMPP before and after its login, with SASL in both forms: the first byte says how far the client is, and in what
//! the rest is wrapped. Whatever came, the server ends in good time, writes XML until then, and serves the next.
#![no_main]

use base64::{Engine as _, prelude::BASE64_STANDARD};
use koine_fuzz::streams::{HEADER, scene};
use koine_stanza::ns;
use libfuzzer_sys::fuzz_target;

const MECHANISMS: [&str; 8] = [
    "PLAIN",
    "SCRAM-SHA-1",
    "SCRAM-SHA-256",
    "SCRAM-SHA-512",
    "SCRAM-SHA-256-PLUS",
    "EXTERNAL",
    "HT-SHA-256-NONE",
    "ANONYMOUS",
];

/// The messages of SASL are separated by a byte that no text has.
fn proof(profile: u8, mechanism: &str, bytes: &[u8]) -> String {
    let mut messages = bytes.split(|byte| *byte == 0xff).map(|message| BASE64_STANDARD.encode(message));
    let first = messages.next().unwrap_or_default();
    let (sasl, sasl2) = (ns::SASL, ns::SASL2);
    let begin = match profile {
        0 => format!("<auth xmlns='{sasl}' mechanism='{mechanism}'>{first}</auth>"),
        _ => format!(
            "<authenticate xmlns='{sasl2}' mechanism='{mechanism}'><initial-response>{first}</initial-response>\
             <user-agent id='d4565fa7-4d72-4749-b3d3-740edbf87770'><software>fuzz</software></user-agent></authenticate>"
        ),
    };
    let profile = if profile == 0 { sasl } else { sasl2 };
    let others = messages.map(|message| format!("<response xmlns='{profile}'>{message}</response>"));
    std::iter::once(begin).chain(others).collect()
}

fuzz_target!(|bytes: &[u8]| {
    let Some((how, rest)) = bytes.split_first() else { return };
    let (runtime, world) = scene();
    runtime.block_on(async {
        let mechanism = MECHANISMS[usize::from(how >> 4) % MECHANISMS.len()];
        let mut client = match how & 7 {
            // Who is logged in may say more: without a session, and with one.
            6 => world.log_in(&world.somebody()).await,
            7 => {
                let mut client = world.log_in(&world.somebody()).await;
                client.bind().await;
                client
            }
            _ => world.connect().await,
        };
        match how & 7 {
            0 | 6 | 7 => client.send_bytes(rest).await,
            1 | 2 => client.send(&format!("{HEADER}{}", proof((how & 7) - 1, mechanism, rest))).await,
            _ => {
                client.send(HEADER).await;
                client.send_bytes(rest).await;
            }
        }
        client.finish().await;
        client.drain().await;
    });
});
