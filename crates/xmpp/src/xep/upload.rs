//! XEP-0363: HTTP File Upload. A slot is a promised address in the media store; whatever is there can be had at
//! `/_koine/file/<id>/<proof>/<name>` by whoever knows the address, since XMPP clients show no token when they fetch.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    extract::{Path, Query, State},
    response::{IntoResponse, Response},
    routing::get,
};
use bytes::{Bytes, BytesMut};
use data_encoding::BASE32_NOPAD;
use hmac::{Hmac, Mac as _};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use http_body_util::BodyExt as _;
use koine_media::{Content, Description, UploadError};
use koine_projection::message::File;
use koine_stanza::{
    Condition, Element, StanzaError,
    form::{Field, Form},
};
use ruma_common::{MilliSecondsSinceUnixEpoch, MxcUri, OwnedUserId};
use serde::Deserialize;
use sha2::Sha256;
use subtle::ConstantTimeEq as _;
use tokio::io::{AsyncRead as _, ReadBuf};

use crate::{
    core::{Core, Xmpp},
    iq::{Answer, At, Extension, Handler, Request, Verb},
};

/// The protocol.
pub(crate) const UPLOAD: &str = "urn:xmpp:http:upload:0";
/// Longest name of a file.
const NAME_BYTES_MAX: usize = 255;
/// Bytes of a proof; what is behind them is not needed to keep it from being guessed.
const PROOF_BYTES: usize = 16;
/// How long the next piece of a file may take to arrive.
const PIECE_TIME_MAX: Duration = Duration::from_secs(60);
/// How much of a file is read at once.
const PIECE_BYTES: usize = 64 * 1024;
/// Where the files are.
const PATH: &str = "/_koine/file";

/// Asked of the service.
pub(crate) const EXTENSION: Extension = Extension {
    features: &[(At::UploadService, UPLOAD), (At::Host, "jabber:x:oob")],
    handlers: &[Handler {
        at: &[At::UploadService],
        verbs: &[Verb::Get],
        name: "request",
        ns: UPLOAD,
        run: |core, request| Box::pin(slot(core, request)),
    }],
};

/// What is said of the service beside its features. [XEP-0363 §disco]
pub(crate) fn about(core: &Core) -> Form {
    let max = core.cores.media.config().upload_bytes_max.to_string();
    Form::new("result", UPLOAD).with(Field { var: "max-file-size".into(), values: vec![max], ..Field::default() })
}

async fn slot(core: Arc<Core>, request: Request) -> Answer {
    let Some(user) = request.asker() else {
        return Err(StanzaError::new(Condition::Forbidden, "files are taken from people of this server alone"));
    };
    let bad = |text: &str| StanzaError::new(Condition::BadRequest, text);
    let attr = |name: &str| request.payload.attr(name);
    let name = attr("filename").filter(|name| !name.is_empty()).ok_or_else(|| bad("a file has a `filename`"))?;
    if name.len() > NAME_BYTES_MAX {
        return Err(StanzaError::new(Condition::NotAcceptable, "the name is too long"));
    }
    let size = attr("size").and_then(|size| size.parse::<u64>().ok()).filter(|size| *size > 0);
    let size = size.ok_or_else(|| bad("`size` is the number of bytes"))?;
    let max = core.cores.media.config().upload_bytes_max;
    if size > max {
        let too_large = Element::new("file-too-large", UPLOAD).with_child(Element::text_of(
            "max-file-size",
            UPLOAD,
            max.to_string(),
        ));
        let text = format!("the file has {size} bytes, at most {max} are taken");
        return Err(StanzaError::new(Condition::NotAcceptable, text).with_application(too_large));
    }
    let promise = core.cores.media.promise(user, (core.cores.now)()).await.map_err(|error| match error {
        UploadError::AccountFull { .. } => {
            let retry = Element::new("retry", UPLOAD);
            StanzaError::new(Condition::ResourceConstraint, error.to_string()).with_application(retry)
        }
        error => StanzaError::new(Condition::ResourceConstraint, error.to_string()),
    })?;
    let id = promise.uri.media_id().map_err(|_| StanzaError::from(Condition::InternalServerError))?.to_owned();
    let get = core.file_url(&id, name);
    let owner = user.localpart();
    let proof = core.proof(&["put", &id, owner, &size.to_string()]);
    let mut put = url::Url::parse(&get).map_err(|_| StanzaError::from(Condition::InternalServerError))?;
    put.query_pairs_mut()
        .append_pair("owner", owner)
        .append_pair("size", &size.to_string())
        .append_pair("proof", &proof);
    let slot = Element::new("slot", UPLOAD)
        .with_child(Element::new("put", UPLOAD).with_attr("url", put.to_string()))
        .with_child(Element::new("get", UPLOAD).with_attr("url", get));
    Ok(Some(slot))
}

