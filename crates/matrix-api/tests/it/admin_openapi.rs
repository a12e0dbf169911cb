//! The OpenAPI document of the admin API, against what is served: the same operations, and answers as it describes them.

use std::collections::BTreeSet;

use http::{Method, Request};
use koine_account::Flag;
use serde_json::{Value, json};

use crate::{
    Answer, Person, World,
    rooms::{create, encode},
};

const DOCUMENT: &str = include_str!("../../../../docs/reference/admin-openapi.json");

fn document() -> Value {
    serde_json::from_str(DOCUMENT).expect("JSON")
}

async fn ask(world: &World, who: Option<&Person>, method: Method, path: &str, body: &str) -> Answer {
    let mut request = Request::builder().method(method).uri(path);
    if let Some(who) = who {
        request = request.header("authorization", format!("Bearer {}", who.token));
    }
    world.send(request.body(body.to_owned().into()).expect("a valid request")).await
}

#[test]
fn it_names_the_operations_that_are_served_and_no_others() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let served = runtime.block_on(async { World::new().served() });
    let without_names = |path: &str| {
        let segments = path.split('/').map(|segment| if segment.starts_with('{') { "{}" } else { segment });
        segments.collect::<Vec<_>>().join("/")
    };
    let served: BTreeSet<_> = served
        .into_iter()
        .filter(|(_, path)| path.starts_with("/_synapse/admin/"))
        .map(|(method, path)| (method.to_string().to_lowercase(), without_names(&path)))
        .collect();
    let document = document();
    let paths = document["paths"].as_object().expect("paths");
    let named: BTreeSet<_> = paths
        .iter()
        .flat_map(|(path, methods)| {
            methods.as_object().expect("methods").keys().map(move |method| (method.clone(), without_names(path)))
        })
        .collect();
    assert_eq!(named, served);
}

/// Where a value is not as the schema says.
fn differences(document: &Value, schema: &Value, value: &Value, at: &str) -> Vec<String> {
    if let Some(name) = schema["$ref"].as_str() {
        let name = name.rsplit('/').next().expect("a name");
        return differences(document, &document["components"]["schemas"][name], value, at);
    }
    let types: Vec<&str> = match &schema["type"] {
        Value::String(one) => vec![one],
        Value::Array(many) => many.iter().filter_map(Value::as_str).collect(),
        _ => return Vec::new(),
    };
    let is = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    if !types.contains(&is) {
        return vec![format!("{at} is {is}, not {types:?}")];
    }
    let mut found = Vec::new();
    if let (Value::Object(fields), Some(properties)) = (value, schema["properties"].as_object()) {
        for (name, value) in fields {
            match properties.get(name) {
                Some(schema) => found.extend(differences(document, schema, value, &format!("{at}.{name}"))),
                None if schema["additionalProperties"] == false => found.push(format!("{at}.{name} is not described")),
                None => {}
            }
        }
        for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            if !fields.contains_key(name) {
                found.push(format!("{at}.{name} is missing"));
            }
        }
    }
    for (number, item) in value.as_array().into_iter().flatten().enumerate() {
        found.extend(differences(document, &schema["items"], item, &format!("{at}[{number}]")));
    }
    found
}

