//! XEP-0084: User Avatar, and the one avatar of the account behind it: what is published becomes the avatar of the profile,
//! and stands in presence (XEP-0153) and in the vCard (XEP-0398).

use std::sync::Arc;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use koine_media::{Description, Method, Spec, ThumbnailBody};
use koine_stanza::Element;
use ruma_common::{MilliSecondsSinceUnixEpoch, OwnedUserId, ServerName, UserId};
use sha1::{Digest as _, Sha1};
use tokio::io::AsyncReadExt as _;

use super::pep::{publish_own, set_profile};
use crate::{
    core::Core,
    iq::{At, Extension},
};

/// Pictures.
pub(crate) const DATA: &str = "urn:xmpp:avatar:data";
/// What they are.
pub(crate) const METADATA: &str = "urn:xmpp:avatar:metadata";
/// The hash in presence. [XEP-0153]
const UPDATE: &str = "vcard-temp:x:update";
/// Sides of the smaller picture that stands for one that is too large for an item.
const SIDE_PIXELS: u32 = 192;
/// Largest picture.
const PICTURE_BYTES_MAX: usize = 190 * 1024;

/// Advertised alone: it answers no requests of its own.
pub(crate) const EXTENSION: Extension =
    Extension { features: &[(At::Account, "urn:xmpp:pep-vcard-conversion:0")], handlers: &[] };

/// A picture out of an item.
pub(crate) fn decoded(payload: &Element) -> Option<Vec<u8>> {
    let text: String = payload.text().split_whitespace().collect();
    let bytes = BASE64_STANDARD.decode(text).ok()?;
    (!bytes.is_empty() && bytes.len() <= PICTURE_BYTES_MAX).then_some(bytes)
}

/// The account's picture as it was published: its hash, and the description of it.
pub(crate) fn current(core: &Core, user: &UserId) -> Option<(String, Element)> {
    let (_, item) = core.accounts().node_items(user, METADATA, 1).ok()?.pop()?;
    let metadata = super::pep::parse(&item.payload)?;
    let info = metadata.child("info", METADATA)?.clone();
    Some((info.id()?.to_owned(), info))
}

/// The picture with a hash.
pub(crate) fn picture(core: &Core, user: &UserId, hash: &str) -> Option<Vec<u8>> {
    let item = core.accounts().node_item(user, DATA, hash).ok()??;
    decoded(&super::pep::parse(&item.payload)?)
}

/// A presence of a session with what its account's avatar is. [XEP-0398 §conversion]
pub(crate) fn announced(core: &Core, user: &UserId, stanza: &Element) -> Element {
    let mut stanza = stanza.clone();
    let said =
        stanza.child("x", UPDATE).is_some_and(|x| x.child_text("photo", UPDATE).is_some_and(|hash| !hash.is_empty()));
    if said {
        return stanza;
    }
    let hash = current(core, user).map(|(hash, _)| hash);
    let Some(hash) = hash else { return stanza };
    stanza.retain_children(|child| child.ns() != UPDATE);
    stanza.push(Element::new("x", UPDATE).with_child(Element::text_of("photo", UPDATE, hash)));
    stanza
}

/// What was published becomes the avatar of the profile.
pub(crate) async fn adopt(core: &Arc<Core>, owner: &OwnedUserId, metadata: &Element) {
    let Some(info) = metadata.child("info", METADATA) else {
        return set_profile(core, owner, "avatar_url", "").await;
    };
    let Some(bytes) = info.id().and_then(|hash| picture(core, owner, hash)) else { return };
    let kind = info.kind().unwrap_or("image/png").to_owned();
    match upload(core, owner, &bytes, kind).await {
        Ok(uri) => set_profile(core, owner, "avatar_url", &uri).await,
        Err(error) => tracing::warn!(user_id = %owner, reason = %error, "an avatar was not kept"),
    }
}

