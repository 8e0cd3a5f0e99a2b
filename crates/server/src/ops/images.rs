//! Images: import, look, list.

use cakework_api::image::{
    Image as ApiImage, ImageError, ImageList, ImageState as ApiState, ImportImage, ImportedImage,
};
use cakework_api::problem::ErrorCode;
use cakework_api::time::rfc3339;
use cakework_core::id::ImageId;
use cakework_core::limit;
use cakework_wire::host::{Credential, ResolveImage};

use super::validate;
use crate::app::App;
use crate::caller::Caller;
use crate::clock::now_ms;
use crate::error::{ApiError, code_of};
use crate::reconcile::credential_place;
use crate::store::images::{Image, ImageState};
use crate::store::keyed::Claim;
use crate::store::page::Cursor;

/// The user of AWS ECR, and where only a password is given.
const DEFAULT_USER: &str = "AWS";
const USER_MAX_BYTES: usize = 256;

/// Imports an image: answers when manifest and config were verified; the layers follow.
pub(crate) async fn import(
    app: &App,
    caller: &Caller,
    mut request: ImportImage,
    claim: Option<&Claim>,
) -> Result<ImportedImage, ApiError> {
    validate::text("imageUri", &request.image_uri, limit::IMAGE_URI_MAX_BYTES)?;
    let tenant = caller.tenant_of(request.tenant.take().map(validate::tenant).transpose()?)?;
    let credential = credential(&mut request)?;
    let reference = std::mem::take(&mut request.image_uri);
    let resolved =
        app.host.resolve(&ResolveImage { reference: reference.clone(), credential: credential.clone() }).await?;

    let now_ms = now_ms();
    let id = ImageId::mint(now_ms, &mut rand::rng());
    let sealed = credential.map(|credential| {
        let text = zeroize::Zeroizing::new(serde_json::to_vec(&credential).expect("a credential is plain data"));
        app.sealer.seal(&credential_place(&id), &text)
    });
    let image = Image {
        id: id.clone(),
        account: caller.account.clone(),
        tenant,
        reference,
        digest: resolved.digest,
        size_bytes: resolved.size_bytes,
        state: ImageState::Pulling,
        done_bytes: 0,
        error: None,
        credential: sealed,
        due_ms: Some(now_ms),
        attempts: 0,
        created_ms: now_ms,
        updated_ms: now_ms,
    };
    let most = app.config.limits.images;
    if !app.store.insert_image(&image, most, claim).await? {
        return Err(ApiError::new(ErrorCode::QuotaExceeded, format!("The account may have {most} images.")));
    }
    tracing::info!(image = %id, digest = image.digest, "image");
    app.pokes.images.notify_one();
    Ok(ImportedImage { image_id: id.to_string() })
}

/// One image.
pub(crate) async fn get(app: &App, caller: &Caller, id: &ImageId) -> Result<ApiImage, ApiError> {
    let image = app.store.image(&caller.account, id).await?.filter(|image| caller.sees(image.tenant.as_deref()));
    image.map(view).ok_or_else(|| unknown(id))
}

/// A page of images.
pub(crate) async fn list(
    app: &App,
    caller: &Caller,
    tenant: Option<String>,
    after: Option<Cursor>,
    limit: usize,
) -> Result<ImageList, ApiError> {
    let tenant = caller.tenant_of(tenant)?;
    let page = app.store.images(&caller.account, tenant.as_deref(), after.as_ref(), limit).await?;
    let images = page.items.into_iter().map(view).collect();
    Ok(ImageList { images, pagination: page.next.map(|next| next.write()) })
}

/// That there is no such image.
pub(crate) fn unknown(id: impl std::fmt::Display) -> ApiError {
    ApiError::new(ErrorCode::UnknownImage, format!("There is no image {id}."))
}

/// The credential of a request. The contract has one field for it: an ECR token, or `user:password` for any other
/// registry. A token holds no `:`, and where `username` says the user, `password` is one as a whole.
fn credential(request: &mut ImportImage) -> Result<Option<Credential>, ApiError> {
    let mut username = request.username.take().filter(|name| !name.is_empty());
    let mut password = request.password.take().filter(|password| !password.is_empty());
    let mut user_field = "username";
    if username.is_none()
        && let Some(whole) = password.take_if(|password| password.contains(':')).map(zeroize::Zeroizing::new)
        && let Some((user, rest)) = whole.split_once(':')
    {
        if user.is_empty() || rest.is_empty() {
            let detail = "`password` is an ECR password, or `user:password` with both parts.";
            return Err(ApiError::field(ErrorCode::InvalidValue, "password", detail));
        }
        (username, password, user_field) = (Some(user.to_owned()), Some(rest.to_owned()), "password");
    }
    if let Some(username) = &username {
        validate::text(user_field, username, USER_MAX_BYTES)?;
        if username.contains(':') {
            let detail = "A user's name holds no `:` (RFC 7617).";
            return Err(ApiError::field(ErrorCode::InvalidValue, "username", detail));
        }
    }
    match (username, password) {
        (None, None) => Ok(None),
        (Some(_), None) => {
            Err(ApiError::field(ErrorCode::MissingField, "password", "A `username` needs its `password`."))
        }
        (username, Some(password)) => {
            validate::text("password", &password, limit::REGISTRY_PASSWORD_MAX_BYTES)?;
            Ok(Some(Credential { username: username.unwrap_or_else(|| DEFAULT_USER.to_owned()), password }))
        }
    }
}

/// The API's words for an image.
fn view(image: Image) -> ApiImage {
    let (state, progress) = match image.state {
        ImageState::Pulling if image.size_bytes > 0 => {
            (ApiState::Pulling, (image.done_bytes as f64 / image.size_bytes as f64).min(1.0))
        }
        ImageState::Pulling => (ApiState::Pulling, 0.0),
        ImageState::Ready => (ApiState::Ready, 1.0),
        ImageState::Failed => (ApiState::Failed, 0.0),
    };
    let error =
        image.error.map(|error| ImageError { code: code_of(error.code).as_str().to_owned(), message: error.message });
    ApiImage {
        image_id: image.id.to_string(),
        name: image.reference,
        digest: image.digest,
        size_bytes: image.size_bytes,
        state,
        progress,
        error,
        tenant: image.tenant,
        created_at: rfc3339(image.created_ms),
        updated_at: rfc3339(image.updated_ms),
    }
}
