//! XEP-0084: User Avatar, and the one avatar of the account behind it: what is published becomes the avatar of the profile,
//! and stands in presence (XEP-0153) and in the vCard (XEP-0398).

use std::sync::Arc;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use koine_media::Description;
use koine_stanza::Element;
use ruma_common::{MilliSecondsSinceUnixEpoch, OwnedUserId, UserId};
use sha1::{Digest as _, Sha1};

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

async fn upload(core: &Core, owner: &UserId, bytes: &[u8], kind: String) -> Result<String, koine_media::UploadError> {
    let mut upload = core.cores.media.begin_upload(owner, Some(bytes.len() as u64)).await?;
    upload.write(bytes).await?;
    let description = Description { content_type: Some(kind), file_name: None };
    Ok(upload.finish(description, MilliSecondsSinceUnixEpoch::now()).await?.to_string())
}

/// Makes a picture the account's, as if its owner had published it.
pub(crate) async fn set(core: &Arc<Core>, owner: &OwnedUserId, bytes: &[u8], kind: &str) {
    let digest = Sha1::digest(bytes);
    let hash: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    let data = Element::text_of("data", DATA, BASE64_STANDARD.encode(bytes));
    publish_own(core, owner, DATA, &hash, &data).await;
    let info = Element::new("info", METADATA)
        .with_attr("id", hash.as_str())
        .with_attr("bytes", bytes.len().to_string())
        .with_attr("type", kind);
    let metadata = Element::new("metadata", METADATA).with_child(info);
    publish_own(core, owner, METADATA, &hash, &metadata).await;
    adopt(core, owner, &metadata).await;
}