#[tokio::test]
async fn answers_are_as_it_describes_them() {
    let world = World::new();
    let root = world.person("root").await;
    let id = root.user_id.as_str().try_into().expect("a user id");
    world.accounts.set_flag(id, Flag::Admin, true).await.expect("an account");
    let alice = world.person("alice").await;
    let room = create(&world, &alice, json!({ "preset": "public_chat", "name": "N", "topic": "T" })).await;
    let old = create(&world, &alice, json!({})).await;
    let say = format!("/v3/rooms/{}/send/m.room.message/1", encode(&room));
    let said = alice.put(&world, &say, json!({ "msgtype": "m.text", "body": "x" })).await.ok();
    let event = said["event_id"].as_str().expect("an event id").to_owned();
    let report = format!("/v3/rooms/{}/report/{}", encode(&room), encode(&event));
    root.post(&world, &format!("/v3/join/{}", encode(&room)), json!({})).await.ok();
    root.post(&world, &report, json!({ "reason": "because" })).await.ok();
    let upload = Request::post("/_matrix/media/v3/upload?filename=a.txt").header("content-type", "text/plain");
    let upload = upload.header("authorization", format!("Bearer {}", alice.token));
    let uri = world.send(upload.body("hello".to_owned().into()).expect("a request")).await.ok();
    let media = uri["content_uri"].as_str().and_then(|uri| uri.rsplit('/').next()).expect("a media id").to_owned();
    let token = json!({ "token": "let-me-in", "uses_allowed": 3 }).to_string();
    let path = "/_synapse/admin/v1/registration_tokens/new";
    let made = ask(&world, Some(&root), Method::POST, path, &token).await.ok();

    let document = document();
    let answer_of = |path: &str, method: &str, status: &str| {
        document["paths"][path][method]["responses"][status]["content"]["application/json"]["schema"].clone()
    };
    assert_eq!(differences(&document, &answer_of(path, "post", "200"), &made, "made"), Vec::<String>::new());
    let mut tried = 0;
    for (path, methods) in document["paths"].as_object().expect("paths") {
        let filled = path
            .replace("{user_id}", &encode(&alice.user_id))
            .replace("{room_id}", &encode(&room))
            .replace("{device_id}", &alice.device_id)
            .replace("{server_name}", "example.org")
            .replace("{media_id}", &media)
            .replace("{token}", "let-me-in")
            .replace("{report_id}", "1");
        for method in methods.as_object().expect("methods").keys() {
            let is_open = methods[method]["security"] == json!([]);
            let asked: Method = method.to_uppercase().parse().expect("a method");
            let refused = ask(&world, None, asked.clone(), &filled, "{}").await;
            assert_eq!(refused.status == 401, !is_open, "{method} {path} without a token: {}", refused.json);
            if asked != Method::GET || filled.contains('{') {
                continue;
            }
            let filled =
                if filled.ends_with("username_available") { format!("{filled}?username=new") } else { filled.clone() };
            let answer = ask(&world, Some(&root), asked, &filled, "").await;
            // Nothing was deleted of it yet.
            if filled.ends_with("delete_status") && answer.status == 404 {
                continue;
            }
            let answer = answer.ok();
            let wrong = differences(&document, &answer_of(path, method, "200"), &answer, path);
            assert_eq!(wrong, Vec::<String>::new(), "{answer}");
            tried += 1;
        }
    }
    assert!(tried >= 18, "only {tried} were asked");

    // And commands, those that take something away last.
    let user = encode(&alice.user_id);
    for (method, path, filled, body) in [
        ("put", "/v2/users/{user_id}", format!("/v2/users/{user}"), json!({ "displayname": "A" })),
        ("put", "/v1/users/{user_id}/admin", format!("/v1/users/{user}/admin"), json!({ "admin": false })),
        ("put", "/v1/suspend/{user_id}", format!("/v1/suspend/{user}"), json!({ "suspend": false })),
        ("post", "/v1/users/{user_id}/login", format!("/v1/users/{user}/login"), json!({})),
        ("put", "/v1/rooms/{room_id}/block", format!("/v1/rooms/{}/block", encode(&old)), json!({ "block": false })),
        (
            "post",
            "/v1/purge_history/{room_id}",
            format!("/v1/purge_history/{}", encode(&room)),
            json!({ "purge_up_to_ts": 1 }),
        ),
        (
            "post",
            "/v1/send_server_notice",
            "/v1/send_server_notice".to_owned(),
            json!({ "user_id": alice.user_id, "content": { "msgtype": "m.text", "body": "hello" } }),
        ),
        ("delete", "/v1/users/{user_id}/media", format!("/v1/users/{user}/media"), json!({})),
        ("delete", "/v1/rooms/{room_id}", format!("/v1/rooms/{}", encode(&old)), json!({ "purge": true })),
        ("delete", "/v2/rooms/{room_id}", format!("/v2/rooms/{}", encode(&room)), json!({})),
        ("post", "/v1/deactivate/{user_id}", format!("/v1/deactivate/{user}"), json!({ "erase": false })),
        ("delete", "/v1/registration_tokens/{token}", "/v1/registration_tokens/let-me-in".to_owned(), json!({})),
    ] {
        let asked: Method = method.to_uppercase().parse().expect("a method");
        let filled = format!("/_synapse/admin{filled}");
        let answer = ask(&world, Some(&root), asked, &filled, &body.to_string()).await.ok();
        let schema = answer_of(&format!("/_synapse/admin{path}"), method, "200");
        assert_eq!(differences(&document, &schema, &answer, path), Vec::<String>::new(), "{answer}");
    }
}
