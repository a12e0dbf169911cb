//! The client-server API of Matrix: every operation that is served, with whatever a logged-in stranger may send to it.
//!
//! Two bytes say which operation, and whose ids stand in its path; a line follows that is the query (or the id itself), and
//! the rest is the body. No answer is a failure of ours, each refusal has an errcode, and nothing of somebody else's is seen.
#![no_main]

use std::cell::RefCell;

use koine_fuzz::api::World;
use libfuzzer_sys::fuzz_target;
use tokio::runtime::{Builder, Runtime};

/// Stands in what the asker may not see.
const SECRET: &str = "vixen-in-the-vault";
/// After so many requests everything begins anew: what they left behind fills memory.
const REQUESTS_MAX: u32 = 2_000;

struct Scene {
    runtime: Runtime,
    world: World,
    requests: u32,
}

impl Scene {
    fn new() -> Self {
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        let world = runtime.block_on(World::new(SECRET));
        Self { runtime, world, requests: 0 }
    }
}

thread_local! {
    static SCENE: RefCell<Option<Scene>> = const { RefCell::new(None) };
}

/// Characters of a path that are said as they are.
fn encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let of = |byte: u8| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    text.bytes().map(of).collect()
}

/// The path with an id for each variable: one's own, somebody else's, or what the stranger made up.
fn path(template: &str, world: &World, whose: u8, made_up: &str) -> String {
    let person = if whose & 1 == 0 { &world.asker } else { &world.other };
    let piece = |piece: &str| {
        let Some(variable) = piece.strip_prefix('{').and_then(|piece| piece.strip_suffix('}')) else {
            return piece.to_owned();
        };
        let variable = variable.trim_start_matches('*');
        let known = match variable {
            _ if whose & 2 != 0 => made_up,
            "user_id" | "userId" | "user" => &person.user,
            "device_id" | "deviceId" => &person.device,
            "event_id" | "eventId" | "threadRoot" | "thread_root" => &person.event,
            variable if variable.to_ascii_lowercase().contains("room") => &person.room,
            _ => made_up,
        };
        encoded(if known.is_empty() { "x" } else { known })
    };
    template.split('/').map(piece).collect::<Vec<_>>().join("/")
}

fuzz_target!(|bytes: &[u8]| {
    let [which, whose, rest @ ..] = bytes else { return };
    let end = rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len());
    let (line, body) = (String::from_utf8_lossy(&rest[..end]), rest.get(end + 1..).unwrap_or_default());
    SCENE.with_borrow_mut(|scene| {
        let Scene { runtime, world, requests } = scene.get_or_insert_with(Scene::new);
        let (method, template) =
            world.served[(usize::from(*which) | usize::from(whose >> 4) << 8) % world.served.len()].clone();
        let mut path = path(&template, world, *whose, &line);
        let query: String = line.chars().filter(|letter| letter.is_ascii_graphic() && *letter != '#').collect();
        if *whose & 2 == 0 && !query.is_empty() {
            path = format!("{path}?{query}");
        }
        let token = (*whose & 4 == 0).then(|| world.asker.token.clone());
        let asked = runtime.block_on(world.ask(&method, &path, token.as_deref(), body.to_vec()));
        let Some(answer) = asked else { return };
        let told = || format!("{method} {path}: {} {}", answer.status, answer.text);
        // [CS-API §standard-error-response] What is not there at all is a refusal like others.
        assert!(!answer.status.is_server_error() || answer.status.as_u16() == 501, "{}", told());
        if answer.status.is_client_error() {
            let errcode = answer.json.as_ref().map(|json| json["errcode"].is_string() || json["flows"].is_array());
            assert_eq!(errcode, Some(true), "{}", told());
        }
        assert!(!answer.text.contains(SECRET), "{}", told());
        *requests += 1;
        let logged_out = token.is_some() && answer.status.as_u16() == 401 || path.contains("logout");
        let gone = template.contains("deactivate") || template.contains("password") || template.contains("devices");
        if *requests > REQUESTS_MAX || logged_out || gone && answer.status.is_success() {
            *scene = None;
        }
    });
});
