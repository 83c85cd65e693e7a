//! Volumes and networks.

use hyper::Method;

use super::{Client, ClientError, drain, empty, escape};
use crate::{CreateNetwork, CreateVolume, Network, PrunedVolumes, Volume};

impl Client {
    /// Every volume.
    pub async fn volumes(&self) -> Result<Vec<Volume>, ClientError> {
        self.get("/v1/volumes").await
    }

    /// One volume.
    pub async fn volume(&self, name: &str) -> Result<Volume, ClientError> {
        self.get(&format!("/v1/volumes/{}", escape(name))).await
    }

    /// Makes a volume.
    pub async fn create_volume(&self, volume: &CreateVolume) -> Result<Volume, ClientError> {
        self.post("/v1/volumes", volume).await
    }

    /// Removes a volume and all that is on it.
    pub async fn remove_volume(&self, name: &str) -> Result<(), ClientError> {
        self.delete(&format!("/v1/volumes/{}", escape(name))).await
    }

    /// Removes every volume that no VM has.
    pub async fn prune_volumes(&self) -> Result<PrunedVolumes, ClientError> {
        self.act(Method::POST, "/v1/volumes/prune").await
    }

    /// Every network.
    pub async fn networks(&self) -> Result<Vec<Network>, ClientError> {
        self.get("/v1/networks").await
    }

    /// One network.
    pub async fn network(&self, name: &str) -> Result<Network, ClientError> {
        self.get(&format!("/v1/networks/{}", escape(name))).await
    }

    /// Makes a network.
    pub async fn create_network(&self, network: &CreateNetwork) -> Result<Network, ClientError> {
        self.post("/v1/networks", network).await
    }

    /// Removes a network that no VM is in.
    pub async fn remove_network(&self, name: &str) -> Result<(), ClientError> {
        self.delete(&format!("/v1/networks/{}", escape(name))).await
    }

    async fn delete(&self, path: &str) -> Result<(), ClientError> {
        let answer = self.send(Method::DELETE, path, None, empty()).await?;
        drain(answer).await.map(drop)
    }
}