impl Core {
    /// Where web clients find us.
    fn web(&self) -> String {
        let base = self.config().web_url.clone();
        base.unwrap_or_else(|| format!("https://{}", self.hosts.domain)).trim_end_matches('/').to_owned()
    }

    fn proof(&self, of: &[&str]) -> String {
        let mut hmac = Hmac::<Sha256>::new_from_slice(&self.secret).expect("a key may have any length");
        hmac.update(b"file");
        for part in of {
            hmac.update(&(part.len() as u64).to_be_bytes());
            hmac.update(part.as_bytes());
        }
        let proof = hmac.finalize().into_bytes();
        BASE32_NOPAD.encode(&proof[..PROOF_BYTES]).to_ascii_lowercase()
    }

    fn file_url(&self, id: &str, name: &str) -> String {
        let mut url = url::Url::parse(&self.web()).unwrap_or_else(|_| {
            url::Url::parse(&format!("https://{}", self.hosts.domain)).expect("a host makes an address")
        });
        let proof = self.proof(&["get", id]);
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(PATH.trim_start_matches('/').split('/')).extend([id, proof.as_str(), name]);
        }
        url.to_string()
    }

    /// The address at which a file of ours can be had; `None` for files of other servers.
    pub(crate) fn url_of(&self, mxc: &str, name: &str) -> Option<String> {
        let uri = <&MxcUri>::from(mxc);
        let (server, id) = uri.parts().ok()?;
        (server == self.rooms().server_name()).then(|| self.file_url(id, name))
    }

    /// The file of ours that an address leads to.
    pub(crate) fn file_of(&self, url: &str) -> Option<File> {
        let path = url.strip_prefix(&self.web())?.strip_prefix(PATH)?.strip_prefix('/')?;
        let mut parts = path.split('/');
        let (id, proof) = (parts.next()?, parts.next()?);
        if proof != self.proof(&["get", id]) {
            return None;
        }
        let server = self.rooms().server_name();
        let item = self.cores.media.find(server, id).ok().flatten();
        Some(File {
            mxc: format!("mxc://{server}/{id}"),
            mime: item.as_ref().and_then(|item| item.content_type.clone()),
            size: item.as_ref().map(|item| item.size),
            name: item.and_then(|item| item.file_name),
        })
    }
}

impl Xmpp {
    /// What the web server has to serve: files, up and down. [XEP-0363 §upload]
    pub fn files(&self) -> Router {
        let path = format!("{PATH}/{{id}}/{{proof}}/{{name}}");
        Router::new().route(&path, get(download).put(upload).options(preflight)).with_state(self.0.clone())
    }
}

#[derive(Deserialize)]
struct Put {
    owner: String,
    size: u64,
    proof: String,
}

fn same(a: &str, b: &str) -> bool {
    a.as_bytes().ct_eq(b.as_bytes()).into()
}

fn refuse(status: StatusCode, text: &'static str) -> Response {
    (status, cors(HeaderMap::new()), text).into_response()
}

async fn preflight() -> Response {
    (StatusCode::NO_CONTENT, cors(HeaderMap::new())).into_response()
}

async fn upload(
    State(core): State<Arc<Core>>,
    Path((id, proof, name)): Path<(String, String, String)>,
    Query(put): Query<Put>,
    headers: HeaderMap,
    mut body: Body,
) -> Response {
    let expected = core.proof(&["put", &id, &put.owner, &put.size.to_string()]);
    if !same(&proof, &core.proof(&["get", &id])) || !same(&put.proof, &expected) {
        return refuse(StatusCode::FORBIDDEN, "this address takes no file");
    }
    let owner = OwnedUserId::try_from(format!("@{}:{}", put.owner, core.rooms().server_name()));
    let Ok(owner) = owner else { return refuse(StatusCode::FORBIDDEN, "this address takes no file") };
    // The place was promised when they might still say something.
    if crate::suspended::is_suspended(&core, &owner) {
        return refuse(StatusCode::FORBIDDEN, "your account is suspended");
    }
    let now = (core.cores.now)();
    let begun = core.cores.media.begin_promised_upload(&owner, &id, Some(put.size), now).await;
    let mut upload = match begun {
        Ok(upload) => upload,
        Err(error) => return failed(&error),
    };
    let mut size = 0;
    loop {
        let frame = match tokio::time::timeout(PIECE_TIME_MAX, body.frame()).await {
            Err(_) => return refuse(StatusCode::REQUEST_TIMEOUT, "the upload stood still for too long"),
            Ok(None) => break,
            Ok(Some(Err(_))) => return refuse(StatusCode::BAD_REQUEST, "the connection broke during the upload"),
            Ok(Some(Ok(frame))) => frame,
        };
        let Ok(piece) = frame.into_data() else { continue };
        size += piece.len() as u64;
        // [XEP-0363 §upload] Not one byte more than was asked for.
        if size > put.size {
            return refuse(StatusCode::PAYLOAD_TOO_LARGE, "there are more bytes than the slot was asked for");
        }
        if let Err(error) = upload.write(&piece).await {
            return failed(&error);
        }
    }
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).map(ToOwned::to_owned);
    let description = Description { content_type, file_name: Some(name) };
    match upload.finish(description, MilliSecondsSinceUnixEpoch::now()).await {
        Ok(_) => (StatusCode::CREATED, cors(HeaderMap::new())).into_response(),
        Err(error) => failed(&error),
    }
}

