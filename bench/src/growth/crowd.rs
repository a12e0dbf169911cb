//! Many people without passwords: an application service makes them and speaks for them, which costs no hashing.
//! [AS-API §registration] [AS-API §identity-assertion]

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::Failure;
use crate::http::escaped;
use crate::matrix::{CallError, Client, Person, Server};

/// The token of the service. The server lives for one run.
const TOKEN: &str = "koine-bench-crowd";
/// People made or led into a room at once: enough that one sync of the disk serves many.
const AT_ONCE: usize = 32;

/// Writes the registration of the service into a folder.
pub fn registration(folder: &Path) -> Result<PathBuf, Failure> {
    let path = folder.join("crowd.yaml");
    let users = json!([{ "exclusive": true, "regex": "@crowd-.*" }]);
    let text = json!({
        "id": "crowd", "url": null, "as_token": TOKEN, "hs_token": format!("{TOKEN}-back"), "sender_localpart": "crowd",
        "rate_limited": false, "namespaces": { "users": users, "aliases": [], "rooms": [] },
    });
    std::fs::write(&path, text.to_string()).map_err(|error| Failure::Io(path.display().to_string(), error))?;
    Ok(path)
}

/// The domain of a server, as its people's ids have it. [CS-API §get_matrixclientv3accountwhoami]
pub async fn domain_of(server: &Server) -> Result<String, CallError> {
    let mut service = service(server);
    let answer = service.call("GET", "/_matrix/client/v3/account/whoami", "").await?;
    let answer: Value = serde_json::from_slice(answer).map_err(|error| CallError::Unreadable("whoami", error))?;
    let user = answer["user_id"].as_str().unwrap_or_default();
    Ok(user.split_once(':').map(|(_, domain)| domain.to_owned()).unwrap_or_default())
}

/// Somebody who speaks for any of the crowd.
pub fn service(server: &Server) -> Client {
    Client::new(server, &Person { access_token: TOKEN.to_owned() })
}

fn localpart(number: usize) -> String {
    format!("crowd-{number}")
}

/// Makes those with these numbers.
pub async fn make(server: &Server, numbers: std::ops::Range<usize>) -> Result<(), CallError> {
    each(server, numbers, |mut service: Client, number| async move {
        let body = json!({
            "type": "m.login.application_service", "username": localpart(number), "inhibit_login": true,
        });
        service.call("POST", "/_matrix/client/v3/register", &body.to_string()).await?;
        Ok(service)
    })
    .await
}

/// Leads those with these numbers into a room.
pub async fn lead_into(
    server: &Server,
    (room, domain): (&str, &str),
    numbers: std::ops::Range<usize>,
) -> Result<(), CallError> {
    let (room, domain) = (escaped(room), domain.to_owned());
    each(server, numbers, move |mut service: Client, number| {
        let path = path((&room, &domain), "join", number);
        async move {
            service.call("POST", &path, "{}").await?;
            Ok(service)
        }
    })
    .await
}

/// The path by which one of them joins or leaves a room (escaped).
pub fn path((room, domain): (&str, &str), how: &str, number: usize) -> String {
    let user = escaped(&format!("@{}:{domain}", localpart(number)));
    format!("/_matrix/client/v3/rooms/{room}/{how}?user_id={user}")
}

/// Does something for each, a connection for each of those who are at work.
async fn each<F, Fut>(server: &Server, numbers: std::ops::Range<usize>, work: F) -> Result<(), CallError>
where
    F: Fn(Client, usize) -> Fut + Clone + Send + 'static,
    Fut: Future<Output = Result<Client, CallError>> + Send + 'static,
{
    let (from, to) = (numbers.start, numbers.end);
    let mut running = tokio::task::JoinSet::new();
    for first in from..to.min(from + AT_ONCE) {
        let (mut client, work) = (service(server), work.clone());
        running.spawn(async move {
            for number in (first..to).step_by(AT_ONCE) {
                client = work(client, number).await?;
            }
            Ok::<_, CallError>(())
        });
    }
    while let Some(done) = running.join_next().await {
        done.expect("nobody of the crowd panics or is cancelled")?;
    }
    Ok(())
}
