//! Files of other servers, for ours: asked for with our signature, or else at the old address that asks for none.
//!
//! [SS-API §get_matrixfederationv1mediadownloadmediaid] The answer has two parts, what is known of the file and the file
//! itself, or where it lies. [CS-API §get_matrixmediav3downloadservernamemediaid] is what servers from before Matrix 1.11
//! have instead. Pictures are scaled at home, so thumbnails are not asked for.

use std::time::Duration;

use http::{
    HeaderMap, Method, StatusCode,
    header::{CONTENT_DISPOSITION, CONTENT_TYPE, LOCATION},
};
use koine_media::{Description, FetchError, Fetching, MediaId, Origin, Receiving};
use ruma_common::{ServerName, http_headers::ContentDisposition};

use crate::{
    Federation, PeerError,
    multipart::{Malformed, Multipart, Piece},
    peers::{Arriving, Bounds, segment},
};

/// How long a file may take to arrive, beside what its server waits for the upload.
const TIME_MAX: Duration = Duration::from_secs(5 * 60);
/// Bytes of an answer beside the file.
const AROUND_BYTES_MAX: usize = 128 * 1024;

impl Origin for Federation {
    fn fetch<'a>(
        &'a self,
        server: &'a ServerName,
        media_id: &'a MediaId,
        patience: Duration,
        into: &'a mut Receiving,
    ) -> Fetching<'a> {
        Box::pin(async move {
            match self.fetch_signed(server, media_id, patience, into).await {
                Err(Failure::Peer(error)) if knows_no_such_endpoint(&error) => {
                    self.fetch_old(server, media_id, patience, into).await
                }
                answer => answer,
            }
            .map_err(Failure::into_error)
        })
    }
}

/// Why there is no file.
enum Failure {
    Peer(PeerError),
    Media(FetchError),
}

impl From<PeerError> for Failure {
    fn from(error: PeerError) -> Self {
        Self::Peer(error)
    }
}

impl From<Malformed> for Failure {
    fn from(error: Malformed) -> Self {
        Self::Peer(PeerError::Unusable(error.to_string()))
    }
}

impl From<koine_media::UploadError> for Failure {
    fn from(error: koine_media::UploadError) -> Self {
        Self::Media(error.into())
    }
}

impl Failure {
    fn into_error(self) -> FetchError {
        match self {
            Self::Media(error) => error,
            Self::Peer(PeerError::Refused { errcode, .. }) if errcode == "M_NOT_YET_UPLOADED" => {
                FetchError::NotYetUploaded
            }
            Self::Peer(PeerError::Refused { status, .. }) if status == StatusCode::NOT_FOUND => FetchError::NotFound,
            Self::Peer(error) => FetchError::Unreachable(error.to_string()),
        }
    }
}

/// [SS-API §content-repository] The old address is for servers that do not know the new one. What they say to a path that they
/// do not know is not always Matrix, nor always 404.
fn knows_no_such_endpoint(error: &PeerError) -> bool {
    let PeerError::Refused { status, errcode, .. } = error else { return false };
    let unknown = [StatusCode::BAD_REQUEST, StatusCode::NOT_FOUND, StatusCode::METHOD_NOT_ALLOWED];
    unknown.contains(status) && matches!(errcode.as_str(), "" | "M_UNRECOGNIZED")
}

impl Federation {
    fn bounds(&self, patience: Duration) -> Bounds {
        let file_max = self.media().map_or(0, |media| media.config().remote_bytes_max);
        let bytes = usize::try_from(file_max).unwrap_or(usize::MAX).saturating_add(AROUND_BYTES_MAX);
        // A server that failed lately is left in peace: a picture is not worth waiting for it again and again.
        Bounds { bytes, time: TIME_MAX + patience, urgent: false }
    }

    async fn fetch_signed(
        &self,
        server: &ServerName,
        media_id: &MediaId,
        patience: Duration,
        into: &mut Receiving,
    ) -> Result<Description, Failure> {
        let id = segment(media_id.as_str());
        let path = format!("/_matrix/federation/v1/media/download/{id}?timeout_ms={}", patience.as_millis());
        let mut answer = self.ask_stream(server, (Method::GET, &path), None, self.bounds(patience)).await?;
        let kind = answer.headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        let mut parts =
            Multipart::new(kind).ok_or_else(|| PeerError::Unusable(format!("it came as {kind:?} and not in parts")))?;
        let (mut heads, mut said) = (0, Description::default());
        loop {
            while let Some(piece) = parts.next()? {
                match piece {
                    Piece::Head(head) => {
                        heads += 1;
                        if heads == 2
                            && let Some(place) = head.get(LOCATION)
                        {
                            let place = place.to_str().map_err(|error| PeerError::Unusable(error.to_string()))?;
                            return self.fetch_from(place, patience, into).await;
                        }
                        if heads == 2 {
                            said = description(&head);
                        }
                    }
                    // The first part says nothing so far that we would want to know.
                    Piece::Body(bytes) if heads == 2 => into.write(&bytes).await?,
                    Piece::Body(_) => {}
                    Piece::End if heads >= 2 => return Ok(said),
                    Piece::End => return Err(PeerError::Unusable("it has one part alone".into()).into()),
                }
            }
            match answer.next().await? {
                Some(bytes) => parts.feed(&bytes),
                None => return Err(PeerError::Unusable("it ends in the middle".into()).into()),
            }
        }
    }

    async fn fetch_old(
        &self,
        server: &ServerName,
        media_id: &MediaId,
        patience: Duration,
        into: &mut Receiving,
    ) -> Result<Description, Failure> {
        // A colon may stand in a path as it is, and there are servers that compare names before they decode them.
        let (name, id) = (segment(server.as_str()).replace("%3A", ":"), segment(media_id.as_str()));
        let query = format!("allow_remote=false&timeout_ms={}", patience.as_millis());
        let path = format!("/_matrix/media/v3/download/{name}/{id}?{query}");
        let answer = self.ask_stream(server, (Method::GET, &path), None, self.bounds(patience)).await?;
        receive(answer, into).await
    }

    /// [SS-API §get_matrixfederationv1mediadownloadmediaid] Where the file lies may be anywhere; no signature goes there.
    async fn fetch_from(&self, place: &str, patience: Duration, into: &mut Receiving) -> Result<Description, Failure> {
        receive(self.open_address(place, self.bounds(patience)).await?, into).await
    }
}

async fn receive(mut answer: Arriving, into: &mut Receiving) -> Result<Description, Failure> {
    while let Some(bytes) = answer.next().await? {
        into.write(&bytes).await?;
    }
    Ok(description(&answer.headers))
}

/// What the headers say of a file. The name may be in any of the forms that are in use.
fn description(head: &HeaderMap) -> Description {
    let content_type = head.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).map(str::to_owned);
    let disposition =
        head.get(CONTENT_DISPOSITION).and_then(|value| ContentDisposition::try_from(value.as_bytes()).ok());
    Description { content_type, file_name: disposition.and_then(|disposition| disposition.filename) }
}
