//! Volume → `VolumeV1`: the sources that a device has without a storage system.

use freewheel_link::plan::{
    DownwardFileV1, DownwardSourceV1, DownwardV1, Kind, ProjectedV1, ProjectionV1, TokenKey,
    VolumeSourceV1, VolumeV1,
};
use k8s_openapi::api::core::v1::{DownwardAPIVolumeFile, KeyToPath, Volume, VolumeProjection};

use super::Fault;
use super::amount::whole;

/// Kubernetes' defaultMode: 0644.
const DEFAULT_FILE_MODE: u32 = 0o644;
/// How long a token is good for that says nothing.
const DEFAULT_TOKEN_SECONDS: u64 = 3_600;

/// A volume of the pod with this UID.
pub(super) fn volume(from: &Volume, uid: &str) -> Result<VolumeV1, Fault> {
    let source = if let Some(dir) = &from.empty_dir {
        let limit = dir.size_limit.as_ref().map(|quantity| {
            whole(&quantity.0).ok_or_else(|| {
                Fault::invalid(format!("volume {:?}: sizeLimit {:?}", from.name, quantity.0))
            })
        });
        VolumeSourceV1::EmptyDir(limit.transpose()?)
    } else if let Some(map) = &from.config_map {
        VolumeSourceV1::Config(ProjectedV1 {
            kind: Kind::CONFIG_MAP_V1,
            name: map.name.clone(),
            items: items(map.items.as_deref()),
            mode: mode(map.default_mode),
            optional: map.optional.unwrap_or_default(),
        })
    } else if let Some(secret) = &from.secret {
        VolumeSourceV1::Config(ProjectedV1 {
            kind: Kind::SECRET_V1,
            name: secret.secret_name.clone().unwrap_or_default(),
            items: items(secret.items.as_deref()),
            mode: mode(secret.default_mode),
            optional: secret.optional.unwrap_or_default(),
        })
    } else if let Some(all) = &from.projected {
        let mode = mode(all.default_mode);
        let sources =
            all.sources.iter().flatten().map(|one| projection((&from.name, uid), one, mode));
        VolumeSourceV1::Projected(sources.collect::<Result<Vec<_>, Fault>>()?)
    } else if let Some(downward) = &from.downward_api {
        let (files, mode) = (downward.items.as_deref(), mode(downward.default_mode));
        VolumeSourceV1::Downward(downward_files(&from.name, files, mode)?)
    } else {
        return Err(Fault::unsupported(format!(
            "volume {:?}: spokes have emptyDir, configMap, secret, projected and downwardAPI",
            from.name
        )));
    };
    Ok(VolumeV1 { name: from.name.clone(), source })
}

fn projection(
    (volume, uid): (&str, &str),
    from: &VolumeProjection,
    mode: u32,
) -> Result<ProjectionV1, Fault> {
    let one = |kind, name: &str, list: Option<&[KeyToPath]>, optional: Option<bool>| {
        ProjectionV1::Config(ProjectedV1 {
            kind,
            name: name.to_owned(),
            items: items(list),
            mode,
            optional: optional.unwrap_or_default(),
        })
    };
    if let Some(map) = &from.config_map {
        Ok(one(Kind::CONFIG_MAP_V1, &map.name, map.items.as_deref(), map.optional))
    } else if let Some(secret) = &from.secret {
        Ok(one(Kind::SECRET_V1, &secret.name, secret.items.as_deref(), secret.optional))
    } else if let Some(downward) = &from.downward_api {
        let files = downward.items.as_deref();
        Ok(ProjectionV1::Downward(downward_files(volume, files, mode)?))
    } else if let Some(token) = &from.service_account_token {
        let seconds = token.expiration_seconds.and_then(|seconds| seconds.try_into().ok());
        let asked = TokenKey {
            seconds: seconds.unwrap_or(DEFAULT_TOKEN_SECONDS),
            audience: token.audience.clone().unwrap_or_default(),
        };
        let items = vec![(asked.to_string(), token.path.clone(), None)];
        let (kind, name) = (Kind::POD_TOKENS_V1, uid.to_owned());
        Ok(ProjectionV1::Config(ProjectedV1 { kind, name, items, mode, optional: false }))
    } else {
        Err(Fault::unsupported(format!(
            "volume {volume:?}: a projected volume takes configMap, secret, downwardAPI and serviceAccountToken sources"
        )))
    }
}

fn downward_files(
    volume: &str,
    list: Option<&[DownwardAPIVolumeFile]>,
    mode: u32,
) -> Result<DownwardV1, Fault> {
    let files = list.unwrap_or_default().iter().map(|file| downward_file(volume, file));
    Ok(DownwardV1 { files: files.collect::<Result<Vec<_>, Fault>>()?, mode })
}

fn downward_file(volume: &str, from: &DownwardAPIVolumeFile) -> Result<DownwardFileV1, Fault> {
    let source = if let Some(field) = &from.field_ref {
        DownwardSourceV1::Field(field.field_path.clone())
    } else if let Some(resource) = &from.resource_field_ref {
        DownwardSourceV1::Resource(
            resource.container_name.clone().unwrap_or_default(),
            resource.resource.clone(),
            resource.divisor.as_ref().map(|divisor| divisor.0.clone()).unwrap_or_default(),
        )
    } else {
        return Err(Fault::unsupported(format!(
            "volume {volume:?}: downwardAPI file {:?} needs a fieldRef or a resourceFieldRef",
            from.path
        )));
    };
    Ok(DownwardFileV1 { path: from.path.clone(), source, mode: bits(from.mode) })
}

fn items(list: Option<&[KeyToPath]>) -> Vec<(String, String, Option<u32>)> {
    let item = |item: &KeyToPath| (item.key.clone(), item.path.clone(), bits(item.mode));
    list.unwrap_or_default().iter().map(item).collect()
}

fn mode(raw: Option<i32>) -> u32 {
    bits(raw).unwrap_or(DEFAULT_FILE_MODE)
}

fn bits(raw: Option<i32>) -> Option<u32> {
    raw.and_then(|mode| u32::try_from(mode).ok())
}
