//! Images.

use std::io;

use bytes::Bytes;
use futures::Stream;
use hyper::Method;
use serde::Serialize;

use super::{Client, ClientError, JSON, Lines, RAW, drain, empty, escape, json, read, stream};
use crate::{BuildImage, Collected, Image, ImageEvent, ImportImageQuery, PullImage, Recipe};

impl Client {
    /// Every image.
    pub async fn images(&self) -> Result<Vec<Image>, ClientError> {
        self.get("/v1/images").await
    }

    /// One image.
    pub async fn image(&self, image: &str) -> Result<Image, ClientError> {
        self.get(&format!("/v1/images/{}", escape(image))).await
    }

    /// Adds an image; `content` is an ELF file.
    pub async fn add_image<S>(&self, name: &str, content: S) -> Result<Image, ClientError>
    where
        S: Stream<Item = io::Result<Bytes>> + Send + Sync + 'static,
    {
        let path = format!("/v1/images?name={}", escape(name));
        let answer = self.send(Method::POST, &path, RAW, stream(content)).await?;
        read(answer).await
    }

    /// Removes a name, or an image with all its names where a digest is given.
    pub async fn remove_image(&self, image: &str) -> Result<(), ClientError> {
        let path = format!("/v1/images/{}", escape(image));
        let answer = self.send(Method::DELETE, &path, None, empty()).await?;
        drain(answer).await.map(drop)
    }

    /// Removes every image that has no VM and no name; with `all`, also those that have names.
    pub async fn collect_images(&self, all: bool) -> Result<Collected, ClientError> {
        self.act(Method::POST, &format!("/v1/images/gc?all={all}"))
            .await
    }

    /// Adds a Linux image from an archive (`docker save`'s, or an OCI layout in tar), and tells how far it is.
    pub async fn import_image<S>(
        &self,
        query: &ImportImageQuery,
        content: S,
    ) -> Result<Lines<ImageEvent>, ClientError>
    where
        S: Stream<Item = io::Result<Bytes>> + Send + Sync + 'static,
    {
        let mut path = format!("/v1/images/import?name={}", escape(&query.name));
        if let Some(tag) = &query.tag {
            path.push_str(&format!("&tag={}", escape(tag)));
        }
        let answer = self.send(Method::POST, &path, RAW, stream(content)).await?;
        Ok(Lines::new(answer))
    }

    /// Adds a Linux image from a registry, and tells how far it is.
    pub async fn pull_image(&self, pull: &PullImage) -> Result<Lines<ImageEvent>, ClientError> {
        self.making("/v1/images/pull", pull).await
    }

    /// Builds a Linux image from a recipe, and tells how far it is.
    pub async fn build_image(&self, build: &BuildImage) -> Result<Lines<ImageEvent>, ClientError> {
        self.making("/v1/images/build", build).await
    }

    /// The recipes that the daemon's installation comes with.
    pub async fn recipes(&self) -> Result<Vec<Recipe>, ClientError> {
        self.get("/v1/recipes").await
    }

    async fn making(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<Lines<ImageEvent>, ClientError> {
        let answer = self.send(Method::POST, path, JSON, json(body)?).await?;
        Ok(Lines::new(answer))
    }
}