pub(crate) async fn upload(
    core: &Core,
    owner: &UserId,
    bytes: &[u8],
    kind: String,
) -> Result<String, koine_media::UploadError> {
    let mut upload = core.cores.media.begin_upload(owner, Some(bytes.len() as u64)).await?;
    upload.write(bytes).await?;
    let description = Description { content_type: Some(kind), file_name: None };
    Ok(upload.finish(description, MilliSecondsSinceUnixEpoch::now()).await?.to_string())
}

/// Makes a picture the account's, as if its owner had published it.
pub(crate) async fn set(core: &Arc<Core>, owner: &OwnedUserId, bytes: &[u8], kind: &str) {
    let metadata = publish(core, owner, bytes, kind).await;
    adopt(core, owner, &metadata).await;
}

/// The profile of somebody changed: its picture becomes the one in the nodes. Reading it takes time, so nobody waits.
pub(crate) fn changed(core: &Arc<Core>, owner: OwnedUserId) {
    if !core.accounts().uses_xmpp(&owner).unwrap_or(false) {
        return;
    }
    let core = core.clone();
    tokio::spawn(async move {
        let _one_at_a_time = core.avatars.lock().await;
        follow_profile(&core, &owner).await;
    });
}

async fn follow_profile(core: &Arc<Core>, owner: &OwnedUserId) {
    let Ok((_, url)) = core.accounts().display_profile(owner) else { return };
    let shown = current(core, owner);
    let Some(url) = url.filter(|url| !url.is_empty()) else {
        // [XEP-0084 §process-publish-metadata] Nothing is shown any more.
        if shown.is_some() {
            publish_own(core, owner, METADATA, "none", &Element::new("metadata", METADATA)).await;
        }
        return;
    };
    let Some((bytes, kind)) = fetch(core, &url).await else { return };
    if shown.is_none_or(|(hash, _)| hash != hash_of(&bytes)) {
        publish(core, owner, &bytes, &kind).await;
    }
}

/// The picture at an address of ours, small enough for an item.
pub(crate) async fn fetch(core: &Core, url: &str) -> Option<(Vec<u8>, String)> {
    let (server, id) = url.strip_prefix("mxc://")?.split_once('/')?;
    let media = &core.cores.media;
    let item = media.find(<&ServerName>::try_from(server).ok()?, id).ok()??;
    if item.size <= PICTURE_BYTES_MAX as u64 {
        let mut bytes = Vec::new();
        let content = media.content(&item).await.ok()?;
        content.file.take(PICTURE_BYTES_MAX as u64).read_to_end(&mut bytes).await.ok()?;
        return Some((bytes, item.content_type.clone().unwrap_or_else(|| "image/png".to_owned())));
    }
    let spec = Spec::new(SIDE_PIXELS, SIDE_PIXELS, Method::Scale)?;
    let thumbnail = media.thumbnail(&item, spec).await.ok()?;
    let kind = thumbnail.content_type.to_owned();
    let bytes = match thumbnail.body {
        ThumbnailBody::Memory(bytes) => bytes,
        ThumbnailBody::File(content) => {
            let mut bytes = Vec::new();
            content.file.take(PICTURE_BYTES_MAX as u64 + 1).read_to_end(&mut bytes).await.ok()?;
            bytes
        }
    };
    (bytes.len() <= PICTURE_BYTES_MAX).then_some((bytes, kind))
}

pub(crate) fn hash_of(bytes: &[u8]) -> String {
    Sha1::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Publishes a picture, and what it is.
async fn publish(core: &Arc<Core>, owner: &OwnedUserId, bytes: &[u8], kind: &str) -> Element {
    let hash = hash_of(bytes);
    let data = Element::text_of("data", DATA, BASE64_STANDARD.encode(bytes));
    publish_own(core, owner, DATA, &hash, &data).await;
    let info = Element::new("info", METADATA)
        .with_attr("id", hash.as_str())
        .with_attr("bytes", bytes.len().to_string())
        .with_attr("type", kind);
    let metadata = Element::new("metadata", METADATA).with_child(info);
    publish_own(core, owner, METADATA, &hash, &metadata).await;
    metadata
}
