//! Images.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use zeroize::{Zeroize, ZeroizeOnDrop};

/// Imports an image from a registry.
#[derive(Clone, Deserialize, ToSchema, Zeroize, ZeroizeOnDrop)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(example = json!({
    "imageUri": "123456789012.dkr.ecr.us-west-2.amazonaws.com/team/app:1", "username": "AWS", "password": "the registry's",
    "tenant": "ann",
}))]
pub struct ImportImage {
    /// Reference such as `registry.example.com/team/app:1.2`.
    #[schema(max_length = 1024)]
    pub image_uri: String,
    /// Password of a private registry: for AWS ECR what `aws ecr get-login-password` prints, for another registry
    /// `user:password`, or the password alone beside `username`.
    #[serde(default)]
    #[schema(max_length = 16384)]
    pub password: Option<String>,
    /// User of a private registry; without it the one in `password`, or `AWS`.
    #[serde(default)]
    #[schema(max_length = 256)]
    pub username: Option<String>,
    /// The builder's end user whose image this is.
    #[serde(default)]
    #[schema(max_length = 128)]
    pub tenant: Option<String>,
}

/// The answer to an import: manifest and config were verified, the layers follow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ImportedImage {
    /// The image.
    #[schema(example = "01GTZHKS9CZHQ1NKZCA3G0H4DX")]
    pub image_id: String,
}

/// An image.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(example = json!({
    "imageId": "01GTZHKS9CZHQ1NKZCA3G0H4DX", "name": "registry.example.com/team/app:1",
    "digest": "sha256:b5bb9d8014a0f9b1d61e21e796d78dccdf1352f23cd32812f4850b878ae4944c", "state": "ready", "progress": 1.0,
    "sizeBytes": 43211212, "createdAt": "2026-01-05T14:00:00Z", "updatedAt": "2026-01-05T14:00:09Z",
}))]
pub struct Image {
    /// The image.
    #[schema(example = "01GTZHKS9CZHQ1NKZCA3G0H4DX")]
    pub image_id: String,
    /// The reference that it was imported from.
    pub name: String,
    /// Digest of its manifest.
    pub digest: String,
    /// Compressed bytes of its layers.
    pub size_bytes: u64,
    /// Where it is.
    pub state: ImageState,
    /// Part of the layers that is there, 0–1.
    pub progress: f64,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<ImageError>,
    /// The builder's end user whose image this is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// When it was imported.
    #[schema(format = DateTime)]
    pub created_at: String,
    /// When it last changed.
    #[schema(format = DateTime)]
    pub updated_at: String,
}

/// Where an image is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ImageState {
    /// Its layers arrive. A VM may be started from it already: it waits.
    Pulling,
    /// VMs start from it.
    Ready,
    /// No VM can be started from it.
    Failed,
}

/// Why an image failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ImageError {
    /// One of the problem codes.
    pub code: String,
    /// A sentence.
    pub message: String,
}

/// A page of images, the newest first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ImageList {
    /// The images.
    pub images: Vec<Image>,
    /// Token of the next page.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "the next page's token")]
    pub pagination: Option<String>,
}
