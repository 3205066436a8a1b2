//! Volume → `VolumeV1`: the sources that a device has without a storage system.

use freewheel_link::plan::{Kind, ProjectedV1, VolumeSourceV1, VolumeV1};
use k8s_openapi::api::core::v1::{DownwardAPIVolumeFile, KeyToPath, Volume, VolumeProjection};

use super::Fault;
use super::amount::whole;

/// Kubernetes' defaultMode: 0644.
const MODE: u32 = 0o644;

pub(super) fn volume(from: &Volume) -> Result<VolumeV1, Fault> {
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
        let sources = all.sources.iter().flatten().map(|one| projection(&from.name, one, mode));
        VolumeSourceV1::Projected(sources.collect::<Result<Vec<_>, Fault>>()?)
    } else if let Some(downward) = &from.downward_api {
        let files = downward.items.iter().flatten().map(|file| downward_file(&from.name, file));
        VolumeSourceV1::Downward(files.collect::<Result<Vec<_>, Fault>>()?)
    } else {
        return Err(Fault::unsupported(format!(
            "volume {:?}: spokes have emptyDir, configMap, secret, projected and downwardAPI",
            from.name
        )));
    };
    Ok(VolumeV1 { name: from.name.clone(), source })
}

fn projection(volume: &str, from: &VolumeProjection, mode: u32) -> Result<ProjectedV1, Fault> {
    let one = |kind, name: &str, list: Option<&[KeyToPath]>, optional: Option<bool>| ProjectedV1 {
        kind,
        name: name.to_owned(),
        items: items(list),
        mode,
        optional: optional.unwrap_or_default(),
    };
    if let Some(map) = &from.config_map {
        Ok(one(Kind::CONFIG_MAP_V1, &map.name, map.items.as_deref(), map.optional))
    } else if let Some(secret) = &from.secret {
        Ok(one(Kind::SECRET_V1, &secret.name, secret.items.as_deref(), secret.optional))
    } else {
        Err(Fault::unsupported(format!(
            "volume {volume:?}: a projected volume takes configMap and secret sources"
        )))
    }
}

fn downward_file(volume: &str, file: &DownwardAPIVolumeFile) -> Result<(String, String), Fault> {
    match &file.field_ref {
        Some(field) => Ok((file.path.clone(), field.field_path.clone())),
        None => Err(Fault::unsupported(format!(
            "volume {volume:?}: downwardAPI file {:?} needs a fieldRef",
            file.path
        ))),
    }
}

fn items(list: Option<&[KeyToPath]>) -> Vec<(String, String, Option<u32>)> {
    let item = |item: &KeyToPath| {
        let mode = item.mode.and_then(|mode| u32::try_from(mode).ok());
        (item.key.clone(), item.path.clone(), mode)
    };
    list.unwrap_or_default().iter().map(item).collect()
}

fn mode(raw: Option<i32>) -> u32 {
    raw.and_then(|mode| u32::try_from(mode).ok()).unwrap_or(MODE)
}
