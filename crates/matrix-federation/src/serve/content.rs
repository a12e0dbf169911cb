//! Files of ours, for other servers. [SS-API §content-repository]

use axum::{
    extract::State,
    response::{IntoResponse as _, Response},
};
use http::{HeaderValue, StatusCode, header::CONTENT_TYPE};
use koine_media::{Item, Method, Spec, Thumbnail, ThumbnailBody};

use crate::{
    Error, Federation, Signed,
    answer::{Result, around_file},
};

/// Separates the parts of an answer: no file that is not made for it has this line.
const BOUNDARY: &str = "koine-8f1c57d0b9e34a62";
/// What comes after the file.
const END: &[u8] = b"\r\n--koine-8f1c57d0b9e34a62--\r\n";
/// Sides of a thumbnail when nobody says how large.
const SIDE_DEFAULT: u64 = 96;

/// [SS-API §get_matrixfederationv1mediadownloadmediaid]
pub async fn download(State(federation): State<Federation>, signed: Signed) -> Result<Response> {
    let item = federation.item(signed.path.text(0))?;
    let media = federation.media().ok_or_else(Error::unrecognized)?;
    let content = media.content(&item).await.map_err(Error::internal)?;
    let name = item.file_name.as_deref().map(file_name);
    let disposition =
        name.map_or_else(|| "attachment".to_owned(), |name| format!("attachment; filename*=utf-8''{name}"));
    let kind = item.content_type.as_deref().unwrap_or("application/octet-stream");
    let head = head(kind, &disposition);
    Ok(around_file(parts_kind()?, head, content, END))
}

/// [SS-API §get_matrixfederationv1mediathumbnailmediaid]
pub async fn thumbnail(State(federation): State<Federation>, signed: Signed) -> Result<Response> {
    let item = federation.item(signed.path.text(0))?;
    let media = federation.media().ok_or_else(Error::unrecognized)?;
    let side =
        |name| Ok::<_, Error>(u32::try_from(signed.query.number(name)?.unwrap_or(SIDE_DEFAULT)).unwrap_or(u32::MAX));
    let method = match signed.query.get("method") {
        None | Some("scale") => Method::Scale,
        Some("crop") => Method::Crop,
        Some(_) => return Err(Error::invalid_param("The method is scale or crop")),
    };
    let spec = Spec::new(side("width")?, side("height")?, method);
    let spec = spec.ok_or_else(|| Error::invalid_param("Width and height are positive whole numbers of pixels"))?;
    let spec = spec.animated(signed.query.get("animated") == Some("true"));
    let made = media.thumbnail(&item, spec).await;
    let Thumbnail { content_type, body, .. } =
        made.map_err(|error| Error::new(StatusCode::BAD_REQUEST, "M_UNKNOWN", error.to_string()))?;
    let mut head = head(content_type, "inline");
    let bytes = match body {
        ThumbnailBody::File(content) => return Ok(around_file(parts_kind()?, head, content, END)),
        ThumbnailBody::Memory(bytes) => bytes,
    };
    head.extend_from_slice(&bytes);
    head.extend_from_slice(END);
    let mut response = head.into_response();
    response.headers_mut().insert(CONTENT_TYPE, parts_kind()?);
    Ok(response)
}

impl Federation {
    fn item(&self, media_id: &str) -> Result<Item> {
        let media = self.media().ok_or_else(Error::unrecognized)?;
        let found = media.find(self.server_name(), media_id).map_err(Error::internal)?;
        found.ok_or_else(|| Error::not_found("There is no such file here"))
    }
}

/// The content type of an answer in parts.
fn parts_kind() -> Result<HeaderValue> {
    HeaderValue::from_str(&format!("multipart/mixed; boundary={BOUNDARY}")).map_err(Error::internal)
}

/// What comes before the file: the first of two parts, what is known of the file, which is nothing so far, and the head of the
/// second. [SS-API §content-repository]
fn head(kind: &str, disposition: &str) -> Vec<u8> {
    let kind = HeaderValue::from_str(kind).unwrap_or(HeaderValue::from_static("application/octet-stream"));
    let kind = kind.to_str().unwrap_or("application/octet-stream");
    format!(
        "--{BOUNDARY}\r\nContent-Type: application/json\r\n\r\n{{}}\r\n--{BOUNDARY}\r\nContent-Type: {kind}\r\n\
         Content-Disposition: {disposition}\r\n\r\n"
    )
    .into_bytes()
}

/// As RFC 8187 writes file names: whatever is no plain letter, escaped.
fn file_name(name: &str) -> String {
    crate::peers::segment(name)
}
