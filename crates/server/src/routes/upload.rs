//! Bodies that are larger than others: those of builds.
//!
//! A body that does not fit where ordinary ones do waits in a file without a name until it is whole. It is read from
//! there in two passes, first all but the files, then the files one by one. What memory it may take is bounded by
//! [`READ_AT_ONCE_MIB`]: the bytes of all bodies that are being read, of which at most three copies exist, of one string
//! each. What it may take of the disk is bounded by [`UPLOADS_MAX`], and for one account by [`UPLOADS_OF_ACCOUNT_MAX`].

use std::io::{BufReader, Seek as _, Write as _};
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{FromRequest, FromRequestParts as _, Request};
use cakework_api::build::{BuildFile, BuildImageFromFiles};
use cakework_api::problem::ErrorCode;
use cakework_core::limit;
use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor,
};
use tempfile::SpooledTempFile;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::extract::{self, Writer, explain};
use crate::app::{App, Shared};
use crate::caller::Caller;
use crate::error::ApiError;
use crate::ops::builds::context::{Draft, disk};
use crate::ops::once::{Keyed, Keying};
use crate::places::{Place, Places};

/// Bodies of builds that arrive or are read at once.
const UPLOADS_MAX: usize = 16;
/// Those of one account: whatever it does, others find a place.
const UPLOADS_OF_ACCOUNT_MAX: usize = 4;
/// Bytes of bodies that are read at once, in MiB: one of the largest and a few others.
const READ_AT_ONCE_MIB: usize = 192;
/// Longest time that a body takes to arrive: clients give up after 60 s.
const TIMEOUT: Duration = Duration::from_secs(60);

/// The bounds on uploads of this process.
#[derive(Clone)]
pub(crate) struct Uploads {
    places: Places,
    read_mib: Arc<Semaphore>,
}

impl Default for Uploads {
    fn default() -> Self {
        let places = Places::new(UPLOADS_MAX, UPLOADS_OF_ACCOUNT_MAX);
        Self { places, read_mib: Arc::new(Semaphore::new(READ_AT_ONCE_MIB)) }
    }
}

/// A whole body of a caller who may make things, not looked at yet.
pub(crate) struct Upload {
    pub(crate) caller: Caller,
    /// The key by which the request is known if it is sent again.
    pub(crate) keyed: Option<Keyed>,
    spool: SpooledTempFile,
    size_bytes: usize,
    _place: Place,
}

impl FromRequest<Shared> for Upload {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &Shared) -> Result<Self, ApiError> {
        let (mut parts, body) = request.into_parts();
        let Writer(caller) = Writer::from_request_parts(&mut parts, app).await?;
        let Some(place) = app.uploads.places.enter(&caller.account) else {
            return Err(ApiError::new(ErrorCode::Overloaded, "Too many builds' files arrive at once.").retry_after(5));
        };
        let request = Request::from_parts(parts, body);
        let spool = tempfile::spooled_tempfile_in(limit::BODY_MAX_BYTES, app.contexts.draft_dir());
        let keying = extract::keying(&request)?;
        let arrived = tokio::time::timeout(TIMEOUT, receive(request, keying, spool)).await;
        let late = |_| {
            let detail = format!("The body did not arrive within {} s.", TIMEOUT.as_secs());
            ApiError::new(ErrorCode::BodyTimeout, detail)
        };
        let (spool, keyed, size_bytes) = arrived.map_err(late)??;
        Ok(Self { caller, keyed, spool, size_bytes, _place: place })
    }
}

async fn receive(
    request: Request,
    mut keying: Option<Keying>,
    mut spool: SpooledTempFile,
) -> Result<(SpooledTempFile, Option<Keyed>, usize), ApiError> {
    let mut size_bytes = 0;
    // A chunk goes to memory or to the page cache.
    extract::receive(request, limit::BUILD_BODY_MAX_BYTES, |chunk| {
        size_bytes += chunk.len();
        if let Some(keying) = &mut keying {
            keying.update(&chunk);
        }
        spool.write_all(&chunk).map_err(disk)
    })
    .await?;
    Ok((spool, keying.map(Keying::end), size_bytes))
}

impl Upload {
    /// Reads a body that has no files.
    pub(crate) async fn read<T: DeserializeOwned + Send + 'static>(mut self, app: &App) -> Result<T, ApiError> {
        let bound = self.bound(app).await;
        blocking(move || {
            let _bound = bound;
            pass(&mut self.spool, PhantomData::<T>)
        })
        .await
    }

    /// Reads a body with files; each of them goes into the draft.
    pub(crate) async fn read_files(mut self, app: &App) -> Result<(BuildImageFromFiles, Draft), ApiError> {
        let bound = self.bound(app).await;
        let mut draft = Draft::new(app.contexts.draft_dir()).map_err(disk)?;
        blocking(move || {
            let _bound = bound;
            let request = pass(&mut self.spool, PhantomData::<BuildImageFromFiles>)?;
            let mut refusal = None;
            match pass(&mut self.spool, Body(Files { draft: &mut draft, refusal: &mut refusal })) {
                _ if refusal.is_some() => Err(refusal.expect("it was just there")),
                Err(error) => Err(error),
                Ok(()) => Ok((request, draft)),
            }
        })
        .await
    }

    async fn bound(&self, app: &App) -> OwnedSemaphorePermit {
        let mib = u32::try_from(self.size_bytes >> 20).unwrap_or(u32::MAX).saturating_add(1);
        Arc::clone(&app.uploads.read_mib).acquire_many_owned(mib).await.expect("the semaphore is never closed")
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    tokio::task::spawn_blocking(work).await.map_err(ApiError::internal)?
}

/// Reads the whole spool once.
fn pass<T>(spool: &mut SpooledTempFile, seed: impl for<'de> DeserializeSeed<'de, Value = T>) -> Result<T, ApiError> {
    spool.rewind().map_err(disk)?;
    let mut reader = serde_json::Deserializer::from_reader(BufReader::new(spool));
    let mut track = serde_path_to_error::Track::new();
    let value = seed.deserialize(serde_path_to_error::Deserializer::new(&mut reader, &mut track));
    let value = value.map_err(|error| explain(&track.path().to_string(), &error))?;
    reader.end().map_err(|error| explain(".", &error))?;
    Ok(value)
}

/// The body, of which only `files` is looked at.
struct Body<'a>(Files<'a>);

struct Files<'a> {
    draft: &'a mut Draft,
    /// Why a file can't be there; the reader's own error only ends the reading.
    refusal: &'a mut Option<ApiError>,
}

impl<'de> DeserializeSeed<'de> for Body<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Body<'_> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        // The first pass has seen that there is exactly one.
        let mut files = Some(self.0);
        while let Some(name) = map.next_key::<String>()? {
            match files.take_if(|_| name == "files") {
                Some(files) => map.next_value_seed(files)?,
                None => map.next_value::<IgnoredAny>().map(|_| ())?,
            }
        }
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for Files<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Files<'_> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a list of files")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        while let Some(file) = list.next_element::<BuildFile>()? {
            if let Err(refusal) = self.draft.add(&file) {
                *self.refusal = Some(refusal);
                return Err(A::Error::custom("a file is refused"));
            }
        }
        Ok(())
    }
}