fn failed(error: &UploadError) -> Response {
    let status = match error {
        UploadError::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
        UploadError::AccountFull { .. } => StatusCode::INSUFFICIENT_STORAGE,
        UploadError::NotPromised | UploadError::PromisedToOthers => StatusCode::NOT_FOUND,
        UploadError::AlreadyThere => StatusCode::CONFLICT,
        _ => StatusCode::SERVICE_UNAVAILABLE,
    };
    (status, cors(HeaderMap::new()), error.to_string()).into_response()
}

async fn download(State(core): State<Arc<Core>>, Path((id, proof, _)): Path<(String, String, String)>) -> Response {
    if !same(&proof, &core.proof(&["get", &id])) {
        return refuse(StatusCode::NOT_FOUND, "there is no such file");
    }
    let item = match core.cores.media.find(core.rooms().server_name(), &id) {
        Ok(Some(item)) => item,
        Ok(None) => return refuse(StatusCode::NOT_FOUND, "there is no such file"),
        Err(error) => {
            tracing::error!(reason = %error, "a file could not be looked up");
            return refuse(StatusCode::INTERNAL_SERVER_ERROR, "the file could not be read");
        }
    };
    match core.cores.media.content(&item).await {
        Ok(Content { file, size }) => {
            let mut headers = described(item.content_type.as_deref(), item.file_name.as_deref());
            headers.insert(header::CONTENT_LENGTH, HeaderValue::from(size));
            (headers, Body::new(FileBody { file, left: size })).into_response()
        }
        Err(error) => {
            tracing::error!(reason = %error, "a file could not be read");
            refuse(StatusCode::INTERNAL_SERVER_ERROR, "the file could not be read")
        }
    }
}

/// [XEP-0363 §security] Nothing that a stranger uploaded runs in a browser.
fn described(content_type: Option<&str>, name: Option<&str>) -> HeaderMap {
    use ruma_common::http_headers::{ContentDisposition, ContentDispositionType};
    let shown = content_type.is_some_and(|kind| {
        let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        let media = ["image/", "video/", "audio/"].iter().any(|media| kind.starts_with(media));
        (media && !kind.contains("svg")) || kind == "text/plain"
    });
    let content_type = content_type.filter(|_| shown).unwrap_or("application/octet-stream");
    let how = if shown { ContentDispositionType::Inline } else { ContentDispositionType::Attachment };
    let disposition = ContentDisposition::new(how).with_filename(name.map(ToOwned::to_owned)).to_string();
    let mut headers = cors(HeaderMap::new());
    for (name, value) in [(header::CONTENT_TYPE, content_type), (header::CONTENT_DISPOSITION, &disposition)] {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(name, value);
        }
    }
    headers
}

/// Web clients are at other addresses.
fn cors(mut headers: HeaderMap) -> HeaderMap {
    for (name, value) in [
        (header::ACCESS_CONTROL_ALLOW_ORIGIN, "*"),
        (header::ACCESS_CONTROL_ALLOW_METHODS, "GET, HEAD, OPTIONS, PUT"),
        (header::ACCESS_CONTROL_ALLOW_HEADERS, "Content-Type, Content-Length"),
        (header::ACCESS_CONTROL_MAX_AGE, "86400"),
        (header::CONTENT_SECURITY_POLICY, "sandbox; default-src 'none'; media-src 'self'; img-src 'self'"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CACHE_CONTROL, "private, max-age=86400, immutable"),
        (HeaderName::from_static("cross-origin-resource-policy"), "cross-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers
}

/// A file, read as fast as the client takes it.
struct FileBody {
    file: tokio::fs::File,
    left: u64,
}

impl http_body::Body for FileBody {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, std::io::Error>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        let wanted = usize::try_from(self.left).unwrap_or(usize::MAX).min(PIECE_BYTES);
        let mut piece = BytesMut::zeroed(wanted);
        let mut room = ReadBuf::new(&mut piece);
        ready!(Pin::new(&mut self.file).poll_read(context, &mut room))?;
        let filled = room.filled().len();
        if filled == 0 {
            return Poll::Ready(Some(Err(std::io::ErrorKind::UnexpectedEof.into())));
        }
        piece.truncate(filled);
        self.left -= filled as u64;
        Poll::Ready(Some(Ok(http_body::Frame::data(piece.freeze()))))
    }
}
