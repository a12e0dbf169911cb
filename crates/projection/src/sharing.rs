//! Files: links to them, and what is said about them. XEP-0447 with XEP-0446, XEP-0385 and XEP-0066 for clients that know nothing
//! newer; [CS-API §mroommessage-msgtypes].
//!
//! | XMPP | Matrix |
//! |---|---|
//! | `<file-sharing/>` [XEP-0447], `<media-sharing/>` [XEP-0385], `<x/>` [XEP-0066]: an address of ours | `url` |
//! | `<media-type/>`, `<name/>`, `<size/>`, `<width/>`, `<height/>`, `<length/>`, `<desc/>` [XEP-0446] | `info`, `filename`, `body` |
//!
//! # Losses
//!
//! | what | in which direction |
//! |---|---|
//! | files elsewhere: a link | to Matrix |
//! | hashes, thumbnails, other sources | to Matrix |
//! | files of other servers, and encrypted ones: their name remains | to XMPP |

use koine_stanza::{Element, ns};
use serde_json::{Value, json};

use crate::message::Names;

/// [XEP-0066]
const OOB: &str = "jabber:x:oob";
/// [XEP-0447]
pub(crate) const SFS: &str = "urn:xmpp:sfs:0";
/// [XEP-0446]
const FILE_METADATA: &str = "urn:xmpp:file:metadata:0";
/// [XEP-0385]
const SIMS: &str = "urn:xmpp:sims:1";
/// [XEP-0372]
const REFERENCE: &str = "urn:xmpp:reference:0";
/// Descriptions of files as XEP-0385 has them. [XEP-0234]
const FILE: &str = "urn:xmpp:jingle:apps:file-transfer:5";

/// The content of an event for a link to a file of ours.
pub fn read(message: &Element, body: Option<&str>, names: &impl Names) -> Option<Value> {
    let oob = message.child("x", OOB).and_then(|x| x.child_text("url", OOB));
    let sfs = message.child("file-sharing", SFS);
    let target = |sfs: &Element| {
        let sources = sfs.child("sources", SFS)?;
        sources.child("url-data", "http://jabber.org/protocol/url-data")?.attr("target").map(ToOwned::to_owned)
    };
    let sims = message.children().filter(|child| child.is("reference", REFERENCE)).find_map(|reference| {
        let sharing = reference.child("media-sharing", SIMS)?;
        let mut sources = sharing.child("sources", SIMS)?.children().filter(|source| source.is("reference", REFERENCE));
        sources.find_map(|source| source.attr("uri").filter(|uri| uri.starts_with("http")).map(ToOwned::to_owned))
    });
    let described = sfs.is_some() || sims.is_some();
    let url = oob.or_else(|| sfs.and_then(target)).or(sims)?;
    // What is said beside the link is more than a file.
    if body.is_some_and(|body| body.trim() != url) && !described {
        return None;
    }
    let file = names.file_of(&url)?;
    let mime = file.mime.clone().unwrap_or_else(|| "application/octet-stream".to_owned());
    let msgtype = match mime.split('/').next() {
        Some("image") => "m.image",
        Some("video") => "m.video",
        Some("audio") => "m.audio",
        _ => "m.file",
    };
    let name = file.name.unwrap_or_else(|| url.rsplit('/').next().unwrap_or("file").to_owned());
    let mut info = json!({ "mimetype": mime });
    if let Some(size) = file.size {
        info["size"] = json!(size);
    }
    let metadata = sfs.and_then(|sfs| sfs.child("file", FILE_METADATA));
    for (theirs, ours) in [("width", "w"), ("height", "h")] {
        let number = metadata.and_then(|file| file.child_text(theirs, FILE_METADATA));
        if let Some(number) = number.and_then(|number| number.parse::<u32>().ok()) {
            info[ours] = json!(number);
        }
    }
    Some(json!({ "msgtype": msgtype, "body": name, "filename": name, "url": file.mxc, "info": info }))
}

/// A file as a link, described.
pub fn write(content: &Value, names: &impl Names) -> Option<Vec<Element>> {
    let body = content.get("body").and_then(Value::as_str);
    let name = content.get("filename").and_then(Value::as_str).or(body).unwrap_or("file");
    // A file that is encrypted is of no use to who has not got its key.
    let mxc = content.get("url").and_then(Value::as_str)?;
    let url = names.url_of(mxc, name)?;
    let info = content.get("info").unwrap_or(&Value::Null);
    let mut file = Element::new("file", FILE_METADATA);
    if let Some(mime) = info.get("mimetype").and_then(Value::as_str) {
        file.push(Element::text_of("media-type", FILE_METADATA, mime));
    }
    file.push(Element::text_of("name", FILE_METADATA, name));
    for (ours, theirs) in [("size", "size"), ("w", "width"), ("h", "height"), ("duration", "length")] {
        if let Some(number) = info.get(ours).and_then(Value::as_u64) {
            file.push(Element::text_of(theirs, FILE_METADATA, number.to_string()));
        }
    }
    let caption = body.filter(|body| content.get("filename").is_some() && *body != name);
    if let Some(caption) = caption {
        file.push(Element::text_of("desc", FILE_METADATA, caption));
    }
    let source = Element::new("url-data", "http://jabber.org/protocol/url-data").with_attr("target", url.as_str());
    let sharing = Element::new("file-sharing", SFS)
        .with_attr("disposition", "inline")
        .with_child(file)
        .with_child(Element::new("sources", SFS).with_child(source));
    // The body is the fallback and no text that the file belongs to, so no part of it is referred to. [XEP-0372 §usecase_generics]
    // COMPAT(Converse.js, 14): takes a part that is referred to for the name of somebody, and no longer for a link.
    let sims =
        Element::new("reference", REFERENCE).with_attr("type", "data").with_child(media_sharing(info, name, &url));
    let oob = Element::new("x", OOB).with_child(Element::text_of("url", OOB, url.as_str()));
    let fallback =
        Element::new("fallback", ns::FALLBACK).with_attr("for", SFS).with_child(Element::new("body", ns::FALLBACK));
    Some(vec![Element::text_of("body", ns::CLIENT, url.as_str()), oob, sharing, sims, fallback])
}

/// The same as XEP-0385 has it.
fn media_sharing(info: &Value, name: &str, url: &str) -> Element {
    let mut file = Element::new("file", FILE);
    if let Some(mime) = info.get("mimetype").and_then(Value::as_str) {
        file.push(Element::text_of("media-type", FILE, mime));
    }
    file.push(Element::text_of("name", FILE, name));
    if let Some(size) = info.get("size").and_then(Value::as_u64) {
        file.push(Element::text_of("size", FILE, size.to_string()));
    }
    let source = Element::new("reference", REFERENCE).with_attr("type", "data").with_attr("uri", url);
    let sources = Element::new("sources", SIMS).with_child(source);
    Element::new("media-sharing", SIMS).with_child(file).with_child(sources)
}
