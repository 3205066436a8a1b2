//! PodTemplate: a template that stands alone.

use freewheel_hub_schema::error::FieldError;
use freewheel_hub_schema::gvk::Gvk;
use freewheel_hub_schema::kind::{Column, Kind, Strategy};
use serde_json::Value;

use super::accessors::{NAME, column, name};
use super::field_value::FieldValue;
use super::template;

const COLUMNS: &[Column] = &[
    NAME,
    column("Containers", "string", "Names of the template's containers."),
    column("Images", "string", "Images of the template's containers."),
    column("Pod Labels", "string", "Labels of the template's pods."),
];

/// PodTemplate of core/v1.
pub(crate) fn kind() -> Kind {
    Kind::new(Gvk::new("", "v1", "PodTemplate"), "podtemplates", Rules).columns(COLUMNS)
}

struct Rules;

impl Strategy for Rules {
    fn default(&self, object: &mut Value) {
        if let Some(object) = object.as_object_mut() {
            template::default(object);
        }
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        template::check_pods(&FieldValue::of(object, "template"))
    }

    fn warnings(&self, object: &Value) -> Vec<String> {
        template::warnings_of(&FieldValue::of(object, "template"))
    }

    fn pod_template(&self) -> Option<&'static str> {
        Some("/template")
    }

    fn row(&self, object: &Value, _: i64) -> Vec<Value> {
        let [names, images] = template::container_cells(object);
        let labels = object.pointer("/template/metadata/labels");
        vec![name(object), names, images, template::labels_cell(labels)]
    }
}
