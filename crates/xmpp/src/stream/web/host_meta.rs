//! Where streams over the web are to be found. [XEP-0156 §3]

use axum::{Json, extract::State, http::header, response::Response};
use koine_stanza::Element;
use serde_json::json;

use super::{BOSH, WEBSOCKET, Web, open_to_all};

const XRD: &str = "http://docs.oasis-open.org/ns/xri/xrd-1.0";

impl Web {
    /// Relations and addresses.
    fn links(&self) -> [(&'static str, String); 2] {
        let configured = self.core.config().web_url.clone();
        let base = configured.unwrap_or_else(|| format!("https://{}", self.core.hosts.domain));
        let base = base.trim_end_matches('/');
        // ws for http, wss for https.
        let sockets = base.replacen("http", "ws", 1);
        [
            ("urn:xmpp:alt-connections:xbosh", format!("{base}{BOSH}")),
            ("urn:xmpp:alt-connections:websocket", format!("{sockets}{WEBSOCKET}")),
        ]
    }
}

/// `/.well-known/host-meta`
pub(super) async fn xml(State(web): State<Web>) -> Response {
    let link = |(rel, href): (&str, String)| Element::new("Link", XRD).with_attr("rel", rel).with_attr("href", href);
    let xrd = Element::new("XRD", XRD).with_children(web.links().map(link));
    let text = format!("<?xml version='1.0' encoding='UTF-8'?>{}", xrd.to_xml());
    open_to_all(([(header::CONTENT_TYPE, "application/xrd+xml")], text))
}

/// `/.well-known/host-meta.json`
pub(super) async fn json(State(web): State<Web>) -> Response {
    let links = web.links().map(|(rel, href)| json!({ "rel": rel, "href": href }));
    open_to_all(Json(json!({ "links": links })))
}
